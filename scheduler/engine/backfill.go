package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/scheduler/plan"
	"millrace/scheduler/spec"
	"millrace/trigger"
)

// feedMost bounds the runs that backfills begin in one round, since their batches are read meanwhile: the round after it follows at once.
const feedMost = 64

// backfilling is what the core knows of backfills. A run of one is made in the transaction that makes its item running, and only while fewer are
// under way than the backfill's limit: so a crash leaves an item that waits, or one that has its run.
type backfilling struct {
	// backfills are those that have not ended, by id.
	backfills map[string]*backfill
	// hungry says that feed has stopped at feedMost, or that a backfill has to wait for the next round: which follows at once.
	hungry bool
}

// backfill is one that has not ended.
type backfill struct {
	row scheduler.Backfill
	// waiting are the items without a run, in their order; active has the runs that have not ended, with the places of their items.
	waiting []scheduler.BackfillItem
	active  map[string]int
	// found is the transaction that puts batches of it into the ledger, where they can not be read before it is committed; nil: none.
	found *txn
}

// restoreBackfills takes over what has not ended. An item that has a run is under way as long as that is live.
func (c *core) restoreBackfills(list []scheduler.LiveBackfill) {
	for _, lb := range list {
		b := &backfill{row: lb.Backfill, active: map[string]int{}}
		for _, it := range lb.Items {
			switch {
			case it.State == scheduler.StateQueued:
				b.waiting = append(b.waiting, it)
			case c.runs[it.Run] != nil:
				b.active[it.Run] = it.N
			}
		}
		c.backfills[b.row.ID] = b
	}
}

// feedAll goes on until no backfill has both a place and something to run in it, at most feedMost times: a run may end in the round that makes it.
func (c *core) feedAll(ctx context.Context) {
	left := feedMost
	for left > 0 {
		n := c.feed(ctx, left)
		if n == 0 {
			break
		}
		left -= n
		c.fillAll(ctx)
	}
	c.hungry = left == 0
	for _, b := range c.backfills {
		c.hungry = c.hungry || b.found == c.tx
	}
}

// feed begins at most so many runs of backfills where there is place, ends those that have nothing left, and returns how many items it dealt with.
func (c *core) feed(ctx context.Context, most int) int {
	done := 0
	for _, b := range slices.SortedFunc(maps.Values(c.backfills), func(a, b *backfill) int {
		return cmp.Or(a.row.CreatedAt.Compare(b.row.CreatedAt), cmp.Compare(a.row.ID, b.row.ID))
	}) {
		for done < most && b.found != c.tx && b.row.State == scheduler.BackfillRunning && len(b.waiting) > 0 && len(b.active) < b.row.MaxActive {
			if !c.beginItem(ctx, b) {
				break
			}
			done++
		}
		if len(b.waiting)+len(b.active) == 0 {
			c.endBackfill(b, scheduler.BackfillDone, "")
		}
	}
	return done
}

// endBackfill takes b to a final state.
func (c *core) endBackfill(b *backfill, state scheduler.BackfillState, reason string) {
	b.row.State, b.row.Reason, b.row.EndedAt = state, reason, c.tx.now
	c.saveBackfill(b)
	delete(c.backfills, b.row.ID)
}

// saveBackfill writes the row as it is now.
func (c *core) saveBackfill(b *backfill) {
	rows := &c.tx.change.Backfills
	if i := slices.IndexFunc(*rows, func(o scheduler.Backfill) bool { return o.ID == b.row.ID }); i >= 0 {
		(*rows)[i] = b.row
		return
	}
	*rows = append(*rows, b.row)
}

// beginItem makes the run of the first item that waits, or leaves that out with the reason. It returns false if it can not be told now what is
// to become of it, or nothing of the backfill can be run: then that is paused.
func (c *core) beginItem(ctx context.Context, b *backfill) bool {
	it := b.waiting[0]
	batches, reason, err := c.itemBatches(ctx, b, &it)
	if err != nil {
		return false // the store is away: the item waits for the next round
	}
	if reason == "" {
		if err := c.itemRun(ctx, b, &it, batches); errors.Is(err, scheduler.ErrUnavailable) {
			return false
		} else if err != nil {
			b.row.State, b.row.Reason = scheduler.BackfillPaused, "paused, since its runs can not be made: "+err.Error()
			c.saveBackfill(b)
			return false
		}
	} else {
		it.State, it.Reason = scheduler.StateSkipped, reason
	}
	b.waiting[0] = scheduler.BackfillItem{} // so that it can be collected
	b.waiting = b.waiting[1:]
	c.tx.change.Items = append(c.tx.change.Items, it)
	return true
}

