package seal

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/encode"
	"millrace/batcher/memstore"
	"millrace/ingest"
	"millrace/ingest/memlog"
)

// record returns a record of a lane with a sequence number, received now.
func record(lane ingest.Lane, key string, n int) ingest.Record {
	return ingest.Record{
		Lane: lane, Type: "track", Dedupe: ingest.DedupeID("web", key), ReceivedAt: time.Now().UTC(),
		Payload: fmt.Appendf(nil, `{"messageId":%q,"n":%d}`, key, n), RoutingKey: "k",
	}
}

func policyOf(p batcher.Policy) func(string) batcher.Policy {
	return func(string) batcher.Policy { return p }
}

// newsOf collects announcements.
type newsOf chan batcher.Batch

func (n newsOf) Announce(_ context.Context, b batcher.Batch) { n <- b }

// rowsIn returns the offsets of the rows of a batch's object, after checking that they are this batch's.
func rowsIn(t *testing.T, store batcher.ObjectStore, b batcher.Batch, codec string) (offsets []int64) {
	t.Helper()
	body, _, err := store.Get(t.Context(), b.Key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := encode.NewReader(codec, body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	for row := range strings.Lines(string(text)) {
		short, _, offset, ok := encode.Mark([]byte(row))
		if !ok || short != b.Stream.Short() {
			t.Fatalf("row %q is not of %s", row, b.Stream)
		}
		offsets = append(offsets, offset)
	}
	return offsets
}

// run starts w on a partition and returns what ends it.
func run(t *testing.T, w *Worker, p ingest.Partition) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Work(ctx, p) }() // ended and waited for by stop
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Work() = %v", err)
		}
	}
}

func TestHappyPath(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store, news := memlog.New(memlog.Options{}), memstore.New(memstore.Options{}), make(newsOf, 100)
		lanes := []ingest.Lane{ingest.EventLane("default", "web"), ingest.EventLane("default", "app")}
		w, err := New(store, policyOf(batcher.Policy{MaxAge: time.Second, MaxEvents: 10}), news, Options{})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, w, log.Partition(0))
		want := map[ingest.Lane][]int64{}
		for i := range 25 {
			l := lanes[i%2]
			key := fmt.Sprint(i)
			if i == 24 {
				key = "0" // a duplicate of the first
			} else {
				want[l] = append(want[l], int64(i))
			}
			if _, err := log.Append(t.Context(), []ingest.Record{record(l, key, i)}); err != nil {
				t.Fatal(err)
			}
		}
		pass(5 * time.Second)
		synctest.Wait()
		close(news)
		got := map[ingest.Lane][]int64{}
		for b := range news {
			got[b.Lane] = append(got[b.Lane], rowsIn(t, store, b, "ndjson.gz")...)
		}
		for _, l := range lanes {
			if fmt.Sprint(got[l]) != fmt.Sprint(want[l]) {
				t.Errorf("rows of %s are %v, want %v", l, got[l], want[l])
			}
		}
		stream := log.Partition(0).Incarnations()[0].Stream
		tail, err := chain.New(store, chain.Options{}).Tail(t.Context(), stream, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(tail.Cuts) != 0 || tail.Done != tail.Seq-1 || tail.Low != 25 {
			t.Errorf("tail is %+v, want one that closes all", tail)
		}
		if low, _, _ := log.Partition(0).Bounds(t.Context()); low != 25 {
			t.Errorf("log starts at %d, want 25", low)
		}
		if s := w.Status(); len(s) != 1 || s[0].Seq != tail.Seq || s[0].Lag != 0 || s[0].Stuck != "" {
			t.Errorf("status is %+v", s)
		}
		stop()
	})
}

// TestDrain opens a log twice: what the first opening holds is cut in its own chain, and the second one names it.
func TestDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store, news := memlog.New(memlog.Options{}), memstore.New(memstore.Options{}), make(newsOf, 100)
		lane := ingest.EventLane("default", "web")
		put := func(n int) {
			t.Helper()
			if _, err := log.Append(t.Context(), []ingest.Record{record(lane, fmt.Sprint(n), n)}); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 5 {
			put(n)
		}
		log.Crash(nil)
		log.Crash(nil) // an opening without records has no chain
		w, err := New(store, policyOf(batcher.Policy{MaxAge: time.Minute}), news, Options{})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, w, log.Partition(0))
		pass(time.Second)
		if n := len(log.Partition(0).Incarnations()); n != 2 {
			t.Errorf("log knows %d incarnations, want 2: the first is the second's predecessor", n)
		}
		put(2) // known from the first opening
		put(7)
		pass(2 * time.Minute)
		incs := log.Partition(0).Incarnations()
		if len(incs) != 1 {
			t.Fatalf("log knows %d incarnations, want 1", len(incs))
		}
		var links []chain.Link
		for l, err := range chain.New(store, chain.Options{}).Links(t.Context(), incs[0].Stream, 1) {
			if err != nil {
				t.Fatal(err)
			}
			links = append(links, l)
		}
		if len(links) != 1 || len(links[0].Batches) != 1 {
			t.Fatalf("links of the second opening are %+v, want one batch", links)
		}
		b := links[0].Batches[0]
		if got := rowsIn(t, store, b, "ndjson.gz"); fmt.Sprint(got) != "[6]" || links[0].Entry.Cuts[0].Dups[0].First != 5 {
			t.Errorf("rows are %v of %+v, want 6, and 5 as duplicate", got, links[0].Entry.Cuts)
		}
		if prev := links[0].Entry.Prev; prev == nil || prev.Incarnation != "i1" {
			t.Errorf("predecessor is %v, want i1", prev)
		}
		stop()
	})
}

// pass lets time go by in a bubble of synctest.
func pass(d time.Duration) { <-time.After(d) }
