package schedulertest

import (
	"context"
	"errors"

	"millrace/scheduler"
)

// rows: a run with its tasks alone, and what tells that it has changed: a line of the audit trail, of a mapped task or not, or the run's own row.
func (t *storeTest) rows(n scheduler.NewRun) {
	t.Helper()
	ctx, id := context.Background(), n.Run.ID
	if _, err := t.Store.AsOf(ctx, id); !errors.Is(err, scheduler.ErrNotFound) {
		t.Fatalf("got %v of a run that is not there, want ErrNotFound", err)
	}
	if _, _, err := t.Store.Rows(ctx, id); !errors.Is(err, scheduler.ErrNotFound) {
		t.Fatalf("got %v of the rows of a run that is not there, want ErrNotFound", err)
	}
	t.apply(&scheduler.Change{NewRuns: []scheduler.NewRun{n}})
	d, before, err := t.Store.Rows(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	whole := t.run(id)
	t.same("the tasks", d.Tasks, whole.Tasks)
	t.same("the run", d.Run, whole.Run)
	if len(d.Attempts)+len(d.Moves) > 0 {
		t.Fatalf("rows have %d attempts and %d moves, want none", len(d.Attempts), len(d.Moves))
	}
	as := func() scheduler.Ended {
		t.Helper()
		got, err := t.Store.AsOf(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := as(); got != before {
		t.Fatalf("got %+v, and %+v with the rows: nothing has changed", got, before)
	}
	for name, c := range map[string]scheduler.Change{
		"a move":                  {Moves: []scheduler.Move{{Run: id, Task: n.Tasks[0].Task, MapIndex: scheduler.NoMap, At: Epoch}}},
		"a move of a mapped task": {Moves: []scheduler.Move{{Run: id, Task: n.Tasks[0].Task, MapIndex: 3, At: Epoch}}},
		"the run":                 {Runs: []scheduler.Run{d.Run}},
	} {
		t.apply(&c)
		if got := as(); got == before {
			t.Fatalf("%s has changed, and the run is said to be as it was: %+v", name, got)
		} else {
			before = got
		}
	}
}
