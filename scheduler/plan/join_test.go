package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"millrace/scheduler"
)

// parents are the ends of those parents that have ended.
type parents []scheduler.State

func (p parents) any(of ...scheduler.State) bool {
	return slices.ContainsFunc(p, func(s scheduler.State) bool { return slices.Contains(of, s) })
}

func (p parents) all(of ...scheduler.State) bool {
	return !slices.ContainsFunc(p, func(s scheduler.State) bool { return !slices.Contains(of, s) })
}

const (
	good    = scheduler.StateSuccess
	bad     = scheduler.StateFailed
	never   = scheduler.StateUpstreamFailed
	skipped = scheduler.StateSkipped
	stopped = scheduler.StateCancelled
)

// statement says what a rule means, as its documentation does: over all parents, not by counting them.
type statement struct {
	runs func(p parents) bool
	// early: the task runs as soon as runs is true of those that have ended.
	early bool
	// fails: a task that does not run is upstream_failed if this is true, else, or if it is nil, skipped.
	fails func(p parents) bool
}

var (
	yes      = func(parents) bool { return true }
	oneFails = func(p parents) bool { return p.any(bad, never, stopped) }
)

var statements = map[string]statement{
	"all_success": {runs: func(p parents) bool { return p.all(good) }, fails: oneFails},
	"all_failed":  {runs: func(p parents) bool { return p.all(bad, never, stopped) }},
	"all_done":    {runs: yes},
	"all_done_min_one_success": {
		runs:  func(p parents) bool { return p.any(good) && !p.any(skipped) },
		fails: func(p parents) bool { return p.all(bad, never, stopped) },
	},
	"all_skipped": {runs: func(p parents) bool { return p.all(skipped) }},
	"one_failed":  {runs: oneFails, early: true},
	"one_success": {runs: func(p parents) bool { return p.any(good) }, early: true, fails: oneFails},
	"one_done":    {runs: func(p parents) bool { return p.any(good, bad, stopped) }, early: true},
	"none_failed": {runs: func(p parents) bool { return p.all(good, skipped) }, fails: oneFails},
	"none_failed_min_one_success": {
		runs: func(p parents) bool { return p.all(good, skipped) && p.any(good) }, fails: oneFails,
	},
	"none_skipped": {runs: func(p parents) bool { return !p.any(skipped) }},
	"always":       {runs: yes, early: true},
}

// expect returns what a task with the rule becomes when, of so many parents, these have ended; none is to wait.
func expect(rule string, count int, ended parents) scheduler.State {
	if rule == "" {
		rule = scheduler.JoinAllSuccess
	}
	st := statements[rule]
	switch complete := len(ended) == count; {
	case count == 0 || (complete || st.early) && st.runs(ended):
		return scheduler.StateScheduled
	case !complete:
		return scheduler.StateNone
	case st.fails != nil && st.fails(ended):
		return scheduler.StateUpstreamFailed
	}
	return scheduler.StateSkipped
}

