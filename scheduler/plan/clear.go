package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"millrace/scheduler"
)

// What a person asked for stands in a task's Kill until the attempt that is in the way has ended, and in a live run's Reason: so it outlives
// crashes. Who asked comes after these words.
const (
	wordCleared = "cleared"
	wordMarked  = "marked "
)

// ordered writes down what a person asked for.
func ordered(what, by string) string {
	if by == "" {
		return what + " by request"
	}
	return what + " by " + by
}

// wish reads what ordered wrote in a task's Kill: the state that the task is to have when its attempt has ended.
func wish(kill string) (scheduler.State, bool) {
	if strings.HasPrefix(kill, wordCleared) {
		return scheduler.StateNone, true
	}
	rest, ok := strings.CutPrefix(kill, wordMarked)
	state, _, _ := strings.Cut(rest, " ")
	return scheduler.State(state), ok
}

// Select returns the tasks that a clear changes, in the order of the DAG: not those that are still to come anyway, and with the setups and
// teardowns of those that are to be executed again. The error, about a task that
// the run does not have, is scheduler.ErrNotFound.
func (r *Run) Select(c scheduler.Clear) ([]int, error) {
	meant := make([]bool, len(r.Tasks))
	for i := range meant {
		meant[i] = len(c.Tasks)+len(c.Groups) == 0 && i < len(r.DAG.nodes)
	}
	errs := r.inGroups(c.Groups, meant)
	for _, id := range c.Tasks {
		i, err := r.Find(id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		meant[i] = true
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if c.Failed {
		r.failedRows(meant)
		for i := range meant {
			meant[i] = meant[i] && endedBadly(r.Tasks[i].State)
		}
	}
	if c.Downstream {
		r.downstream(meant)
	}
	r.surround(meant)
	var out []int
	for i := range meant {
		if st := r.Tasks[i].State; meant[i] && st != scheduler.StateNone && st != scheduler.StateScheduled {
			out = append(out, i)
		}
	}
	return r.withoutRows(out), nil
}

// inGroups adds the tasks of groups to a set.
func (r *Run) inGroups(groups []string, set []bool) (errs []error) {
	for _, name := range groups {
		found := false
		for i := range set {
			if r.groupOf(i) == name {
				set[i], found = true, true
			}
		}
		if !found {
			errs = append(errs, fmt.Errorf("find group %q of run %s: %w: no task of it is in a group of this name", name, r.Row.ID, scheduler.ErrNotFound))
		}
	}
	return errs
}

// groupOf returns the group of the task of row i, "" if it is in none.
func (r *Run) groupOf(i int) string {
	t := r.DAG.Task(r.Tasks[i].Task)
	if t == nil {
		return ""
	}
	return t.Group
}

// endedBadly reports whether a task has ended badly.
func endedBadly(s scheduler.State) bool {
	return s == scheduler.StateFailed || s == scheduler.StateUpstreamFailed || s == scheduler.StateCancelled
}

// downstream adds to a set of tasks all that come after them.
func (r *Run) downstream(set []bool) {
	var todo []int
	for i := range set {
		if set[i] {
			todo = append(todo, i)
		}
	}
	for len(todo) > 0 {
		i := todo[0]
		todo = todo[1:]
		for _, child := range r.DAG.nodes[r.node(i)].children {
			if !set[child] {
				set[child] = true
				todo = append(todo, child)
			}
		}
	}
}

// Find returns the index of a task, or of a mapped one, "task/3"; scheduler.ErrNotFound.
func (r *Run) Find(task string) (int, error) {
	if i, mapped, err := r.findRow(task); mapped {
		return i, err
	}
	i := slices.IndexFunc(r.Tasks, func(t scheduler.TaskRun) bool { return t.Task == task })
	if i >= 0 {
		return i, nil
	}
	var names []string
	for _, t := range r.Tasks[:len(r.DAG.nodes)] {
		names = append(names, t.Task)
	}
	return 0, fmt.Errorf("find task %q of run %s: %w; it has %s", task, r.Row.ID, scheduler.ErrNotFound, strings.Join(names, ", "))
}

// Clear takes tasks, as Select returns them, back to none, and with them those that had become ready by what they had been. Attempts that may
// be running are to be killed first; their tasks follow when they have ended.
func (r *Run) Clear(tasks []int, by string, now time.Time) Delta {
	s := &step{Run: r, now: now}
	why := ordered(wordCleared, by)
	set := make([]bool, len(r.Tasks))
	for _, i := range tasks {
		set[i] = true
		s.uncache(i)
	}
	s.again(s.take(set, why, why), why)
	s.conclude(why)
	return s.d
}

// take takes a set of tasks back to none, and returns them; those that may be running are asked to end, with the words kill, and follow then.
func (s *step) take(set []bool, why, kill string) []int {
	var reset []int
	for i := range set {
		switch t := &s.Tasks[i]; {
		case !set[i]:
		case t.State.UnderWay():
			s.killFor(i, kill)
		case t.State != scheduler.StateNone:
			if own, mapped := s.WholeOf(i); mapped {
				s.reopen(own, why)
				reset = append(reset, own)
			}
			if t.State != scheduler.StateNone { // it may have been one that its siblings had kept from starting
				s.reset(i, why)
			}
			reset = append(reset, i)
		}
	}
	return reset
}

// Mark sets the end of a task, or, with NoTask, of the whole run. to is success, failed or skipped.
func (r *Run) Mark(task int, to scheduler.State, by string, now time.Time) Delta {
	s := &step{Run: r, now: now}
	why := ordered(wordMarked+string(to), by)
	switch {
	case task != NoTask:
		s.markTask(task, to, why, by)
	case s.Row.State == to: // it has ended so
	case to == scheduler.StateSuccess:
		for i := range s.Tasks {
			if st := s.Tasks[i].State; st != scheduler.StateSuccess && st != scheduler.StateSkipped && st != scheduler.StateRemoved && !s.spared(i) {
				s.mark(i, to, why)
			}
		}
		s.settleTeardowns()
		s.conclude(why)
	default:
		s.markFailed(why)
	}
	return s.d
}

// NoTask stands for the run as a whole.
const NoTask = -1

// markTask is what Airflow does: what failed behind a task that is marked well gets another chance.
func (s *step) markTask(task int, to scheduler.State, why, by string) {
	if st := s.Tasks[task].State; st == to || st == scheduler.StateRemoved {
		return
	}
	well := to != scheduler.StateFailed
	if _, mapped := s.WholeOf(task); mapped {
		task, well = s.markRow(task, to, why)
	} else {
		s.mark(task, to, why)
	}
	changed := []int{task}
	if well {
		after := make([]bool, len(s.Tasks))
		after[task] = true
		s.downstream(after)
		for i := range s.DAG.nodes {
			st := s.Tasks[i].State
			again := st == scheduler.StateFailed || st == scheduler.StateUpstreamFailed || st == scheduler.StateSkipped && s.takesDown(i, task)
			after[i] = i != task && after[i] && again
		}
		s.surround(after)
		after[task] = false
		changed = append(changed, s.take(after, why, ordered(wordCleared, by))...)
	}
	s.again(changed, why)
	s.conclude(why)
}

// markFailed ends the run as failed: what runs is killed and fails, what has not begun is skipped, what has ended stays. Teardowns still run.
func (s *step) markFailed(why string) {
	for i := range s.Tasks {
		switch st := s.Tasks[i].State; {
		case s.spared(i):
		case st.UnderWay(), st == scheduler.StateCancelled:
			s.mark(i, scheduler.StateFailed, why)
		case !st.Terminal():
			s.mark(i, scheduler.StateSkipped, why)
		}
	}
	s.settleTeardowns()
	s.Row.Reason, s.d.Run = why, true
	if s.Row.State.Terminal() {
		s.overrideRun(scheduler.StateFailed, why)
		return
	}
	s.finish()
}

// forced reports whether the run is to end as failed, whatever its tasks are.
func (s *step) forced() bool {
	return !s.Row.State.Terminal() && strings.HasPrefix(s.Row.Reason, wordMarked+string(scheduler.StateFailed))
}

// mark sets the end of one task, at once or when its attempt has ended.
func (s *step) mark(i int, to scheduler.State, why string) {
	t := &s.Tasks[i]
	if t.State.UnderWay() {
		s.killFor(i, why)
		return
	}
	s.withdraw(i, why)
	if !t.State.Terminal() {
		t.RetryAt, t.EndedAt = time.Time{}, s.now
		s.open--
	}
	s.override(i, to, why)
}

// killFor asks the present attempt of a task, or what it started, to end, and notes what for.
func (s *step) killFor(i int, why string) {
	switch {
	case s.Whole(i):
		s.haltWhole(i, why)
		return
	case s.Tasks[i].State == scheduler.StateDeferred:
		s.halt(i, why)
		return
	}
	if t := &s.Tasks[i]; t.Kill != why {
		t.Kill = why
		s.touch(i)
	}
	s.d.Kill = append(s.d.Kill, s.Attempt(i))
}

// reset takes a task back to where it has not been looked at. Its tries go on counting, its retries begin anew.
func (s *step) reset(i int, why string) {
	t := &s.Tasks[i]
	s.withdraw(i, why)
	s.askAgain(i)
	if t.State.Terminal() {
		s.open++
	}
	if s.Whole(i) {
		s.vacate(i, why)
		t.Map = nil
	}
	s.override(i, scheduler.StateNone, why)
	t.Cleared, t.Lost = t.Try, 0
	t.External, t.Kill, t.Exit = "", "", noExit
	t.Output, t.OutputRef, t.CachedFrom = nil, nil, ""
	t.RetryAt, t.StartedAt, t.EndedAt = time.Time{}, time.Time{}, time.Time{}
	if own, mapped := s.WholeOf(i); mapped && strings.HasPrefix(s.Tasks[own].Kill, wordCleared) {
		s.remove(i, why) // with its whole, whose next list may be another
	}
}

// again takes back what had become ready by what the changed tasks had been, and looks at all that has not started.
func (s *step) again(changed []int, why string) {
	for _, p := range changed {
		if p >= len(s.DAG.nodes) {
			continue // its whole is among them, too
		}
		for _, c := range s.DAG.nodes[p].children {
			switch s.Tasks[c].State {
			case scheduler.StateScheduled, scheduler.StateUpForRetry, scheduler.StateAwaitingInput:
				s.reset(c, why)
			}
		}
	}
	for i := range s.DAG.nodes {
		s.settle(i)
	}
}

// retry makes a task ready for its next try, unless one of its parents was cleared while it ran: then it waits for that one again.
func (s *step) retry(i int, why string) {
	if i >= len(s.DAG.nodes) { // its whole would have been cleared
		s.move(i, scheduler.StateScheduled, why)
		return
	}
	if state, _ := s.judge(i); state != scheduler.StateScheduled {
		s.reset(i, "what it comes after was cleared")
		s.settle(i)
		return
	}
	s.move(i, scheduler.StateScheduled, why)
}

// conclude brings the run in line with its changed tasks: it lives again, ends, or has ended otherwise.
func (s *step) conclude(why string) {
	if s.d.Empty() {
		return
	}
	if !s.Row.State.Terminal() {
		if s.Row.Reason != "" { // it was to be cancelled, or failed
			s.Row.Reason, s.d.Run = "", true
		}
		s.finish()
		return
	}
	old := s.Row.Reason
	s.Row.Reason = ""
	s.tendAll()
	if s.open > 0 {
		s.Row.StartedAt, s.Row.EndedAt = time.Time{}, time.Time{}
		s.overrideRun(scheduler.StateQueued, why)
		s.finish()
		return
	}
	s.d.Ready = nil // what had become ready has ended by its condition
	state, reason := s.outcome()
	if state != s.Row.State {
		s.overrideRun(state, why)
	}
	s.Row.Reason = reason
	s.d.Run = s.d.Run || reason != old
}

// override is the only place that changes a task's state by a person's word. It settles nothing.
func (s *step) override(i int, to scheduler.State, why string) {
	t := &s.Tasks[i]
	if err := scheduler.CheckTaskOverride(t.State, to); err != nil {
		panic(fmt.Sprintf("plan: %s: %v", t.ID(), err))
	}
	s.become(i, to, why)
}

// overrideRun is override for the run.
func (s *step) overrideRun(to scheduler.State, why string) {
	row := &s.Row
	if err := scheduler.CheckRunOverride(row.State, to); err != nil {
		panic(fmt.Sprintf("plan: run %s: %v", row.ID, err))
	}
	s.becomeRun(to, why)
}
