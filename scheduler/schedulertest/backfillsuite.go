package schedulertest

import (
	"errors"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
)

// replayOf is the n'th replay of an example run, made n seconds after it.
func replayOf(r scheduler.NewRun, b batcher.Batch, n int, backfill string) scheduler.NewRun {
	f := trigger.Firing{Kind: trigger.KindBatch, DAG: r.Run.DAG, Rule: r.Run.Trigger.Rule, Key: b.ID, Replay: n}
	out := ExampleRun(b)
	out.Run.ID, out.Run.Replay, out.Run.ReplayOf, out.Run.Backfill, out.Run.NoEmit = f.RunID(), n, r.Run.ID, backfill, n%2 == 1
	out.Run.CreatedAt = r.Run.CreatedAt.Add(time.Duration(n) * time.Second)
	for i := range out.Tasks {
		out.Tasks[i].Run = out.Run.ID
	}
	return out
}

func testReplays(t *storeTest) {
	c, b, r := started(1)
	first, second := replayOf(r, b, 1, "fill"), replayOf(r, b, 2, "")
	other, _, _ := started(2)
	c.Arrivals, c.NewRuns = append(c.Arrivals, other.Arrivals...), append(c.NewRuns, other.NewRuns[0], first, second)
	t.apply(c)
	t.reopen()
	for _, tt := range []struct {
		query scheduler.RunQuery
		want  []string
	}{
		{scheduler.RunQuery{ReplayOf: r.Run.ID}, []string{second.Run.ID, first.Run.ID}},
		{scheduler.RunQuery{Backfill: "fill"}, []string{first.Run.ID}},
		{scheduler.RunQuery{Backfill: "other"}, nil},
	} {
		page, _, err := t.Runs(t.Context(), tt.query)
		if err != nil {
			t.Fatalf("runs: %v", err)
		}
		var got []string
		for i := range page {
			got = append(got, page[i].ID)
		}
		t.same("runs", got, tt.want)
	}
	if got := t.run(first.Run.ID).Run; got.Backfill != "fill" || !got.NoEmit || got.Replay != 1 || got.ReplayOf != r.Run.ID {
		t.Errorf("got %+v", got)
	}
}

// exampleBackfill has two items: the first is under way as run, the second waits.
func exampleBackfill(id string, at time.Time, run string, first, second batcher.Batch) (scheduler.Backfill, []scheduler.BackfillItem) {
	b := scheduler.Backfill{
		BackfillSpec: scheduler.BackfillSpec{
			ID: id, DAG: "load", Rule: "clicks", Reprocess: scheduler.ReprocessAll, Group: 1, MaxActive: 1, Order: scheduler.OrderOldest,
			Selection: scheduler.Selection{Stream: ExampleStream, FromSeq: 1, ToSeq: 2}, By: "ann",
		},
		Version: "v1", State: scheduler.BackfillRunning, CreatedAt: at,
	}
	return b, []scheduler.BackfillItem{
		{Backfill: id, N: 0, State: scheduler.StateRunning, Run: run, Kind: trigger.KindBatch, Rule: "clicks", Key: first.ID, Batches: []string{first.ID}},
		{Backfill: id, N: 1, State: scheduler.StateQueued, Kind: trigger.KindBatch, Rule: "clicks", Key: second.ID, Batches: []string{second.ID}},
	}
}