// joinDAG has n parents p0, p1 …, each after a task g of its own, which makes it upstream_failed by failing, and the task j that joins them.
func joinDAG(t *testing.T, rule string, n int) *DAG {
	t.Helper()
	dag := &scheduler.DAG{V: 1, ID: "d"}
	join := scheduler.Task{ID: "j", Kind: "command", Shell: "x", Rule: rule}
	for i := range n {
		g, p := fmt.Sprint("g", i), fmt.Sprint("p", i)
		dag.Tasks = append(dag.Tasks, scheduler.Task{ID: g, Kind: "command", Shell: "x"},
			scheduler.Task{ID: p, Kind: "command", Shell: "x", Needs: []string{g}})
		join.Needs = append(join.Needs, p)
	}
	dag.Tasks = append(dag.Tasks, join)
	d, _, err := Of(dag)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// end takes parent i to its end.
func (d *driver) end(i int, state scheduler.State) {
	d.t.Helper()
	g, p := fmt.Sprint("g", i), fmt.Sprint("p", i)
	d.launch(g)
	if state == never {
		d.exit(g, 1)
	} else {
		d.exit(g, 0)
		d.launch(p)
		d.exit(p, map[scheduler.State]int{good: 0, bad: 1, skipped: scheduler.ExitSkip}[state])
	}
	if got := d.r.Tasks[d.index(p)].State; got != state {
		d.t.Fatalf("parent %s is %s, want %s", p, got, state)
	}
}

// combinations returns every choice of n of the states, and permutations every order of n things.
func combinations(n int) (out []parents) {
	if n == 0 {
		return []parents{{}}
	}
	for _, rest := range combinations(n - 1) {
		for _, s := range []scheduler.State{good, bad, never, skipped} {
			out = append(out, append(slices.Clone(rest), s))
		}
	}
	return out
}

func permutations(n int) (out [][]int) {
	if n == 0 {
		return [][]int{{}}
	}
	for _, rest := range permutations(n - 1) {
		for at := range n {
			out = append(out, slices.Insert(slices.Clone(rest), at, n-1))
		}
	}
	return out
}

// Every rule, over every combination of the ends of two and of three parents, in every order: the task waits, runs, is skipped or is
// upstream_failed as the rule's statement says, and the run ends as its leaf did.
func TestJoinRules(t *testing.T) {
	t.Parallel()
	if len(scheduler.Joins) != len(statements) {
		t.Fatalf("%d rules and %d statements", len(scheduler.Joins), len(statements))
	}
	for _, rule := range scheduler.Joins {
		for _, n := range []int{2, 3} {
			t.Run(fmt.Sprint(rule, " of ", n), func(t *testing.T) {
				t.Parallel()
				dag := joinDAG(t, rule, n)
				for _, states := range combinations(n) {
					for _, order := range permutations(n) {
						checkJoin(t, dag, rule, states, order)
					}
				}
			})
		}
	}
}

func checkJoin(t *testing.T, dag *DAG, rule string, states parents, order []int) {
	t.Helper()
	r, _ := NewRun(dag, firing(testBatches(1)...), json.RawMessage(`{}`), t0)
	d := &driver{t: t, r: r, now: t0}
	j := d.index("j")
	var ended parents
	want := expect(rule, len(states), nil)
	for at := 0; ; at++ {
		if got := r.Tasks[j].State; got != want {
			t.Fatalf("after %v: j is %s, want %s", ended, got, want)
		}
		if at == len(order) {
			break
		}
		d.end(order[at], states[order[at]])
		ended = append(ended, states[order[at]])
		if want == scheduler.StateNone {
			want = expect(rule, len(states), ended)
		}
	}
	end := scheduler.StateSuccess
	switch want {
	case scheduler.StateScheduled:
		d.launch("j")
		d.exit("j", 0)
	case scheduler.StateUpstreamFailed:
		end = scheduler.StateFailed
	}
	if r.Row.State != end {
		t.Fatalf("after %v: the run is %s, want %s", ended, r.Row.State, end)
	}
	if end == scheduler.StateFailed && !strings.Contains(r.Row.Reason, ": exit code 1") {
		t.Fatalf("after %v: the run's reason is %q, want that of the task that failed", ended, r.Row.Reason)
	}
}

// A task without parents runs, whatever its rule; always runs beside its parents.
func TestRulesThatWaitForNothing(t *testing.T) {
	t.Parallel()
	for _, rule := range scheduler.Joins {
		d := newDriver(t, "dag: d\ntasks: {a: {run: x, rule: "+rule+"}, b: {run: x}, c: {run: x, needs: b, rule: always}}")
		d.want(map[string]string{"": "queued", "a": "scheduled", "b": "scheduled", "c": "scheduled"})
	}
}

// A run ends as its leaves do: a failure that a join has taken account of does not fail it, and the reason names the task that failed.
func TestRunEndsAsItsLeavesDo(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, tasks string
		exits       map[string]int
		want        scheduler.State
		reason      string
	}{
		{"a failure that is handled", "{a: {run: x}, b: {run: x, needs: a, rule: one_failed}}", map[string]int{"a": 1}, "success", ""},
		{"and another that is not", "{a: {run: x}, b: {run: x, needs: a, rule: one_failed}, c: {run: x, needs: a}}", map[string]int{"a": 3}, "failed", "task a: exit code 3"},
		{"the one that handles it fails", "{a: {run: x}, b: {run: x, needs: a, rule: all_done}}", map[string]int{"a": 3, "b": 4}, "failed", "task b: exit code 4"},
		{"one of two ways", "{a: {run: x}, b: {run: x}, c: {run: x, needs: [a, b], rule: one_success}}", map[string]int{"a": 1}, "success", ""},
		{"the cause is far above", "{a: {run: x}, b: {run: x, needs: a}, c: {run: x, needs: b}, d: {run: x, needs: a, rule: one_failed}}", map[string]int{"a": 5}, "failed", "task a: exit code 5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, "dag: d\ntasks: "+tt.tasks+"\n")
			for !d.r.Row.State.Terminal() {
				i := slices.IndexFunc(d.r.Tasks, func(t scheduler.TaskRun) bool { return t.State == scheduler.StateScheduled })
				if i < 0 {
					t.Fatalf("nothing is ready: %v", d.states())
				}
				id := d.r.Tasks[i].Task
				d.launch(id)
				d.exit(id, tt.exits[id])
			}
			if d.r.Row.State != tt.want || d.r.Row.Reason != tt.reason {
				t.Errorf("got %s, %q, want %s, %q", d.r.Row.State, d.r.Row.Reason, tt.want, tt.reason)
			}
		})
	}
}
