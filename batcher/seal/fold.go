package seal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/batcher"
	"millrace/batcher/dedupe"
	"millrace/ingest"
)

const (
	// foldBlock is how many entries are read at once while walking back, foldReads how many sidecars are asked for at the same time.
	foldBlock = 64
	foldReads = 16
	// indexRecord is about what a record takes in the index.
	indexRecord = 36
)

// sidecar names the ids of one batch.
type sidecar struct {
	stream ingest.Stream
	batch  string
	object string
	// open: the chain does not say that the object exists, so that the sidecar may be missing.
	open bool
}

// fold makes the index from the chain up to done, and from the chains of the streams before, as far back as the window reaches or the index
// has room; entries after done follow in settle. Sidecars are folded oldest first, as the index forgets in that order.
func (c *cutter) fold(ctx context.Context) error {
	horizon, err := c.horizon(ctx)
	if err != nil {
		return err
	}
	if c.w.mut.noPredecessor {
		c.p.index.Reset()
	}
	f := folder{c: c, horizon: horizon, room: c.w.opts.Index / indexRecord}
	stream, top, done := c.inc.Stream, c.tail.Done, c.tail.Done
	for !c.p.folded[stream] {
		more, err := f.back(ctx, stream, top, done)
		if err != nil || !more {
			return errors.Join(err, f.load(ctx))
		}
		prev := c.prev
		if stream != c.inc.Stream || c.tail.Seq > 0 {
			if prev, err = c.before(ctx, stream); err != nil {
				return err
			}
		}
		if prev == nil || c.w.mut.noPredecessor {
			break
		}
		stream = *prev
		var tail batcher.Entry
		err = c.p.retry(ctx, c.p.rng, "tail", func() (err error) {
			tail, err = c.w.chains.Tail(ctx, stream, 0)
			return err
		})
		if err != nil {
			return fmt.Errorf("walk to the chain before %s: %w", c.inc.Stream, err)
		}
		top, done = tail.Seq, tail.Done
	}
	return f.load(ctx)
}

// before returns the predecessor of a stream, as its entry 1 says.
func (c *cutter) before(ctx context.Context, s ingest.Stream) (prev *ingest.Stream, err error) {
	err = c.p.retry(ctx, c.p.rng, "entry", func() error {
		first, err := c.w.chains.Entry(ctx, s, 1)
		prev = first.Prev
		return err
	})
	return prev, err
}

// horizon is the receive time before which no kept record can matter to one that is not cut yet.
func (c *cutter) horizon(ctx context.Context) (time.Time, error) {
	at := timeNow()
	var oldest time.Time
	err := c.scan(ctx, c.pos, c.pos, func(s *ingest.Stored) error {
		rec, err := c.dec.Decode(s.Bytes)
		oldest = rec.ReceivedAt
		return err
	})
	if err != nil {
		return at, fmt.Errorf("read the first record of log %s: %w", c.inc.Stream, err)
	}
	if !oldest.IsZero() && oldest.Before(at) {
		at = oldest
	}
	return at.Add(-c.w.opts.Window - c.w.tuning.slack), nil
}

// folder collects the sidecars that the index is made of, newest first.
type folder struct {
	c       *cutter
	horizon time.Time
	room    int64 // records that the index can still take
	found   []sidecar
}

// back walks a chain from entry top down to 1. It reports whether the chain before matters too.
func (f *folder) back(ctx context.Context, s ingest.Stream, top, done int64) (bool, error) {
	low, _, err := f.c.bounds(ctx)
	if err != nil {
		return false, err
	}
	for to := top; to >= 1; {
		from := max(to-foldBlock+1, 1)
		var entries []batcher.Entry
		err := f.c.p.retry(ctx, f.c.p.rng, "entries", func() (err error) {
			entries, err = f.c.w.chains.Range(ctx, s, from, to)
			return err
		})
		if err != nil {
			return false, fmt.Errorf("walk back chain %s: %w", s, err)
		}
		for i := len(entries) - 1; i >= 0; i-- {
			e := &entries[i]
			if s == f.c.inc.Stream {
				f.c.noteVoids(e)
				if err := f.c.addVoid(ctx, e); err != nil {
					return false, err
				}
			}
			// A closed log that holds records of this entry has to see whether they are void, however old they are.
			holds := !f.c.inc.Live() && s == f.c.inc.Stream && skipOf(e) > low
			if !f.entry(e, done) && !holds {
				return false, nil
			}
		}
		to = from - 1
	}
	return true, nil
}

// entry takes the sidecars of an entry, and reports whether an older entry can matter.
func (f *folder) entry(e *batcher.Entry, done int64) bool {
	if f.room <= 0 || e.WrittenAt.Before(f.horizon) {
		return false
	}
	for i := len(e.Cuts) - 1; i >= 0; i-- {
		cut := &e.Cuts[i]
		if cut.Count > 0 {
			f.found = append(f.found, sidecar{e.Stream, cut.Batch, cut.Object, e.Seq > done})
			f.room -= cut.Count
		}
	}
	return true
}

