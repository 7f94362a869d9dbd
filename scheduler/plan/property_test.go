package plan

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"millrace/scheduler"
)

// drawDAG draws a random graph. Parents come before their children in a random order that is not the order of the file.
func drawDAG(t *rapid.T) *DAG {
	n := rapid.IntRange(1, 9).Draw(t, "tasks")
	dag := scheduler.DAG{V: 1, ID: "d"}
	for i := range n {
		task := scheduler.Task{
			ID: fmt.Sprint("t", i), Kind: "command", Shell: "x",
			Retry:      scheduler.Retry{Limit: rapid.IntRange(0, 2).Draw(t, "limit")},
			InfraRetry: rapid.IntRange(0, 2).Draw(t, "infra"),
		}
		task.Retry.Delay = time.Duration(rapid.IntRange(0, 2).Draw(t, "delay")) * time.Second
		task.Timeout.Queue = time.Duration(rapid.IntRange(0, 2).Draw(t, "queue")) * time.Second
		task.Timeout.Start = time.Duration(rapid.IntRange(0, 2).Draw(t, "start")) * time.Second
		for p := range i {
			if rapid.IntRange(0, 2).Draw(t, "edge") == 0 {
				task.Needs = append(task.Needs, fmt.Sprint("t", p))
			}
		}
		if rapid.Bool().Draw(t, "joins") {
			task.Rule = rapid.SampledFrom(scheduler.Joins).Draw(t, "rule")
		}
		drawParked(t, &task)
		drawForeach(t, &task)
		switch rapid.IntRange(0, 5).Draw(t, "when") {
		case 0:
			task.When = "false"
		case 1:
			task.When = "params.missing == 1"
		}
		dag.Tasks = append(dag.Tasks, task)
	}
	drawParts(t, &dag)
	perm := rapid.Permutation(dag.Tasks).Draw(t, "order")
	dag.Tasks = perm
	d, _, err := Of(&dag)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// drawParked makes some tasks such as need no slot.
func drawParked(t *rapid.T, task *scheduler.Task) {
	limit := time.Duration(rapid.IntRange(0, 2).Draw(t, "patience")) * time.Second
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		task.Kind = scheduler.KindApproval
		task.Approval = &scheduler.Approval{
			Expires: limit, OnExpire: rapid.SampledFrom([]string{"", scheduler.DecisionApprove, scheduler.DecisionSkip}).Draw(t, "on expire"),
			OnReject: rapid.SampledFrom([]string{"", scheduler.RejectFail}).Draw(t, "on reject"),
		}
	case 1, 2:
		task.Kind, task.SubDAG, task.Timeout.Run = scheduler.KindDAG, &scheduler.SubDAG{ID: "other"}, limit
	}
}

var parkedEnds = []scheduler.State{scheduler.StateSuccess, scheduler.StateSuccess, scheduler.StateFailed, scheduler.StateSkipped, scheduler.StateCancelled}

// drawParkedEvent draws something that may happen to a task that needs no slot.
func drawParkedEvent(t *rapid.T, r *Run, i int) Event {
	id := r.Tasks[i].AttemptID(r.Tasks[i].Try - rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "older"))
	switch rapid.IntRange(0, 5).Draw(t, "parked") {
	case 0, 1:
		return Park{Task: i, On: "r1"}
	case 2:
		return Late{Task: i}
	case 3:
		if r.Spec(i).Kind == scheduler.KindApproval {
			word := rapid.SampledFrom([]string{scheduler.DecisionApprove, scheduler.DecisionReject}).Draw(t, "decision")
			return Decide{Task: i, Attempt: id, Decision: scheduler.Decision{Decision: word, By: "p"}}
		}
	}
	return Unpark{
		Task: i, Attempt: id, State: rapid.SampledFrom(parkedEnds).Draw(t, "end"), Reason: "x",
		Final:  r.Spec(i).Kind == scheduler.KindApproval || rapid.Bool().Draw(t, "final"),
		Output: []byte(rapid.SampledFrom([]string{"", "{}", "{"}).Draw(t, "out")),
	}
}

var outcomes = []scheduler.Outcome{
	scheduler.OutcomeRunning, scheduler.OutcomeExited, scheduler.OutcomeTimeout, scheduler.OutcomeLost, scheduler.OutcomeRefused,
	scheduler.OutcomeUnreachable,
}

