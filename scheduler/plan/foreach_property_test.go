package plan

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"millrace/scheduler"
)

// drawForeach makes some tasks mapped.
func drawForeach(t *rapid.T, task *scheduler.Task) {
	if rapid.IntRange(0, 3).Draw(t, "mapped") > 0 {
		return
	}
	n := rapid.IntRange(0, 5).Draw(t, "items")
	f := &scheduler.Foreach{Items: fmt.Sprintf("lists.range(%d)", n), MaxConcurrent: rapid.IntRange(0, 3).Draw(t, "at once")}
	switch rapid.IntRange(0, 5).Draw(t, "oddity") {
	case 0:
		f.Items = "params.missing"
	case 1:
		f.Key = "item / (item - 1)" // item 1 has none
	case 2:
		f.Key = "item"
	case 3:
		task.When = "item != 2"
	}
	switch rapid.IntRange(0, 2).Draw(t, "tolerates") {
	case 0:
		f.Tolerate = rapid.IntRange(0, 5).Draw(t, "so many")
	case 1:
		f.TolerancePercent = float64(rapid.IntRange(0, 100).Draw(t, "percent"))
	}
	task.Foreach = f
}

func keyOf(task string, index int) string {
	if index == scheduler.NoMap {
		return task
	}
	return fmt.Sprintf("%s/%d", task, index)
}

// wholes checks mapped tasks against their rows: the tally is what the rows are, nothing waits that may start, no more go on than may, and a whole
// ends when its rows have, as they did.
func (o *observer) wholes() {
	r := o.r
	for i := range r.DAG.Tasks {
		if !r.Whole(i) {
			continue
		}
		o.whole(i, &r.Tasks[i], r.wholeOf(i))
	}
}

func (o *observer) whole(i int, t *scheduler.TaskRun, w *whole) {
	r, f := o.r, o.r.DAG.Tasks[i].Foreach
	var tally tally
	for k, row := range w.rows {
		got := &r.Tasks[row]
		*tally.of(got.State)++
		if got.MapIndex != k || r.node(row) != i || got.Item == nil || t.Map != nil && k >= t.Map.Made && got.State != scheduler.StateRemoved {
			o.t.Fatalf("row %d of task %s is %+v, and the whole has %+v", k, t.Task, got, t.Map)
		}
	}
	if tally != w.tally {
		o.t.Fatalf("the tally of task %s is %+v, and its rows are %+v", t.Task, w.tally, tally)
	}
	going := tally.ready + tally.active
	switch {
	case t.State != scheduler.StateDeferred:
		if tally.waiting+going > 0 {
			o.t.Fatalf("task %s is %s, and of its rows are left: %+v", t.Task, t.State, tally)
		}
		return
	case f.MaxConcurrent > 0 && going > f.MaxConcurrent:
		o.t.Fatalf("task %s lets %d at once, and %d are", t.Task, f.MaxConcurrent, going)
	case tally.waiting+going == 0 && r.Unmade(i) == 0:
		o.t.Fatalf("all rows of task %s have ended, and it has not: %+v", t.Task, t)
	case r.stopping(i) || r.over(i) != "":
		if tally.waiting+tally.ready > 0 {
			o.t.Fatalf("task %s starts nothing more, and %+v", t.Task, tally)
		}
	case tally.waiting > 0 && (f.MaxConcurrent == 0 || going < f.MaxConcurrent):
		o.t.Fatalf("task %s has a row that could start: %+v", t.Task, tally)
	}
}

// sameWholes compares mapped tasks before and after a restart.
func sameWholes(t *rapid.T, a, b *Run) {
	for i := range a.DAG.Tasks {
		if x, y := a.Progress(i), b.Progress(i); x != y {
			t.Fatalf("task %d is %+v after a restart, and was %+v", i, y, x)
		}
	}
}

// How a mapped task ends, by how its items do.
func TestEndsOfMappedTasks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		foreach scheduler.Foreach
		exits   []int // of the items
		want    scheduler.State
		counts  scheduler.Mapping
	}{
		{"all succeed", scheduler.Foreach{}, []int{0, 0, 0}, scheduler.StateSuccess, scheduler.Mapping{Succeeded: 3}},
		{"one fails", scheduler.Foreach{}, []int{0, 1, 0}, scheduler.StateFailed, scheduler.Mapping{Succeeded: 1, Failed: 1, Cancelled: 1}},
		{"one is tolerated", scheduler.Foreach{Tolerate: 1}, []int{0, 1, 0}, scheduler.StateSuccess, scheduler.Mapping{Succeeded: 2, Failed: 1}},
		{"two are too many", scheduler.Foreach{Tolerate: 1}, []int{1, 1, 0, 0}, scheduler.StateFailed, scheduler.Mapping{Failed: 2, Cancelled: 2}},
		{"half may fail", scheduler.Foreach{TolerancePercent: 50}, []int{1, 0, 1, 0}, scheduler.StateSuccess, scheduler.Mapping{Succeeded: 2, Failed: 2}},
		{"rounded down", scheduler.Foreach{TolerancePercent: 50}, []int{1, 1, 0}, scheduler.StateFailed, scheduler.Mapping{Failed: 2, Cancelled: 1}},
		{"all fail, and may", scheduler.Foreach{TolerancePercent: 100}, []int{1, 1}, scheduler.StateSuccess, scheduler.Mapping{Failed: 2}},
		{"all are skipped", scheduler.Foreach{}, []int{99, 99}, scheduler.StateSkipped, scheduler.Mapping{Skipped: 2}},
		{"some are skipped", scheduler.Foreach{}, []int{99, 0}, scheduler.StateSuccess, scheduler.Mapping{Skipped: 1, Succeeded: 1}},
		{"none", scheduler.Foreach{}, nil, scheduler.StateSkipped, scheduler.Mapping{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.foreach.Items, tt.foreach.MaxConcurrent = fmt.Sprintf("lists.range(%d)", len(tt.exits)), 1
			d, _, err := Of(&scheduler.DAG{V: 1, ID: "d", Tasks: []scheduler.Task{{ID: "a", Kind: "command", Shell: "x", Foreach: &tt.foreach}}})
			if err != nil {
				t.Fatal(err)
			}
			r, _ := NewRun(d, firing(), nil, t0)
			r.Step(Expand{Task: 0, Most: 100}, t0, nil)
			for k, exit := range tt.exits {
				r.Step(Launch{Task: k + 1}, t0, nil)
				r.Step(Report{Task: k + 1, Report: scheduler.Report{Attempt: r.Attempt(k + 1), Outcome: scheduler.OutcomeExited, Exit: exit}}, t0, nil)
			}
			got := *r.Tasks[0].Map
			got.Count, got.Made, got.Digest = 0, 0, ""
			if diff := cmp.Diff(tt.counts, got); diff != "" || r.Tasks[0].State != tt.want || !r.Row.State.Terminal() {
				t.Errorf("got %s, want %s; run %s: %s\n%s", r.Tasks[0].State, tt.want, r.Row.State, r.Row.Reason, diff)
			}
		})
	}
}
