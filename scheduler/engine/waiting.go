package engine

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/plan"
	"millrace/trigger"
)

// heldKey stands for all that is held for a rule. It counts as one, so that a pause of a day is told of once, and not for each batch.
const heldKey = "held"

// waitKey names what waits for one run: the group of batches that is to become it, or all that is held for a rule.
type waitKey struct{ rule, key string }

// waiter is a batch that waits for a rule.
type waiter struct{ batch, rule string }

// wait are batches that have no run yet. The dispatcher decides when they get one; the core only knows since when they wait.
type wait struct {
	key     waitKey
	batches map[string]time.Time // when they were sealed
	// oldest is no later than the first of these, and armed when the wait is looked at, zero for never.
	oldest, armed time.Time
	// told are the deadlines that were missed, by their place in the DAG.
	told map[int]*told
}

// told is a deadline that was missed, with how many of the batches still wait that did when it was told. When the last of them has gone, what
// waits by then can be late anew.
type told struct {
	scheduler.Overdue
	left int
}

// covers reports whether a batch was among those that waited.
func (t *told) covers(sealed time.Time) bool { return !sealed.After(t.MissedAt) }

// waits are all of them. They are in memory what the provisional dispositions and the rows of Overdue are in the store.
type waits struct {
	by    map[waitKey]*wait
	lines map[waiter]waitKey
}

func newWaits() waits { return waits{by: map[waitKey]*wait{}, lines: map[waiter]waitKey{}} }

func (ws *waits) of(key waitKey) *wait {
	w := ws.by[key]
	if w == nil {
		w = &wait{key: key, batches: map[string]time.Time{}, told: map[int]*told{}}
		ws.by[key] = w
	}
	return w
}

func (ws *waits) add(w *wait, batch string, sealed time.Time) {
	w.batches[batch] = sealed
	ws.lines[waiter{batch, w.key.rule}] = w.key
	if w.oldest.IsZero() || sealed.Before(w.oldest) {
		w.oldest = sealed
	}
	for _, t := range w.told {
		if t.covers(sealed) {
			t.left++
		}
	}
}

// tell notes that a deadline was missed.
func (w *wait) tell(o scheduler.Overdue) {
	t := &told{Overdue: o}
	for _, sealed := range w.batches {
		if t.covers(sealed) {
			t.left++
		}
	}
	w.told[o.N] = t
}

// keyOf says what a batch waits in.
func keyOf(rule, group string) waitKey {
	if group == "" {
		group = heldKey
	}
	return waitKey{rule, group}
}

// restoreWaits takes over what is stored.
func (c *core) restoreWaits(snap *scheduler.Snapshot) {
	for i := range snap.Waiting {
		w := &snap.Waiting[i]
		c.waits.add(c.waits.of(keyOf(w.Rule, w.Group)), w.Batch, w.SealedAt)
	}
	for _, o := range snap.Overdue {
		if w := c.waits.by[waitKey{o.Rule, o.Key}]; w != nil {
			w.tell(o)
		}
	}
	for _, w := range c.waits.by {
		c.arm(w)
	}
}

// tolds are the deadlines that what a firing takes has missed already.
func (c *core) tolds(f *trigger.Firing) (out []int) {
	for i := range f.Batches {
		if w := c.waits.by[c.waits.lines[waiter{f.Batches[i].ID, f.DAG + "/" + f.Rule}]]; w != nil {
			for n := range w.told {
				out = append(out, n)
			}
		}
	}
	return out
}

// disposed follows the dispositions of an intake.
func (c *core) disposed(in *trigger.Intake) {
	for i := range in.Arrivals {
		a := &in.Arrivals[i]
		for j := range a.Dispositions {
			if d := &a.Dispositions[j]; !d.Fate.Final() {
				w := c.waits.of(keyOf(d.Rule, d.Group))
				c.waits.add(w, d.Batch, a.Batch.CreatedAt)
				c.arm(w)
			}
		}
	}
	for i := range in.Updates {
		c.move(&in.Updates[i])
	}
}

// move takes a batch from what it waited in to what it waits in now, if it still does. What was told of the one was told of the other.
func (c *core) move(d *trigger.Disposition) {
	at := waiter{d.Batch, d.Rule}
	from := c.waits.by[c.waits.lines[at]]
	if from == nil {
		return
	}
	sealed := from.batches[d.Batch]
	if !d.Fate.Final() {
		to := c.waits.of(keyOf(d.Rule, d.Group))
		if to == from {
			return
		}
		c.waits.add(to, d.Batch, sealed)
		for n, t := range from.told {
			if to.told[n] == nil && t.covers(sealed) {
				o := t.Overdue
				o.Key = to.key.key
				to.tell(o)
				c.tx.change.Overdue = append(c.tx.change.Overdue, o)
			}
		}
		c.arm(to)
	} else {
		delete(c.waits.lines, at)
	}
	delete(from.batches, d.Batch)
	for n, t := range from.told {
		if t.covers(sealed) {
			t.left--
		}
		if t.left <= 0 {
			o := t.Overdue
			o.Done = true
			c.tx.change.Overdue = append(c.tx.change.Overdue, o)
			delete(from.told, n)
		}
	}
	if len(from.batches) == 0 {
		delete(c.waits.by, from.key)
		return
	}
	c.arm(from) // what is left may be late by itself
}

// rearm looks at all that waits for rules of a DAG whose deadlines may have changed.
func (c *core) rearm(dag string) {
	for key, w := range c.waits.by {
		if owner, _, _ := strings.Cut(key.rule, "/"); owner == dag {
			c.arm(w)
		}
	}
}

