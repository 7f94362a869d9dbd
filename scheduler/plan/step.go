package plan

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// noExit is the exit code of a task that has none.
const noExit = -1

// Why an attempt was asked to end.
const (
	KillCancelled = "cancelled" // its run was cancelled
	KillTimeout   = "timeout"   // it did not start in time
)

// Event is something that happened to a run: [Launch], [Park], [Unpark], [Expand], [Refuse], [Report], [Due], [Late], [Fence], [Pin],
// [NoImage], [Cancel] or [Fail].
type Event interface{ apply(s *step) }

// Launch gives a ready task a slot, and an attempt.
type Launch struct{ Task int }

// Refuse ends a ready task that can not be started at all.
type Refuse struct {
	Task   int
	Reason string
}

// Report is an executor's news of an attempt of a task.
type Report struct {
	Task int
	scheduler.Report
}

// Due says that the time may have come for the retry of a task.
type Due struct{ Task int }

// Fence says that an attempt has been unreachable for too long: its results count no more.
type Fence struct {
	Task    int
	Attempt string
}

// Cancel ends the run. Its teardowns still run, and the run ends with them; Force ends them, too.
type Cancel struct {
	Reason string
	Force  bool
}

// Delta is what a step changed, and what is to be done once that is committed.
type Delta struct {
	// Run reports that the run's row changed; Tasks are the indexes of the rows that did, each once.
	Run      bool
	Tasks    []int
	Attempts []scheduler.Attempt
	Moves    []scheduler.Move
	// Ready are tasks that wait for a slot from now on, or are to be parked.
	Ready []int
	// Kill are attempts that must be asked to end, Halt deferred tasks whose doing must be: what they started.
	Kill []string
	Halt []int
	// Cached are outputs that other runs may take.
	Cached []scheduler.Cached
}

// Empty reports whether nothing changed and nothing is to be done.
func (d *Delta) Empty() bool {
	return !d.Run && len(d.Tasks)+len(d.Attempts)+len(d.Moves)+len(d.Kill)+len(d.Halt) == 0
}

// Step takes one event. An event that no longer fits (an old attempt's report, a second cancel) changes nothing.
func (r *Run) Step(ev Event, now time.Time, rng *rand.Rand) Delta {
	s := &step{Run: r, now: now, rng: rng}
	if !r.Row.State.Terminal() {
		ev.apply(s)
		s.finish()
	}
	return s.d
}

// step is one step in progress.
type step struct {
	*Run
	now time.Time
	rng *rand.Rand
	d   Delta
	// cancelling keeps children from being settled by what happens to their parents: they are cancelled themselves.
	cancelling bool
	// failing ends the run as failed, whatever its tasks are.
	failing bool
	touched map[int]bool // what is in d.Tasks
	tending []int        // wholes whose rows changed
}

func (s *step) touch(i int) {
	if s.touched == nil {
		s.touched = map[int]bool{}
	}
	if !s.touched[i] {
		s.touched[i] = true
		s.d.Tasks = append(s.d.Tasks, i)
	}
}

// become gives task i a state that it may have by the caller's table, and notes the move.
func (s *step) become(i int, to scheduler.State, reason string) {
	t := &s.Tasks[i]
	s.d.Moves = append(s.d.Moves, scheduler.Move{
		Run: t.Run, Task: t.Task, MapIndex: t.MapIndex, Try: t.Try, From: t.State, To: to, Reason: reason, At: s.now,
	})
	s.count(i, t.State, to)
	t.State, t.Reason, t.Since = to, reason, s.now
	s.touch(i)
}

// becomeRun is become for the run, whose reason is not that of the move.
func (s *step) becomeRun(to scheduler.State, reason string) {
	row := &s.Row
	s.d.Moves = append(s.d.Moves, scheduler.Move{Run: row.ID, MapIndex: scheduler.NoMap, From: row.State, To: to, Reason: reason, At: s.now})
	row.State = to
	if to == scheduler.StateSuccess {
		meet(row, s.now)
	}
	s.d.Run = true
}

// move is the only place that changes a task's state by what happened; override does it by a person's word.
func (s *step) move(i int, to scheduler.State, reason string) {
	t := &s.Tasks[i]
	if err := scheduler.CheckTaskMove(t.State, to); err != nil {
		panic(fmt.Sprintf("plan: task %s: %v", t.ID(), err))
	}
	s.become(i, to, reason)
	switch {
	case to == scheduler.StateScheduled:
		s.d.Ready = append(s.d.Ready, i)
	case to.Terminal():
		s.open--
		if t.EndedAt.IsZero() {
			t.EndedAt = s.now
		}
		if i < len(s.DAG.nodes) {
			for _, c := range s.DAG.nodes[i].children {
				s.settle(c)
			}
		}
	}
}

