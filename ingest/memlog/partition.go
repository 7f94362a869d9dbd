package memlog

import (
	"context"
	"fmt"
	"slices"

	"millrace/ingest"
)

// Partition is one partition of a [Log]; it implements [ingest.Partition]. Its fields are guarded by the log's mutex.
type Partition struct {
	log     *Log
	id      int
	base    int64    // offset of recs[0]
	recs    [][]byte // nil where trimmed
	durable int64
	incs    []ingest.Incarnation
	hints   map[ingest.Stream]ingest.ChainHint
	damaged []ingest.Span
	lost    []ingest.Span
}

func (p *Partition) next() int64 { return p.base + int64(len(p.recs)) }

func (p *Partition) stream() ingest.Stream { return p.incs[len(p.incs)-1].Stream }

// begin starts a new incarnation at the durable end.
func (p *Partition) begin() {
	p.recs = p.recs[:p.durable-p.base]
	if n := len(p.incs); n > 0 {
		p.incs[n-1].Next = p.durable
		if p.incs[n-1].First == p.durable {
			p.incs = p.incs[:n-1]
		}
	}
	p.incs = append(p.incs, ingest.Incarnation{
		Stream: ingest.Stream{Log: p.log.opts.ID, Incarnation: fmt.Sprintf("i%d", p.log.ids.Add(1)), Partition: p.id},
		First:  p.durable, Next: -1,
	})
}

// ID implements [ingest.Partition].
func (p *Partition) ID() int { return p.id }

// Incarnations implements [ingest.Partition].
func (p *Partition) Incarnations() []ingest.Incarnation {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	return slices.Clone(p.incs)
}

// Bounds implements [ingest.Partition].
func (p *Partition) Bounds(context.Context) (low, next int64, err error) {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	if p.log.closed {
		return 0, 0, ingest.ErrClosed
	}
	return p.base, p.durable, nil
}

// Read implements [ingest.Partition].
func (p *Partition) Read(ctx context.Context, from int64, maxBytes int, buf []ingest.Stored) ([]ingest.Stored, int64, error) {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	buf = buf[:0]
	if p.log.closed {
		return buf, from, ingest.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return buf, from, err
	}
	end := p.durable
	for total := 0; from < end && (total < maxBytes || len(buf) == 0); from++ {
		if lost := within(p.lost, from); lost != nil {
			from = lost.Last
			continue
		}
		if from < p.base || p.recs[from-p.base] == nil {
			return stop(buf, from, ingest.ErrTrimmed)
		}
		if bad := within(p.damaged, from); bad != nil {
			return stop(buf, from, fmt.Errorf("records %d–%d: %w", bad.First, bad.Last, ingest.ErrCorrupt))
		}
		if len(buf) == 0 {
			end = p.endOf(from)
		}
		stored := p.recs[from-p.base]
		buf = append(buf, ingest.Stored{Offset: from, Bytes: stored})
		total += len(stored)
	}
	return buf, from, nil
}

// stop ends a read at an error: what was read before comes without it.
func stop(buf []ingest.Stored, from int64, err error) ([]ingest.Stored, int64, error) {
	if len(buf) > 0 {
		return buf, from, nil
	}
	return buf, from, fmt.Errorf("read offset %d: %w", from, err)
}

// endOf returns where the incarnation that holds off ends, as far as it is durable.
func (p *Partition) endOf(off int64) int64 {
	for _, inc := range p.incs {
		if !inc.Live() && off < inc.Next {
			return inc.Next
		}
	}
	return p.durable
}

func within(spans []ingest.Span, off int64) *ingest.Span {
	for i, s := range spans {
		if s.First <= off && off <= s.Last {
			return &spans[i]
		}
	}
	return nil
}

// Wait implements [ingest.Partition].
func (p *Partition) Wait(ctx context.Context, from int64) error {
	p.log.mu.Lock()
	stream := p.stream()
	p.log.mu.Unlock()
	for {
		p.log.mu.Lock()
		closed, ready, changed := p.log.closed, p.durable > from || p.stream() != stream, p.log.changed
		p.log.mu.Unlock()
		if closed {
			return ingest.ErrClosed
		}
		if ready {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Trim implements [ingest.Partition]. Every record that it permits to delete is gone.
func (p *Partition) Trim(_ context.Context, stream ingest.Stream, low int64) error {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	if p.log.closed {
		return ingest.ErrClosed
	}
	if stream.Log != p.log.opts.ID || stream.Partition != p.id {
		return fmt.Errorf("trim stream %v: not of log %s, partition %d", stream, p.log.opts.ID, p.id)
	}
	i := slices.IndexFunc(p.incs, func(inc ingest.Incarnation) bool { return inc.Stream == stream })
	if i < 0 {
		return nil
	}
	inc := p.incs[i]
	end := p.endOf(inc.First)
	for off := max(inc.First, p.base); off < min(low, end); off++ {
		p.recs[off-p.base] = nil
	}
	drop := 0
	for drop < len(p.recs) && p.recs[drop] == nil {
		drop++
	}
	p.recs, p.base = p.recs[drop:], p.base+int64(drop)
	if !inc.Live() && low >= inc.Next {
		p.incs = slices.Delete(p.incs, i, i+1)
		delete(p.hints, stream)
		p.lost = slices.DeleteFunc(p.lost, func(s ingest.Span) bool { return s.Stream == stream })
	}
	p.log.recount()
	return nil
}

// Hint implements [ingest.Partition].
func (p *Partition) Hint(_ context.Context, stream ingest.Stream) (ingest.ChainHint, error) {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	return p.hints[stream], nil
}

// SaveHint implements [ingest.Partition].
func (p *Partition) SaveHint(_ context.Context, stream ingest.Stream, hint ingest.ChainHint) error {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	if p.log.closed {
		return ingest.ErrClosed
	}
	if slices.ContainsFunc(p.incs, func(inc ingest.Incarnation) bool { return inc.Stream == stream }) {
		p.hints[stream] = hint
	}
	return nil
}

// Damage makes the records first to last of the incarnation that holds first unreadable: Read returns ErrCorrupt until AcceptLoss.
func (p *Partition) Damage(first, last int64) {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	for _, inc := range p.incs {
		if first >= inc.First && (inc.Live() || first < inc.Next) {
			p.damaged = append(p.damaged, ingest.Span{Stream: inc.Stream, First: first, Last: last})
			return
		}
	}
}

// AcceptLoss turns all damage into gaps, which Lost names.
func (p *Partition) AcceptLoss() {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	p.lost = append(p.lost, p.damaged...)
	p.damaged = nil
	p.log.wake()
}

// Lost implements [ingest.LossReporter].
func (p *Partition) Lost() []ingest.Span {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	return slices.Clone(p.lost)
}