func testBackfills(t *storeTest) {
	b1, b2 := ExampleBatch(1), ExampleBatch(2)
	old, oldItems := exampleBackfill("old", Epoch, "r1", b1, b2)
	old.State, old.EndedAt = scheduler.BackfillDone, Epoch.Add(time.Hour)
	oldItems[0].State, oldItems[1].State = scheduler.StateSuccess, scheduler.StateSkipped
	row, items := exampleBackfill("new", Epoch.Add(time.Second), "r2", b1, b2)
	t.apply(&scheduler.Change{Backfills: []scheduler.Backfill{old, row}, Items: append(oldItems, items...)})
	t.reopen()

	snap, err := t.Load(t.Context())
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	t.same("live", snap.Backfills, []scheduler.LiveBackfill{{Backfill: row, Items: items}})
	row.Counts = scheduler.BackfillCounts{Total: 2, Waiting: 1, Running: 1}
	old.Counts = scheduler.BackfillCounts{Total: 2, Success: 1, Skipped: 1}
	page, next, err := t.Backfills(t.Context(), scheduler.BackfillQuery{Limit: 1})
	if err != nil || next == "" {
		t.Fatalf("backfills: %q, %v", next, err)
	}
	t.same("page", page, []scheduler.Backfill{row})
	if page, next, err = t.Backfills(t.Context(), scheduler.BackfillQuery{Limit: 1, Before: next}); err != nil || next != "" {
		t.Fatalf("backfills: %q, %v", next, err)
	}
	t.same("last page", page, []scheduler.Backfill{old})
	if page, _, err = t.Backfills(t.Context(), scheduler.BackfillQuery{State: scheduler.BackfillDone, DAG: "other"}); err != nil || len(page) > 0 {
		t.Errorf("of another DAG: got %v, %v", page, err)
	}
	if _, _, err := t.Backfills(t.Context(), scheduler.BackfillQuery{Before: "x"}); !errors.Is(err, scheduler.ErrInvalid) {
		t.Errorf("cursor of nonsense: got %v, want ErrInvalid", err)
	}
	if _, err := t.Backfill(t.Context(), "none"); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}

	// A state by run finds its item alone; one that is replaced keeps its place.
	items[1].State, items[1].Reason = scheduler.StateSkipped, "no need"
	row.State, row.Counts, row.Reason = scheduler.BackfillPaused, scheduler.BackfillCounts{}, "paused by ann"
	t.apply(&scheduler.Change{
		Backfills: []scheduler.Backfill{row}, Items: items[1:],
		ItemStates: []scheduler.ItemState{{Backfill: "new", Run: "r2", State: scheduler.StateFailed}, {Backfill: "old", Run: "", State: scheduler.StateFailed}},
	})
	items[0].State = scheduler.StateFailed
	got, err := t.BackfillItems(t.Context(), "new", 0, 0)
	if err != nil {
		t.Fatalf("items: %v", err)
	}
	t.same("items", got, items)
	if got, err = t.BackfillItems(t.Context(), "new", 1, 1); err != nil || len(got) != 1 || got[0].N != 1 {
		t.Errorf("items from 1: got %v, %v", got, err)
	}
	one, err := t.Backfill(t.Context(), "new")
	if err != nil {
		t.Fatalf("backfill: %v", err)
	}
	row.Counts = scheduler.BackfillCounts{Total: 2, Failed: 1, Skipped: 1}
	t.same("backfill", *one, row)
}

func testBackfillCancelled(t *storeTest) {
	row, items := exampleBackfill("fill", Epoch, "r1", ExampleBatch(1), ExampleBatch(2))
	t.apply(&scheduler.Change{Backfills: []scheduler.Backfill{row}, Items: items})
	row.State, row.EndedAt = scheduler.BackfillCancelled, Epoch.Add(time.Hour)
	t.apply(&scheduler.Change{Backfills: []scheduler.Backfill{row}})
	got, err := t.Backfill(t.Context(), "fill")
	if err != nil {
		t.Fatalf("backfill: %v", err)
	}
	row.Counts = scheduler.BackfillCounts{Total: 2, Running: 1, Cancelled: 1}
	t.same("backfill", *got, row)
	if snap, err := t.Load(t.Context()); err != nil || len(snap.Backfills) > 0 {
		t.Errorf("load: got %v, %v, want no backfill", snap.Backfills, err)
	}
}

func testPast(t *storeTest) {
	c, b, r := started(1)
	again := replayOf(r, b, 1, "")
	second, other := ExampleBatch(2), ExampleBatch(3)
	row, items := exampleBackfill("fill", Epoch, r.Run.ID, b, second)
	c.NewRuns = append(c.NewRuns, again)
	c.Arrivals = append(c.Arrivals, trigger.Arrival{Batch: second}, trigger.Arrival{Batch: other})
	c.Backfills, c.Items = []scheduler.Backfill{row}, items
	t.apply(c)
	short := func(n scheduler.NewRun) scheduler.Run {
		return scheduler.Run{ID: n.Run.ID, State: n.Run.State, CreatedAt: n.Run.CreatedAt}
	}
	runs := []scheduler.Run{short(r), short(again)}
	got, err := t.PastBatches(t.Context(), "load", []string{b.ID, second.ID, other.ID})
	if err != nil {
		t.Fatalf("past batches: %v", err)
	}
	t.same("past of batches", got, map[string]scheduler.Past{
		b.ID: {Fates: arrival(b, r.Run).Dispositions, Runs: runs}, second.ID: {Planned: "fill"},
	})
	if got, err = t.PastBatches(t.Context(), "loa", []string{b.ID, second.ID}); err != nil || len(got) > 0 {
		t.Errorf("of another DAG: got %v, %v", got, err)
	}
	if got, err = t.PastRuns(t.Context(), "load", []string{r.Run.ID, "none"}); err != nil {
		t.Fatalf("past runs: %v", err)
	}
	t.same("past of runs", got, map[string]scheduler.Past{r.Run.ID: {Runs: runs}})
}