// arm sets when a wait is looked at next.
func (c *core) arm(w *wait) {
	var first time.Time
	c.openDeadlines(w, func(_ int, _ *scheduler.DeadlineRule, at time.Time) {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	})
	if !first.Equal(w.armed) {
		if w.armed = first; !first.IsZero() {
			heap.Push(&c.due.queue, due{at: first, wait: w.key})
		}
	}
}

// openDeadlines visits the deadlines that count for what waits and were not missed yet, and returns the DAG.
func (c *core) openDeadlines(w *wait, visit func(n int, rule *scheduler.DeadlineRule, at time.Time)) *plan.DAG {
	id, _, _ := strings.Cut(w.key.rule, "/")
	h := c.heads[id]
	if h == nil || h.dag == nil || h.row.Removed {
		return nil
	}
	for n := range h.dag.Deadlines {
		rule := &h.dag.Deadlines[n]
		if _, told := w.told[n]; rule.From == scheduler.FromBatchSealed && !told {
			visit(n, rule, w.oldest.Add(rule.Within))
		}
	}
	return h.dag
}

// BatchDeadlines implements scheduler.Explainer.
func (e *Engine) BatchDeadlines(ctx context.Context, batch string) (map[string][]scheduler.Deadline, error) {
	out := map[string][]scheduler.Deadline{}
	done := make(answer, 1)
	err := e.ask(ctx, &question{done: done, ask: func(c *core) {
		for _, w := range c.waits.by {
			if _, ok := w.batches[batch]; ok {
				out[w.key.rule] = c.waitDeadlines(w)
			}
		}
	}}, done)
	return out, err
}

// waitDeadlines are the deadlines of what waits, missed or not, in the order of the DAG.
func (c *core) waitDeadlines(w *wait) []scheduler.Deadline {
	var list []scheduler.Deadline
	for n, o := range w.told {
		list = append(list, scheduler.Deadline{N: n, At: o.At, MissedAt: o.MissedAt})
	}
	dag := c.openDeadlines(w, func(n int, _ *scheduler.DeadlineRule, at time.Time) {
		list = append(list, scheduler.Deadline{N: n, At: at})
	})
	for i := range list {
		if n := list[i].N; dag != nil && n < len(dag.Deadlines) {
			list[i].Rule = dag.Deadlines[n].String()
		}
	}
	slices.SortFunc(list, func(a, b scheduler.Deadline) int { return a.N - b.N })
	return list
}

// overdueWait looks at what waits, whose time may have come.
func (c *core) overdueWait(d due, now time.Time) {
	w := c.waits.by[d.wait]
	if w == nil || !w.armed.Equal(d.at) {
		return
	}
	oldest := ""
	for id, sealed := range w.batches { // the oldest may have gone, so it is looked for anew
		if have := w.batches[oldest]; oldest == "" || sealed.Before(have) || sealed.Equal(have) && id < oldest {
			oldest = id
		}
	}
	w.oldest, w.armed = w.batches[oldest], time.Time{}
	var late []scheduler.Deadline
	dag := c.openDeadlines(w, func(n int, rule *scheduler.DeadlineRule, at time.Time) {
		if !at.After(now) {
			late = append(late, scheduler.Deadline{N: n, Rule: rule.String(), At: at, MissedAt: now})
		}
	})
	for i := range late {
		c.missWait(w, dag, oldest, &late[i])
	}
	c.arm(w)
}

// missWait tells that a run that is still to come is late.
func (c *core) missWait(w *wait, dag *plan.DAG, oldest string, d *scheduler.Deadline) {
	o := scheduler.Overdue{Rule: w.key.rule, Key: w.key.key, N: d.N, At: d.At, MissedAt: d.MissedAt}
	w.tell(o)
	c.tx.change.Overdue = append(c.tx.change.Overdue, o)
	_, rule, _ := strings.Cut(w.key.rule, "/")
	b := scheduler.NoticeBody{
		V: 1, Event: scheduler.OnDeadline, At: d.MissedAt, DAG: dag.ID, Owner: dag.Owner, Trigger: scheduler.Trigger{Kind: trigger.KindBatch, Rule: rule},
		Batch: oldest, Batches: len(w.batches), Failed: []scheduler.NoticeTask{}, Deadline: d, URL: "batches/" + oldest,
		Reason: fmt.Sprintf("%s held without a run, the oldest since %s", waiting(len(w.batches)), clock(w.oldest)),
	}
	what := []string{"held", w.key.rule, oldest, strconv.Itoa(d.N)}
	if w.key.key != heldKey {
		b.Run = trigger.Firing{DAG: dag.ID, Rule: rule, Key: w.key.key}.RunID()
		b.Trigger.Key = w.key.key
		b.Reason = fmt.Sprintf("%s in an open group, the oldest since %s", waiting(len(w.batches)), clock(w.oldest))
		what = []string{b.Run, scheduler.OnDeadline, strconv.Itoa(d.N)}
	}
	c.send(union(dag.Deadlines[d.N].Notify, dag.OnEvent[scheduler.OnDeadline]), b, what...)
	c.tx.missed = append(c.tx.missed, missed{dag: dag.ID, run: b.Run, rule: d.Rule, from: scheduler.FromBatchSealed, at: d.At})
}

func waiting(n int) string {
	if n == 1 {
		return "1 batch waits"
	}
	return fmt.Sprintf("%d batches wait", n)
}
