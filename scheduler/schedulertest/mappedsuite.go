package schedulertest

import (
	"encoding/json"
	"errors"
	"fmt"

	"millrace/scheduler"
)

// testMapped gives a run mapped tasks: they are pages of one task, counted where the run is looked at, and all there for what goes on with it.
func testMapped(t *storeTest) {
	defer t.rows(ExampleRun(ExampleBatch(2)))
	const rows = 70
	b := ExampleBatch(1)
	n := ExampleRun(b)
	n.Tasks[1].Map = &scheduler.Mapping{Count: rows, Made: 2, Digest: "d"}
	mapped := func(i int) scheduler.TaskRun {
		k := n.Tasks[1]
		k.MapIndex, k.Map = i, nil
		k.Item = &scheduler.Item{Value: json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))}
		if i == 3 {
			k.Item.Key = "three"
		}
		return k
	}
	n.Tasks = append(n.Tasks, mapped(0), mapped(1))
	t.apply(&scheduler.Change{NewRuns: []scheduler.NewRun{n}})
	whole := n.Tasks[1]
	whole.Rev, whole.State, whole.Map = 1, scheduler.StateDeferred, &scheduler.Mapping{Count: rows, Made: rows, Digest: "d", Failed: 1}
	more := &scheduler.Change{Tasks: []scheduler.TaskRun{whole}}
	for i := 2; i < rows; i++ {
		more.Tasks = append(more.Tasks, mapped(i))
	}
	own := scheduler.Attempt{ID: n.Tasks[0].AttemptID(1), Run: n.Run.ID, Task: "check", MapIndex: scheduler.NoMap, Try: 1, State: scheduler.StateSuccess, CreatedAt: Epoch}
	k := mapped(3)
	other := scheduler.Attempt{ID: k.AttemptID(1), Run: n.Run.ID, Task: "load", MapIndex: 3, Try: 1, State: scheduler.StateFailed, CreatedAt: Epoch}
	more.Attempts = []scheduler.Attempt{own, other}
	more.Moves = []scheduler.Move{
		{Run: n.Run.ID, Task: "load", MapIndex: scheduler.NoMap, From: scheduler.StateScheduled, To: scheduler.StateDeferred, At: Epoch},
		{Run: n.Run.ID, Task: "load", MapIndex: 3, From: scheduler.StateNone, To: scheduler.StateScheduled, At: Epoch},
	}
	t.apply(more)
	k.Rev, k.State, k.Try = 1, scheduler.StateFailed, 1
	t.apply(&scheduler.Change{Tasks: []scheduler.TaskRun{k}})
	if err := t.Apply(t.Context(), &scheduler.Change{Tasks: []scheduler.TaskRun{mapped(rows), mapped(3)}}); !errors.Is(err, scheduler.ErrConflict) {
		t.Errorf("a row that is there was inserted: %v", err)
	}
	t.reopen()

	d, err := t.Look(t.Context(), n.Run.ID)
	if err != nil {
		t.Fatal(err)
	}
	whole.Rev = 2
	check := n.Tasks[0]
	check.Rev = 1
	t.same("tasks that are not mapped", d.Tasks, []scheduler.TaskRun{check, whole})
	t.same("counts", d.Mapped, map[string]map[scheduler.State]int{"load": {scheduler.StateNone: rows - 1, scheduler.StateFailed: 1}})
	t.same("their attempts", d.Attempts, []scheduler.Attempt{own})
	t.same("their moves", d.Moves, more.Moves[:1])
	t.same("batches of a run without any in the ledger", len(d.Batches), 0)
	if all := t.run(n.Run.ID); len(all.Tasks) != rows+2 || len(all.Attempts) != 2 || len(all.Moves) != 2 || all.Mapped != nil {
		t.Errorf("the whole run has %d tasks, %d attempts, %d moves, %v", len(all.Tasks), len(all.Attempts), len(all.Moves), all.Mapped)
	}
	t.testMappedPages(n.Run.ID, rows)
	k.Rev = 2
	one, err := t.Task(t.Context(), n.Run.ID, "load", 3)
	if err != nil {
		t.Fatal(err)
	}
	t.same("one mapped task", one, &scheduler.TaskDetail{Task: k, Attempts: []scheduler.Attempt{other}})
	for _, name := range []string{"lad", "load"} {
		if _, err := t.Task(t.Context(), n.Run.ID, name, rows); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("task %s/%d: got %v", name, rows, err)
		}
	}
}

// testMappedPages reads the mapped tasks in pages, all and by state.
func (t *storeTest) testMappedPages(run string, rows int) {
	t.Helper()
	seen := 0
	for q := (scheduler.MappedQuery{Run: run, Task: "load", Limit: 30}); ; {
		page, next, err := t.Mapped(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for i := range page {
			if page[i].MapIndex != seen || string(page[i].Item.Value) != fmt.Sprintf(`{"n":%d}`, seen) {
				t.Fatalf("row %d is %+v", seen, page[i])
			}
			seen++
		}
		if q.After = next; next == "" {
			break
		}
	}
	if seen != rows {
		t.Errorf("the pages have %d rows, want %d", seen, rows)
	}
	failed, next, err := t.Mapped(t.Context(), scheduler.MappedQuery{Run: run, Task: "load", State: scheduler.StateFailed})
	if err != nil || next != "" || len(failed) != 1 || failed[0].Item.Key != "three" {
		t.Errorf("got %+v, %q, %v, want the one that failed", failed, next, err)
	}
	if _, _, err := t.Mapped(t.Context(), scheduler.MappedQuery{Run: run, Task: "load", After: "x"}); !errors.Is(err, scheduler.ErrInvalid) {
		t.Errorf("got %v for a cursor that is none", err)
	}
}