// drawEvent draws something that may happen, sensible or not.
func drawEvent(t *rapid.T, r *Run) Event {
	i := rapid.IntRange(0, len(r.Tasks)-1).Draw(t, "task")
	if r.Whole(i) && rapid.IntRange(0, 3).Draw(t, "expands") > 0 {
		return Expand{Task: i, Most: rapid.IntRange(1, 3).Draw(t, "most")}
	}
	if r.Parks(i) != "" && rapid.IntRange(0, 3).Draw(t, "fits") > 0 {
		return drawParkedEvent(t, r, i)
	}
	switch rapid.IntRange(0, 13).Draw(t, "event") {
	case 12, 13:
		return Late{Task: i}
	case 0, 1, 2, 3:
		return Launch{Task: i}
	case 4:
		return Due{Task: i}
	case 5:
		return Fence{Task: i, Attempt: r.Attempt(i)}
	case 6:
		if rapid.IntRange(0, 9).Draw(t, "really") == 0 {
			return Cancel{Reason: "cancelled", Force: rapid.IntRange(0, 2).Draw(t, "force") == 0}
		}
		return Refuse{Task: i, Reason: "refused"}
	}
	rep := scheduler.Report{
		Outcome: rapid.SampledFrom(outcomes).Draw(t, "outcome"), Exit: rapid.SampledFrom([]int{0, 0, 0, 1, 64, 99}).Draw(t, "exit"),
		Attempt: r.Tasks[i].AttemptID(r.Tasks[i].Try - rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "old")),
	}
	if rapid.IntRange(0, 7).Draw(t, "bad output") == 0 {
		rep.Output = []byte("{")
	}
	return Report{Task: i, Report: rep}
}

// drawWord draws a clear or a mark, of a run that has ended or not, and requires that what must come of it does.
func drawWord(t *rapid.T, r *Run, now time.Time) Delta {
	i := rapid.IntRange(0, len(r.Tasks)-1).Draw(t, "which")
	switch rapid.IntRange(0, 3).Draw(t, "word") {
	case 0:
		to := rapid.SampledFrom([]scheduler.State{scheduler.StateSuccess, scheduler.StateFailed, scheduler.StateSkipped}).Draw(t, "to")
		d := r.Mark(i, to, "p", now)
		if st := r.Tasks[i].State; st != to && !st.UnderWay() && st != scheduler.StateRemoved {
			t.Fatalf("task %d is %s after it was marked %s", i, st, to)
		}
		return d
	case 1:
		to := rapid.SampledFrom([]scheduler.State{scheduler.StateSuccess, scheduler.StateFailed}).Draw(t, "to")
		d := r.Mark(NoTask, to, "p", now)
		for j := range r.Tasks {
			if st := r.Tasks[j].State; !st.Terminal() && !st.UnderWay() && !r.isTeardown(j) {
				t.Fatalf("task %d is %s after the run was marked %s", j, st, to)
			}
		}
		return d
	}
	c := scheduler.Clear{Failed: rapid.Bool().Draw(t, "failed"), Downstream: rapid.Bool().Draw(t, "downstream")}
	if rapid.Bool().Draw(t, "one") {
		c.Tasks = []string{r.Tasks[i].Task}
		if own, mapped := r.WholeOf(i); mapped && r.Tasks[i].State != scheduler.StateRemoved && r.Tasks[own].Map != nil {
			c.Tasks[0] = keyOf(r.Tasks[i].Task, r.Tasks[i].MapIndex)
		}
	}
	tasks, err := r.Select(c)
	if err != nil {
		t.Fatal(err)
	}
	tries := map[int]int{}
	for _, j := range tasks {
		tries[j] = r.Tasks[j].Try
	}
	d := r.Clear(tasks, "p", now)
	for _, j := range tasks {
		if k := &r.Tasks[j]; k.Try != tries[j] || !k.State.UnderWay() && k.Cleared != k.Try {
			t.Fatalf("task %d after a clear: %+v, want that tries go on counting from %d", j, k, tries[j])
		}
	}
	return d
}

// observer checks every step against what must always hold.
type observer struct {
	t      *rapid.T
	r      *Run
	states map[string]scheduler.State // as the moves have them
	live   map[string]bool            // attempts that were launched and have not ended
	seen   map[string]bool            // attempts that were ever launched
	forced bool                       // teardowns were cancelled as well, or there was nothing to take down
}

