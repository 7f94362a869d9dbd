package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
)

// reasonRestored is that of a batch which the ledger lost in a restore, and which a person said not to run again.
const reasonRestored = "restored"

// Skipped counts what [Dispatcher.Skip] passed over.
type Skipped struct {
	Chains  int `json:"chains"`
	Batches int `json:"batches"`
}

// Skip is for a ledger that is older than the chains: it passes over what was cut before a time, without running it again. Each such batch that
// the ledger does not have is inserted, dropped for every rule that does not filter it, and the cursors go up to the first entry that has a
// later cut; from there on [Dispatcher.Run] goes on as always. It must return before Run is called. Broken off, it has done a part, and can be
// repeated. Errors: trigger.ErrUnavailable, also while a batch that was cut before the time has no object yet.
func (d *Dispatcher) Skip(ctx context.Context, before time.Time) (Skipped, error) {
	var sum Skipped
	m, err := d.ledger.Remember(ctx)
	if err != nil {
		return sum, err
	}
	at := map[ingest.Stream]int64{}
	for _, c := range m.Cursors {
		at[c.Stream] = c.Seq
	}
	streams, err := d.cat.Streams(ctx)
	if err != nil {
		return sum, fmt.Errorf("list chains: %w", err)
	}
	for _, s := range streams {
		n, err := d.skipStream(ctx, s, at[s], before)
		sum.Batches += n
		if n > 0 {
			sum.Chains++
		}
		if err != nil {
			return sum, fmt.Errorf("pass over chain %s: %w", s, err)
		}
	}
	return sum, nil
}

// skipStream passes over the entries of one chain, each in a transaction of its own.
func (d *Dispatcher) skipStream(ctx context.Context, s ingest.Stream, seq int64, before time.Time) (batches int, err error) {
	tail, err := d.cat.Tail(ctx, s, 0)
	if errors.Is(err, batcher.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for seq++; seq <= tail.Seq; seq++ {
		e, err := d.cat.Entry(ctx, s, seq)
		if err != nil {
			return batches, err
		}
		found, late, err := d.cutBefore(ctx, &e, before, tail.Done)
		if err != nil || late {
			return batches, err
		}
		if seq > tail.Done && len(found) == 0 {
			return batches, nil // the chain's end, which dispatch looks at again anyway
		}
		if err := d.insertDropped(ctx, found, trigger.Cursor{Stream: s, Seq: seq}); err != nil {
			return batches, err
		}
		batches += len(found)
	}
	return batches, nil
}

// cutBefore returns the batches of an entry; late says that one of them was cut at the time or after it.
func (d *Dispatcher) cutBefore(ctx context.Context, e *batcher.Entry, before time.Time, done int64) (found []batcher.Batch, late bool, err error) {
	for i := range e.Cuts {
		c := &e.Cuts[i]
		if c.Count == 0 {
			continue
		}
		if !c.CreatedAt.Before(before) {
			return nil, true, nil
		}
		facts, uri, err := d.cat.Facts(ctx, *c)
		switch {
		case errors.Is(err, batcher.ErrNotFound) && e.Seq > done:
			return nil, false, fmt.Errorf("batch %s was cut before then and is not committed yet; try again: %w", c.Batch, trigger.ErrUnavailable)
		case errors.Is(err, batcher.ErrNotFound): // somebody removed it; the ledger has it all the same
			facts = batcher.Facts{Batch: c.Batch, Rows: c.Count, Records: c.Records, CommittedAt: c.CreatedAt}
		case err != nil:
			return nil, false, err
		}
		found = append(found, batcher.BatchOf(e, i, facts, uri))
	}
	return found, false, nil
}

// insertDropped inserts the batches of one entry and moves the cursor past it. Rules that change meanwhile are taken up, and it is decided again.
func (d *Dispatcher) insertDropped(ctx context.Context, found []batcher.Batch, to trigger.Cursor) error {
	for {
		d.compile()
		in := trigger.Intake{Gen: d.set.Gen, Cursors: []trigger.Cursor{to}}
		now := time.Now()
		for i := range found {
			b := &found[i]
			a := trigger.Arrival{Batch: *b}
			for _, v := range d.set.Match(b) {
				if v.Fate != trigger.FateFiltered {
					v.Fate, v.Reason = trigger.FateDropped, reasonRestored
				}
				a.Dispositions = append(a.Dispositions, trigger.Disposition{Batch: b.ID, Rule: v.Rule.Name(), Fate: v.Fate, Reason: v.Reason, At: now})
			}
			in.Arrivals = append(in.Arrivals, a)
		}
		err := d.starter.Start(ctx, in)
		if !errors.Is(err, trigger.ErrStale) {
			return err
		}
		if d.await(ctx); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
