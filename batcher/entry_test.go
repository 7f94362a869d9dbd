package batcher

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest"
)

var update = flag.Bool("update", false, "write golden files")

// fullEntry has every field of version 1.
func fullEntry() Entry {
	web := ingest.EventLane("default", "web")
	bad := ingest.QuarantineLane("default", "web", "bad_json")
	at := time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)
	return Entry{
		V: EntryVersion, Stream: stream, Seq: 1, Prev: &ingest.Stream{Log: "7f3a", Incarnation: "k1", Partition: 3},
		Cuts: []Cut{
			{
				Lane: web, First: 10, Last: 20, Count: 8, Dups: []Range{{12, 12}, {15, 16}}, Batch: BatchID(stream, 1, 0, at),
				Object: ObjectKey(web, at, stream, 10, "ndjson.gz"), Codec: "ndjson.gz", Layout: LayoutVersion, CreatedAt: at,
				Reason: ReasonAge, Records: "aa", LastRecord: "bb",
			},
			{Lane: bad, First: 11, Last: 11, Layout: LayoutVersion, Dups: []Range{{11, 11}}, CreatedAt: at, Reason: ReasonDrain, LastRecord: "cc"},
		},
		Low: 18, Next: map[ingest.Lane]int64{web: 21}, Done: 1,
		Facts: []Facts{
			{
				Batch: BatchID(stream, 1, 0, at), Bytes: 1000, RawBytes: 5000, Checksum: "crc32c:00c0ffee", Rows: 8, Records: "aa",
				ReceivedMin: at, ReceivedMax: at.Add(time.Second), EventMin: at.Add(-time.Hour), EventMax: at,
				Types: map[string]int64{"track": 7, "other": 1}, CommittedAt: at.Add(2 * time.Second), Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			},
			{Batch: "01J", Checksum: "crc32c:00000000", Void: "refused", CommittedAt: at},
		},
		Lost: []Range{{3, 5}}, WrittenAt: at,
	}
}

// TestGoldenEntry: version 1 is read and written as it always was. A change here is a new version, with this file kept.
func TestGoldenEntry(t *testing.T) {
	t.Parallel()
	golden := filepath.Join("testdata", "entry_v1.json")
	e := fullEntry()
	stored, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, append(stored, '\n'), "", "  "); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, pretty.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		t.Errorf("written (-golden +got):\n%s", diff)
	}
	got, err := UnmarshalEntry(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, got); diff != "" {
		t.Errorf("read (-want +golden):\n%s", diff)
	}
}

func TestUnmarshalEntryRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"v":2,"cuts":"of another shape"}`, `{"v":0}`, `{}`} {
		if _, err := UnmarshalEntry([]byte(text)); !errors.Is(err, ErrUnknownVersion) {
			t.Errorf("%s: got %v, want %v", text, err, ErrUnknownVersion)
		}
	}
	for _, text := range []string{``, `[]`, `{"v":1,"low":"x"}`, `{"v":1,"stream":"nonsense"}`, `{"v":1} trailing`} {
		if _, err := UnmarshalEntry([]byte(text)); err == nil || errors.Is(err, ErrUnknownVersion) {
			t.Errorf("%s: got %v, want another error", text, err)
		}
	}
}

func TestNextOf(t *testing.T) {
	t.Parallel()
	e := fullEntry()
	if got := e.NextOf(ingest.EventLane("default", "web")); got != 21 {
		t.Errorf("lane that was cut above low: got %d, want 21", got)
	}
	if got := e.NextOf(ingest.EventLane("default", "other")); got != 18 {
		t.Errorf("lane that was not: got %d, want low, 18", got)
	}
}

func TestBatchOf(t *testing.T) {
	t.Parallel()
	e := fullEntry()
	f := e.Facts[0]
	got := BatchOf(&e, 0, f, "s3://b/k")
	want := Batch{
		ID: e.Cuts[0].Batch, Tenant: "default", Source: "web", Lane: "events/tenant=default/source=web", Stream: stream, Seq: 1, Partition: 3,
		First: 10, Last: 20, Events: 8, Bytes: 1000, RawBytes: 5000, Key: e.Cuts[0].Object, URI: "s3://b/k", Checksum: f.Checksum, Types: f.Types,
		ReceivedMin: f.ReceivedMin, ReceivedMax: f.ReceivedMax, EventMin: f.EventMin, EventMax: f.EventMax, Watermark: f.ReceivedMax,
		CreatedAt: e.Cuts[0].CreatedAt, CommittedAt: f.CommittedAt, Trace: f.Trace,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("batch (-want +got):\n%s", diff)
	}
}

// TestLargeEntry: an entry beside many lanes is stored compressed, always to the same bytes, and what is cut short or no end of zeros is refused.
func TestLargeEntry(t *testing.T) {
	t.Parallel()
	e := fullEntry()
	for i := range 10_000 {
		e.Next[ingest.EventLane("default", "web", ingest.KeyValue{Key: "customer", Value: fmt.Sprintf("cus_%08d", i*7919)})] = int64(1_000_000 + 3*i)
	}
	plain, err := json.Marshal(&e)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if len(stored) > len(plain)/5 {
		t.Errorf("stored form of 10,000 lanes: got %d bytes, want at most a fifth of %d", len(stored), len(plain))
	}
	if again, err := e.Marshal(); err != nil || !bytes.Equal(again, stored) {
		t.Errorf("stored again: other bytes, or %v", err)
	}
	got, err := UnmarshalEntry(stored)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, got); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	for _, cut := range []int{2, 10, len(stored) / 2, len(stored) - 1} {
		if _, err := UnmarshalEntry(stored[:cut]); err == nil || errors.Is(err, ErrUnknownVersion) {
			t.Errorf("first %d bytes: got %v, want another error", cut, err)
		}
	}
	if _, err := unpack(bomb(t, 1<<20), 1<<19); err == nil {
		t.Error("a body that grows beyond the bound was taken")
	}
}

// bomb returns size zeros, compressed.
func bomb(t *testing.T, size int) []byte {
	t.Helper()
	b, err := Pack(make([]byte, size))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
