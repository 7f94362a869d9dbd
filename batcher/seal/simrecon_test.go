package seal

import (
	"context"
	"errors"

	"millrace/batcher"
	"millrace/ingest"
)

// reconciler is a toy of what comes after the object: runs, one for each batch, from a bus that loses and doubles news, and from the chain
// behind a cursor.
type reconciler struct {
	w       *world
	cursor  map[ingest.Stream]int64
	runs    map[string]int // by batch
	dropped map[string]bool
}

func newReconciler(w *world) reconciler {
	return reconciler{w: w, cursor: map[ingest.Stream]int64{}, runs: map[string]int{}, dropped: map[string]bool{}}
}

// insert makes a run of a batch, whose id is unique among runs.
func (r *reconciler) insert(b *batcher.Batch) {
	if b.Void != "" {
		r.dropped[b.ID] = true
		return
	}
	if r.w.view.Body(b.Key) == nil {
		r.w.fail("a run of batch %s has no object", b.ID)
	}
	r.runs[b.ID] = 1
}

// deliver takes one piece of news off the bus: it may be lost, or come again. Only stream and seq of it count.
func (r *reconciler) deliver() {
	ctx := context.Background()
	r.w.mu.Lock()
	if len(r.w.bus) == 0 {
		r.w.mu.Unlock()
		return
	}
	i := r.w.rng.IntN(len(r.w.bus))
	b := r.w.bus[i]
	if r.w.rng.IntN(4) > 0 {
		r.w.bus = append(r.w.bus[:i], r.w.bus[i+1:]...)
	}
	r.w.mu.Unlock()
	if r.w.rng.IntN(3) == 0 || b.Seq <= r.cursor[b.Stream] {
		return
	}
	e, err := r.w.chain.Entry(ctx, b.Stream, b.Seq)
	if err != nil {
		r.w.fail("news of entry %d of %s: %w", b.Seq, b.Stream, err)
		return
	}
	for i := range e.Cuts {
		if e.Cuts[i].Count == 0 {
			continue
		}
		f, uri, err := r.w.chain.Facts(ctx, e.Cuts[i])
		if errors.Is(err, batcher.ErrNotFound) {
			continue
		}
		if err != nil {
			r.w.fail("news of batch %s: %w", e.Cuts[i].Batch, err)
			return
		}
		x := batcher.BatchOf(&e, i, f, uri)
		r.insert(&x)
	}
}

// step reads one chain from the cursor on.
func (r *reconciler) step() {
	ctx := context.Background()
	streams, err := r.w.chain.Streams(ctx)
	if err != nil || len(streams) == 0 {
		return
	}
	s := streams[r.w.rng.IntN(len(streams))]
	if r.w.plan.world.reconcileTail {
		r.toTail(s)
		return
	}
	for l, err := range r.w.chain.Links(ctx, s, r.cursor[s]+1) {
		if err != nil {
			r.w.fail("read chain %s from %d: %w", s, r.cursor[s]+1, err)
			return
		}
		for i := range l.Batches {
			r.insert(&l.Batches[i])
		}
		r.cursor[s] = l.Entry.Seq
	}
}

// toTail is the mutant that does not stop at done.
func (r *reconciler) toTail(s ingest.Stream) {
	for {
		e, err := r.w.chain.Entry(context.Background(), s, r.cursor[s]+1)
		if err != nil {
			return
		}
		for i := range e.Cuts {
			if e.Cuts[i].Count > 0 {
				b := batcher.BatchOf(&e, i, batcher.Facts{}, "")
				r.insert(&b)
			}
		}
		r.cursor[s] = e.Seq
	}
}

// check reads all chains to their end and compares runs with batches.
func (r *reconciler) check(l *ledger) {
	for range 3 * len(l.tail) {
		r.step()
	}
	for s, tail := range l.tail {
		for r.cursor[s] < tail.Done && r.w.failed() == nil {
			r.step()
		}
	}
	for id, key := range l.batches {
		f, _, err := r.w.chain.Facts(context.Background(), batcher.Cut{Batch: id, Object: key})
		want := 1
		if f.Void != "" {
			want = 0
		}
		if err != nil || r.runs[id] != want {
			r.w.fail("batch %s has %d runs, want %d (%v)", id, r.runs[id], want, err)
		}
	}
	for id := range r.runs {
		if l.batches[id] == "" {
			r.w.fail("a run has batch %s, which nobody cut", id)
		}
	}
}
