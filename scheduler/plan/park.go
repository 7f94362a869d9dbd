package plan

import (
	"fmt"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// Parks returns the state in which task i waits without a slot as soon as it is ready, or "" if an executor runs it.
func (d *DAG) Parks(i int) scheduler.State { return d.Tasks[i].Parks() }

// Park lets a ready task that needs no slot wait, as its next try. In the same transaction whatever it waits for is begun.
type Park struct {
	Task int
	// On names what is waited for, as [scheduler.TaskRun.External] has it. Reason is a sentence for people.
	On, Reason string
}

// Unpark says how the wait of a task has ended.
type Unpark struct {
	Task int
	// Attempt is the try that waited: for another one nothing changes.
	Attempt string
	// State is success, failed, skipped or cancelled. A task that failed is tried again as its Retry says, unless that is Final.
	State  scheduler.State
	Final  bool
	Reason string
	// Output is kept whatever State is, if it can be.
	Output []byte
}

func (e Park) apply(s *step) {
	t, state := &s.Tasks[e.Task], s.Parks(e.Task)
	if t.State != scheduler.StateScheduled || state == "" {
		return
	}
	if s.Row.State == scheduler.StateQueued {
		s.begin()
	}
	s.next(e.Task)
	t.External, t.StartedAt = e.On, s.now
	s.move(e.Task, state, e.Reason)
	s.d.Attempts = append(s.d.Attempts, s.attempt(e.Task, state, nil))
}

func (e Unpark) apply(s *step) {
	if !s.Tasks[e.Task].State.Parked() || s.Whole(e.Task) || s.Attempt(e.Task) != e.Attempt {
		return
	}
	s.unpark(&e)
}

// unpark ends the present try of a parked task.
func (s *step) unpark(e *Unpark) {
	t := &s.Tasks[e.Task]
	t.Exit, t.EndedAt = noExit, s.now
	rep := scheduler.Report{Attempt: e.Attempt, EndedAt: s.now, Exit: noExit, Output: e.Output}
	s.close(e.Task, &rep, s.unparked(e, &rep))
}

// unparked is the verdict on the end of a wait. What a person asked for meanwhile counts more than how it ended, and so does a timeout.
func (s *step) unparked(e *Unpark, rep *scheduler.Report) verdict {
	t, task := &s.Tasks[e.Task], s.Spec(e.Task)
	if v, ok := s.asked(e.Task, e.Reason); ok {
		return v
	}
	if t.Kill == KillTimeout {
		return s.failed(t, task, fmt.Sprintf("was not over within %v (timeout)", s.patience(e.Task)))
	}
	bad := badOutput(rep)
	var v verdict
	switch {
	case e.State == scheduler.StateSuccess && bad != "" && e.Final:
		return final(scheduler.StateFailed, bad)
	case e.State == scheduler.StateSuccess && bad != "":
		return s.failed(t, task, bad)
	case e.State == scheduler.StateFailed && !e.Final:
		v = s.failed(t, task, e.Reason)
	default:
		v = final(e.State, e.Reason)
	}
	v.output = bad == "" && v.state.Terminal()
	return v
}

// parkedEval evaluates the settings of a task that no executor runs: what stands in the environment of the DAG is nothing to it.
func (r *Run) parkedEval(i int) (evaluator, error) {
	settings := r.DAG.nodes[r.node(i)].settings
	var refs []expr.Ref
	for _, text := range settings {
		refs = append(refs, text.Refs()...)
	}
	vars, err := r.vars(refs)
	if err != nil {
		return evaluator{}, err
	}
	return evaluator{settings, vars}, r.setItem(vars, i)
}

// patience is how long task i may be parked; 0 is for ever.
func (r *Run) patience(i int) time.Duration {
	switch task := r.Spec(i); task.Kind {
	case scheduler.KindApproval:
		return task.Approval.Expires
	case scheduler.KindDAG:
		return task.Timeout.Run
	}
	return 0
}

// ParkedUntil returns when the wait of a parked task is over, or zero if it has no end. It is a function of what is stored, so a wait goes on
// counting while nothing runs.
func (r *Run) ParkedUntil(i int) time.Time {
	if limit := r.Wait(i); limit > 0 && r.Tasks[i].State.Parked() {
		return r.Tasks[i].StartedAt.Add(limit)
	}
	return time.Time{}
}

// overdue ends the wait of a parked task whose time is over.
func (s *step) overdue(i int, limit time.Duration) {
	t := &s.Tasks[i]
	if limit == 0 || s.now.Before(t.StartedAt.Add(limit)) {
		return
	}
	if t.State == scheduler.StateDeferred {
		if t.Kill == "" {
			s.halt(i, KillTimeout)
		}
		return
	}
	s.expired(i)
}

// halt asks what a deferred task has started to end. The task follows when it has.
func (s *step) halt(i int, why string) {
	if t := &s.Tasks[i]; t.Kill != why {
		t.Kill = why
		s.touch(i)
	}
	s.d.Halt = append(s.d.Halt, i)
}

// withdraw ends the attempt of a task that waits for a person, before the task is given another state: nobody has to be asked.
func (s *step) withdraw(i int, why string) {
	t := &s.Tasks[i]
	if t.State != scheduler.StateAwaitingInput {
		return
	}
	t.EndedAt = s.now
	a := s.attempt(i, scheduler.StateCancelled, &scheduler.Report{EndedAt: s.now, Exit: noExit})
	a.Reason = why
	s.d.Attempts = append(s.d.Attempts, a)
}
