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
	// lines have what waits: one for each pool that tasks need, and one, without a pool, for those that need none; and beside these one for each
	// limit. Those of one pool stand together. Only heads of lines are ever looked at, so what waits for a pool or a limit costs nothing.
	lines []*line
	// clock counts places in the order of turns, pushed what was pushed.
	clock, pushed int64
	depth         int
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
	pool  *pool  // nil: none
	limit *limit // nil: none
	turns turns
	where map[turnKey]*turn
	// full is why the last fill passed the heads of the pool's lines over: the first of them did not fit into it. capped is why it passed over the
	// line: its limit was reached.
	full, capped stop
}

// turn is what one DAG has ready in one class and at one priority, oldest first. at is its place among the others.
type turn struct {
	turnKey
	at    int64
	list  []entry
	index int // in its heap
}

// entry is a task in a line, with its age.
type entry struct {
	ref
	seq int64
}

type turnKey struct {
	dag      string
	class    scheduler.Class
	priority int
}

func (r ref) turn() turnKey { return turnKey{r.run.Row.DAG, r.run.Row.Class(), r.priority()} }

// push adds a ready task. It may have stopped being ready when it comes to the head.
func (q *queue) push(r ref, p *pool, l *limit) {
	ln := q.line(p, l)
	if ln == nil {
		ln = &line{pool: p, limit: l, where: map[turnKey]*turn{}}
		at := len(q.lines)
		for i, o := range q.lines {
			if o.pool == p {
				at = i + 1
			}
		}
		q.lines = slices.Insert(q.lines, at, ln)
	}
	key := r.turn()
	t := ln.where[key]
	if t == nil {
		q.clock++
		t = &turn{turnKey: key, at: q.clock}
		ln.where[key] = t
		heap.Push(&ln.turns, t)
	}
	q.pushed++
	t.list = append(t.list, entry{r, q.pushed})
	q.depth++
}

// line returns the line of a pool and a limit, or nil.
func (q *queue) line(p *pool, l *limit) *line {
	i := slices.IndexFunc(q.lines, func(ln *line) bool { return ln.pool == p && ln.limit == l })
	if i < 0 {
		return nil
	}
	return q.lines[i]
}

// pop takes out the task that is to start next, if one can: of the heads of lines that have room the one of the highest priority whose turn came
// first. What it passes over has the reason in its line.
func (q *queue) pop() (ref, bool) {
	q.lines = slices.DeleteFunc(q.lines, func(ln *line) bool { return ln.limit != nil && len(ln.turns) == 0 })
	var best *line
	for rest := q.lines; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].pool == rest[0].pool {
			n++
		}
		if ln := q.first(rest[:n]); ln != nil && !ln.full.stopped() && (best == nil || ln.turns[0].before(best.turns[0])) {
			best = ln
		}
		rest = rest[n:]
	}
	if best == nil {
		return ref{}, false
	}
	return q.take(best, true), true
}

// first returns that of the lines of one pool whose head comes next, which may not fit into the pool; nil if there is none. Then none of them
// starts, so that what needs many slots is not passed by what needs few.
func (q *queue) first(lines []*line) *line {
	var best *line
	for _, ln := range lines {
		ln.full, ln.capped = stop{}, stop{}
		head := q.head(ln)
		if head == nil {
			continue
		}
		if ln.capped = ln.limit.room(); ln.capped.stopped() {
			continue
		}
		if best == nil || head.before(best.turns[0]) {
			best = ln
		}
	}
	if best != nil {
		full := best.pool.room(best.turns[0].list[0].poolSlots())
		for _, ln := range lines {
			ln.full = full
		}
	}
	return best
}

// of returns the lines of a pool.
func (q *queue) of(p *pool) []*line {
	var out []*line
	for _, ln := range q.lines {
		if ln.pool == p {
			out = append(out, ln)
		}
	}
	return out
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

// take removes the head of a line. If it is served, its DAG comes last now, also in the other lines of the pool: a DAG has one turn, however many
// limits its tasks have.
func (q *queue) take(ln *line, served bool) ref {
	t := ln.turns[0]
	r := t.list[0].ref
	t.list[0] = entry{} // so that the run can be collected
	t.list = t.list[1:]
	if served {
		q.clock++
		for _, o := range q.lines {
			if s := o.where[t.turnKey]; s != nil && o.pool == ln.pool {
				s.at = q.clock
				heap.Fix(&o.turns, s.index)
			}
		}
	}
	if len(t.list) == 0 {
		heap.Remove(&ln.turns, t.index)
		delete(ln.where, t.turnKey)
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
	if t.at != o.at {
		return t.at < o.at
	}
	return t.list[0].seq < o.list[0].seq // of one DAG, in two lines
}

// turns is a heap of turns, that which comes first on top.
type turns []*turn

func (h turns) Len() int           { return len(h) }
func (h turns) Less(i, j int) bool { return h[i].before(h[j]) }
func (h turns) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *turns) Push(x any) {
	t := x.(*turn)
	t.index = len(*h)
	*h = append(*h, t)
}

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