func (o *observer) check(d Delta) {
	for _, m := range d.Moves {
		at := keyOf(m.Task, m.MapIndex)
		from, ok := o.states[at]
		if ok && from != m.From {
			o.t.Fatalf("move %+v, but the state was %s", m, from)
		}
		byPerson := strings.HasPrefix(m.Reason, wordCleared) || strings.HasPrefix(m.Reason, wordMarked) || m.To == scheduler.StateNone
		if !byPerson || permitted(m, scheduler.CheckTaskOverride, scheduler.CheckRunOverride) != nil {
			if err := permitted(m, scheduler.CheckTaskMove, scheduler.CheckRunMove); err != nil || m.From.Terminal() {
				o.t.Fatalf("move %+v: %v", m, err)
			}
		}
		if m.From == m.To {
			o.t.Fatalf("move %+v to where it was", m)
		}
		if m.Task != "" && m.MapIndex == scheduler.NoMap && m.From == scheduler.StateNone && m.To != scheduler.StateCancelled && !byPerson {
			o.joined(m)
		}
		o.states[at] = m.To
	}
	for _, a := range d.Attempts {
		if a.State == scheduler.StateLaunching || a.State.Parked() {
			if o.seen[a.ID] {
				o.t.Fatalf("attempt %s is launched twice", a.ID)
			}
			o.seen[a.ID], o.live[a.ID] = true, true
			o.surrounded(a.Task)
			continue
		}
		unlaunched := !o.seen[a.ID] && strings.Contains(a.Reason, "timeout.queue")
		if !o.live[a.ID] && !unlaunched || !a.State.Terminal() || a.EndedAt.IsZero() {
			o.t.Fatalf("attempt %+v ended without being live", a)
		}
		o.seen[a.ID] = true
		delete(o.live, a.ID)
	}
	o.rows(d)
	o.settled()
	o.wholes()
}

func permitted(m scheduler.Move, task, run func(from, to scheduler.State) error) error {
	if m.Task == "" {
		return run(m.From, m.To)
	}
	return task(m.From, m.To)
}

// rows compares the rows with the moves, and the live attempts with the states.
func (o *observer) rows(d Delta) {
	active, open := 0, 0
	for i := range o.r.Tasks {
		t := &o.r.Tasks[i]
		if st, ok := o.states[keyOf(t.Task, t.MapIndex)]; ok && st != t.State {
			o.t.Fatalf("task %s is %s, and its moves end in %s", t.Task, t.State, st)
		}
		if (t.State.Active() || t.State.Parked()) && !o.r.Whole(i) {
			active++
			if !o.live[o.r.Attempt(i)] {
				o.t.Fatalf("task %s is %s without an attempt", t.Task, t.State)
			}
		}
		if !t.State.Terminal() {
			open++
		}
	}
	if active != len(o.live) {
		o.t.Fatalf("%d tasks are active and %d attempts are", active, len(o.live))
	}
	if o.r.Row.State.Terminal() != (open == 0) {
		o.t.Fatalf("run is %s with %d open tasks", o.r.Row.State, open)
	}
	for _, i := range d.Ready {
		if o.r.Tasks[i].State != scheduler.StateScheduled {
			o.t.Fatalf("task %d is ready and %s", i, o.r.Tasks[i].State)
		}
	}
}

// expected returns what the rule of a task makes of its parents as they are now.
func (o *observer) expected(task *scheduler.Task) scheduler.State {
	var ended parents
	for _, need := range task.Needs {
		if st := o.states[need]; st.Terminal() {
			ended = append(ended, st)
		}
	}
	return o.withSetups(task, expect(task.Rule, len(task.Needs), ended))
}

// joined checks a move that a join rule makes.
func (o *observer) joined(m scheduler.Move) {
	task := o.r.DAG.Task(m.Task)
	want := o.expected(task)
	if m.To != want && !(want == scheduler.StateScheduled && m.To == scheduler.StateSkipped && task.When != "") {
		o.t.Fatalf("task %s with rule %q becomes %s, want %s; its parents: %v of %v", m.Task, task.Rule, m.To, want, task.Needs, o.states)
	}
}

