package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/batcher"
)

// cut is step 4: it decides an entry with the cuts that are due (none: an entry that raises done), and puts it. If another worker's entry is
// there already, that is adopted and nothing was decided here. Its own objects go to the uploaders, which is step 5.
func (c *cutter) cut(ctx context.Context, d *due, now time.Time) error {
	cuts, kept := c.decideCuts(d.picks, now)
	if c.w.mut.noDuplicateCut && len(cuts) > 0 {
		if cuts = c.mutateDuplicates(d, cuts); len(cuts) == 0 {
			c.sized, c.nextDue = d.more, d.next
			return nil
		}
	}
	if c.tail.Seq == 0 {
		// Known before entry 1 can exist: a log that knows of no home has no chain anywhere.
		if err := c.saveHint(ctx); err != nil {
			return err
		}
	}
	e := compose(&c.tail, draft{
		stream: c.inc.Stream, prev: c.prev, cuts: cuts, low: c.lowWithout(d.picks), done: c.seen, facts: c.closing(), now: now.UTC(),
	}, c.w.mut)
	ours, err := c.put(ctx, &e)
	if err != nil {
		return err
	}
	if !ours {
		if !c.w.mut.keepLost {
			c.p.index.Forget(kept)
		}
		_, err := c.walk(ctx)
		return err
	}
	if len(d.picks) > 0 {
		c.sized, c.nextDue = d.more, d.next
	}
	l := newLink(e, false)
	c.extend(l)
	c.launch(l, d.picks)
	c.p.evict(c, now)
	return nil
}

// decideCuts decides, for each pick, which records repeat an earlier one, and keeps the others in the index. It returns the cuts, and how
// many records were kept.
func (c *cutter) decideCuts(picks []pick, now time.Time) (cuts []batcher.Cut, kept int) {
	seq := c.tail.Seq + 1
	for _, p := range picks {
		s := p.seg
		dups := c.duplicates(&s.rows, p.lane.policy.Window)
		count := int64(len(s.meta)) - countIn(s.meta, dups)
		kept += int(count)
		cut := batcher.Cut{
			Lane: p.lane.name, First: s.first(), Last: s.last(), Count: count, Dups: dups, Layout: batcher.LayoutVersion,
			CreatedAt: now.UTC(), Reason: p.reason, LastRecord: s.lastDigest(),
		}
		if count > 0 {
			cut.Batch = batcher.BatchID(c.inc.Stream, seq, len(cuts), s.firstAt)
			if c.w.mut.batchIDByLane {
				cut.Batch = batcher.BatchID(c.inc.Stream, seq, len(p.lane.name), s.firstAt)
			}
			cut.Codec = p.lane.policy.Codec()
			cut.Object = batcher.ObjectKey(p.lane.name, s.firstAt, c.inc.Stream, s.first(), cut.Codec)
			cut.Records = s.digest(dups)
		}
		cuts = append(cuts, cut)
	}
	return cuts, kept
}

// duplicates asks the index about each record and keeps those that are new.
func (c *cutter) duplicates(r *rows, window time.Duration) (dups []batcher.Range) {
	run := false
	for i := range r.meta {
		m := &r.meta[i]
		at := time.UnixMicro(m.at)
		if !c.p.index.Seen(m.id, at, window) {
			c.p.keep(m.id, at, c.inc.Stream, m.offset)
			run = false
			continue
		}
		if run {
			dups[len(dups)-1].Last = m.offset
		} else {
			dups = append(dups, batcher.Range{First: m.offset, Last: m.offset})
		}
		run = true
	}
	return dups
}

func countIn(meta []rowMeta, ranges []batcher.Range) (n int64) {
	if len(ranges) == 0 {
		return 0
	}
	kept := keeper(ranges)
	for i := range meta {
		if !kept(meta[i].offset) {
			n++
		}
	}
	return n
}

// lowWithout is the lowest offset that would be in no cut if picks were cut, as far as this worker has read.
func (c *cutter) lowWithout(picks []pick) int64 {
	taken := make(map[*lane]int, len(picks))
	for _, p := range picks {
		taken[p.lane]++
	}
	low := c.pos
	for _, l := range c.lanes {
		if n := taken[l]; n < len(l.segs) {
			low = min(low, l.segs[n].first())
		}
	}
	return low
}

// closing returns the facts of the batches that done would close.
func (c *cutter) closing() (facts []batcher.Facts) {
	for _, l := range c.links {
		if l.entry.Seq <= c.tail.Done || l.entry.Seq > c.seen {
			continue
		}
		for i := range l.facts {
			if l.entry.Cuts[i].Count > 0 {
				facts = append(facts, l.facts[i])
			}
		}
	}
	return facts
}

// put puts entry e if its place is free, and reports whether the entry that is there is e. An unknown outcome is resolved by reading. An entry
// of the same bytes is as good as this one, whoever put it.
func (c *cutter) put(ctx context.Context, e *batcher.Entry) (ours bool, err error) {
	body, err := e.Marshal()
	if err != nil {
		return false, fmt.Errorf("encode entry %d: %w", e.Seq, err)
	}
	key := batcher.ChainKey(e.Stream, e.Seq)
	c.w.step(StepPutEntry)
	err = c.p.retry(ctx, c.p.rng, "put entry", func() error {
		err := c.w.store.PutIfAbsent(ctx, key, body, nil)
		if err == nil {
			ours = true
			return nil
		}
		if !errors.Is(err, batcher.ErrExists) && !again(err) {
			return err
		}
		there, _, getErr := c.w.store.Get(ctx, key)
		if errors.Is(getErr, batcher.ErrNotFound) {
			return err // unknown, and not there: again
		}
		ours = getErr == nil && bytes.Equal(there, body)
		return getErr
	})
	if err != nil {
		return false, fmt.Errorf("put entry %d: %w", e.Seq, err)
	}
	if ours {
		c.w.step(StepEntryPut)
	}
	return ours, nil
}

// launch takes the rows of picks out of their lanes and hands those that become objects to the uploaders.
func (c *cutter) launch(l *link, picks []pick) {
	for i, p := range picks {
		n := len(p.lane.segs)
		p.lane.segs = p.lane.segs[1:]
		if n == 1 {
			delete(c.lanes, p.lane.name)
			c.last = nil
		}
		c.open -= p.seg.held
		c.w.metrics.sealed(&l.entry.Cuts[i], int64(len(p.seg.meta)))
		if l.entry.Cuts[i].Count == 0 {
			p.seg.release()
			continue
		}
		c.flying += p.seg.held
		up := c.uploader()
		c.jobs <- func(ctx context.Context) { // has room: entries within the window, and cuts in an entry, are bounded
			held := p.seg.held
			f, err := up.commit(ctx, &l.entry, i, &p.seg.rows)
			p.seg.release()
			c.results.put(result{link: l, cut: i, facts: f, held: held, err: err})
		}
	}
}
