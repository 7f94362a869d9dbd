package chain

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"millrace/batcher"
	"millrace/ingest"
)

// Link is an entry whose objects all exist, with its batches.
type Link struct {
	Entry batcher.Entry
	// Batches are those of the cuts that have an object, void ones included, in the order of the cuts.
	Batches []batcher.Batch
}

// Entries yields the entries of s from seq from on, in order, up to the newest that is known to be done. A chain that does not exist, or is
// not done so far, yields nothing. It ends with the first error, and then yields nothing more: ErrUnknownVersion, ErrUnavailable.
func (r *Reader) Entries(ctx context.Context, s ingest.Stream, from int64) iter.Seq2[batcher.Entry, error] {
	return func(yield func(batcher.Entry, error) bool) {
		for l, err := range r.Links(ctx, s, from) {
			if !yield(l.Entry, err) || err != nil {
				return
			}
		}
	}
}

// Links is Entries with the batches, whose facts come from the entries that closed them, so that no object is asked.
func (r *Reader) Links(ctx context.Context, s ingest.Stream, from int64) iter.Seq2[Link, error] {
	return func(yield func(Link, error) bool) {
		c := closer{uri: r.store.URI}
		for e, err := range r.all(ctx, s, max(from, 1)) {
			var links []Link
			if err == nil {
				links, err = c.add(e)
			}
			if err != nil {
				yield(Link{}, err)
				return
			}
			for _, l := range links {
				if !yield(l, nil) {
					return
				}
			}
		}
	}
}

// all yields the entries from seq from on up to the tail, done or not.
func (r *Reader) all(ctx context.Context, s ingest.Stream, from int64) iter.Seq2[batcher.Entry, error] {
	return func(yield func(batcher.Entry, error) bool) {
		tried := int64(-1)
		for seq, single := from, 0; ; single++ {
			if n := r.pageOf(seq); single >= r.pageAfter && n != tried {
				tried = n
				entries, err := r.page(ctx, s, n)
				if err != nil && !errors.Is(err, batcher.ErrNotFound) {
					yield(batcher.Entry{}, err)
					return
				}
				for ; err == nil && seq <= (n+1)*r.pageSize; seq++ {
					if !yield(entries[(seq-1)%r.pageSize], nil) {
						return
					}
				}
			}
			e, err := r.Entry(ctx, s, seq)
			if errors.Is(err, batcher.ErrNotFound) {
				return
			}
			if !yield(e, err) || err != nil {
				return
			}
			seq++
		}
	}
}

// Range returns the entries from to to, inclusive, all of which must exist, using the page if they are all in one that does.
func (r *Reader) Range(ctx context.Context, s ingest.Stream, from, to int64) ([]batcher.Entry, error) {
	if n := r.pageOf(from); to-from >= int64(r.pageAfter) && n == r.pageOf(to) {
		entries, err := r.page(ctx, s, n)
		if err == nil {
			return entries[from-n*r.pageSize-1 : to-n*r.pageSize], nil
		}
		if !errors.Is(err, batcher.ErrNotFound) {
			return nil, err
		}
	}
	entries := make([]batcher.Entry, 0, to-from+1)
	for seq := from; seq <= to; seq++ {
		e, err := r.Entry(ctx, s, seq)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// closer holds entries back until a later one says that they are done. It is pure.
type closer struct {
	open []batcher.Entry
	uri  func(key string) string
}

// add takes the next entry and returns the links that it closes, in order. Their facts are all in e, because an entry brings the facts of what
// its own Done closes.
func (c *closer) add(e batcher.Entry) ([]Link, error) {
	c.open = append(c.open, e)
	facts := make(map[string]*batcher.Facts, len(e.Facts))
	for i := range e.Facts {
		facts[e.Facts[i].Batch] = &e.Facts[i]
	}
	var links []Link
	for len(c.open) > 0 && c.open[0].Seq <= e.Done {
		l, err := c.link(&c.open[0], facts)
		if err != nil {
			return nil, fmt.Errorf("entry %d of chain %s: %w", e.Seq, e.Stream, err)
		}
		links = append(links, l)
		c.open = c.open[1:]
	}
	return links, nil
}

func (c *closer) link(e *batcher.Entry, facts map[string]*batcher.Facts) (Link, error) {
	l := Link{Entry: *e}
	for i := range e.Cuts {
		cut := &e.Cuts[i]
		if cut.Count == 0 {
			continue
		}
		f, ok := facts[cut.Batch]
		if !ok {
			return l, fmt.Errorf("closes entry %d without facts of batch %s", e.Seq, cut.Batch)
		}
		l.Batches = append(l.Batches, batcher.BatchOf(e, i, *f, c.uri(cut.Object)))
	}
	return l, nil
}
