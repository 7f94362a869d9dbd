package seal

import (
	"context"
	"errors"
	"fmt"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/encode"
	"millrace/ingest"
)

// start does steps 1 and 2 and makes the index whole, so that the next entry can be decided.
func (c *cutter) start(ctx context.Context) error {
	hint, err := c.hint(ctx)
	if err != nil {
		return err
	}
	c.starting = true
	defer func() { c.starting = false }()
	c.w.step(StepWalk)
	err = c.p.retry(ctx, c.p.rng, "tail", func() (err error) {
		c.tail, err = c.w.chains.Tail(ctx, c.inc.Stream, hint.Seq)
		return err
	})
	switch {
	case errors.Is(err, batcher.ErrNotFound):
		c.tail = batcher.Entry{Stream: c.inc.Stream, Low: c.inc.First}
	case errors.Is(err, chain.ErrShort):
		return fmt.Errorf("%w: %w", ErrHome, err)
	case err != nil:
		return err
	case hint.Home == "":
		if err := c.saveHint(ctx); err != nil {
			return err
		}
	}
	now := timeNow()
	c.lastEntry, c.lastCut = now, now
	if err := c.resume(ctx); err != nil {
		return err
	}
	if err := c.compare(ctx); err != nil {
		return err
	}
	if err := c.fold(ctx); err != nil {
		return err
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	return c.checkPage(ctx)
}

// hint reads what the log remembers of the chain, and refuses to go on if that is elsewhere.
func (c *cutter) hint(ctx context.Context) (ingest.ChainHint, error) {
	var hint ingest.ChainHint
	err := c.p.retry(ctx, c.p.rng, "hint", func() (err error) {
		hint, err = c.p.log.Hint(ctx, c.inc.Stream)
		return err
	})
	if err != nil {
		return hint, fmt.Errorf("ask the log for its chain: %w", err)
	}
	if home := c.w.store.Home(); hint.Home != "" && hint.Home != home {
		return hint, fmt.Errorf("chain of %s is in %q, the objects are in %q: %w", c.inc.Stream, hint.Home, home, ErrHome)
	}
	c.hinted = hint.Seq
	return hint, nil
}

// resume takes over the state that the tail says, and the entries after its done.
func (c *cutter) resume(ctx context.Context) error {
	c.seen, c.doneLow = c.tail.Done, c.inc.First
	c.pos, c.skip = c.tail.Low, skipOf(&c.tail)
	if err := c.known(&c.tail); err != nil {
		return err
	}
	if c.tail.Done > 0 {
		done, err := c.entry(ctx, c.tail.Done)
		if err != nil {
			return err
		}
		c.doneLow = done.Low
	}
	for seq := c.tail.Done + 1; seq <= c.tail.Seq; seq++ {
		e, err := c.entry(ctx, seq)
		if err != nil {
			return err
		}
		if err := c.known(&e); err != nil {
			return err
		}
		c.noteVoids(&e)
		c.links = append(c.links, newLink(e, true))
	}
	return nil
}

// entry reads an entry that exists.
func (c *cutter) entry(ctx context.Context, seq int64) (e batcher.Entry, err error) {
	err = c.p.retry(ctx, c.p.rng, "entry", func() error {
		e, err = c.w.chains.Entry(ctx, c.inc.Stream, seq)
		return err
	})
	return e, err
}

// known reports whether this binary can do everything that e asks of its readers.
func (c *cutter) known(e *batcher.Entry) error {
	for i := range e.Cuts {
		cut := &e.Cuts[i]
		_, err := c.w.newObject(cut.Codec, c.inc.Stream)
		if cut.Layout > batcher.LayoutVersion || cut.Count > 0 && err != nil {
			return fmt.Errorf("entry %d of chain %s has codec %q and layout %d: %w",
				e.Seq, e.Stream, cut.Codec, cut.Layout, batcher.ErrUnknownVersion)
		}
	}
	return nil
}

// compare ties the chain to the log: the last record of the newest cut, if the log holds it, must be the one that was cut, and a log that is
// written now cannot end before its chain does. An older incarnation can: this log may hold a part of it only.
func (c *cutter) compare(ctx context.Context) error {
	if c.tail.Seq == 0 {
		return nil
	}
	low, next, err := c.bounds(ctx)
	if err != nil {
		return err
	}
	if end := skipOf(&c.tail); c.inc.Live() && next < end {
		return fmt.Errorf("log %s ends at %d, its chain at %d: %w", c.inc.Stream, next, end, ErrMismatch)
	}
	var cut *batcher.Cut
	for _, l := range c.links {
		for i := range l.entry.Cuts {
			if x := &l.entry.Cuts[i]; cut == nil || x.Last > cut.Last {
				cut = x
			}
		}
	}
	if cut == nil || cut.Last < low || cut.Last >= min(next, c.end()) {
		return nil
	}
	var recs []ingest.Stored
	err = c.p.retry(ctx, c.p.rng, "read", func() (err error) {
		recs, _, err = c.p.log.Read(ctx, cut.Last, 1, nil)
		return err
	})
	if err != nil || len(recs) == 0 || recs[0].Offset != cut.Last {
		return nil //nolint:nilerr // not held any more: nothing to compare; what needs it will say so
	}
	if got := encode.DigestOf(cut.Last, recs[0].Bytes); got != cut.LastRecord {
		return fmt.Errorf("record %d of log %s has digest %.8s, its chain says %.8s: %w", cut.Last, c.inc.Stream, got, cut.LastRecord, ErrMismatch)
	}
	return nil
}

// bounds asks the log what it holds.
func (c *cutter) bounds(ctx context.Context) (low, next int64, err error) {
	err = c.p.retry(ctx, c.p.rng, "bounds", func() error {
		low, next, err = c.p.log.Bounds(ctx)
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("ask the log for its bounds: %w", err)
	}
	return low, next, nil
}

// newLink returns a link of which no object was seen.
func newLink(e batcher.Entry, adopted bool) *link {
	l := &link{entry: e, facts: make([]batcher.Facts, len(e.Cuts)), adopted: adopted}
	for i := range e.Cuts {
		if e.Cuts[i].Count > 0 {
			l.left++
		}
	}
	return l
}

// skipOf returns the offset from which on no record is in any cut up to e.
func skipOf(e *batcher.Entry) int64 {
	skip := e.Low
	for _, next := range e.Next {
		skip = max(skip, next)
	}
	return skip
}
