package seal

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"millrace/batcher"
	"millrace/ingest"
)

// goneError: the log does not have what an unfinished cut needs.
type goneError struct {
	link *link
	cuts []int
	// rows are what the log has of them, by cut.
	rows []rows
}

func (e *goneError) Error() string {
	return fmt.Sprintf("entry %d claims records that this log does not hold", e.link.entry.Seq)
}

// settle is step 2 for all entries that were adopted: it makes their objects exist and their ids known. Nothing is cut before that.
func (c *cutter) settle(ctx context.Context) error {
	for {
		i := slices.IndexFunc(c.links, func(l *link) bool { return l.adopted })
		if i < 0 {
			return nil
		}
		c.w.step(StepFinish)
		l := c.links[i]
		err := c.finish(ctx, l)
		var gone *goneError
		if errors.As(err, &gone) {
			if err = c.resolve(ctx, gone); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		c.unstick()
		l.adopted, l.left = false, 0
		c.prune()
	}
}

// finish makes the objects of one adopted entry exist, from the log where they do not, and folds its ids into the index. For an entry that the
// chain says is done only the ids are wanted.
func (c *cutter) finish(ctx context.Context, l *link) error {
	if l.entry.Seq <= c.tail.Done {
		if err := c.addVoid(ctx, &l.entry); err != nil {
			return err
		}
		return c.foldCuts(ctx, &l.entry)
	}
	missing, err := c.ask(ctx, l)
	if err != nil {
		return err
	}
	var found []rows
	if len(missing) > 0 {
		if found, err = c.recover(ctx, &l.entry, missing); err != nil {
			return err
		}
		if gone := c.incomplete(l, missing, found); gone != nil {
			return gone
		}
		c.w.step(StepRecommit)
	}
	if err := c.recommit(ctx, l, missing, found); err != nil {
		return err
	}
	return c.foldFound(ctx, l, missing, found)
}

// foldFound folds the ids of an entry that was finished here: from the sidecars of the objects that were there, and from what was read again.
func (c *cutter) foldFound(ctx context.Context, l *link, missing []int, found []rows) error {
	if c.w.mut.foldFromLow && c.starting {
		return nil
	}
	there := l.entry
	there.Cuts = nil
	for i := range l.entry.Cuts {
		if !slices.Contains(missing, i) {
			there.Cuts = append(there.Cuts, l.entry.Cuts[i])
		}
	}
	if err := c.foldCuts(ctx, &there); err != nil {
		return err
	}
	for k := range found {
		c.foldRows(&found[k])
		found[k].release()
	}
	return nil
}

// ask looks for the objects of an entry and returns the numbers of the cuts that have none. Batches that have one are announced.
func (c *cutter) ask(ctx context.Context, l *link) (missing []int, err error) {
	absent := make([]bool, len(l.entry.Cuts))
	err = c.eachCut(ctx, l, func(ctx context.Context, i int, u *uploader) error {
		if l.facts[i].Batch != "" {
			return nil // was there at an earlier look
		}
		f, err := u.facts(ctx, &l.entry.Cuts[i], nil)
		if errors.Is(err, batcher.ErrNotFound) || c.w.mut.encodeFirst && err == nil {
			absent[i] = true
			return nil
		}
		if err == nil && f.Void == "" {
			u.tell(ctx, &l.entry, i, f)
		}
		l.facts[i] = f
		return err
	})
	var void []int
	for i := range absent {
		if absent[i] {
			missing = append(missing, i)
		} else if l.facts[i].Void != "" {
			void = append(void, i)
		}
	}
	if err != nil || len(void) == 0 {
		return missing, err
	}
	return missing, c.addRaw(ctx, &l.entry, void)
}

// eachCut calls f for each cut of an entry that has an object, several at a time.
func (c *cutter) eachCut(ctx context.Context, l *link, f func(ctx context.Context, i int, u *uploader) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.w.opts.Uploads)
	for i := range l.entry.Cuts {
		if l.entry.Cuts[i].Count == 0 {
			continue
		}
		u := c.uploader()
		g.Go(func() error { return f(gctx, i, u) })
	}
	return g.Wait()
}

// addRaw adds the records of void batches that this log holds to their quarantine.
func (c *cutter) addRaw(ctx context.Context, e *batcher.Entry, void []int) error {
	found, err := c.recover(ctx, e, void)
	if err != nil {
		return err
	}
	for k, i := range void {
		if err := c.uploader().quarantine(ctx, &e.Cuts[i], &found[k]); err != nil {
			return err
		}
	}
	return nil
}

// recommit puts the objects of the missing cuts from what the log had.
func (c *cutter) recommit(ctx context.Context, l *link, missing []int, found []rows) error {
	return c.eachCut(ctx, l, func(ctx context.Context, i int, u *uploader) error {
		k := slices.Index(missing, i)
		if k < 0 {
			return nil
		}
		f, err := u.commit(ctx, &l.entry, i, &found[k])
		l.facts[i] = f
		return err
	})
}

