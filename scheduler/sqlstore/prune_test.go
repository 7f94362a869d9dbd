package sqlstore

import (
	"errors"
	"maps"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/trigger"
)

func TestPrune(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	s.pruneStep = 20
	const all, covered = 120, 110
	c := &scheduler.Change{Cursors: []trigger.Cursor{{Stream: schedulertest.ExampleStream, Seq: covered}}}
	var runs []scheduler.Run
	for n := range all {
		a, r := change(n)
		r.Run.State, r.Run.EndedAt = scheduler.StateSuccess, r.Run.CreatedAt
		switch n {
		case 1:
			r.Run.State = scheduler.StateRunning
		case 2:
			a.Dispositions[0].Fate = trigger.FateHeld
		}
		c.Arrivals, c.NewRuns, runs = append(c.Arrivals, a), append(c.NewRuns, r), append(runs, r.Run)
		c.Moves = append(c.Moves, scheduler.Move{Run: r.Run.ID, To: r.Run.State, At: r.Run.CreatedAt})
	}
	if err := s.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	// Batch n is cut n s after the epoch: this removes what is below 115, but for what is needed or above the cursor.
	before := schedulertest.Epoch.Add(115 * time.Second)
	ended, err := s.Ended(t.Context(), before, all)
	if err != nil {
		t.Fatal(err)
	}
	s.cleanStep = 7 // less than a round has
	gone, err := s.Forget(t.Context(), ended, "")
	if err != nil || len(gone) != 114-1 {
		t.Fatalf("forgot %d runs, %v, want 113", len(gone), err)
	}
	if err := s.Clean(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	got, err := s.Prune(t.Context(), before)
	if want := (Pruned{Batches: covered + 1 - 2}); err != nil || got != want {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	for n, kept := range map[int]bool{0: false, 1: true, 2: true, 3: false, covered: false, covered + 1: true, all - 1: true} {
		_, err := s.Batch(t.Context(), runs[n].Batches[0])
		if kept != (err == nil) || err != nil && !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("batch %d: got %v, want kept: %v", n, err, kept)
		}
	}
	if d, err := s.Run(t.Context(), runs[1].ID); err != nil || len(d.Batches) != 1 || len(d.Tasks) != 1 || len(d.Moves) != 1 {
		t.Errorf("run 1: got %+v, %v, want it whole", d, err)
	}
	for _, table := range []string{"run", "task_instance", "run_input", "transition"} {
		var n int
		if err := s.readDB.QueryRow("SELECT COUNT(*) FROM " + table).Scan(&n); err != nil || n != all-113 {
			t.Errorf("%s: got %d rows, %v, want %d", table, n, err, all-113)
		}
	}
	kept, err := s.RunsKept(t.Context(), []string{runs[0].ID, runs[1].ID, "none", runs[all-1].ID})
	if want := map[string]bool{runs[1].ID: true, runs[all-1].ID: true}; err != nil || !maps.Equal(kept, want) {
		t.Errorf("runs kept: got %v, %v, want %v", kept, err, want)
	}
	if got, err := s.Prune(t.Context(), before); err != nil || got != (Pruned{}) {
		t.Errorf("again: got %+v, %v, want nothing", got, err)
	}
}

// A backfill that has ended is pruned with its items; the batches that one which is left is to run are not, whatever their age.
func TestPruneBackfills(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	c := &scheduler.Change{Cursors: []trigger.Cursor{{Stream: schedulertest.ExampleStream, Seq: 9}}}
	for n, state := range []scheduler.BackfillState{scheduler.BackfillDone, scheduler.BackfillPaused} {
		b := schedulertest.ExampleBatch(n + 1)
		row := scheduler.Backfill{BackfillSpec: scheduler.BackfillSpec{ID: string(state), DAG: "load"}, State: state, CreatedAt: schedulertest.Epoch}
		if state.Ended() {
			row.EndedAt = schedulertest.Epoch
		}
		c.Arrivals, c.Backfills = append(c.Arrivals, trigger.Arrival{Batch: b}), append(c.Backfills, row)
		c.Items = append(c.Items, scheduler.BackfillItem{Backfill: row.ID, State: scheduler.StateQueued, Batches: []string{b.ID}})
	}
	if err := s.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	got, err := s.Prune(t.Context(), schedulertest.Epoch.Add(time.Hour))
	if want := (Pruned{Backfills: 1, Batches: 1}); err != nil || got != want {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := s.Batch(t.Context(), schedulertest.ExampleBatch(2).ID); err != nil {
		t.Errorf("the batch that is to be run: %v", err)
	}
	for _, table := range []string{"backfill", "backfill_item", "backfill_input"} {
		var n int
		if err := s.readDB.QueryRow("SELECT COUNT(*) FROM " + table).Scan(&n); err != nil || n != 1 {
			t.Errorf("%s: got %d rows, %v, want 1", table, n, err)
		}
	}
}
