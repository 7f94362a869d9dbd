package engine

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"millrace/scheduler"
)

// simExec is an executor that survives crashes of the engine.
type simExec struct {
	s        *sim
	attempts map[string]*simAttempt
	ids      []string // in the order of their start
	queue    []scheduler.Report
}

type simAttempt struct {
	launch scheduler.Launch
	over   bool
	never  bool
	output scheduler.Report // its end
}

func (x *simExec) Slots() int { return 3 }

func (x *simExec) Launch(_ context.Context, list []scheduler.Launch) error {
	for _, l := range list {
		x.s.crashPoint(1)
		if x.s.chance(4) {
			return scheduler.ErrUnavailable
		}
		x.begin(l)
	}
	x.s.crashPoint(1)
	if x.s.chance(4) {
		return scheduler.ErrUnavailable
	}
	return nil
}

// begin starts an attempt, and checks what must be true then.
func (x *simExec) begin(l scheduler.Launch) {
	if a := x.attempts[l.ID]; a != nil {
		if !a.never {
			panic(violation("launched twice: " + l.ID))
		}
		x.queue = append(x.queue, scheduler.Report{Attempt: l.ID, Outcome: scheduler.OutcomeLost, Exit: -1})
		return
	}
	d, err := x.s.store.Run(context.Background(), l.Run)
	if err != nil {
		panic(violation("launched before it was committed: " + l.ID))
	}
	states := map[string]*scheduler.TaskRun{}
	for i := range d.Tasks {
		states[rowName(d.Tasks[i].Task, d.Tasks[i].MapIndex)] = &d.Tasks[i]
	}
	checkGoing(d, l.Task, x.s.e.core.versions[d.Run.Version].dag.Task(l.Task).Foreach)
	if t := states[rowName(l.Task, l.MapIndex)]; t.AttemptID(t.Try) != l.ID || t.State != scheduler.StateLaunching {
		panic(violation(fmt.Sprintf("launched %s while the store has %s as %s", l.ID, t.AttemptID(t.Try), t.State)))
	}
	task := x.s.e.core.versions[d.Run.Version].dag.Task(l.Task)
	waits := scheduler.JoinWaits(task.Rule, len(task.Needs))
	mapped := l.MapIndex != scheduler.NoMap
	then := atExpansion(d, l.Task)
	for _, need := range task.Needs {
		st := states[need].State
		if mapped {
			st = then[need]
		}
		if early := task.Rule == "" && st != scheduler.StateSuccess || waits && !st.Terminal(); early && (mapped || !mendedSince(d, &l, need)) {
			panic(violation(fmt.Sprintf("launched %s while %s is %s", l.ID, need, st)))
		}
	}
	for _, setup := range task.Setups {
		if st := states[setup].State; st != scheduler.StateSuccess && !mendedSince(d, &l, setup) {
			panic(violation(fmt.Sprintf("launched %s while its setup %s is %s", l.ID, setup, st)))
		}
	}
	x.attempts[l.ID] = &simAttempt{launch: l}
	x.ids = append(x.ids, l.ID)
	x.overlap(&l)
	x.s.checkImage(d, &l, task)
	if x.s.rng.IntN(3) > 0 {
		x.queue = append(x.queue, scheduler.Report{Attempt: l.ID, Outcome: scheduler.OutcomeRunning, StartedAt: time.Now()})
	}
}

// mendedSince reports whether a person has changed what became of a parent after the task was last launched.
func mendedSince(d *scheduler.RunDetail, l *scheduler.Launch, parent string) bool {
	changed := false
	for _, m := range d.Moves {
		switch {
		case m.Task == l.Task && m.MapIndex == l.MapIndex && m.To == scheduler.StateLaunching:
			changed = false
		case m.Task == parent && (strings.HasPrefix(m.Reason, "cleared") || strings.HasPrefix(m.Reason, "marked")):
			changed = true
		}
	}
	return changed
}

// overlap checks that no earlier attempt of the task runs, except one that the engine gave up as unreachable.
func (x *simExec) overlap(l *scheduler.Launch) {
	prefix := strings.TrimSuffix(l.ID, fmt.Sprint(l.Try))
	for try := 1; try < l.Try; try++ {
		if a := x.attempts[prefix+fmt.Sprint(try)]; a != nil && !a.over && !a.never && !x.fenced(prefix+fmt.Sprint(try), l.Run) {
			panic(violation(l.ID + " runs beside an earlier attempt"))
		}
	}
}

func (x *simExec) fenced(id, run string) bool {
	d, err := x.s.store.Run(context.Background(), run)
	return err == nil && slices.ContainsFunc(d.Attempts, func(a scheduler.Attempt) bool {
		return a.ID == id && strings.Contains(a.Reason, "unreachable for too long")
	})
}