// incomplete returns what is not exactly what the entry says: neither more nor fewer nor other records make an object.
func (c *cutter) incomplete(l *link, missing []int, found []rows) *goneError {
	if c.w.mut.noCountCheck {
		return nil
	}
	gone := &goneError{link: l, rows: found}
	for k, i := range missing {
		cut := &l.entry.Cuts[i]
		if int64(len(found[k].meta)) != cut.Count || found[k].digest(nil) != cut.Records {
			gone.cuts = append(gone.cuts, i)
		}
	}
	if len(gone.cuts) == 0 {
		return nil
	}
	kept := make([]rows, len(gone.cuts))
	for n, i := range gone.cuts {
		kept[n] = found[slices.Index(missing, i)]
	}
	gone.rows = kept
	return gone
}

// recover reads the kept records of some cuts of e again, as far as this log holds them, in one pass.
func (c *cutter) recover(ctx context.Context, e *batcher.Entry, cuts []int) ([]rows, error) {
	found := make([]rows, len(cuts))
	byLane := make(map[ingest.Lane][]int)
	var from, to int64
	for k, i := range cuts {
		cut := &e.Cuts[i]
		byLane[cut.Lane] = append(byLane[cut.Lane], k)
		if k == 0 {
			from, to = cut.First, cut.Last
		}
		from, to = min(from, cut.First), max(to, cut.Last)
	}
	kept := make([]func(int64) bool, len(cuts))
	for k, i := range cuts {
		kept[k] = keeper(e.Cuts[i].Dups)
	}
	var dec ingest.Decoder
	return found, c.scan(ctx, from, to, func(s *ingest.Stored) error {
		rec, err := dec.Decode(s.Bytes)
		if err != nil {
			return fmt.Errorf("record %d of log %s: %w", s.Offset, c.inc.Stream, err)
		}
		name := rec.Lane
		if c.w.mut.laneOf != nil {
			name = c.w.mut.laneOf(&rec)
		}
		for _, k := range byLane[name] {
			if cut := &e.Cuts[cuts[k]]; cut.First <= s.Offset && s.Offset <= cut.Last && kept[k](s.Offset) {
				found[k].add(s.Offset, s.Bytes, &rec)
			}
		}
		return nil
	})
}

// scan calls f for the records of the stream from offset from to offset to, inclusive, that the log holds.
func (c *cutter) scan(ctx context.Context, from, to int64, f func(*ingest.Stored) error) error {
	var buf []ingest.Stored
	for to = min(to, c.end()-1); from <= to; {
		recs, next, err := c.p.log.Read(ctx, from, c.w.tuning.read, buf)
		switch {
		case errors.Is(err, ingest.ErrTrimmed):
			low, _, err := c.bounds(ctx)
			if err != nil {
				return err
			}
			from = max(low, from+1)
			continue
		case errors.Is(err, ingest.ErrCorrupt):
			return nil // what is missing will be missed
		case err != nil && again(err):
			b := backoff{rng: c.p.rng}
			if err := b.sleep(ctx); err != nil {
				return err
			}
			continue
		case err != nil:
			return fmt.Errorf("read log from %d: %w", from, err)
		}
		for i := range recs {
			if recs[i].Offset > to {
				return nil
			}
			if err := f(&recs[i]); err != nil {
				return err
			}
		}
		if next <= from {
			return nil // the high watermark
		}
		from, buf = next, recs
	}
	return nil
}

// resolve deals with an unfinished entry whose records this log does not hold. Another worker may have finished it and trimmed the log, so the
// chain is walked and the store asked again. Otherwise it needs the true holder of the records, or an operator who accepts their loss.
func (c *cutter) resolve(ctx context.Context, gone *goneError) error {
	if n, err := c.walk(ctx); err != nil || n > 0 {
		return err
	}
	for n, i := range gone.cuts {
		cut := &gone.link.entry.Cuts[i]
		u := c.uploader()
		if _, err := u.facts(ctx, cut, nil); err == nil || !errors.Is(err, batcher.ErrNotFound) {
			return err // another worker was faster
		}
		if !c.reportedLoss(ctx, cut) && !c.w.mut.voidShort {
			to, err := c.acceptedTo(ctx, cut.First)
			if err != nil {
				return err
			}
			if to < cut.Last {
				return c.stuck(ctx, &batcher.Range{First: cut.First, Last: cut.Last}, gone.Error())
			}
		}
		if _, err := u.void(ctx, &gone.link.entry, i, &gone.rows[n], "loss accepted"); err != nil {
			return err
		}
	}
	return nil
}

// reportedLoss reports whether the log holds the range of cut, but for records whose loss was accepted there.
func (c *cutter) reportedLoss(ctx context.Context, cut *batcher.Cut) bool {
	low, next, err := c.bounds(ctx)
	if err != nil || cut.First < low || cut.Last >= min(next, c.end()) {
		return false
	}
	return slices.ContainsFunc(c.reported(), func(r batcher.Range) bool { return r.First <= cut.Last && cut.First <= r.Last })
}
