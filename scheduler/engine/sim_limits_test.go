package engine

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"millrace/scheduler"
)

// checkPools counts the slots of pools anew, and requires that what waits could not be started.
func (s *sim) checkPools() {
	used := map[string]int{}
	for _, l := range s.e.core.runs {
		for i := range l.Tasks {
			if r := (ref{l, i}); l.Tasks[i].State.Active() && r.spec().Pool != "" {
				used[r.spec().Pool] += r.poolSlots()
			}
		}
	}
	for name, p := range s.e.core.pools {
		if p.used != used[name] || p.used > p.size {
			panic(violation(fmt.Sprintf("pool %s: %d slots are held, %d are counted, of %d", name, used[name], p.used, p.size)))
		}
	}
	q := s.e.core.queues["local"]
	if len(q.active) >= q.executor.Slots() {
		return
	}
	heads, small := map[*pool]ref{}, map[*pool]int{} // of each pool: a head whose limit has room, and for how many the pool has none
	for i, ln := range q.lines {
		if i > 0 && ln.pool != q.lines[i-1].pool && slices.ContainsFunc(q.lines[:i], func(o *line) bool { return o.pool == ln.pool }) {
			panic(violation("the lines of a pool do not stand together"))
		}
		if head := q.head(ln); head != nil && !ln.limit.room().stopped() {
			r := head.list[0].ref
			heads[ln.pool] = r
			if ln.pool.room(r.poolSlots()).stopped() {
				small[ln.pool]++
			}
		}
	}
	for p, r := range heads {
		if small[p] == 0 {
			panic(violation(fmt.Sprintf("task %d of run %s is ready, and there is room", r.task, r.run.Row.ID)))
		}
	}
}

// checkLimits counts the attempts of tasks with a concurrency anew. No edit of the simulation changes one.
func (s *sim) checkLimits() {
	active := map[string]int{}
	for _, l := range s.e.core.runs {
		for i := range l.Tasks {
			if t := (ref{l, i}).spec(); t.Concurrency > 0 && l.Tasks[i].State.Active() {
				name := l.Row.DAG + "/" + t.ID
				if active[name]++; active[name] > t.Concurrency {
					panic(violation(fmt.Sprintf("%d attempts of task %s are active, and %d may be", active[name], name, t.Concurrency)))
				}
				limited.Add(1)
			}
		}
	}
	q := s.e.core.queues["local"]
	for _, ln := range q.lines {
		if ln.limit.room().stopped() && q.head(ln) != nil && !q.full.stopped() {
			capped.Add(1)
		}
	}
	for dag, of := range s.e.core.limits {
		for task, l := range of {
			if name := dag + "/" + task; len(l.held) != active[name] || l.size != l.own {
				panic(violation(fmt.Sprintf("%d attempts of task %s are active, %d are counted, of %d (%d)", active[name], name, len(l.held), l.size, l.own)))
			}
		}
	}
}

// limited counts how often an attempt was seen that a limit counts, and capped how often something waited for one.
var limited, capped atomic.Int64

// checkGroups requires that no group has more runs under way than it may, that each live run is in its group, and that no place is free while
// a run waits.
func (s *sim) checkGroups() {
	under := map[*group]int{}
	for _, l := range s.e.core.runs {
		switch g := l.group; {
		case (g == nil) != (l.DAG.Concurrency == nil):
			panic(violation("run " + l.Row.ID + " is in no group, or in one without a limit"))
		case g == nil:
		case l.held && l.Row.State != scheduler.StateQueued:
			panic(violation("run " + l.Row.ID + " has started without a place"))
		case !l.held:
			under[g]++
		}
	}
	s.checkGate()
	for _, of := range s.e.core.groups {
		for _, g := range of {
			limit, waiting := s.e.core.places(g), 0
			for _, l := range g.waiting {
				if !l.Row.State.Terminal() {
					waiting++
				}
			}
			if under[g] != len(g.active) || under[g] > limit || waiting > 0 && under[g] < limit || under[g]+waiting == 0 {
				panic(violation(fmt.Sprintf("group %s: %d runs under way, %d places taken of %d, %d wait", g.name(), under[g], len(g.active), limit, waiting)))
			}
		}
	}
}

