package seal

import (
	"context"
	"errors"
	"fmt"

	"millrace/batcher"
	"millrace/ingest"
)

// walk adopts the entries after the tail, and returns how many there were.
func (c *cutter) walk(ctx context.Context) (int, error) {
	for n := 0; ; n++ {
		c.w.step(StepWalk)
		e, err := c.entry(ctx, c.tail.Seq+1)
		if errors.Is(err, batcher.ErrNotFound) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if err := c.known(&e); err != nil {
			return n, err
		}
		c.adopt(e)
	}
}

// adopt takes over another worker's entry: its cuts are not open any more, whatever this worker thought of them.
func (c *cutter) adopt(e batcher.Entry) {
	c.noteVoids(&e)
	c.extend(newLink(e, true))
	if !c.w.mut.lowOwnView {
		c.pos = max(c.pos, e.Low)
	}
	c.skip = max(c.skip, skipOf(&e))
	for name, l := range c.lanes {
		c.open += l.drop(e.NextOf(name))
		if len(l.segs) == 0 {
			delete(c.lanes, name)
		}
	}
	c.last = nil
	c.gap, c.atEnd = nil, false
	c.nextDue = timeNow() // what is left of a lane may be due earlier or later than what was there
	c.w.opts.Log.Debug("adopted entry", "stream", e.Stream, "seq", e.Seq)
}

// extend makes l's entry the tail.
func (c *cutter) extend(l *link) {
	c.unstick()
	now := timeNow()
	c.lastEntry = now
	if len(l.entry.Cuts) > 0 {
		c.lastCut = now
	}
	c.tail = l.entry
	c.links = append(c.links, l)
	c.seen = max(c.seen, c.tail.Done)
	c.prune()
}

// prune forgets links that the tail says are done, and raises seen over those after it.
func (c *cutter) prune() {
	for len(c.links) > 0 && c.links[0].entry.Seq <= c.tail.Done && !c.links[0].adopted {
		c.doneLow = c.links[0].entry.Low
		c.links = c.links[1:]
	}
	c.advance()
}

// drop forgets rows below next, and returns by how much memory changed.
func (l *lane) drop(next int64) (grown int64) {
	for i, s := range l.segs {
		if s.first() >= next {
			l.segs = l.segs[i:]
			return grown
		}
		if s.last() < next {
			grown -= s.held
			s.release()
			continue
		}
		// Some of the segment is left. It becomes a segment anew, since its first record has changed; those after it stay as they are.
		rest := &lane{name: l.name, policy: l.policy}
		var dec ingest.Decoder
		err := s.each(func(m *rowMeta, stored []byte) error {
			if m.offset < next {
				return nil
			}
			rec, err := dec.Decode(stored)
			if err != nil {
				return err
			}
			g, _ := rest.add(m.offset, stored, &rec, s.readAt)
			grown += g
			return nil
		})
		if err != nil {
			panic(fmt.Sprintf("seal: a record that was decoded once does not decode again: %v", err))
		}
		if n := len(rest.segs); s.closed != "" && rest.segs[n-1].closed == "" {
			rest.segs[n-1].closed = s.closed
		}
		grown -= s.held
		s.release()
		l.segs = append(rest.segs, l.segs[i+1:]...)
		return grown
	}
	l.segs = nil
	return grown
}
