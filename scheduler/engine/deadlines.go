package engine

import (
	"container/heap"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/plan"
)

// deadlines is what the core knows of deadlines that are open. Whether one was missed stands in the run's row, and is committed with the notice
// of it: so it is told once, whatever timers, clocks and restarts do.
type deadlines struct {
	// next is the first open deadline of each run that has one, live or ended without success.
	next  map[string]time.Time
	queue dueQueue
	// past has the durations of a DAG's newest successful runs, newest first, for those DAGs that were asked for.
	past map[string][]time.Duration
}

// due is a time at which something is to be looked at: a run, or what waits for one.
type due struct {
	at   time.Time
	run  string
	wait waitKey
}

// missed is a deadline that a transaction found missed.
type missed struct {
	dag, run, rule, from string
	at                   time.Time
}

// unreadable is when a run that could not be read is looked at again.
const unreadable = time.Second

func newDeadlines() deadlines {
	return deadlines{next: map[string]time.Time{}, past: map[string][]time.Duration{}}
}

// follow keeps the timer of a run's first open deadline.
func (d *deadlines) follow(row *scheduler.Run) {
	at := row.NextDeadline()
	switch have, ok := d.next[row.ID]; {
	case at.IsZero():
		delete(d.next, row.ID)
	case !ok || !have.Equal(at):
		d.next[row.ID] = at
		heap.Push(&d.queue, due{at: at, run: row.ID})
	}
}

// first returns when something is to be looked at, or zero.
func (d *deadlines) first() time.Time {
	if len(d.queue) == 0 {
		return time.Time{}
	}
	return d.queue[0].at
}

// recall makes sure that the durations are at hand which a new run of the version needs.
func (c *core) recall(ctx context.Context, version string) error {
	dag, err := c.lookup(ctx, version)
	if err != nil {
		return err
	}
	if _, ok := c.due.past[dag.ID]; ok || dag.Average() == 0 {
		return nil
	}
	runs, _, err := c.read.Runs(ctx, scheduler.RunQuery{DAG: dag.ID, State: scheduler.StateSuccess, Limit: scheduler.MaxAverage})
	if err != nil {
		return err
	}
	past := []time.Duration{}
	for i := range runs {
		past = addPast(past, &runs[i], len(past))
	}
	c.due.past[dag.ID] = past
	return nil
}

// addPast puts the duration of a successful run at a place among others. Replays do not count: they are of other sizes, at other times.
func addPast(past []time.Duration, row *scheduler.Run, at int) []time.Duration {
	if row.Replay > 0 || row.StartedAt.IsZero() {
		return past
	}
	past = slices.Insert(past, at, row.EndedAt.Sub(row.StartedAt))
	return past[:min(len(past), scheduler.MaxAverage)]
}

// noteDeadlines brings the timers in line with what a step made of a run.
func (c *core) noteDeadlines(l *live, d *plan.Delta) {
	row := &l.Row
	past, ok := c.due.past[row.DAG]
	if ok && slices.ContainsFunc(d.Moves, func(m scheduler.Move) bool { return m.Task == "" && m.To == scheduler.StateSuccess }) {
		c.due.past[row.DAG] = addPast(past, row, 0)
	}
	if len(row.Deadlines) > 0 {
		c.due.follow(row)
	}
}

// overdue ends the deadlines that have passed, at the end of a round: a run that succeeded in this very round has had its chance.
func (c *core) overdue(ctx context.Context, now time.Time) {
	seen := map[string]bool{}
	for len(c.due.queue) > 0 && !c.due.queue[0].at.After(now) {
		d := heap.Pop(&c.due.queue).(due)
		if d.run == "" {
			c.overdueWait(d, now)
			continue
		}
		if at, ok := c.due.next[d.run]; !ok || !at.Equal(d.at) || seen[d.run] {
			continue
		}
		seen[d.run] = true
		if l := c.runs[d.run]; l != nil {
			c.miss(l.DAG, &l.Row, l.Tasks, now)
			c.tx.of(l).run = true
			continue
		}
		switch err := c.overdueEnded(ctx, d.run, now); {
		case errors.Is(err, scheduler.ErrNotFound):
			delete(c.due.next, d.run)
		case err != nil:
			c.due.next[d.run] = now.Add(unreadable)
			heap.Push(&c.due.queue, due{at: c.due.next[d.run], run: d.run})
		}
	}
}

// overdueEnded is for a run that has ended without success, and is not in memory.
func (c *core) overdueEnded(ctx context.Context, id string, now time.Time) error {
	d, err := c.read.Run(ctx, id)
	if err != nil {
		return err
	}
	dag, err := c.lookup(ctx, d.Run.Version)
	if err != nil {
		return err
	}
	c.miss(dag, &d.Run, d.Tasks, now)
	c.tx.change.Runs = append(c.tx.change.Runs, d.Run)
	c.drop(d.Run.Version)
	return nil
}

// miss ends the deadlines of a run that have passed, and tells of them.
func (c *core) miss(dag *plan.DAG, row *scheduler.Run, tasks []scheduler.TaskRun, now time.Time) {
	for _, d := range plan.Overdue(row, now) {
		rule := scheduler.DeadlineRule{}
		if d.N < len(dag.Deadlines) {
			rule = dag.Deadlines[d.N]
		}
		b := scheduler.NewNoticeBody(scheduler.OnDeadline, now, row, tasks, -1)
		b.Owner, b.Deadline = dag.Owner, &d
		c.send(union(rule.Notify, dag.OnEvent[scheduler.OnDeadline]), b, row.ID, scheduler.OnDeadline, strconv.Itoa(d.N))
		c.tx.missed = append(c.tx.missed, missed{dag: row.DAG, run: row.ID, rule: d.Rule, from: rule.From, at: d.At})
	}
	c.due.follow(row)
}

// dueQueue is a heap by time.
type dueQueue []due

func (h dueQueue) Len() int           { return len(h) }
func (h dueQueue) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueQueue) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *dueQueue) Push(x any) { *h = append(*h, x.(due)) }

// Pop implements heap.Interface.
func (h *dueQueue) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
