package seal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/ingest"
)

// prefixLoss is where operators' acceptances of losses are kept: <prefix><S>/<first, 20 digits>-<last, 20 digits>.
const prefixLoss = batcher.PrefixMeta + "loss/"

// AcceptLoss says, for good, that the records of a range of offsets of s may be given up, as far as they are in no object: `millrace log
// accept-loss`. Workers then void batches that they cannot encode, and name in the chain what the log lost before any cut. note is for people.
// Idempotent. Errors: ErrUnavailable.
func AcceptLoss(ctx context.Context, store batcher.ObjectStore, s ingest.Stream, r batcher.Range, note string) error {
	if r.First < 0 || r.Last < r.First {
		return fmt.Errorf("accept loss of %d to %d: not a range", r.First, r.Last)
	}
	body, err := json.Marshal(map[string]any{"stream": s, "range": r, "note": note, "at": timeNow()})
	if err != nil {
		return fmt.Errorf("accept loss of %d to %d of %s: %w", r.First, r.Last, s, err)
	}
	key := fmt.Sprintf("%s%s/%020d-%020d", prefixLoss, s, r.First, r.Last)
	if err := store.PutIfAbsent(ctx, key, body, nil); err != nil && !errors.Is(err, batcher.ErrExists) {
		return fmt.Errorf("accept loss of %d to %d of %s: %w", r.First, r.Last, s, err)
	}
	return nil
}

// accepted returns the ranges of the stream whose loss operators accepted.
func (c *cutter) accepted(ctx context.Context) (ranges []batcher.Range, err error) {
	prefix := prefixLoss + c.inc.Stream.String() + "/"
	for info, err := range c.w.store.List(ctx, batcher.ListOptions{Prefix: prefix}) {
		if err != nil {
			return nil, fmt.Errorf("list accepted losses: %w", err)
		}
		first, last, _ := strings.Cut(info.Key[len(prefix):], "-")
		a, err1 := strconv.ParseInt(first, 10, 64)
		b, err2 := strconv.ParseInt(last, 10, 64)
		if err1 == nil && err2 == nil {
			ranges = append(ranges, batcher.Range{First: a, Last: b})
		}
	}
	return ranges, nil
}

// reported returns what the log itself says was lost and accepted.
func (c *cutter) reported() (ranges []batcher.Range) {
	r, ok := c.p.log.(ingest.LossReporter)
	if !ok {
		return nil
	}
	for _, s := range r.Lost() {
		if s.Stream == c.inc.Stream {
			ranges = append(ranges, batcher.Range{First: s.First, Last: s.Last})
		}
	}
	return ranges
}

// lostFrom returns the first reported loss that ends at or after pos, from pos on.
func (c *cutter) lostFrom(pos int64) (lost batcher.Range, ok bool) {
	for _, r := range c.reported() {
		if r.Last >= pos && (!ok || r.First < lost.First) {
			lost, ok = batcher.Range{First: max(r.First, pos), Last: r.Last}, true
		}
	}
	return lost, ok
}

// lose names the gap at pos in the next entry, once its loss is accepted. Nothing is open then, so that everything below the gap is cut.
func (c *cutter) lose(ctx context.Context) error {
	gap := *c.gap
	if lost, ok := c.lostFrom(c.pos); !ok || lost != gap {
		to, err := c.acceptedTo(ctx, gap.First)
		if err != nil {
			return err
		}
		if to < gap.First {
			c.gap = nil // look again
			return c.stuck(ctx, &gap, "records were lost before any cut")
		}
		gap.Last = min(gap.Last, to)
	}
	now := timeNow()
	e := compose(&c.tail, draft{
		stream: c.inc.Stream, prev: c.prev, low: gap.Last + 1, done: c.seen, facts: c.closing(), lost: []batcher.Range{gap}, now: now,
	}, c.w.mut)
	ours, err := c.put(ctx, &e)
	if err != nil {
		return err
	}
	c.gap = nil
	if !ours {
		_, err := c.walk(ctx)
		return err
	}
	c.w.opts.Log.Error("records are lost", "stream", c.inc.Stream, "first", gap.First, "last", gap.Last)
	c.pos = gap.Last + 1
	c.extend(newLink(e, false))
	return nil
}

// acceptedTo returns the last offset of the accepted loss that covers offset from, or less than from if none does.
func (c *cutter) acceptedTo(ctx context.Context, from int64) (int64, error) {
	var ranges []batcher.Range
	err := c.p.retry(ctx, c.p.rng, "loss", func() (err error) {
		ranges, err = c.accepted(ctx)
		return err
	})
	to := from - 1
	for _, r := range ranges {
		if r.First <= from {
			to = max(to, r.Last)
		}
	}
	return to, err
}

// unstick takes back what stuck has said.
func (c *cutter) unstick() { c.stuckOn, c.stuckLoss = "", nil }

// stuck says what a person has to resolve, with the range whose loss would have to be accepted, and waits a while. Then the caller looks at
// chain and log again.
func (c *cutter) stuck(ctx context.Context, r *batcher.Range, why string) error {
	c.stuckOn, c.stuckLoss, c.shownAt = why, r, time.Time{}
	c.show(ctx, time.Now())
	c.w.opts.Log.Error("batcher is stuck", "partition", c.p.id, "stream", c.inc.Stream, "reason", why, "range", r,
		"next", c.w.opts.WayOut(r))
	return sleep(ctx, c.w.tuning.patience)
}
