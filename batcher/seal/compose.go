package seal

import (
	"maps"
	"time"

	"millrace/batcher"
	"millrace/ingest"
)

// draft is what a worker wants the next entry to say.
type draft struct {
	stream ingest.Stream
	prev   *ingest.Stream
	cuts   []batcher.Cut
	// low is the lowest offset that is in no cut, as far as this worker has seen: its first open row, or where it reads on.
	low int64
	// done is the last entry up to which this worker has seen every object, facts are of what that closes.
	done  int64
	facts []batcher.Facts
	lost  []batcher.Range
	now   time.Time
}

// compose returns the entry after tail. It is pure. low, next and done never go back, whatever this worker has seen: another one may have seen
// more. Next keeps lanes that this worker never met, or the records of theirs that were cut above low would be cut again.
func compose(tail *batcher.Entry, d draft, mut mutants) batcher.Entry {
	e := batcher.Entry{
		V: batcher.EntryVersion, Stream: d.stream, Seq: tail.Seq + 1, Cuts: d.cuts,
		Low: max(tail.Low, d.low), Done: max(tail.Done, d.done), Facts: d.facts, Lost: d.lost, WrittenAt: d.now,
	}
	if mut.lowOwnView {
		e.Low = d.low
	}
	if e.Seq == 1 {
		e.Prev = d.prev
	}
	next := maps.Clone(tail.Next)
	if next == nil || mut.dropUnseenNext {
		next = make(map[ingest.Lane]int64, len(d.cuts))
	}
	for i := range d.cuts {
		c := &d.cuts[i]
		next[c.Lane] = max(next[c.Lane], c.Last+1)
	}
	maps.DeleteFunc(next, func(_ ingest.Lane, n int64) bool { return n <= e.Low })
	if len(next) > 0 {
		e.Next = next
	}
	return e
}
