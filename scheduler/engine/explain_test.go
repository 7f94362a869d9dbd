package engine

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
)

// explain returns what a run and its tasks say, by task; "" is the run.
func (f *fixture) explain(run string) map[string]scheduler.Why {
	f.t.Helper()
	why, err := f.e.Explain(f.t.Context(), run)
	if err != nil {
		f.t.Fatal(err)
	}
	out := map[string]scheduler.Why{"": why.Why}
	for _, t := range why.Tasks {
		out[rowName(t.Task, t.MapIndex)] = t.Why
	}
	return out
}

// says requires a code, and words of the sentence.
func says(t *testing.T, got scheduler.Why, code scheduler.Code, words ...string) {
	t.Helper()
	if got.Code != code {
		t.Errorf("got %+v, want %s", got, code)
	}
	for _, word := range words {
		if !strings.Contains(got.Text, word) {
			t.Errorf("%q does not say %q", got.Text, word)
		}
	}
}

// saysParked is about the tasks that wait without a slot, and the run as a whole.
func saysParked(t *testing.T, got map[string]scheduler.Why, began time.Time) {
	t.Helper()
	says(t, got["asks"], scheduler.CodeInput, "for ann to decide: Go on?; it is rejected at "+clock(began.Add(time.Hour))+" otherwise")
	says(t, got["starts"], scheduler.CodeSubDAG, "of dag other (running): task why waits since "+clock(began)+" for a person to decide: Why?")
	says(t, got[""], scheduler.CodeRunning, "1 of 13 tasks ended")
}

const everyWait = `dag: all
tasks:
  runs: {run: x}
  after: {run: x, needs: runs}
  none: {run: x, needs: [runs, silent], rule: all_done}
  silent: {run: x}
  flaky: {run: x, retry: {limit: 3, delay: 1h}}
  lost: {run: x}
  holds: {run: x, pool: db, pool_slots: 2}
  wants: {run: x, pool: db, pool_slots: 2}
  last: {run: x, priority: -1}
  over: {run: x}
  asks: {approval: {message: Go on?, by: ann, expires: 1h}}
  starts: {dag: other}
  maps: {run: x, foreach: {items: 'lists.range(3)', max_concurrent: 1}}
concurrency: 1
---
dag: other
tasks: {why: {approval: Why?}}
`

