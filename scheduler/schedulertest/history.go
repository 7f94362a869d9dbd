package schedulertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/scheduler"
	"millrace/trigger"
)

var _ scheduler.History = (*Store)(nil)

// ended describes a run; mu is held.
func (s *Store) ended(r *scheduler.Run) scheduler.Ended {
	e := scheduler.Ended{ID: r.ID, EndedAt: r.EndedAt, Rev: r.Rev}
	for i := range s.moves {
		if s.moves[i].Run == r.ID {
			e.Moves = int64(i + 1)
		}
	}
	return e
}

// Ended implements scheduler.History.
func (s *Store) Ended(_ context.Context, before time.Time, limit int) ([]scheduler.Ended, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []scheduler.Ended
	for _, r := range s.runs {
		if r.State.Terminal() && r.EndedAt.Before(before) && r.NextDeadline().IsZero() {
			out = append(out, s.ended(&r))
		}
	}
	slices.SortFunc(out, func(a, b scheduler.Ended) int { return cmp.Or(a.EndedAt.Compare(b.EndedAt), cmp.Compare(a.ID, b.ID)) })
	return out[:min(limit, len(out))], nil
}

// PastRun implements scheduler.History.
func (s *Store) PastRun(ctx context.Context, id string) (*scheduler.PastRun, error) {
	d, err := s.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	p := &scheduler.PastRun{RunDetail: *d}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range d.Run.Batches {
		for _, x := range s.dispositions[b] {
			if x.Run == id {
				p.Dispositions = append(p.Dispositions, x)
			}
		}
	}
	return p, nil
}

// Forget implements scheduler.History.
func (s *Store) Forget(_ context.Context, runs []scheduler.Ended, object string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []string
	for _, e := range runs {
		if r, ok := s.runs[e.ID]; ok && r.State.Terminal() && r.NextDeadline().IsZero() && s.ended(&r) == e {
			delete(s.runs, e.ID)
			s.archived[e.ID], s.leftover[e.ID] = object, true
			gone = append(gone, e.ID)
		}
	}
	return gone, nil
}

// Leftovers implements scheduler.History.
func (s *Store) Leftovers(_ context.Context, limit int) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for id := range s.leftover {
		out = append(out, id)
	}
	slices.Sort(out)
	return out[:min(limit, len(out))], nil
}

// Clean implements scheduler.History.
func (s *Store) Clean(_ context.Context, runs []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range runs {
		if _, back := s.runs[id]; back || !s.leftover[id] {
			continue
		}
		delete(s.leftover, id)
		delete(s.tasks, id)
		for k, a := range s.attempts {
			if a.Run == id {
				delete(s.attempts, k)
			}
		}
		for i := range s.moves { // their places count
			if s.moves[i].Run == id {
				s.moves[i] = scheduler.Move{}
			}
		}
	}
	return nil
}

// Known implements scheduler.History.
func (s *Store) Known(_ context.Context, ids []string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		_, there := s.runs[id]
		_, was := s.archived[id]
		return !there && !was
	}), nil
}

// Archived implements scheduler.History.
func (s *Store) Archived(_ context.Context, id string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object, ok := s.archived[id]
	if !ok {
		return "", fmt.Errorf("find run %q: %w", id, scheduler.ErrNotFound)
	}
	return object, nil
}