// settled checks that nothing waits whose rule is decided, and that an ended run ended as its leaves did.
func (o *observer) settled() {
	needed := map[string]bool{}
	var leaves, all parents
	for i := range o.r.DAG.Tasks {
		task := &o.r.DAG.Tasks[i]
		if st := o.r.Tasks[i].State; st == scheduler.StateNone && o.expected(task) != scheduler.StateNone {
			o.t.Fatalf("task %s with rule %q waits, though its parents are %v of %v", task.ID, task.Rule, task.Needs, o.states)
		} else if st == scheduler.StateScheduled && o.expected(task) != scheduler.StateScheduled {
			o.t.Fatalf("task %s with rule %q is ready, though its parents are %v of %v", task.ID, task.Rule, task.Needs, o.states)
		}
		if task.Part != scheduler.PartTeardown {
			for _, need := range slices.Concat(task.Needs, task.Setups) {
				needed[need] = true
			}
		}
	}
	for i := range o.r.DAG.Tasks {
		task := &o.r.DAG.Tasks[i]
		if task.Part != scheduler.PartTeardown {
			all = append(all, o.r.Tasks[i].State)
		}
		if task.FailRun || task.Part != scheduler.PartTeardown && !needed[task.ID] {
			leaves = append(leaves, o.r.Tasks[i].State)
		}
	}
	want := scheduler.StateSuccess
	switch {
	case !o.r.Row.State.Terminal(), strings.HasPrefix(o.r.Row.Reason, wordMarked):
		return // a run that was marked failed is, whatever its tasks are
	case all.any(stopped), o.r.Row.Reason == "cancelled":
		want = stopped
	case leaves.any(bad, never):
		want = bad
	}
	if o.r.Row.State != want {
		o.t.Fatalf("the run is %s, want %s: its tasks are %v", o.r.Row.State, want, o.states)
	}
}

// Whatever is reported in whatever order: states move by the tables, what becomes of a task is what its rule states, attempts are unique, a restored
// run goes on like the one it was stored from, and at the end every run ends. A person may say otherwise at any time, and the same holds.
func TestProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r, d := NewRun(drawDAG(t), firing(testBatches(1)...), json.RawMessage("{}"), t0)
		o := &observer{t: t, r: r, states: map[string]scheduler.State{}, live: map[string]bool{}, seen: map[string]bool{}}
		o.check(d)
		rng := rand.New(rand.NewPCG(1, 2))
		now := t0
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
			if rapid.IntRange(0, 9).Draw(t, "person") == 0 {
				o.check(drawWord(t, r, now))
			} else {
				ev := drawEvent(t, r)
				o.force(ev)
				o.check(r.Step(ev, now, rng))
			}
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				n := r.New()
				again, err := Restore(r.DAG, &scheduler.LiveRun{Run: n.Run, Tasks: n.Tasks, Batches: r.Batches})
				if err != nil {
					t.Fatal(err)
				}
				if again.open != r.open {
					t.Fatalf("restored with %d open tasks, want %d", again.open, r.open)
				}
				sameWholes(t, r, again)
				r, o.r = again, again
			}
		}
		drain(t, o, now, rng)
	})
}

// drain plays an executor on which everything works, and wants the run to end.
func drain(t *rapid.T, o *observer, now time.Time, rng *rand.Rand) {
	r := o.r
	for range 20 * len(r.Tasks) {
		if r.Row.State.Terminal() {
			o.takenDown()
			return
		}
		now = now.Add(maxWait)
		for i := range r.Tasks {
			o.check(r.Step(Due{Task: i}, now, rng))
			o.check(r.Step(Expand{Task: i, Most: 2}, now, rng))
			if r.Parks(i) == "" {
				o.check(r.Step(Launch{Task: i}, now, rng))
			}
			o.check(r.Step(Park{Task: i, On: "r1"}, now, rng))
			o.check(r.Step(Unpark{Task: i, Attempt: r.Attempt(i), State: scheduler.StateSuccess}, now, rng))
			o.check(r.Step(Report{Task: i, Report: scheduler.Report{Attempt: r.Attempt(i), Outcome: scheduler.OutcomeExited}}, now, rng))
		}
	}
	t.Fatalf("the run does not end: %+v", r.Tasks)
}

func BenchmarkStep(b *testing.B) {
	dag := scheduler.DAG{V: 1, ID: "d", Tasks: []scheduler.Task{{ID: "a", Kind: "command", Shell: "x"}}}
	d, _, err := Of(&dag)
	if err != nil {
		b.Fatal(err)
	}
	f := firing(testBatches(1)...)
	b.ReportAllocs()
	for b.Loop() { // one run of one task: five steps
		r, _ := NewRun(d, f, nil, t0)
		r.Step(Launch{Task: 0}, t0, nil)
		id := r.Attempt(0)
		r.Step(Report{Task: 0, Report: scheduler.Report{Attempt: id, Outcome: scheduler.OutcomeRunning}}, t0, nil)
		r.Step(Report{Task: 0, Report: scheduler.Report{Attempt: id, Outcome: scheduler.OutcomeExited}}, t0, nil)
		if r.Row.State != scheduler.StateSuccess {
			b.Fatal(r.Row.State)
		}
	}
}