// itemBatches returns the inputs of an item as its run is to have them, or why there is nothing to run: what was decided when the backfill was
// made may not be so any more.
func (c *core) itemBatches(ctx context.Context, b *backfill, it *scheduler.BackfillItem) (list []batcher.Batch, reason string, err error) {
	if it.Kind == trigger.KindCron {
		f := it.Firing(b.row.DAG, b.row.Version)
		past, err := c.read.PastRuns(ctx, b.row.DAG, []string{f.RunID()})
		if err != nil {
			return nil, "", err
		}
		if reason := c.refuse1(b, past[f.RunID()], f.RunID(), ""); reason != "" {
			return nil, clock(it.Due) + " " + reason, nil
		}
		return nil, "", nil
	}
	past, err := c.read.PastBatches(ctx, b.row.DAG, it.Batches)
	if err != nil {
		return nil, "", err
	}
	var reasons []string
	for _, id := range it.Batches {
		d, err := c.read.Batch(ctx, id)
		if errors.Is(err, scheduler.ErrNotFound) {
			reasons = append(reasons, "batch "+id+" is not in the ledger any more")
			continue
		}
		if err != nil {
			return nil, "", err
		}
		if reason := c.refuse1(b, past[id], "", id); reason != "" {
			reasons = append(reasons, "batch "+id+" "+reason)
			continue
		}
		list = append(list, d.Batch)
	}
	if len(list) == 0 {
		return nil, several(reasons, "", ""), nil
	}
	return list, "", nil
}

// refuse1 judges one input by its past as it is now, in this transaction.
func (c *core) refuse1(b *backfill, past scheduler.Past, original, batch string) string {
	past.Planned = "" // by this backfill, or by one that will see what this one has done
	for i := range past.Runs {
		if l := c.runs[past.Runs[i].ID]; l != nil {
			past.Runs[i].State = l.Row.State
		}
	}
	for _, l := range c.tx.order {
		mine := l.Row.DAG == b.row.DAG && (batch != "" && slices.Contains(l.Row.Batches, batch) || original != "" && cmp.Or(l.Row.ReplayOf, l.Row.ID) == original)
		if mine && !slices.ContainsFunc(past.Runs, func(r scheduler.Run) bool { return r.ID == l.Row.ID }) {
			past.Runs = append(past.Runs, scheduler.Run{ID: l.Row.ID, State: l.Row.State})
		}
	}
	return b.row.Reprocess.Refuse(past)
}

// itemRun makes the run of an item. An error is about all items of the backfill.
func (c *core) itemRun(ctx context.Context, b *backfill, it *scheduler.BackfillItem, batches []batcher.Batch) error {
	dag, err := c.lookup(ctx, b.row.Version)
	if err != nil {
		return err
	}
	if err := c.runnable(dag); err != nil {
		c.drop(b.row.Version)
		return err
	}
	params, err := spec.Params(dag.Params, b.row.Params)
	if err != nil {
		c.drop(b.row.Version)
		return err
	}
	f := it.Firing(b.row.DAG, b.row.Version)
	f.At, f.Batches = c.tx.now, batches
	if f.Replay, err = c.nextReplay(ctx, f.RunID()); err == nil {
		err = c.unused(ctx, &f)
	}
	if err != nil {
		c.drop(b.row.Version)
		return err
	}
	it.State, it.Run = scheduler.StateRunning, f.RunID()
	b.active[it.Run] = it.N // before it may end
	c.make(&f, plan.Terms{Params: params, Backfill: b.row.ID, NoEmit: !b.row.Emit})
	return nil
}

// itemEnded gives up the place of a run that has ended in its backfill.
func (c *core) itemEnded(l *live) {
	if b := c.backfills[l.Row.Backfill]; b != nil {
		delete(b.active, l.Row.ID)
	}
}

// itemBack takes the place again for a run that lives again: a person's word goes before the limit.
func (c *core) itemBack(l *live) {
	if b := c.backfills[l.Row.Backfill]; b != nil {
		b.active[l.Row.ID] = 0
	}
}