// load folds what was found, oldest first.
func (f *folder) load(ctx context.Context) error {
	for i, j := 0, len(f.found)-1; i < j; i, j = i+1, j-1 {
		f.found[i], f.found[j] = f.found[j], f.found[i]
	}
	return f.c.foldSidecars(ctx, f.found)
}

// foldCuts folds the sidecars of an entry whose objects exist.
func (c *cutter) foldCuts(ctx context.Context, e *batcher.Entry) error {
	var list []sidecar
	for i := range e.Cuts {
		if cut := &e.Cuts[i]; cut.Count > 0 {
			list = append(list, sidecar{e.Stream, cut.Batch, cut.Object, false})
		}
	}
	return c.foldSidecars(ctx, list)
}

// foldSidecars reads sidecars, several at a time, and adds their records to the index in the order of the list.
func (c *cutter) foldSidecars(ctx context.Context, list []sidecar) error {
	for len(list) > 0 {
		n := min(foldReads, len(list))
		ids := make([][]dedupe.ID, n)
		g, gctx := errgroup.WithContext(ctx)
		for i := range ids {
			u := c.uploader()
			g.Go(func() (err error) {
				ids[i], err = u.ids(gctx, &list[i])
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for i := range ids {
			c.p.foldIDs(list[i].stream, ids[i])
		}
		list = list[n:]
	}
	return nil
}

// ids reads one sidecar. Only a void batch, and one that is not finished, may have none.
func (u *uploader) ids(ctx context.Context, s *sidecar) (ids []dedupe.ID, err error) {
	err = u.p.retry(ctx, u.rng, "get ids", func() error {
		body, _, err := u.w.store.Get(ctx, batcher.IDsKey(s.batch))
		if err != nil {
			return err
		}
		if ids, err = dedupe.UnmarshalIDs(body); errors.Is(err, dedupe.ErrBadIDs) { // from a store without checksums
			return fmt.Errorf("object %q: %w: %w", batcher.IDsKey(s.batch), batcher.ErrDamaged, err)
		}
		return err
	})
	if errors.Is(err, batcher.ErrNotFound) {
		if s.open || u.w.mut.sidecarLate {
			return nil, nil
		}
		f, err := u.facts(ctx, &batcher.Cut{Batch: s.batch, Object: s.object}, nil)
		if err == nil && f.Void != "" {
			return nil, nil
		}
		return nil, fmt.Errorf("batch %s has no ids, which are put before its object: %w", s.batch, errors.Join(ErrMismatch, err))
	}
	if err != nil {
		return nil, fmt.Errorf("fold ids of batch %s: %w", s.batch, err)
	}
	return ids, nil
}

// foldRows adds kept records to the index.
func (c *cutter) foldRows(r *rows) {
	for i := range r.meta {
		m := &r.meta[i]
		c.p.keep(m.id, time.UnixMicro(m.at), c.inc.Stream, m.offset)
	}
}

// foldIDs adds the rows of a sidecar to the index.
func (p *partition) foldIDs(s ingest.Stream, ids []dedupe.ID) {
	for i := range ids {
		p.keep(ids[i].Hash, ids[i].Received, s, ids[i].Offset)
	}
}

// keep adds a record to the index.
func (p *partition) keep(id [16]byte, at time.Time, s ingest.Stream, offset int64) {
	if p.w.mut.oneTimePerKey {
		if _, _, ok := p.index.Find(id); ok {
			return
		}
	}
	p.index.Keep(id, at, s, offset)
}

// evict forgets what can be no duplicate's original any more.
func (p *partition) evict(c *cutter, now time.Time) {
	oldest := now
	if !c.readUpTo.IsZero() && c.readUpTo.Before(oldest) {
		oldest = c.readUpTo
	}
	for _, l := range c.lanes {
		if at := l.segs[0].firstAt; at.Before(oldest) {
			oldest = at
		}
	}
	p.index.Evict(oldest.Add(-p.w.opts.Window - p.w.tuning.slack))
}

// noteVoids remembers the void batches that an entry closes.
func (c *cutter) noteVoids(e *batcher.Entry) {
	for i := range e.Facts {
		if e.Facts[i].Void != "" {
			c.voids[e.Facts[i].Batch] = true
		}
	}
}

// addVoid adds what this log holds of e's void batches to their quarantine: whoever voided them may have held less.
func (c *cutter) addVoid(ctx context.Context, e *batcher.Entry) error {
	var void []int
	for i := range e.Cuts {
		if c.voids[e.Cuts[i].Batch] && e.Cuts[i].Count > 0 {
			void = append(void, i)
			delete(c.voids, e.Cuts[i].Batch)
		}
	}
	if len(void) == 0 {
		return nil
	}
	return c.addRaw(ctx, e, void)
}
