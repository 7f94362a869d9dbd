package seal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/batcher"
	"millrace/ingest"
)

// timeNow is the time as the chain and the policies use it.
func timeNow() time.Time { return time.Now().UTC() }

// readMore reads once from the log and opens rows. It never blocks for records.
func (c *cutter) readMore(ctx context.Context) error {
	stop := c.end()
	if lost, ok := c.lostFrom(c.pos); ok {
		if lost.First <= c.pos {
			c.gap = &lost
			return nil
		}
		stop = min(stop, lost.First)
	}
	if c.pos >= stop {
		c.atEnd = true
		return nil
	}
	recs, next, err := c.p.log.Read(ctx, c.pos, c.w.tuning.read, c.buf)
	c.buf = recs[:0:cap(recs)]
	if err != nil {
		return c.readFailed(ctx, err)
	}
	if c.refresh(); c.forgotten || c.end() < stop { // the stream ended meanwhile: what was read may be the next one's
		return nil
	}
	if len(recs) == 0 && next <= c.pos {
		c.atEnd = true
		return nil
	}
	for i := range recs {
		if recs[i].Offset >= stop {
			break
		}
		if err := c.take(&recs[i]); err != nil {
			return err
		}
	}
	c.pos = min(next, stop)
	return nil
}

// take opens a row for a record, unless the record is in a cut already.
func (c *cutter) take(s *ingest.Stored) error {
	rec, err := c.dec.Decode(s.Bytes)
	if err != nil {
		return fmt.Errorf("record %d of log %s: %w", s.Offset, c.inc.Stream, err)
	}
	c.unstick()
	c.read += int64(len(s.Bytes))
	c.readUpTo = rec.ReceivedAt
	name := rec.Lane
	if c.w.mut.laneOf != nil {
		name = c.w.mut.laneOf(&rec)
	}
	if s.Offset < c.skip && s.Offset < c.tail.NextOf(name) {
		return nil
	}
	l := c.last
	if l == nil || l.name != name {
		if l = c.lanes[name]; l == nil {
			l = &lane{name: name}
			c.lanes[name] = l
		}
		c.last = l
	}
	if n := len(l.segs); n == 0 || l.segs[n-1].closed != "" {
		l.policy = c.w.policyOf(name.Source())
	}
	grown, changed := l.add(s.Offset, s.Bytes, &rec, c.read)
	c.open += grown
	if changed {
		c.noteChange(l)
	}
	return nil
}

// noteChange keeps nextDue and sized true after a segment of l was begun or closed.
func (c *cutter) noteChange(l *lane) {
	for _, s := range l.segs[max(len(l.segs)-2, 0):] {
		at := s.firstAt.Add(l.policy.MaxAge)
		switch {
		case isSize(s.closed):
			c.sized = true
			continue
		case s.closed != "":
			at = s.firstAt // due now
		}
		if c.nextDue.IsZero() || at.Before(c.nextDue) {
			c.nextDue = at
		}
	}
}

// readFailed deals with what the log does not have. Below its start another worker may have gone on, so the chain is walked again; what
// nobody has cut is a gap, and stays one until an operator accepts the loss.
func (c *cutter) readFailed(ctx context.Context, err error) error {
	switch {
	case again(err):
		b := backoff{rng: c.p.rng}
		c.w.metrics.retried("read")
		return b.sleep(ctx)
	case errors.Is(err, ingest.ErrTrimmed):
		if n, err := c.walk(ctx); err != nil || n > 0 {
			return err
		}
		low, _, err := c.bounds(ctx)
		if err != nil {
			return err
		}
		if low <= c.pos { // the log starts before, and misses this nonetheless
			return c.stuck(ctx, nil, fmt.Sprintf("read record %d: %v", c.pos, ingest.ErrTrimmed))
		}
		c.gap = &batcher.Range{First: c.pos, Last: min(low, c.end()) - 1}
		return nil
	case errors.Is(err, ingest.ErrCorrupt):
		return c.stuck(ctx, nil, fmt.Sprintf("read record %d: %v", c.pos, err))
	}
	return fmt.Errorf("read log from %d: %w", c.pos, err)
}