// Every state that is not an end has a reason, with the value on which the engine decided; a state that this test does not reach fails it.
func TestEveryWaitHasAReason(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newPoolFixture(t, map[string]int{"db": 3}, map[string]string{"all.yaml": everyWait})
		f.world.set(func() { f.world.slots = 7 })
		f.world.play(func(l scheduler.Launch) []scheduler.Report {
			running := scheduler.Report{Outcome: scheduler.OutcomeRunning}
			switch l.Task {
			case "silent":
				return nil
			case "flaky":
				return []scheduler.Report{running, {Outcome: scheduler.OutcomeExited, Exit: 7}}
			case "lost":
				return []scheduler.Report{running, {Outcome: scheduler.OutcomeUnreachable}}
			case "over":
				return []scheduler.Report{running, {Outcome: scheduler.OutcomeExited}}
			}
			return []scheduler.Report{running}
		})
		began := time.Now().UTC()
		one := f.trigger("all", "1", "").ID
		synctest.Wait()
		two := f.trigger("all", "2", "").ID
		synctest.Wait()
		seen := map[scheduler.State]bool{}
		d, err := f.store.Run(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}
		got := f.explain(one)
		for _, task := range d.Tasks {
			seen[task.State] = true
			if w := got[task.Task]; w.Code == "" || w.Text == "" {
				t.Errorf("task %s is %s, and nobody says why", task.Task, task.State)
			}
		}
		says(t, got["runs"], scheduler.CodeRunning, "try 1 runs since")
		says(t, got["after"], scheduler.CodeParents, "waits for the end of runs (running)")
		says(t, got["none"], scheduler.CodeParents, "runs (running), silent (launching), its rule being all_done")
		says(t, got["silent"], scheduler.CodeLaunching, "handed to executor local")
		says(t, got["flaky"], scheduler.CodeRetryAt, "for try 2", "7")
		says(t, got["lost"], scheduler.CodeUnreachable, "executor local does not reach try 1")
		says(t, got["wants"], scheduler.CodePool, "waits for 2 slots of pool db, of which 2 of 3 are taken by "+one+"/holds")
		saysMapped(t, f, one, got)
		saysParked(t, got, began)
		if at := got["flaky"].Until; !at.Equal(began.Add(time.Hour)) {
			t.Errorf("the next try is at %v, want an hour after %v", at, began)
		}
		if at := got["lost"].Until; !at.Equal(began.Add(5 * time.Minute)) {
			t.Errorf("the lost attempt is given up at %v, want five minutes after %v", at, began)
		}
		held := f.explain(two)
		says(t, held[""], scheduler.CodeConcurrency, "concurrency group all takes 1 run at a time, and "+one+" is under way")
		says(t, held["runs"], scheduler.CodeConcurrency, one)
		says(t, held["after"], scheduler.CodeParents, "runs (scheduled)")
		seen[scheduler.StateQueued] = true // the second run

		f.world.set(func() { f.world.slots = 5 }) // as many as the others take
		f.world.tell(scheduler.Report{Attempt: one + ".last.-1.1", Outcome: scheduler.OutcomeLost})
		synctest.Wait()
		says(t, f.explain(one)["last"], scheduler.CodeSlots, "waits for 1 slot of executor local, of which 5 of 5 are taken by ")

		f.world.set(func() { f.world.fault = func(string) (error, bool) { return scheduler.ErrUnavailable, false } })
		if _, err := f.e.Cancel(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		got = f.explain(one)
		says(t, got["runs"], scheduler.CodeEnding, "was asked to end (cancelled)")
		says(t, got[""], scheduler.CodeEnding, "cancelled by request, and waits for the end of 4 tasks")
		f.world.set(func() { f.world.fault = nil })
		f.wait(one)
		says(t, f.explain(one)[""], scheduler.CodeEnded, "ended: cancelled")

		for _, state := range statesOf(t) {
			if !state.Terminal() && !seen[state] {
				t.Errorf("no task is %s in this test: what does it say?", state)
			}
		}
	})
}

// statesOf reads all states from the source, so that one that is added is not forgotten here.
func statesOf(t *testing.T) (out []scheduler.State) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../states.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		if kind, ok := v.Type.(*ast.Ident); ok && kind.Name == "State" {
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, scheduler.State(text))
		}
		return true
	})
	if !slices.Contains(out, scheduler.StateUnreachable) || len(out) < 13 {
		t.Fatalf("found the states %v, which can not be all", out)
	}
	return out
}

// What waits for a pool that the configuration has no more says so.
func TestExplainLostPool(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newPoolFixture(t, map[string]int{"db": 1}, map[string]string{"a.yaml": "dag: a\ntasks: {one: {run: x, pool: db}}"})
		ids, _ := f.begin("a", "1", "2")
		if err := f.e.SetPools(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		says(t, f.explain(ids[1])["one"], scheduler.CodePool, "which the configuration does not have any more")
		slots, err := f.e.Slots(t.Context())
		if err != nil || len(slots) != 2 || slots[1].Name != "db" || slots[1].Used != 1 || slots[1].Waiting != 1 || slots[1].Holders[0].Task != ids[0]+"/one" {
			t.Errorf("got %+v, %v", slots, err)
		}
		f.end(ids[0], "one")
		if _, err := f.e.Cancel(t.Context(), ids[1]); err != nil {
			t.Fatal(err)
		}
		if slots, err := f.e.Slots(t.Context()); err != nil || len(slots) != 1 {
			t.Errorf("got %+v, %v, want the executor alone", slots, err)
		}
	})
}