// testHistory: runs that ended are forgotten as they were or not at all, oldest end first, and what is left of them is removed by and by.
func testHistory(t *storeTest) {
	h, ok := t.Store.(scheduler.History)
	if !ok {
		t.Fatal("the store is no scheduler.History")
	}
	ctx := t.Context()
	var ids []string
	for n := range 4 {
		c, b, r := started(n)
		run := &c.NewRuns[0].Run
		run.EndedAt = Epoch.Add(time.Duration(4-n) * time.Hour)
		if run.State = scheduler.StateSuccess; n == 3 {
			run.State = scheduler.StateRunning
		}
		c.Moves = []scheduler.Move{{Run: run.ID, MapIndex: scheduler.NoMap, To: run.State, At: run.EndedAt}}
		c.Arrivals[0].Dispositions = []trigger.Disposition{{Batch: b.ID, Rule: "load/new", Fate: trigger.FateRun, Run: run.ID, At: Epoch}}
		t.apply(c)
		ids = append(ids, r.Run.ID)
	}
	ended := func(before time.Time, limit int) []scheduler.Ended { return t.ended(h, before, limit) }
	t.same("what ended", namesOf(ended(Epoch.Add(100*time.Hour), 10)), []string{ids[2], ids[1], ids[0]})
	t.same("with a limit", namesOf(ended(Epoch.Add(100*time.Hour), 2)), []string{ids[2], ids[1]})
	t.same("before a time", namesOf(ended(Epoch.Add(3*time.Hour), 10)), []string{ids[2]})
	past, err := h.PastRun(ctx, ids[2])
	if err != nil || len(past.Dispositions) != 1 || past.Dispositions[0].Rule != "load/new" || len(past.Tasks) == 0 || len(past.Batches) != 1 {
		t.Fatalf("got %+v, %v", past, err)
	}

	list := ended(Epoch.Add(100*time.Hour), 10)
	changed := t.run(ids[1]).Run
	t.apply(&scheduler.Change{Runs: []scheduler.Run{changed}})
	moved := scheduler.Move{Run: ids[0], MapIndex: scheduler.NoMap, To: scheduler.StateSuccess, Reason: "marked", At: Epoch}
	t.apply(&scheduler.Change{Moves: []scheduler.Move{moved}})
	gone, err := h.Forget(ctx, list, "k1")
	if err != nil {
		t.Fatal(err)
	}
	t.same("what was forgotten", gone, []string{ids[2]})
	if _, err := t.Run(ctx, ids[2]); !errors.Is(err, scheduler.ErrNotFound) {
		t.Fatalf("got %v of a run that was forgotten, want ErrNotFound", err)
	}
	t.reopen()
	h = t.Store.(scheduler.History)
	left, err := h.Leftovers(ctx, 10)
	if err != nil {
		t.Fatal(err)
	}
	t.same("the leftovers", left, []string{ids[2]})
	for range 2 {
		if err := h.Clean(ctx, []string{ids[2], ids[3], "none"}); err != nil {
			t.Fatal(err)
		}
	}
	if left, err = h.Leftovers(ctx, 10); err != nil || len(left) > 0 {
		t.Fatalf("got %v, %v after the cleaning", left, err)
	}
	if d := t.run(ids[3]); len(d.Tasks) == 0 || len(d.Moves) != 1 {
		t.Fatalf("a run that is live was cleaned away: %+v", d)
	}
	known, err := h.Known(ctx, []string{"none", ids[3], "", ids[2]})
	slices.Sort(known)
	want := []string{ids[2], ids[3]}
	if slices.Sort(want); err != nil || !slices.Equal(known, want) {
		t.Fatalf("got %v, %v, want the run that is there and the one that was", known, err)
	}
	if known, err = h.Known(ctx, nil); err != nil || len(known) != 0 {
		t.Fatalf("got %v, %v of none", known, err)
	}
	if object, err := h.Archived(ctx, ids[2]); err != nil || object != "k1" {
		t.Fatalf("got %q, %v", object, err)
	}
	if _, err := h.Archived(ctx, ids[3]); !errors.Is(err, scheduler.ErrNotFound) {
		t.Fatalf("got %v of a run that is there, want ErrNotFound", err)
	}
	if gone, err = h.Forget(ctx, ended(Epoch.Add(100*time.Hour), 10), ""); err != nil || len(gone) != 2 {
		t.Fatalf("got %v, %v", gone, err)
	}
}

func (t *storeTest) ended(h scheduler.History, before time.Time, limit int) []scheduler.Ended {
	t.Helper()
	out, err := h.Ended(t.Context(), before, limit)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func namesOf(list []scheduler.Ended) (out []string) {
	for _, e := range list {
		out = append(out, e.ID)
	}
	return out
}
