package engine

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"millrace/scheduler"
)

// limit is how many attempts of one task of a DAG may be active at once, in all runs together. Like the slots of pools it is found again after a
// restart: held is a function of the states of tasks. A nil limit is that of tasks that have none.
type limit struct {
	dag, task string
	// size is what the DAG's file says now, so that a change helps those that wait; own is that of the version of the run that came last, for a
	// task that the file does not have any more.
	size, own int
	held      map[string]bool // by attempt
}

// limits are by DAG and task. They are as many as tasks that had one, so none is forgotten: lines point to them.
type limits map[string]map[string]*limit

func (l *limit) room() stop {
	if l == nil {
		return stop{}
	}
	return room(len(l.held), l.size, 1)
}

func (l *limit) hold(attempt string) {
	if l != nil {
		l.held[attempt] = true
	}
}

func (l *limit) free(attempt string) {
	if l != nil {
		delete(l.held, attempt)
	}
}

// limit returns that of a task, nil if its version has none.
func (c *core) limit(r ref) *limit {
	t := r.spec()
	if t.Concurrency == 0 {
		return nil
	}
	of := c.limits[r.run.Row.DAG]
	if of == nil {
		of = map[string]*limit{}
		c.limits[r.run.Row.DAG] = of
	}
	l := of[t.ID]
	if l == nil {
		l = &limit{dag: r.run.Row.DAG, task: t.ID, held: map[string]bool{}}
		of[t.ID] = l
	}
	l.own = t.Concurrency
	c.resize(l)
	return l
}

// resize takes over what the DAG's file says.
func (c *core) resize(l *limit) {
	l.size = l.own
	if h := c.heads[l.dag]; h != nil && h.dag != nil {
		if t := h.dag.Task(l.task); t != nil && t.Concurrency == 0 {
			l.size = math.MaxInt
		} else if t != nil {
			l.size = t.Concurrency
		}
	}
}

// whyLimited is why pop passed over what waits for a limit: as many attempts of the task are active as may be.
func (c *core) whyLimited(ln *line) scheduler.Why {
	l := ln.limit
	ids := c.tasksOf(slices.Sorted(maps.Keys(l.held)))
	why := scheduler.Why{Code: scheduler.CodeTries, Name: l.dag + "/" + l.task, Used: ln.capped.used, Slots: ln.capped.slots, Want: 1,
		On: ids[:min(len(ids), scheduler.MaxOn)]}
	why.Text = fmt.Sprintf("waits for the concurrency of task %s, of which %s may be active in all runs of %s: %s", l.task, counted(ln.capped.slots, "attempt"), l.dag,
		several(ids, "is", "are"))
	return why
}

// tasksOf returns the ids of the tasks of attempts, in their order.
func (c *core) tasksOf(attempts []string) []string {
	out := make([]string, len(attempts))
	for i, attempt := range attempts {
		at := c.attempts[attempt]
		out[i] = at.run.Tasks[at.task].ID()
	}
	return out
}