// moveRun is move for the run.
func (s *step) moveRun(to scheduler.State, reason string) {
	row := &s.Row
	if err := scheduler.CheckRunMove(row.State, to); err != nil {
		panic(fmt.Sprintf("plan: run %s: %v", row.ID, err))
	}
	s.becomeRun(to, reason)
}

// settle decides what becomes of task i, as far as that can be told from the ends of its parents.
func (s *step) settle(i int) {
	if i >= len(s.DAG.nodes) || s.Tasks[i].State != scheduler.StateNone || s.cancelling {
		return
	}
	switch state, reason := s.judge(i); state {
	case scheduler.StateNone:
	case scheduler.StateScheduled:
		s.admit(i)
	default:
		s.move(i, state, reason)
	}
}

// admit asks the task's own condition. That of a mapped task may be about its items, and is then asked for each of them.
func (s *step) admit(i int) {
	when := s.DAG.nodes[i].when
	if when == nil || when.UsesItem() {
		s.move(i, scheduler.StateScheduled, "")
		return
	}
	s.ask(i, when)
}

func (s *step) ask(i int, when *expr.Program) {
	vars, err := s.vars(when.Refs())
	if err == nil {
		err = s.setItem(vars, i)
	}
	ok := false
	if err == nil {
		ok, err = when.Bool(vars)
	}
	switch {
	case err != nil:
		s.move(i, scheduler.StateScheduled, "")
		s.move(i, scheduler.StateFailed, "when: "+err.Error())
	case ok:
		s.move(i, scheduler.StateScheduled, "")
	default:
		s.move(i, scheduler.StateSkipped, "when is false")
	}
}

// finish ends the run if all its tasks have ended.
func (s *step) finish() {
	s.tendAll()
	s.d.Ready = slices.DeleteFunc(s.d.Ready, func(i int) bool { return s.Tasks[i].State != scheduler.StateScheduled })
	if s.open > 0 {
		return
	}
	state, reason := s.outcome()
	if s.Row.State == scheduler.StateQueued && state == scheduler.StateSuccess {
		s.begin() // every task was skipped
	}
	s.Row.EndedAt, s.Row.Reason = s.now, reason
	s.moveRun(state, reason)
}

// outcome is how a run ends whose tasks have all ended: as it was asked to, or as its leaves did, those that no task needs. What failed before
// them, they have taken account of by their rules.
func (s *step) outcome() (scheduler.State, string) {
	switch {
	case s.failing || s.forced():
		return scheduler.StateFailed, s.Row.Reason
	case !s.Row.State.Terminal() && s.Row.Reason != "":
		return scheduler.StateCancelled, s.Row.Reason
	}
	for i := range s.DAG.nodes { // a whole has taken account of its rows
		if t := &s.Tasks[i]; t.State == scheduler.StateCancelled && !s.isTeardown(i) {
			return scheduler.StateCancelled, cmp.Or(s.Row.Reason, "task "+t.Task+": "+t.Reason)
		}
	}
	for i := range s.DAG.nodes {
		if !s.DAG.nodes[i].leaf {
			continue
		}
		switch t := &s.Tasks[i]; t.State {
		case scheduler.StateFailed, scheduler.StateUpstreamFailed:
			cause := &s.Tasks[s.cause(i)]
			return scheduler.StateFailed, "task " + cause.Task + ": " + cause.Reason
		}
	}
	return scheduler.StateSuccess, ""
}

// cause returns the failed task for which task i, which is failed or upstream_failed, did not run.
func (s *step) cause(i int) int {
	for s.Tasks[i].State == scheduler.StateUpstreamFailed {
		next := i
		for _, p := range slices.Concat(s.DAG.nodes[i].setups, s.DAG.nodes[i].parents) {
			if st := s.Tasks[p].State; st == scheduler.StateFailed || st == scheduler.StateUpstreamFailed && next == i {
				next = p
			}
		}
		if next == i {
			break // can not be: a task is upstream_failed because of such a parent
		}
		i = next
	}
	return i
}

func (s *step) begin() {
	s.Row.StartedAt = s.now
	s.moveRun(scheduler.StateRunning, "")
}

func (e Launch) apply(s *step) {
	if s.Tasks[e.Task].State != scheduler.StateScheduled || s.Whole(e.Task) {
		return
	}
	if s.Row.State == scheduler.StateQueued {
		s.begin()
	}
	s.next(e.Task)
	s.move(e.Task, scheduler.StateLaunching, "")
	s.d.Attempts = append(s.d.Attempts, s.attempt(e.Task, scheduler.StateLaunching, nil))
}

// next makes the next attempt of task i its present one.
func (s *step) next(i int) {
	t := &s.Tasks[i]
	t.Try++
	t.External, t.Kill, t.Exit = "", "", noExit
	t.Output, t.OutputRef, t.CachedFrom = nil, nil, ""
	t.RetryAt, t.StartedAt, t.EndedAt = time.Time{}, time.Time{}, time.Time{}
	s.begun[i] = s.now
}

