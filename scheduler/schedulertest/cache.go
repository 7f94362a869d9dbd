package schedulertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/scheduler"
)

var _ scheduler.CacheReader = (*Store)(nil)

// Cached implements scheduler.CacheReader.
func (s *Store) Cached(_ context.Context, id string) (*scheduler.Cached, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.cached[id]
	if !ok {
		return nil, fmt.Errorf("find cached output %s: %w", id, scheduler.ErrNotFound)
	}
	e = keptCached(e)
	return &e, nil
}

func keptCached(e scheduler.Cached) scheduler.Cached {
	e.CreatedAt, e.ExpiresAt = kept(e.CreatedAt), kept(e.ExpiresAt)
	e.Output, e.OutputRef = slices.Clone(e.Output), cloneRef(e.OutputRef)
	return e
}

func cloneRef(ref *scheduler.OutputRef) *scheduler.OutputRef {
	if ref == nil {
		return nil
	}
	out := *ref
	return &out
}

// testOutputs: a row keeps where an output is and whose it was, and the cache has what was written last, in the same transaction or not at all.
func testOutputs(t *storeTest) {
	cache, ok := t.Store.(scheduler.CacheReader)
	if !ok {
		t.Fatal("the store is no scheduler.CacheReader")
	}
	c, _, r := started(1)
	t.apply(c)
	if _, err := cache.Cached(t.Context(), "k1"); !errors.Is(err, scheduler.ErrNotFound) {
		t.Fatalf("got %v of an empty cache, want ErrNotFound", err)
	}
	task := t.run(r.Run.ID).Tasks[0]
	task.OutputRef = &scheduler.OutputRef{Ref: "_millrace/outputs/dt=2026-01-01/x.json", SHA256: "aa", Bytes: 70_000}
	task.CachedFrom, task.NoCache = "r1/load.2", true
	entry := scheduler.Cached{
		ID: "k1", DAG: "load", Task: task.Task, From: task.ID(), Try: 2, Output: []byte(`{"n":1}`), OutputRef: task.OutputRef,
		CreatedAt: Epoch, ExpiresAt: Epoch.Add(time.Hour),
	}
	t.apply(&scheduler.Change{Tasks: []scheduler.TaskRun{task}, Cached: []scheduler.Cached{entry}})
	t.reopen()
	cache = t.Store.(scheduler.CacheReader)
	task.Rev++
	t.same("the task", t.run(r.Run.ID).Tasks[0], task)
	got, err := cache.Cached(t.Context(), "k1")
	if err != nil {
		t.Fatal(err)
	}
	t.same("the entry", *got, entry)

	old := task
	old.Rev = 1
	newer := entry
	newer.Output, newer.OutputRef, newer.Try = nil, nil, 3
	if err := t.Apply(t.Context(), &scheduler.Change{Tasks: []scheduler.TaskRun{old}, Cached: []scheduler.Cached{newer}}); !errors.Is(err, scheduler.ErrConflict) {
		t.Fatalf("got %v, want ErrConflict", err)
	}
	if got, err = cache.Cached(t.Context(), "k1"); err != nil || got.Try != 2 {
		t.Fatalf("got %+v, %v after a change that failed, want the entry as it was", got, err)
	}
	t.apply(&scheduler.Change{Cached: []scheduler.Cached{newer}})
	if got, err = cache.Cached(t.Context(), "k1"); err != nil {
		t.Fatal(err)
	}
	t.same("the entry that replaced it", *got, newer)
}
