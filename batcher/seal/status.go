package seal

import (
	"context"
	"slices"
	"time"

	"millrace/batcher"
	"millrace/ingest"
)

// Status is what a worker knows of one partition.
type Status struct {
	Partition int           `json:"partition"`
	Stream    ingest.Stream `json:"stream"`
	// Seq is the tail of the chain, Done as the tail says it.
	Seq  int64 `json:"seq"`
	Done int64 `json:"done"`
	// Low is below which all is cut, Lag how many offsets from there to the log's end, Age the time since the receipt of the oldest open row.
	Low int64         `json:"low"`
	Lag int64         `json:"lag"`
	Age time.Duration `json:"age"`
	// Lanes are those with open rows, Held the memory of rows, Index that of the dedupe index, in bytes.
	Lanes int   `json:"lanes"`
	Held  int64 `json:"held"`
	Index int64 `json:"index"`
	// Window is how far back repeated records are recognised, at most.
	Window time.Duration `json:"window"`
	// Stuck is why nothing more is cut, or ""; Loss is the range that [AcceptLoss] would give up, if that is the way out; Next is what
	// [Options.WayOut] says of it.
	Stuck string         `json:"stuck,omitempty"`
	Loss  *batcher.Range `json:"loss,omitempty"`
	Next  string         `json:"next,omitempty"`
}

// Status returns what the worker knows of each partition that it cuts now, by number; as of a second ago.
func (w *Worker) Status() []Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]Status, 0, len(w.parts))
	for _, p := range w.parts {
		p.mu.Lock()
		list = append(list, p.status)
		p.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b Status) int { return a.Partition - b.Partition })
	return list
}

// showEvery is how often status and gauges are brought up to date.
const showEvery = 500 * time.Millisecond

// show brings status and gauges up to date, if that is due.
func (c *cutter) show(ctx context.Context, now time.Time) {
	if now.Sub(c.shownAt) < showEvery {
		return
	}
	c.shownAt = now
	s := Status{
		Partition: c.p.id, Stream: c.inc.Stream, Seq: c.tail.Seq, Done: c.tail.Done, Low: c.tail.Low, Lanes: len(c.lanes),
		Held: c.open + c.flying, Index: c.p.index.Bytes(), Window: c.w.opts.Window, Stuck: c.stuckOn, Loss: c.stuckLoss,
	}
	if s.Stuck != "" {
		s.Next = c.w.opts.WayOut(s.Loss)
	}
	if _, next, err := c.p.log.Bounds(ctx); err == nil {
		s.Lag = max(min(next, c.end())-c.tail.Low, 0)
	}
	for _, l := range c.lanes {
		s.Age = max(s.Age, now.Sub(l.segs[0].firstAt))
	}
	if h := c.p.index.Horizon(); !h.IsZero() {
		s.Window = min(s.Window, max(now.Sub(h), 0))
	}
	c.p.set(s)
}

// set publishes s.
func (p *partition) set(s Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = s
	p.w.metrics.show(&s)
}

// blocked says what the store keeps from a caller that can only wait, or with "" that it does so no longer.
func (p *partition) blocked(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if why != "" && p.status.Stuck == "" {
		p.w.opts.Log.Error("batcher is stuck", "partition", p.id, "stream", p.status.Stream, "reason", why, "next", p.w.opts.WayOut(nil))
	}
	p.status.Partition, p.status.Stuck, p.status.Loss, p.status.Next = p.id, why, nil, ""
	if why != "" {
		p.status.Next = p.w.opts.WayOut(nil)
	}
	p.w.metrics.show(&p.status)
}
