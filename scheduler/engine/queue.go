package engine

import (
	"time"

	"millrace/scheduler"
)

// pool is an executor with what runs on it and what waits for it.
type pool struct {
	name     string
	executor scheduler.Executor
	// active are the attempts that hold a slot.
	active map[string]bool
	// waiting has the ready tasks by DAG, oldest first; turns are the DAGs that have some. DAGs take turns, so that one with thousands of
	// ready tasks delays another by one task, not by thousands. A DAG with nothing ready is in neither.
	waiting map[string][]ref
	turns   []string
	depth   int
}

func newPool(name string, ex scheduler.Executor) *pool {
	return &pool{name: name, executor: ex, active: map[string]bool{}, waiting: map[string][]ref{}}
}

// push adds a ready task. It may have stopped being ready when it is taken out.
func (p *pool) push(r ref) {
	dag := r.run.Row.DAG
	if len(p.waiting[dag]) == 0 {
		p.turns = append(p.turns, dag)
	}
	p.waiting[dag] = append(p.waiting[dag], r)
	p.depth++
}

func (p *pool) pop() (ref, bool) {
	if len(p.turns) == 0 {
		return ref{}, false
	}
	dag := p.turns[0]
	p.turns = p.turns[1:]
	list := p.waiting[dag]
	r := list[0]
	list[0] = ref{} // so that the run can be collected
	if list = list[1:]; len(list) > 0 {
		p.waiting[dag] = list
		p.turns = append(p.turns, dag)
	} else {
		delete(p.waiting, dag)
	}
	p.depth--
	return r, true
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
