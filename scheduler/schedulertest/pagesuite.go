package schedulertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
)

func testRunPages(t *storeTest) {
	var want []string
	for n := range 25 {
		c, _, _ := started(n)
		r := &c.NewRuns[0].Run
		r.CreatedAt = Epoch.Add(time.Duration(n/5) * time.Second) // Five share a time.
		if n%2 == 0 {
			r.State, r.DAG = scheduler.StateSuccess, "even"
		}
		want = append(want, fmt.Sprintf("%d %s", r.CreatedAt.UnixMicro(), r.ID))
		t.apply(c)
	}
	slices.Sort(want)
	slices.Reverse(want)
	var got []string
	pages := 0
	for before := ""; ; pages++ {
		page, next, err := t.Runs(t.Context(), scheduler.RunQuery{Limit: 4, Before: before})
		if err != nil {
			t.Fatalf("runs: %v", err)
		}
		for _, r := range page {
			got = append(got, fmt.Sprintf("%d %s", r.CreatedAt.UnixMicro(), r.ID))
			if len(r.Batches) != 1 {
				t.Fatalf("run %s has batches %v, want one", r.ID, r.Batches)
			}
		}
		if before = next; next == "" {
			break
		}
	}
	t.same("runs", got, want)
	if pages != 6 {
		t.Errorf("got %d further pages, want 6", pages)
	}
	for _, q := range []scheduler.RunQuery{{DAG: "even"}, {State: scheduler.StateSuccess}, {DAG: "even", State: scheduler.StateSuccess}} {
		if page, next, err := t.Runs(t.Context(), q); err != nil || len(page) != 13 || next != "" {
			t.Errorf("%+v: got %d runs, %q, %v, want 13", q, len(page), next, err)
		}
	}
	testOneRun(t, strings.Fields(want[0])[1])
	if c, ok := t.Store.(interface {
		CountRuns(context.Context) (map[scheduler.State]int64, error)
	}); ok {
		got, err := c.CountRuns(t.Context())
		if err != nil {
			t.Fatalf("count: %v", err)
		}
		t.same("counts", got, map[scheduler.State]int64{scheduler.StateSuccess: 13, scheduler.StateQueued: 12})
	}
	if _, _, err := t.Runs(t.Context(), scheduler.RunQuery{Before: "nonsense"}); !errors.Is(err, scheduler.ErrInvalid) {
		t.Errorf("cursor of nonsense: got %v, want ErrInvalid", err)
	}
}

func testBatchPages(t *storeTest) {
	var arrivals []trigger.Arrival
	for n := range 10 {
		arrivals = append(arrivals, trigger.Arrival{Batch: ExampleBatch(n)})
	}
	wide := ExampleBatch(3) // another lane of the same stream, over the same offsets
	wide.ID, wide.Source, wide.First, wide.Last = batcher.BatchID(ExampleStream, 3, 1, Epoch), "other", 250, 620
	t.apply(&scheduler.Change{Arrivals: append(arrivals, trigger.Arrival{Batch: wide})})
	ids := func(q scheduler.BatchQuery) (out []int64, next string) {
		t.Helper()
		page, next, err := t.Batches(t.Context(), q)
		if err != nil {
			t.Fatalf("batches: %v", err)
		}
		for _, b := range page {
			out = append(out, b.First)
		}
		return out, next
	}
	got, next := ids(scheduler.BatchQuery{Source: "web", Limit: 6})
	t.same("first page", got, []int64{900, 800, 700, 600, 500, 400})
	got, next = ids(scheduler.BatchQuery{Source: "web", Limit: 6, Before: next})
	t.same("second page", got, []int64{300, 200, 100, 0})
	if next != "" {
		t.Errorf("got cursor %q after the last page, want none", next)
	}
	for offset, want := range map[int64][]int64{0: {0}, 250: {200, 250}, 399: {300, 250}, 620: {600, 250}, 621: {600}, 999: {900}, 1000: nil} {
		got, _ := ids(scheduler.BatchQuery{Stream: ExampleStream, Offset: offset})
		slices.Sort(got)
		slices.Sort(want)
		t.same(fmt.Sprintf("offset %d", offset), got, want)
	}
	if got, _ := ids(scheduler.BatchQuery{Tenant: "nobody"}); len(got) != 0 {
		t.Errorf("got %v of an unknown tenant, want none", got)
	}
}
