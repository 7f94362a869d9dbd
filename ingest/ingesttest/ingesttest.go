// Package ingesttest is the conformance suite of the log seams: what every [ingest.Appender] with its [ingest.Consumer] and [ingest.Partition]
// does, whatever it is made of. An implementation runs [TestLog] with a [Harness]; what it can not do (no reopening, no bound) it leaves nil.
//
// The suite guarantees that the promises written at the interfaces are kept without faults; faults are the business of each implementation.
package ingesttest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest"
)

// Log is a log under test.
type Log interface {
	ingest.Appender
	ingest.Consumer
	Close() error
}

// Harness makes logs. Each call of a test's make function returns one with an empty log.
type Harness struct {
	// Log is open and empty.
	Log Log
	// Partitions is their number; 0 counts as 1.
	Partitions int
	// Reopen closes Log, opens it again and returns it, with new incarnations; nil: can not.
	Reopen func(t *testing.T) Log
	// Crash is Reopen without Close; nil: can not.
	Crash func(t *testing.T) Log
	// MaxBytes is the bound of Log, if it is small enough to be filled; 0: none.
	MaxBytes int64
	// MaxRecord is the bound on one record; 0: none.
	MaxRecord int
}

// TestLog runs the suite. open is called for each test, which closes what it returns.
func TestLog(t *testing.T, open func(t *testing.T) Harness) {
	tests := []struct {
		name string
		run  func(t *testing.T, h Harness)
	}{
		{"append and read back", testAppendRead},
		{"many writers", testManyWriters},
		{"one key keeps its order", testOrder},
		{"append keeps nothing of the caller's", testAppendCopies},
		{"append nothing", testAppendNothing},
		{"refused records leave nothing behind", testTooLarge},
		{"context", testContext},
		{"read in small pieces", testReadPieces},
		{"wait", testWait},
		{"consume", testConsume},
		{"trim", testTrim},
		{"hints", testHints},
		{"reopen", testReopen},
		{"crash", testCrash},
		{"empty incarnations", testEmptyIncarnations},
		{"full", testFull},
		{"closed", testClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			tt.run(t, h)
			if err := h.Log.Close(); err != nil {
				t.Errorf("close: got %v, want nil", err)
			}
		})
	}
}

// parts returns the partitions of the log under test.
func (h Harness) parts(t *testing.T) []ingest.Partition {
	t.Helper()
	return Partitions(t, h.Log, max(1, h.Partitions))
}

// Record returns a valid record with a payload of at least size bytes, in which name can be found again.
func Record(name, key string, size int) ingest.Record {
	at := time.Date(2026, 11, 23, 8, 0, 0, 123456000, time.UTC)
	return ingest.Record{
		Lane: ingest.EventLane(ingest.DefaultTenant, "web"), Type: "track", Dedupe: ingest.DedupeID("web", name), ReceivedAt: at,
		EventAt: at.Add(-time.Second), Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Payload:    fmt.Appendf(nil, `{"name":%q,"pad":"%0*d"}`, name, max(1, size-len(name)-20), 0),
		RoutingKey: key,
	}
}

// Records returns n records called prefix0, prefix1 and so on, each with its own key.
func Records(prefix string, n int) []ingest.Record {
	recs := make([]ingest.Record, n)
	for i := range recs {
		name := fmt.Sprint(prefix, i)
		recs[i] = Record(name, name, 100)
	}
	return recs
}

// MustAppend appends recs or ends the test.
func MustAppend(t *testing.T, l ingest.Appender, recs ...ingest.Record) ingest.Receipt {
	t.Helper()
	receipt, err := l.Append(t.Context(), recs)
	if err != nil {
		t.Fatalf("append %d records: %v", len(recs), err)
	}
	return receipt
}

// Partitions returns the n partitions of a log, in the order of their numbers.
func Partitions(t *testing.T, l ingest.Consumer, n int) []ingest.Partition {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	found := make(chan ingest.Partition, n)
	ended := make(chan error, 1)
	go func() { // ends with ctx; waited for below
		ended <- l.Consume(ctx, func(ctx context.Context, p ingest.Partition) error {
			found <- p
			<-ctx.Done()
			return nil
		})
	}()
	out := make([]ingest.Partition, n)
	for range n {
		p := <-found
		if id := p.ID(); id < 0 || id >= n || out[id] != nil {
			t.Fatalf("got partition %d of %d twice or out of range", id, n)
		}
		out[p.ID()] = p
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatalf("consume: got %v after its context ended, want nil", err)
	}
	return out
}

