package plan

import (
	"slices"

	"millrace/scheduler"
)

// Setups and teardowns are tasks of the graph like others, but for three things. A task that a setup covers does not start unless that has
// succeeded, whatever its join rule. A teardown starts when all that it covers has ended, whatever became of it, if its setup succeeded; and
// what ends a run leaves its teardowns alone, so that the run ends with them. All of this follows from the stored states of the tasks: a restart
// finds the same.

// markLeaves finds the tasks that decide how a run ends.
func (d *DAG) markLeaves() {
	for i := range d.nodes {
		n := &d.nodes[i]
		n.teardown = d.Tasks[i].Part == scheduler.PartTeardown
		n.leaf = d.Tasks[i].FailRun || !n.teardown && !slices.ContainsFunc(n.children, func(c int) bool {
			return d.Tasks[c].Part != scheduler.PartTeardown
		})
	}
}

// isTeardown reports whether task i is one.
func (r *Run) isTeardown(i int) bool { return i < len(r.DAG.nodes) && r.DAG.nodes[i].teardown }

// takesDown reports whether task i is the teardown of task setup.
func (r *Run) takesDown(i, setup int) bool {
	return r.isTeardown(i) && slices.Contains(r.DAG.nodes[i].setups, setup)
}

// judge returns what task i, which has not started, becomes by what it comes after, as [join] does for its parents alone. It waits for all of its
// setups before anything is decided.
func (s *step) judge(i int) (scheduler.State, string) {
	n := &s.DAG.nodes[i]
	bad, skip, waits := "", "", false
	for _, p := range n.setups {
		switch t := &s.Tasks[p]; {
		case !t.State.Terminal():
			waits = true
		case t.State == scheduler.StateSkipped:
			skip = t.Task
		case t.State != scheduler.StateSuccess:
			bad = t.Task
		}
	}
	state, reason := join(s.DAG.Tasks[i].Rule, s.ends(i))
	switch {
	case waits:
		return scheduler.StateNone, ""
	case n.teardown && state == scheduler.StateScheduled && bad+skip != "":
		return scheduler.StateSkipped, "there is nothing to take down: task " + bad + skip + " did not succeed"
	case n.teardown:
		return state, reason
	case bad != "":
		return scheduler.StateUpstreamFailed, "its setup, task " + bad + ", did not succeed"
	case skip != "":
		return scheduler.StateSkipped, "its setup, task " + skip + ", was skipped"
	}
	return state, reason
}

// upstream returns the tasks whose outputs task i is given. A teardown has as many parents as the DAG has tasks, and gets what it has to take down.
func (r *Run) upstream(i int) []int {
	n := &r.DAG.nodes[i]
	if n.teardown {
		return n.setups
	}
	return slices.Concat(n.setups, n.parents)
}

// spared reports whether task i is left alone by what ends the run: it is a teardown that has not ended, and something may have been set up. A run
// that waits to begin, or to begin again, has nothing to take down.
func (s *step) spared(i int) bool {
	return s.isTeardown(i) && !s.Tasks[i].State.Terminal() && s.Row.State != scheduler.StateQueued
}

// Teardowns returns those that keep a run alive which was asked to end, by index.
func (r *Run) Teardowns() []int {
	var out []int
	for i := range r.DAG.nodes {
		if r.DAG.nodes[i].teardown && !r.Tasks[i].State.Terminal() {
			out = append(out, i)
		}
	}
	return out
}

// settleTeardowns looks at the teardowns that were spared.
func (s *step) settleTeardowns() {
	for i := range s.DAG.nodes {
		if s.spared(i) {
			s.settle(i)
		}
	}
}

// surround adds to a set of tasks that are to be executed again the setups that they need, and the teardowns that then come after them. A setup
// that is still to end is waited for anyway, and one whose teardown has not begun is in force still.
func (r *Run) surround(set []bool) {
	var todo []int
	for i := range set {
		if set[i] {
			todo = append(todo, i)
		}
	}
	add := func(i int) {
		if !set[i] {
			set[i] = true
			todo = append(todo, i)
		}
	}
	for ; len(todo) > 0; todo = todo[1:] {
		n := &r.DAG.nodes[r.node(todo[0])]
		for _, c := range n.children {
			if r.isTeardown(c) {
				add(c)
			}
		}
		for _, p := range n.setups {
			if !n.teardown && r.Tasks[p].State.Terminal() && !r.inForce(p) {
				add(p)
			}
		}
	}
}

// inForce reports whether a setup has succeeded, and nothing has begun to take it down.
func (r *Run) inForce(i int) bool {
	if r.Tasks[i].State != scheduler.StateSuccess {
		return false
	}
	down := false
	for _, c := range r.DAG.nodes[i].children {
		if t := &r.Tasks[c]; r.takesDown(c, i) {
			if t.State.Terminal() || t.State.UnderWay() || t.Try > t.Cleared {
				return false
			}
			down = true
		}
	}
	return down
}

func (e Cancel) apply(s *step) {
	if s.Row.Reason == "" || s.forced() {
		s.Row.Reason = e.Reason
		s.d.Run = true
	}
	s.cancelling = true
	for i := range s.Tasks {
		t := &s.Tasks[i]
		switch {
		case !e.Force && s.spared(i):
		case t.State.Active():
			if t.Kill != KillCancelled { // it may be KillTimeout, or a clear, after which it would be tried again
				t.Kill = KillCancelled
				s.touch(i)
			}
			s.d.Kill = append(s.d.Kill, s.Attempt(i))
		case t.State == scheduler.StateDeferred:
			s.killFor(i, KillCancelled)
		case !t.State.Terminal():
			s.withdraw(i, e.Reason)
			s.move(i, scheduler.StateCancelled, e.Reason)
		}
	}
	s.cancelling = false
	s.settleTeardowns()
}

// Fail ends a run as failed of which nothing has started. A run that has begun is left alone.
type Fail struct{ Reason string }

func (e Fail) apply(s *step) {
	if s.Row.State != scheduler.StateQueued {
		return
	}
	s.Row.Reason, s.d.Run = e.Reason, true
	s.cancelling, s.failing = true, true
	for i := range s.Tasks {
		if !s.Tasks[i].State.Terminal() {
			s.withdraw(i, e.Reason)
			s.move(i, scheduler.StateCancelled, e.Reason)
		}
	}
}
