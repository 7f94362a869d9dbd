package engine

import (
	"container/heap"
	"slices"
	"time"

	"millrace/scheduler"
)

// queue is an executor with what runs on it and what waits for it.
type queue struct {
	name     string
	executor scheduler.Executor
	// active are the attempts that hold a slot.
	active map[string]bool
	// lines have what waits, one for each pool that tasks need, and one, without a pool, for those that need none. Only the heads of lines whose
	// pool has room are ever looked at, so what waits for a pool costs nothing.
	lines []*line
	// clock counts places in the order of turns.
	clock int64
	depth int
	// full is why the last fill went no further: the executor had no slot left.
	full stop
}

// stop is a limit that was reached: the value on which something was passed over, and by which that is explained. The zero stop is none.
type stop struct{ used, slots, want int }

// room returns why want more do not fit where used of slots are taken, or no stop.
func room(used, slots, want int) stop {
	if used+want > slots {
		return stop{used: used, slots: slots, want: want}
	}
	return stop{}
}

func (s stop) stopped() bool { return s.want > 0 }

func newQueue(name string, ex scheduler.Executor) *queue {
	return &queue{name: name, executor: ex, active: map[string]bool{}}
}

// line is what waits for an executor, and for the same pool. Its order is strict, so that a task that needs many slots is not passed by those
// that need few: by the class of their runs, so that backfills never delay live ones; then higher priority first; then DAGs take turns, so that one with thousands of ready tasks delays another by one task, not by
// thousands; then age.
type line struct {
	pool  *pool // nil: none
	turns turns
	where map[turnKey]*turn
	// full is why the last fill passed the head over.
	full stop
}

// turn is what one DAG has ready in one class and at one priority, oldest first. at is its place among the others.
type turn struct {
	turnKey
	at   int64
	list []ref
}

type turnKey struct {
	dag      string
	class    scheduler.Class
	priority int
}

func (r ref) turn() turnKey { return turnKey{r.run.Row.DAG, r.run.Row.Class(), r.priority()} }

// push adds a ready task. It may have stopped being ready when it comes to the head.
func (q *queue) push(r ref, p *pool) {
	ln := q.line(p)
	if ln == nil {
		ln = &line{pool: p, where: map[turnKey]*turn{}}
		q.lines = append(q.lines, ln)
	}
	key := r.turn()
	t := ln.where[key]
	if t == nil {
		q.clock++
		t = &turn{turnKey: key, at: q.clock}
		ln.where[key] = t
		heap.Push(&ln.turns, t)
	}
	t.list = append(t.list, r)
	q.depth++
}

// line returns the line of a pool, or nil.
func (q *queue) line(p *pool) *line {
	i := slices.IndexFunc(q.lines, func(ln *line) bool { return ln.pool == p })
	if i < 0 {
		return nil
	}
	return q.lines[i]
}

// pop takes out the task that is to start next, if one can: of the heads whose pools have room the one of the highest priority whose turn came
// first. What it passes over has the reason in its line.
func (q *queue) pop() (ref, bool) {
	var best *line
	for _, ln := range q.lines {
		head := q.head(ln)
		if head == nil {
			continue
		}
		if ln.full = ln.pool.room(head.list[0].poolSlots()); ln.full.stopped() {
			continue
		}
		if best == nil || head.before(best.turns[0]) {
			best = ln
		}
	}
	if best == nil {
		return ref{}, false
	}
	return q.take(best, true), true
}

// head returns the first turn of a line whose oldest task is ready still, and drops what is not on the way.
func (q *queue) head(ln *line) *turn {
	for len(ln.turns) > 0 {
		if ln.turns[0].list[0].ready() {
			return ln.turns[0]
		}
		q.take(ln, false)
	}
	return nil
}

// take removes the head of a line. If it is served, its DAG comes last now.
func (q *queue) take(ln *line, served bool) ref {
	t := ln.turns[0]
	r := t.list[0]
	t.list[0] = ref{} // so that the run can be collected
	t.list = t.list[1:]
	switch {
	case len(t.list) == 0:
		heap.Pop(&ln.turns)
		delete(ln.where, t.turnKey)
	case served:
		q.clock++
		t.at = q.clock
		heap.Fix(&ln.turns, 0)
	}
	q.depth--
	return r
}

// before reports whether t comes before o.
func (t *turn) before(o *turn) bool {
	if t.class != o.class {
		return t.class < o.class
	}
	if t.priority != o.priority {
		return t.priority > o.priority
	}
	return t.at < o.at
}

// turns is a heap of turns, that which comes first on top.
type turns []*turn

func (h turns) Len() int           { return len(h) }
func (h turns) Less(i, j int) bool { return h[i].before(h[j]) }
func (h turns) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *turns) Push(x any) { *h = append(*h, x.(*turn)) }

// Pop implements heap.Interface.
func (h *turns) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}

// timer is a time at which a task may have to move: a retry; with the attempt, the fence of an unreachable one; or, with the run's id, the end
// of a wait. Most waits end long before, so their timers must not keep the run in memory.
type timer struct {
	at    time.Time
	ref   ref
	fence string
	late  string
}

// timers is a heap by time.
type timers []timer

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timers) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *timers) Push(x any) { *h = append(*h, x.(timer)) }

// Pop implements heap.Interface.
func (h *timers) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = timer{}
	*h = old[:len(old)-1]
	return last
}
