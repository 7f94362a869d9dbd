package plan

import (
	"testing"

	"millrace/scheduler"
)

// TestClearThatWasOvertaken: a mapped task is cleared while one of its items runs, which removes the others; before that one has ended the run is
// cancelled, so the clear never comes to its end. Who then clears the item alone gets the whole list, and no success with one item of three. It
// was found by seed 696 of the engine's simulation.
func TestClearThatWasOvertaken(t *testing.T) {
	t.Parallel()
	d := newDriver(t, "dag: d\ntasks: {a: {run: x, foreach: {items: lists.range(3), max_concurrent: 1}}}\n")
	d.step(Expand{Task: 0, Most: 10})
	d.step(Launch{Task: 1})
	d.r.Clear([]int{0}, "", t0)
	d.step(Cancel{Reason: "no"})
	ended := func(row int) {
		d.step(Report{Task: row, Report: scheduler.Report{Attempt: d.r.Attempt(row), Outcome: scheduler.OutcomeExited}})
	}
	ended(1)
	if got := d.r.Row.State; got != scheduler.StateCancelled {
		t.Fatalf("the run is %s, want cancelled: %+v", got, d.r.Tasks)
	}
	d.r.Clear([]int{1}, "", t0)
	for row := 1; row <= 3; row++ {
		if got := d.r.Tasks[row].State; got != scheduler.StateScheduled {
			t.Fatalf("item %d is %s, want it to be next", row-1, got)
		}
		d.step(Launch{Task: row})
		ended(row)
	}
	if got := d.r.Tasks[0].State; got != scheduler.StateSuccess || d.r.Row.State != scheduler.StateSuccess {
		t.Errorf("the whole is %s, and the run %s, want both to be a success", got, d.r.Row.State)
	}
}
