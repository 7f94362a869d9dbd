package verify

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"

	"millrace/batcher"
	"millrace/ingest"
)

// about returns a problem with the batch of f.
func (f *found) about(k Kind, format string, args ...any) Problem {
	return Problem{
		Kind: k, Stream: f.entry.Stream, Seq: f.entry.Seq, Batch: f.cut.Batch, Key: f.cut.Object, First: f.cut.First, Last: f.cut.Last,
		What: fmt.Sprintf(format, args...),
	}
}

// count takes an entry, and what next returns for each of its cuts with rows, into the state of the chain. It reports false if there is no next.
func (w *walker) count(st *chainState, e *batcher.Entry, next func() *found) bool {
	w.entry(st, e)
	for i := range e.Cuts {
		c := &e.Cuts[i]
		if c.Last >= st.keep {
			for _, d := range c.Dups {
				st.named.dups[c.Lane] = append(st.named.dups[c.Lane], span{d.First, d.Last, fateDuplicate})
			}
		}
		if c.Count == 0 {
			continue
		}
		f := next()
		if f == nil {
			return false
		}
		w.keys = append(w.keys, maphash.String(w.seed, c.Object))
		w.countBatch(st, f)
		for _, p := range f.problems {
			w.add(p)
		}
		f.offsets, f.problems = nil, nil
		st.waiting[c.Batch] = f
	}
	for i := range e.Facts {
		w.closeBatch(st, e, &e.Facts[i])
	}
	return true
}

func (w *walker) countBatch(st *chainState, f *found) {
	c, rest := f.cut, fateNone
	switch f.state {
	case stateAbsent:
		rest = fateSetAside
		switch {
		case f.entry.Seq <= st.tail.Done:
			f.problem(Missing, c.Count, "no object, although entry %d says done up to %d", st.tail.Seq, st.tail.Done)
		case st.end >= 0 && c.Last >= st.end:
			f.problem(BeyondLog, c.Count, "no object, and this log of the chain ended before offset %d: it is an older copy, or its disk lost records", st.end)
		default:
			rest = fateInFlight
			w.report.InFlight.Items++
			w.report.InFlight.Rows += c.Count
		}
	case stateVoid:
		rest = fateSetAside
	case stateBad:
		rest = fateSetAside
		w.countRows(st, f)
	case stateRows:
		// Rows that are lost here were told; telling each of them again by the log would add nothing.
		if w.countRows(st, f) > 0 {
			rest = fateSetAside
		}
	}
	if rest != fateNone && c.Last >= st.keep {
		st.named.cuts[c.Lane] = append(st.named.cuts[c.Lane], span{c.First, c.Last, rest})
	}
}

// countRows marks the offsets of the rows, and returns how many rows of the cut are lost.
func (w *walker) countRows(st *chainState, f *found) (lost int64) {
	w.report.Batches++
	w.report.Rows += f.rows
	w.report.Bytes += f.bytes
	var doubled int64
	example := int64(0)
	for _, offset := range f.offsets {
		if st.cover.set(offset) {
			doubled++
			example = offset
		}
	}
	if doubled > 0 {
		f.problem(Doubled, doubled, "%d rows are there already, the last one is offset %d", doubled, example)
	}
	slices.Sort(f.offsets) // as a rule they are, and this costs next to nothing
	lost = max(0, f.cut.Count-int64(len(slices.Compact(f.offsets))))
	if lost > 0 {
		f.problem(Lost, lost, "%d of %d rows are not in the object", lost, f.cut.Count)
	}
	return lost
}

// closeBatch compares what an entry recorded of a batch with what is there now.
func (w *walker) closeBatch(st *chainState, e *batcher.Entry, then *batcher.Facts) {
	f, ok := st.waiting[then.Batch]
	if !ok {
		w.add(Problem{Kind: Chain, Stream: e.Stream, Seq: e.Seq, Batch: then.Batch, What: "facts of a batch that no entry before has"})
		return
	}
	delete(st.waiting, then.Batch)
	now := &f.facts
	if f.state == stateAbsent || f.state == stateBad {
		return // told already
	}
	if now.Checksum != then.Checksum || now.Rows != then.Rows || f.bytes != then.Bytes && then.Bytes != 0 || now.Void != then.Void {
		w.add(f.about(Overwritten, "object has %d bytes, %d rows, %s; entry %d recorded %d, %d, %s",
			f.bytes, now.Rows, now.Checksum, e.Seq, then.Bytes, then.Rows, then.Checksum))
	}
}

// maxSuspects bounds the objects that are looked up a second time.
const maxSuspects = 100_000

// orphans lists all objects and tells those that no cut names.
func (w *walker) orphans(ctx context.Context) error {
	slices.Sort(w.keys)
	var suspects []batcher.ObjectInfo
	for _, root := range []string{ingest.RootEvents + "/", ingest.RootQuarantine + "/"} {
		for info, err := range w.store.List(ctx, batcher.ListOptions{Prefix: root}) {
			if err != nil {
				return err
			}
			if !w.named(info.Key) && len(suspects) < maxSuspects {
				suspects = append(suspects, info)
			}
		}
	}
	if len(suspects) == 0 {
		return nil
	}
	// An entry is always older than its objects, so entries that are read now name all objects that were listed.
	if err := w.laterKeys(ctx); err != nil {
		return err
	}
	for _, info := range suspects {
		if !w.named(info.Key) {
			w.add(Problem{Kind: Orphan, Key: info.Key, What: fmt.Sprintf("no cut names this object of %d bytes", info.Size)})
		}
	}
	return nil
}

func (w *walker) named(key string) bool {
	_, ok := slices.BinarySearch(w.keys, maphash.String(w.seed, key))
	return ok
}

// laterKeys adds the keys of entries that were written since the walk.
func (w *walker) laterKeys(ctx context.Context) error {
	streams, err := w.cat.Streams(ctx)
	if err != nil {
		return err
	}
	for _, s := range streams {
		tail, err := w.cat.Tail(ctx, s, w.ends[s])
		if cannotAsk(err) {
			return err
		}
		for seq := w.ends[s] + 1; err == nil && seq <= tail.Seq; seq++ {
			e, err := w.cat.Entry(ctx, s, seq)
			if cannotAsk(err) {
				return err
			}
			for _, c := range e.Cuts {
				w.keys = append(w.keys, maphash.String(w.seed, c.Object))
			}
		}
	}
	slices.Sort(w.keys)
	return nil
}