// itemState writes what became of the item of a run: that it has ended, or that it lives again, also if the backfill has ended.
func (c *core) itemState(l *live, r *rows) {
	ended := l.Row.State.Terminal()
	if l.Row.Backfill == "" || !ended && !r.back {
		return
	}
	state := scheduler.StateRunning
	if ended {
		state = l.Row.State
	}
	c.tx.change.ItemStates = append(c.tx.change.ItemStates, scheduler.ItemState{Backfill: l.Row.Backfill, Run: l.Row.ID, State: state})
}

// StartBackfill implements scheduler.Backfiller.
func (e *Engine) StartBackfill(ctx context.Context, p *scheduler.BackfillPlan) (*scheduler.Backfill, error) {
	in := &newBackfill{plan: p, done: make(answer, 1)}
	if err := e.ask(ctx, in, in.done); err != nil {
		return nil, err
	}
	return e.store.Backfill(ctx, p.Backfill.ID)
}

// newBackfill is a person's wish for a backfill.
type newBackfill struct {
	plan *scheduler.BackfillPlan
	done answer
}

func (in *newBackfill) fail(err error) { in.done <- err }

func (in *newBackfill) decide(ctx context.Context, c *core) { c.then(in.done, in.store(ctx, c)) }

func (in *newBackfill) store(ctx context.Context, c *core) error {
	row := in.plan.Backfill
	if c.backfills[row.ID] != nil || slices.ContainsFunc(c.tx.change.Backfills, func(o scheduler.Backfill) bool { return o.ID == row.ID }) {
		return nil
	}
	if _, err := c.read.Backfill(ctx, row.ID); !errors.Is(err, scheduler.ErrNotFound) {
		return err
	}
	if h := c.heads[row.DAG]; h == nil || h.row.Removed || h.row.Version != row.Version {
		return fmt.Errorf("start backfill %s: the file of dag %s has changed since it was planned: %w", row.ID, row.DAG, scheduler.ErrConflict)
	}
	b := &backfill{row: row, active: map[string]int{}, waiting: slices.Clone(in.plan.Items)}
	b.row.State, b.row.CreatedAt, b.row.Counts = scheduler.BackfillRunning, c.tx.now, scheduler.BackfillCounts{}
	for i := range b.waiting {
		b.waiting[i].Backfill, b.waiting[i].State = row.ID, scheduler.StateQueued
	}
	for _, found := range in.plan.Found {
		c.tx.change.Arrivals = append(c.tx.change.Arrivals, trigger.Arrival{Batch: found, At: found.CommittedAt})
	}
	if len(in.plan.Found) > 0 {
		b.found = c.tx
	}
	c.tx.change.Items = append(c.tx.change.Items, b.waiting...)
	c.backfills[row.ID] = b
	c.saveBackfill(b)
	return nil
}

// SteerBackfill implements scheduler.Backfiller.
func (e *Engine) SteerBackfill(ctx context.Context, id string, to scheduler.BackfillState, o scheduler.Steer) (*scheduler.Backfill, error) {
	in := &steer{id: id, to: to, how: o, done: make(answer, 1)}
	if err := e.ask(ctx, in, in.done); err != nil {
		return nil, err
	}
	return e.store.Backfill(ctx, id)
}

// steer is a person's wish that a backfill pauses, goes on or ends.
type steer struct {
	id   string
	to   scheduler.BackfillState
	how  scheduler.Steer
	done answer
}

func (in *steer) fail(err error) { in.done <- err }

func (in *steer) decide(ctx context.Context, c *core) {
	b := c.backfills[in.id]
	if b == nil {
		_, err := c.read.Backfill(ctx, in.id) // one that has ended is left alone
		c.then(in.done, err)
		return
	}
	by := ""
	if in.how.By != "" {
		by = " by " + in.how.By
	}
	switch in.to {
	case scheduler.BackfillRunning:
		b.row.State, b.row.Reason = in.to, ""
		c.saveBackfill(b)
	case scheduler.BackfillPaused:
		b.row.State, b.row.Reason = in.to, "paused"+by
		c.saveBackfill(b)
	case scheduler.BackfillCancelled:
		active := slices.Sorted(maps.Keys(b.active))
		c.endBackfill(b, in.to, "cancelled"+by)
		for _, id := range active {
			if in.how.Runs && c.runs[id] != nil {
				c.step(c.runs[id], plan.Cancel{Reason: "backfill " + in.id + " was cancelled" + by})
			}
		}
	default:
		c.then(in.done, fmt.Errorf("take backfill %s to %q: want paused, running or cancelled: %w", in.id, in.to, scheduler.ErrInvalid))
		return
	}
	c.then(in.done, nil)
}