// Found is a record as it was read.
type Found struct {
	Offset int64
	Record ingest.Record
}

// ReadAll reads all that a partition holds from an offset on.
func ReadAll(t *testing.T, p ingest.Partition, from int64) []Found {
	t.Helper()
	out, err := Scan(t.Context(), p, from, 1<<20)
	if err != nil {
		t.Fatalf("read partition %d: %v", p.ID(), err)
	}
	return out
}

// Scan reads from an offset to the high watermark in pieces of maxBytes, and checks what Read promises about each.
func Scan(ctx context.Context, p ingest.Partition, from int64, maxBytes int) ([]Found, error) {
	var (
		out []Found
		dec ingest.Decoder
		buf []ingest.Stored
	)
	for {
		recs, next, err := p.Read(ctx, from, maxBytes, buf)
		if err != nil {
			return out, err
		}
		if len(recs) == 0 {
			return out, nil
		}
		if next <= recs[len(recs)-1].Offset {
			return out, fmt.Errorf("read from %d: got next %d, want it above record %d", from, next, recs[len(recs)-1].Offset)
		}
		if err := oneIncarnation(p, recs); err != nil {
			return out, err
		}
		for _, s := range recs {
			if s.Offset < from || s.Offset >= next {
				return out, fmt.Errorf("read from %d: got record %d out of order or below next %d", from, s.Offset, next)
			}
			from = s.Offset + 1
			rec, err := dec.Decode(append([]byte(nil), s.Bytes...))
			if err != nil {
				return out, fmt.Errorf("record %d: %w", s.Offset, err)
			}
			out = append(out, Found{s.Offset, rec})
		}
		from, buf = next, recs
	}
}

func oneIncarnation(p ingest.Partition, recs []ingest.Stored) error {
	for _, inc := range p.Incarnations() {
		if first, last := recs[0].Offset, recs[len(recs)-1].Offset; first >= inc.First && (inc.Live() || first < inc.Next) {
			if !inc.Live() && last >= inc.Next {
				return fmt.Errorf("read records %d–%d at once, over the end %d of incarnation %v", first, last, inc.Next, inc.Stream)
			}
			return nil
		}
	}
	return fmt.Errorf("record %d is of no incarnation in %v", recs[0].Offset, p.Incarnations())
}

// everything reads all of parts and returns the records by payload, with the stream that holds each.
func everything(t *testing.T, parts []ingest.Partition) map[string]ingest.Span {
	t.Helper()
	out := map[string]ingest.Span{}
	for _, p := range parts {
		low, _, err := p.Bounds(t.Context())
		if err != nil {
			t.Fatalf("bounds: %v", err)
		}
		for _, f := range ReadAll(t, p, low) {
			name := string(f.Record.Payload)
			if at, twice := out[name]; twice {
				t.Errorf("got %s twice, at %v and at %d", name, at, f.Offset)
			}
			out[name] = ingest.Span{Stream: streamOf(p, f.Offset), First: f.Offset, Last: f.Offset}
		}
	}
	return out
}

func streamOf(p ingest.Partition, off int64) ingest.Stream {
	for _, inc := range p.Incarnations() {
		if off >= inc.First && (inc.Live() || off < inc.Next) {
			return inc.Stream
		}
	}
	return ingest.Stream{}
}

// spread writes a receipt out: one span per record.
func spread(receipt ingest.Receipt) []ingest.Span {
	var out []ingest.Span
	for _, s := range receipt {
		for off := s.First; off <= s.Last; off++ {
			out = append(out, ingest.Span{Stream: s.Stream, First: off, Last: off})
		}
	}
	return out
}

// wantStored checks that recs are where receipt says.
func wantStored(t *testing.T, got map[string]ingest.Span, recs []ingest.Record, receipt ingest.Receipt) {
	t.Helper()
	spans := spread(receipt)
	if len(spans) != len(recs) {
		t.Fatalf("got a receipt for %d records, want %d", len(spans), len(recs))
	}
	for i, r := range recs {
		if at, ok := got[string(r.Payload)]; !ok || at != spans[i] {
			t.Errorf("record %s: found %v at %v, want %v", r.Payload, ok, at, spans[i])
		}
	}
}

func wantIs(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

func wantEqual(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