// checkGate requires that the places which dispatch is shown are those that there are.
func (s *sim) checkGate() {
	taken := map[string]int{}
	for _, l := range s.e.core.runs {
		if l.group != nil && l.Row.Class() == scheduler.ClassLive {
			taken[l.group.name()]++
		}
	}
	if !maps.Equal(taken, s.e.gate.taken) {
		panic(violation(fmt.Sprintf("live runs of groups are %v, and the gate says %v", taken, s.e.gate.taken)))
	}
}

// checkReasons requires that whatever waits can say why, and that the reason is a limit that was reached.
func (s *sim) checkReasons() {
	c := s.e.core
	for _, l := range c.runs {
		out := c.explain(l)
		if out.Why.Code == "" || out.Why.Text == "" || l.held != (out.Why.Code == scheduler.CodeConcurrency) {
			panic(violation(fmt.Sprintf("run %s is %s, and why is %+v", out.Run, out.State, out.Why)))
		}
		for i := range l.Tasks {
			t := taskWhy(&l.Tasks[i], c.whyTask(ref{l, i}))
			if fault := s.checkWhy(ref{l, i}, t.Why); fault != "" || t.Why.Text == "" {
				panic(violation(fmt.Sprintf("task %s is %s, and why is %+v: %s", t.ID, t.State, t.Why, fault)))
			}
		}
	}
}

// codes are the reasons that a task in a state can have.
var codes = map[scheduler.State][]scheduler.Code{
	scheduler.StateNone:          {scheduler.CodeParents, scheduler.CodeLimit},
	scheduler.StateScheduled:     {scheduler.CodeSlots, scheduler.CodePool, scheduler.CodeTries, scheduler.CodeConcurrency, scheduler.CodeImage},
	scheduler.StateUpForRetry:    {scheduler.CodeRetryAt},
	scheduler.StateLaunching:     {scheduler.CodeLaunching, scheduler.CodeEnding},
	scheduler.StateRunning:       {scheduler.CodeRunning, scheduler.CodeEnding},
	scheduler.StateUnreachable:   {scheduler.CodeUnreachable},
	scheduler.StateDeferred:      {scheduler.CodeSubDAG, scheduler.CodeMapped, scheduler.CodeEnding},
	scheduler.StateAwaitingInput: {scheduler.CodeInput},
}

func (s *sim) checkWhy(r ref, why scheduler.Why) string {
	t := &r.run.Tasks[r.task]
	known := codes[t.State]
	if t.State.Terminal() {
		known = []scheduler.Code{scheduler.CodeEnded}
	}
	fits := false
	for _, code := range known {
		fits = fits || code == why.Code
	}
	switch {
	case !fits:
		return "the code does not fit the state"
	case why.Code == scheduler.CodeImage:
		if p := r.run.Image(r.task); p == nil || !p.Open() || why.Name != p.Image {
			return "its image is pinned, or it has none"
		}
	case why.Code == scheduler.CodeParents && len(why.On) == 0:
		return "no parent is named"
	case why.Code == scheduler.CodeSlots || why.Code == scheduler.CodePool || why.Code == scheduler.CodeConcurrency || why.Code == scheduler.CodeLimit ||
		why.Code == scheduler.CodeTries:
		if why.Used+why.Want <= why.Slots || len(why.On) == 0 || why.Name == "" {
			return "there is room, or nobody holds it"
		}
	case why.Code == scheduler.CodeUnreachable || why.Code == scheduler.CodeRetryAt:
		if why.Until.IsZero() {
			return "no end is named"
		}
	}
	return ""
}
