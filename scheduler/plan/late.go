package plan

import (
	"fmt"
	"time"

	"millrace/scheduler"
)

// Late says that a task may have waited for too long: for a slot, for its start, or for what it is parked for.
type Late struct{ Task int }

// Wait returns how long task i may stay in its state before [Late] is to be said; 0 is for ever.
func (r *Run) Wait(i int) time.Duration {
	if r.Whole(i) {
		return 0
	}
	switch timeout := &r.Spec(i).Timeout; r.Tasks[i].State {
	case scheduler.StateScheduled:
		return timeout.Queue
	case scheduler.StateLaunching:
		return timeout.Start
	case scheduler.StateDeferred, scheduler.StateAwaitingInput:
		return r.patience(i)
	}
	return 0
}

// apply ends a task that had no slot in time, which counts as a try, or asks an attempt that has not started to end. What the latter then
// reports does not matter: see notStarted. Since when it waits is stored, so that a restart does not begin the wait anew.
func (e Late) apply(s *step) {
	t, limit := &s.Tasks[e.Task], s.Wait(e.Task)
	if t.State.Parked() {
		s.overdue(e.Task, limit)
		return
	}
	if limit == 0 || !t.Since.IsZero() && s.now.Sub(t.Since) < limit {
		return
	}
	if t.State == scheduler.StateLaunching {
		if t.Kill == "" {
			t.Kill = KillTimeout
			s.touch(e.Task)
			s.d.Kill = append(s.d.Kill, s.Attempt(e.Task))
		}
		return
	}
	s.next(e.Task)
	s.ended(e.Task, &scheduler.Report{
		Attempt: s.Attempt(e.Task), Outcome: scheduler.OutcomeTimeout, Exit: noExit, EndedAt: s.now,
		Reason: fmt.Sprintf("had no slot for %v (timeout.queue)", limit),
	})
}

// notStarted makes a timeout of whatever an attempt reports that was asked to end because it had not started in time.
func (s *step) notStarted(i int, rep *scheduler.Report) *scheduler.Report {
	out := *rep
	out.Outcome, out.Signal, out.Exit, out.Output, out.OutputError = scheduler.OutcomeTimeout, "", noExit, nil, ""
	out.Reason = fmt.Sprintf("did not start within %v (timeout.start)", s.Spec(i).Timeout.Start)
	return &out
}
