package seal

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/memstore"
	"millrace/ingest"
	"millrace/ingest/memlog"
)

// TestEachStep halts a worker at each step, lets another one take over and finish, and then lets the first go on as a zombie, or not: the
// text "If we stop here" of the package comment. Before both, one stops after its first entry, so that there is something to finish.
func TestEachStep(t *testing.T) {
	t.Parallel()
	for _, at := range Steps() {
		for _, zombie := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/zombie=%v", at, zombie), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { haltAt(t, at, zombie) })
			})
		}
	}
}

func haltAt(t *testing.T, at Step, zombie bool) {
	log, store := memlog.New(memlog.Options{}), memstore.New(memstore.Options{})
	put := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			lane := ingest.EventLane("default", "web", ingest.KeyValue{Key: "k", Value: fmt.Sprint(n % 3)})
			if _, err := log.Append(t.Context(), []ingest.Record{record(lane, fmt.Sprint(n%40), n)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(0, 30)
	first := halted(t, store, log, StepEntryPut, false)
	second := halted(t, store, log, at, zombie)
	put(30, 50) // the last ten repeat the first ten
	w, err := New(store, policyOf(batcher.Policy{MaxAge: time.Second}), nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, w, log.Partition(0))
	pass(30 * time.Second)
	second()
	pass(30 * time.Second)
	first()
	stop()
	checkTaken(t, store, log, 40, 50)
}

// halted runs a worker until it comes to a step for the first time, and returns what lets it go on; a worker that is no zombie then finds its
// context ended, as one that was killed would not.
func halted(t *testing.T, store batcher.ObjectStore, log *memlog.Log, at Step, zombie bool) (release func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	there, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w, err := New(store, policyOf(batcher.Policy{MaxAge: time.Second}), nil, Options{Uploads: 1, OnStep: func(s Step) {
		if s != at {
			return
		}
		once.Do(func() {
			if !zombie {
				cancel()
			}
			close(there)
			<-free
		})
	}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.Work(ctx, log.Partition(0)) }() // ended by release, which waits for it
	<-there
	synctest.Wait()
	return func() {
		t.Helper()
		close(free)
		if zombie {
			pass(10 * time.Second)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Work() = %v", err)
		}
	}
}

// checkTaken wants, in the chain and in the store, one row for each of keys 0 to rows-1, duplicates named for the rest of the records, and
// nothing else.
func checkTaken(t *testing.T, store *memstore.Store, log *memlog.Log, rows, records int) {
	t.Helper()
	stream := log.Partition(0).Incarnations()[0].Stream
	want := map[string]bool{}
	var offsets []int64
	dups := int64(0)
	for l, err := range chain.New(store, chain.Options{}).Links(t.Context(), stream, 1) {
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range l.Entry.Cuts {
			for _, d := range c.Dups {
				dups += d.Last/3 - d.First/3 + 1 // every third record is of a lane
			}
		}
		for _, b := range l.Batches {
			want[b.Key], want[batcher.IDsKey(b.ID)] = true, true
			offsets = append(offsets, rowsIn(t, store, b, "ndjson.gz")...)
		}
	}
	slices.Sort(offsets)
	if got := slices.Compact(slices.Clone(offsets)); len(offsets) != rows || len(got) != rows {
		t.Errorf("%d rows of %d offsets, want %d of each: %v", len(offsets), len(got), rows, offsets)
	}
	if int(dups) != records-rows {
		t.Errorf("%d duplicates are named, want %d", dups, records-rows)
	}
	for _, key := range store.Keys() {
		if !strings.HasPrefix(key, batcher.PrefixChain) && !want[key] {
			t.Errorf("object %q is in no entry", key)
		}
		delete(want, key)
	}
	for key := range maps.Keys(want) {
		t.Errorf("object %q is missing", key)
	}
}