func (e Refuse) apply(s *step) {
	if s.Tasks[e.Task].State == scheduler.StateScheduled {
		s.move(e.Task, scheduler.StateFailed, e.Reason)
	}
}

func (e Due) apply(s *step) {
	t := &s.Tasks[e.Task]
	if t.State == scheduler.StateUpForRetry && !t.RetryAt.After(s.now) {
		s.retry(e.Task, "")
	}
}

func (e Fence) apply(s *step) {
	if t := &s.Tasks[e.Task]; t.State != scheduler.StateUnreachable || s.Attempt(e.Task) != e.Attempt {
		return
	}
	rep := scheduler.Report{
		Attempt: e.Attempt, Outcome: scheduler.OutcomeLost, Exit: noExit, EndedAt: s.now,
		Reason: "unreachable for too long; its results count no more, though it may still run",
	}
	s.d.Kill = append(s.d.Kill, e.Attempt)
	s.ended(e.Task, &rep)
}

func (e Report) apply(s *step) {
	t := &s.Tasks[e.Task]
	if !t.State.Active() || s.Attempt(e.Task) != e.Attempt {
		return
	}
	if t.StartedAt.IsZero() {
		t.StartedAt = e.StartedAt
	}
	if e.External != "" {
		t.External = e.External
	}
	switch e.Outcome {
	case scheduler.OutcomeRunning:
		if t.State != scheduler.StateRunning {
			s.move(e.Task, scheduler.StateRunning, "")
			if t.StartedAt.IsZero() {
				t.StartedAt = s.now
			}
		}
		if t.Kill != "" {
			s.d.Kill = append(s.d.Kill, e.Attempt) // the first one may have come before the attempt was known
		}
	case scheduler.OutcomeUnreachable:
		if t.State != scheduler.StateUnreachable {
			s.move(e.Task, scheduler.StateUnreachable, e.Reason)
		}
	default:
		s.ended(e.Task, &e.Report)
	}
}

// ended deals with the end of the present attempt of task i.
func (s *step) ended(i int, rep *scheduler.Report) {
	t := &s.Tasks[i]
	if t.EndedAt = rep.EndedAt; t.EndedAt.IsZero() {
		t.EndedAt = s.now
	}
	if t.Kill == KillTimeout {
		rep = s.notStarted(i, rep)
	}
	t.Exit = exitOf(rep)
	s.close(i, rep, s.verdict(i, rep))
}

// close gives task i, whose try is over, what the verdict says.
func (s *step) close(i int, rep *scheduler.Report, v verdict) {
	t := &s.Tasks[i]
	v = s.lastTry(i, v)
	if _, ordered := wish(t.Kill); (v.state == scheduler.StateSuccess || v.output) && !ordered {
		s.keep(i, rep, v.state)
	}
	if v.lost {
		t.Lost++
	}
	a := s.attempt(i, v.attempt, rep)
	a.Reason = v.reason
	s.d.Attempts = append(s.d.Attempts, a)
	if v.state == scheduler.StateNone { // it was cleared while it ran
		s.reset(i, v.reason)
		s.settle(i)
		return
	}
	if v.state == scheduler.StateUpForRetry {
		t.RetryAt = s.now.Add(v.wait)
	}
	s.move(i, v.state, v.reason)
	if v.state == scheduler.StateUpForRetry && v.wait == 0 {
		s.retry(i, v.reason)
	}
}

func (s *step) attempt(i int, state scheduler.State, rep *scheduler.Report) scheduler.Attempt {
	t := &s.Tasks[i]
	a := scheduler.Attempt{
		ID: s.Attempt(i), Run: t.Run, Task: t.Task, MapIndex: t.MapIndex, Try: t.Try, Executor: t.Executor, State: state,
		Exit: t.Exit, CreatedAt: s.begun[i], StartedAt: t.StartedAt,
	}
	if rep == nil {
		return a
	}
	a.Log, a.Node, a.EndedAt = rep.Log, rep.Node, t.EndedAt
	if a.CreatedAt.IsZero() { // decided on before a restart
		if a.CreatedAt = t.StartedAt; a.CreatedAt.IsZero() {
			a.CreatedAt = t.EndedAt
		}
	}
	return a
}

func exitOf(rep *scheduler.Report) int {
	switch rep.Outcome {
	case scheduler.OutcomeExited:
		if rep.Signal != "" {
			return noExit
		}
		return rep.Exit
	case scheduler.OutcomeTimeout:
		return scheduler.ExitTimeout
	}
	return noExit
}

// sentence joins what is known with ": ".
func sentence(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ": ")
}
