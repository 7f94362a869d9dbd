package ingest_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest"
)

var update = flag.Bool("update", false, "write golden files anew")

func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

func sample() ingest.Record {
	return ingest.Record{
		Lane:       ingest.EventLane("acme", "web", ingest.KeyValue{Key: "country", Value: "de"}),
		Type:       "track",
		Dedupe:     ingest.DedupeID("web", "m-1"),
		ReceivedAt: time.Date(2026, 11, 23, 8, 30, 0, 123456000, time.UTC),
		EventAt:    time.Date(2026, 11, 23, 8, 29, 59, 1000, time.UTC),
		Trace:      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Payload:    []byte(`{"messageId":"m-1","type":"track","event":"Order Completed"}`),
	}
}

// The bytes of version 1 stand in logs and must be readable for ever: a change here is a new version.
func TestRecordGolden(t *testing.T) {
	t.Parallel()
	plain := sample()
	bare := ingest.Record{Lane: "events/tenant=t/source=s", ReceivedAt: time.UnixMicro(1).UTC(), Payload: []byte("{}")}
	quarantined := sample()
	quarantined.Lane = ingest.QuarantineLane("acme", "web", "bad_json")
	quarantined.Type, quarantined.Trace = "", ""
	for name, rec := range map[string]ingest.Record{"plain": plain, "bare": bare, "quarantined": quarantined} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stored := rec.AppendBinary(nil)
			text := golden(t, "record_v1_"+name+".hex", []byte(hex.Dump(stored)))
			if diff := cmp.Diff(string(text), hex.Dump(stored)); diff != "" {
				t.Errorf("bytes (-golden +got):\n%s", diff)
			}
			want := rec
			if want.EventAt.IsZero() {
				want.EventAt = want.ReceivedAt
			}
			got, err := new(ingest.Decoder).Decode(stored)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAppendBinaryAppendsAndStaysInBounds(t *testing.T) {
	t.Parallel()
	rec := sample()
	got := rec.AppendBinary([]byte("before"))
	if !bytes.HasPrefix(got, []byte("before")) || !bytes.Equal(got[6:], rec.AppendBinary(nil)) {
		t.Errorf("got %q, want the record behind what was there", got)
	}
	if size := len(got) - 6; size > rec.BinarySize() {
		t.Errorf("got %d bytes, want at most BinarySize %d", size, rec.BinarySize())
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	rec := sample()
	rec.Payload = nil
	whole := rec.AppendBinary(nil)
	var dec ingest.Decoder
	for n := range whole {
		if _, err := dec.Decode(whole[:n]); !errors.Is(err, ingest.ErrBadRecord) {
			t.Errorf("first %d of %d bytes: got %v, want %v", n, len(whole), err, ingest.ErrBadRecord)
		}
	}
	other := bytes.Clone(whole)
	other[0] = 2
	if _, err := dec.Decode(other); !errors.Is(err, ingest.ErrBadRecord) {
		t.Errorf("version 2: got %v, want %v", err, ingest.ErrBadRecord)
	}
}

// The decoder shares strings between records, never bytes with the caller, except for the payload.
func TestDecoderKeepsNothingOfTheInput(t *testing.T) {
	t.Parallel()
	rec := sample()
	stored := rec.AppendBinary(nil)
	var dec ingest.Decoder
	got, err := dec.Decode(stored)
	if err != nil {
		t.Fatal(err)
	}
	for i := range stored {
		stored[i] = 'x'
	}
	if got.Lane != rec.Lane || got.Type != rec.Type || got.Trace != rec.Trace {
		t.Errorf("got %q, %q, %q after the input was overwritten, want them unchanged", got.Lane, got.Type, got.Trace)
	}
	again, err := dec.Decode(rec.AppendBinary(nil))
	if err != nil || again.Lane != rec.Lane || string(again.Payload) != string(rec.Payload) {
		t.Errorf("got %+v, %v, want the record", again, err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		edit func(*ingest.Record)
		want error
	}{
		{"good", func(*ingest.Record) {}, nil},
		{"smallest payload", func(r *ingest.Record) { r.Payload = []byte("{}") }, nil},
		{"longest type", func(r *ingest.Record) { r.Type = strings.Repeat("t", ingest.MaxType) }, nil},
		{"type too long", func(r *ingest.Record) { r.Type = strings.Repeat("t", ingest.MaxType+1) }, ingest.ErrTooLarge},
		{"lane too long", func(r *ingest.Record) { r.Lane += ingest.Lane("/k=" + strings.Repeat("v", ingest.MaxLane)) }, ingest.ErrTooLarge},
		{"trace too long", func(r *ingest.Record) { r.Trace = strings.Repeat("0", 65) }, ingest.ErrTooLarge},
		{"no lane", func(r *ingest.Record) { r.Lane = "" }, ingest.ErrBadLane},
		{"no payload", func(r *ingest.Record) { r.Payload = nil }, ingest.ErrBadRecord},
		{"half a payload", func(r *ingest.Record) { r.Payload = []byte("{") }, ingest.ErrBadRecord},
		{"an array", func(r *ingest.Record) { r.Payload = []byte("[]") }, ingest.ErrBadRecord},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rec := sample()
			tt.edit(&rec)
			err := rec.Validate()
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err != nil {
				return
			}
			if _, err := new(ingest.Decoder).Decode(rec.AppendBinary(nil)); err != nil {
				t.Errorf("got %v for a valid record, want it back", err)
			}
		})
	}
}

func TestDedupeID(t *testing.T) {
	t.Parallel()
	// First half of SHA-256("web\x00m-1"), by sha256sum.
	id := ingest.DedupeID("web", "m-1")
	if got, want := hex.EncodeToString(id[:]), "939f9f945800e1295aa9cf46d97b0bf5"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if ingest.DedupeID("a", "bc") == ingest.DedupeID("ab", "c") {
		t.Error("got one id for two sources")
	}
	long := strings.Repeat("k", 1000)
	if ingest.DedupeID("web", long) == ingest.DedupeID("web", long+"x") {
		t.Error("got one id for two long keys")
	}
}

func FuzzDecode(f *testing.F) {
	rec := sample()
	whole := rec.AppendBinary(nil)
	f.Add(whole)
	f.Add(whole[:40])
	f.Add(append(bytes.Clone(whole[:33]), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1))
	f.Fuzz(func(t *testing.T, stored []byte) {
		var dec ingest.Decoder
		rec, err := dec.Decode(stored)
		if err != nil {
			if !errors.Is(err, ingest.ErrBadRecord) {
				t.Fatalf("got %v, want %v", err, ingest.ErrBadRecord)
			}
			return
		}
		// Lengths have several encodings and the version of a record one: what was decoded must survive another round.
		again, err := dec.Decode(rec.AppendBinary(nil))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(rec, again, cmp.Comparer(bytes.Equal)); diff != "" {
			t.Fatalf("second round (-first +second):\n%s", diff)
		}
	})
}

func BenchmarkAppendBinary(b *testing.B) {
	rec := sample()
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = rec.AppendBinary(buf[:0])
	}
}

func BenchmarkValidate(b *testing.B) {
	rec := sample()
	b.ReportAllocs()
	for b.Loop() {
		if err := rec.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	rec := sample()
	rec.Trace = ""
	stored := rec.AppendBinary(nil)
	var dec ingest.Decoder
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dec.Decode(stored); err != nil {
			b.Fatal(err)
		}
	}
}
