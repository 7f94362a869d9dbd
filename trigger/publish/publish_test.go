package publish

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
	"millrace/trigger/membus"
)

var update = flag.Bool("update", false, "write golden files")

func sample() batcher.Batch {
	at := func(s int) time.Time { return time.Date(2026, 3, 1, 12, 0, s, 123000000, time.UTC) }
	lane := ingest.EventLane("acme", "web", ingest.KeyValue{Key: "country", Value: "é"})
	stream := ingest.Stream{Log: "k3v9", Incarnation: "a1", Partition: 2}
	return batcher.Batch{
		ID: "01KJNE7M3B0123456789ABCDEF", Tenant: "acme", Source: "web", Lane: lane, Stream: stream, Seq: 7, Cut: 1, Partition: 2,
		First: 100, Last: 199, Events: 98, Bytes: 4096, RawBytes: 40960,
		Key: batcher.ObjectKey(lane, at(0), stream, 100, "ndjson.gz"), URI: "file:///lake/o", Checksum: "crc32c:0a0b0c0d",
		Types: map[string]int64{"page": 40, "track": 58}, ReceivedMin: at(0), ReceivedMax: at(5), EventMin: at(-3), EventMax: at(4),
		Watermark: at(5), CreatedAt: at(6), CommittedAt: at(7), Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	m, err := Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(struct {
		trigger.Message
		Data json.RawMessage
	}{m, m.Data}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/announcement.v1.json"
	if *update {
		if err := os.WriteFile(file, append(got, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(want)), string(got)); diff != "" {
		t.Errorf("external subscribers read this; a change needs a new type (-want +got):\n%s", diff)
	}
}

// sdkMessage shows a message to the CloudEvents SDK as its own NATS binding does: attributes by the prefix "ce-", the rest is not its business.
type sdkMessage struct{ m trigger.Message }

func (s sdkMessage) ReadEncoding() binding.Encoding { return binding.EncodingBinary }
func (s sdkMessage) Finish(error) error             { return nil }
func (s sdkMessage) ReadStructured(context.Context, binding.StructuredWriter) error {
	return binding.ErrNotStructured
}

func (s sdkMessage) ReadBinary(_ context.Context, w binding.BinaryWriter) error {
	version := spec.WithPrefix("ce-").Version(s.m.Header["ce-specversion"])
	if version == nil {
		return binding.ErrNotBinary
	}
	for k, v := range s.m.Header {
		name, ours := strings.CutPrefix(k, "ce-")
		attribute := version.Attribute(k)
		var err error
		switch {
		case !ours || name == "specversion":
		case attribute != nil:
			err = w.SetAttribute(attribute, v)
		default:
			err = w.SetExtension(name, v)
		}
		if err != nil {
			return fmt.Errorf("header %q: %w", k, err)
		}
	}
	return w.SetData(strings.NewReader(string(s.m.Data)))
}

func (s sdkMessage) GetAttribute(kind spec.Kind) (spec.Attribute, any) {
	version := spec.WithPrefix("ce-").Version(s.m.Header["ce-specversion"])
	attribute := version.AttributeFromKind(kind)
	return attribute, s.m.Header[attribute.PrefixedName()]
}

func (s sdkMessage) GetExtension(name string) any { return s.m.Header["ce-"+name] }

func TestSDKReadsIt(t *testing.T) {
	t.Parallel()
	b := sample()
	m, err := Encode(b)
	if err != nil {
		t.Fatal(err)
	}
	ev, err := binding.ToEvent(t.Context(), sdkMessage{m})
	if err != nil {
		t.Fatal(err)
	}
	if err := ev.Validate(); err != nil {
		t.Fatal(err)
	}
	got := []string{ev.SpecVersion(), ev.Type(), ev.Source(), ev.ID(), ev.DataContentType(), ev.Time().Format(time.RFC3339Nano)}
	want := []string{"1.0", Type, "/tenants/acme/sources/web", b.ID, "application/json", "2026-03-01T12:00:07.123Z"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	if trace, err := types.ToString(ev.Extensions()["traceparent"]); err != nil || trace != b.Trace {
		t.Errorf("traceparent: got %q (%v), want %q", trace, err, b.Trace)
	}
	if want := strings.ReplaceAll(b.Key, "%", "%25"); ev.Subject() != want {
		t.Errorf("subject: got %q, want %q", ev.Subject(), want)
	}
	var d struct {
		batcher.Batch
		V int `json:"v"`
	}
	if err := ev.DataAs(&d); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, d.Batch); diff != "" || d.V != Version {
		t.Errorf("data of version %d (-want +got):\n%s", d.V, diff)
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	b := sample()
	m, err := Encode(b)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(m)
	if want := (Hint{Stream: b.Stream, Seq: 7, Batch: b.ID}); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	body := func(text string) func(*trigger.Message) {
		return func(m *trigger.Message) { m.Data = []byte(text) }
	}
	forged := map[string]func(*trigger.Message){
		"other type":       func(m *trigger.Message) { m.Header["ce-type"] = "io.millrace.batch.committed.v2" },
		"no headers":       func(m *trigger.Message) { m.Header = nil },
		"oversized":        func(m *trigger.Message) { m.Data = append(m.Data, make([]byte, MaxData)...) },
		"not json":         body("{"),
		"no stream":        body(`{"v":1,"id":"x","seq":1}`),
		"other version":    body(`{"v":2,"id":"x","seq":1,"stream":"a/b/0"}`),
		"entry zero":       body(`{"v":1,"id":"x","seq":0,"stream":"a/b/0"}`),
		"no id":            body(`{"v":1,"seq":1,"stream":"a/b/0"}`),
		"climbs":           body(`{"v":1,"id":"x","seq":1,"stream":"../b/0"}`),
		"a space":          body(`{"v":1,"id":"x","seq":1,"stream":"a b/b/0"}`),
		"negative part":    body(`{"v":1,"id":"x","seq":1,"stream":"a/b/-1"}`),
		"long name":        body(`{"v":1,"id":"x","seq":1,"stream":"` + strings.Repeat("a", 300) + `/b/0"}`),
		"id of any length": body(`{"v":1,"id":"` + strings.Repeat("x", 65) + `","seq":1,"stream":"a/b/0"}`),
	}
	for name, change := range forged {
		m, err := Encode(sample())
		if err != nil {
			t.Fatal(err)
		}
		change(&m)
		if got, err := Decode(m); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, ErrMalformed)
		}
	}
}

func FuzzDecode(f *testing.F) {
	m, err := Encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.Data)
	f.Add([]byte(`{"v":1,"id":"x","seq":1,"stream":"a/b/0"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := Decode(trigger.Message{Header: map[string]string{"ce-type": Type}, Data: data})
		if err != nil {
			return
		}
		key := batcher.ChainKey(h.Stream, h.Seq)
		if strings.Contains(key, "..") && strings.Contains(key, "/../") || strings.ContainsAny(key, " \\\x00") || h.Seq < 1 {
			t.Errorf("unsafe key %q", key)
		}
	})
}

// stuckBus takes nothing until it is opened, and counts.
type stuckBus struct {
	trigger.Bus
	gate chan struct{}
	err  error
	got  chan trigger.Message
}

func (b *stuckBus) Publish(ctx context.Context, m trigger.Message) error {
	select {
	case <-b.gate:
	case <-ctx.Done():
		return ctx.Err()
	}
	if b.err != nil {
		return b.err
	}
	b.got <- m
	return nil
}

// counts reads the counter of announcements by outcome.
func counts(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "millrace_trigger_published_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return got
}

func batchN(i int) batcher.Batch {
	b := sample()
	b.ID = fmt.Sprintf("b%03d", i)
	return b
}

func TestNeverBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus := &stuckBus{gate: make(chan struct{}), got: make(chan trigger.Message, 100)}
		reg := prometheus.NewRegistry()
		a := New(bus, Options{Queue: 10, Workers: 2, Registerer: reg})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		start := time.Now()
		for i := range 50 {
			a.Announce(ctx, batchN(i))
			synctest.Wait()
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("announcing took %v of the bubble's time, want 0", took)
		}
		if diff := cmp.Diff(map[string]float64{outcomePublished: 0, outcomeFailed: 0, outcomeDropped: 38}, counts(t, reg)); diff != "" {
			t.Errorf("while the bus is away (-want +got):\n%s", diff)
		}
		close(bus.gate)
		synctest.Wait()
		if diff := cmp.Diff(map[string]float64{outcomePublished: 12, outcomeFailed: 0, outcomeDropped: 38}, counts(t, reg)); diff != "" {
			t.Errorf("when it is back (-want +got):\n%s", diff)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: got %v, want nil", err)
		}
	})
}

func TestPublishTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus := &stuckBus{gate: make(chan struct{}), got: make(chan trigger.Message, 1)}
		reg := prometheus.NewRegistry()
		a := New(bus, Options{Timeout: time.Second, Patience: 5 * time.Second, Registerer: reg})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go a.Run(ctx)
		a.Announce(ctx, batchN(1))
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if got := counts(t, reg)[outcomeFailed]; got != 1 {
			t.Errorf("failed after patience: got %v, want 1", got)
		}
		bus.err = errors.New("too large")
		close(bus.gate)
		a.Announce(ctx, batchN(2))
		synctest.Wait()
		if got := counts(t, reg)[outcomeFailed]; got != 2 {
			t.Errorf("failed at once, for good: got %v, want 2", got)
		}
	})
}

func TestAnnounce(t *testing.T) {
	t.Parallel()
	bus := membus.New(membus.Options{})
	s, err := bus.Subscribe(t.Context(), "x", Subjects)
	if err != nil {
		t.Fatal(err)
	}
	a := New(bus, Options{Workers: 1})
	go a.Run(t.Context())
	void := batchN(1)
	void.Void = "refused"
	a.Announce(t.Context(), void)
	a.Announce(t.Context(), batchN(2))
	d, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Message().ID; got != "b002" {
		t.Errorf("got %q, want b002: a void batch is not announced", got)
	}
}