func (x *simExec) Kill(_ context.Context, id string, _ time.Duration) error {
	x.s.crashPoint(2)
	if x.s.chance(5) {
		return scheduler.ErrUnavailable
	}
	if a := x.attempts[id]; a != nil && !a.over && !a.never {
		x.end(id, scheduler.Report{Outcome: scheduler.OutcomeExited, Exit: -1, Signal: "SIGTERM"})
	}
	x.s.crashPoint(2)
	return nil
}

func (x *simExec) Reconcile(_ context.Context, ids []string) error {
	x.s.crashPoint(2)
	for _, id := range ids {
		if x.s.chance(3) {
			return scheduler.ErrUnavailable
		}
		switch a := x.attempts[id]; {
		case a == nil || a.never:
			x.attempts[id] = &simAttempt{never: true}
			x.queue = append(x.queue, scheduler.Report{Attempt: id, Outcome: scheduler.OutcomeLost, Exit: -1})
		case !a.over:
			x.queue = append(x.queue, scheduler.Report{Attempt: id, Outcome: scheduler.OutcomeRunning, StartedAt: time.Now()})
		}
	}
	return nil
}

func (x *simExec) Run(context.Context, func(context.Context, []scheduler.Report) error) error {
	return nil
}

func (x *simExec) Log(context.Context, string, int64) (io.ReadCloser, error) {
	return nil, scheduler.ErrNotFound
}

func (x *simExec) end(id string, rep scheduler.Report) {
	x.attempts[id].over, x.attempts[id].output = true, rep
	rep.Attempt, rep.EndedAt = id, time.Now()
	x.queue = append(x.queue, rep)
}

// put has a task put out something, or something large, if its DAG is one that cares.
func (x *simExec) put(id string, rep *scheduler.Report) {
	switch kind := x.s.rng.IntN(3); {
	case kind == 0:
		rep.Output = []byte(fmt.Sprintf(`{"by": %q}`, id))
	case kind == 1:
		rep.OutputRef = &scheduler.OutputRef{Ref: id, SHA256: "00", Bytes: scheduler.MaxOutput + 1}
	}
}

// fromCache counts the tasks that took the output of another, in all schedules.
var fromCache atomic.Int64

// checkCached checks what a task took from another: that one was executed, succeeded, and put out the same.
func (s *sim) checkCached(t *scheduler.TaskRun) {
	if t.CachedFrom == "" || t.State != scheduler.StateSuccess { // it was marked since
		return
	}
	from, try, _ := strings.Cut(t.CachedFrom, ".")
	run, task, _ := strings.Cut(from, "/")
	attempt := s.ex.attempts[run+"."+task+".-1."+try]
	if attempt == nil || !attempt.over || t.NoCache {
		panic(violation(fmt.Sprintf("%s, which is %s, took the output of %s, which was not executed to its end", t.ID(), t.State, t.CachedFrom)))
	}
	want := attempt.output
	if string(t.Output) != string(want.Output) || (t.OutputRef == nil) != (want.OutputRef == nil) {
		panic(violation(fmt.Sprintf("%s took %s, %v from %s, which put out %s, %v", t.ID(), t.Output, t.OutputRef, t.CachedFrom, want.Output, want.OutputRef)))
	}
	fromCache.Add(1)
}

// running returns the attempts that run, in the order of their start.
func (x *simExec) running() []string {
	return slices.DeleteFunc(slices.Clone(x.ids), func(id string) bool { return x.attempts[id].over })
}

// progress lets something happen to one running attempt.
func (x *simExec) progress() {
	ids := x.running()
	if len(ids) == 0 {
		return
	}
	id := ids[x.s.rng.IntN(len(ids))]
	rep := scheduler.Report{Outcome: scheduler.OutcomeExited}
	switch roll := x.s.rng.IntN(100); {
	case x.s.calm || roll < 60:
		x.put(id, &rep)
		if x.attempts[id].launch.Task == "list" {
			rep.Output = []byte([]string{"[]", "[1]", "[1, 2]", `["a", "b", "c", "d", "e"]`, `{"x": 1, "y": 2}`, "7"}[x.s.rng.IntN(6)])
		}
	case roll < 70:
		rep.Exit = 1
	case roll < 75:
		rep.Exit = 99
	case roll < 80:
		rep.Outcome = scheduler.OutcomeLost
	case roll < 84:
		rep.Outcome = scheduler.OutcomeTimeout
	case roll < 87:
		rep.Outcome = scheduler.OutcomeRefused
	default:
		outcome := []scheduler.Outcome{scheduler.OutcomeUnreachable, scheduler.OutcomeRunning}[roll%2]
		x.queue = append(x.queue, scheduler.Report{Attempt: id, Outcome: outcome})
		return
	}
	x.end(id, rep)
}
