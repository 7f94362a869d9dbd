package schedulertest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"millrace/scheduler"
)

// backfills is the part of the store that is about them. Its owner's mutex guards it.
type backfills struct {
	rows  map[string]scheduler.Backfill
	items map[string][]scheduler.BackfillItem // by backfill, in the order of N
}

func newBackfills() backfills {
	return backfills{rows: map[string]scheduler.Backfill{}, items: map[string][]scheduler.BackfillItem{}}
}

// backfills applies the parts of a change that never conflict.
func (t *tx) backfills(c *scheduler.Change) {
	for _, b := range c.Backfills {
		b.Counts = scheduler.BackfillCounts{}
		b.CreatedAt, b.EndedAt = kept(b.CreatedAt), kept(b.EndedAt)
		put(t, t.s.backfills.rows, b.ID, b)
		if items := slices.Clone(t.s.backfills.items[b.ID]); b.State == scheduler.BackfillCancelled && len(items) > 0 {
			for i := range items {
				if items[i].State == scheduler.StateQueued {
					items[i].State = scheduler.StateCancelled
				}
			}
			put(t, t.s.backfills.items, b.ID, items)
		}
	}
	for _, it := range c.Items {
		items := slices.Clone(t.s.backfills.items[it.Backfill])
		it = keptItem(it)
		if i := slices.IndexFunc(items, func(o scheduler.BackfillItem) bool { return o.N == it.N }); i >= 0 {
			items[i] = it
		} else {
			items = append(items, it)
			slices.SortFunc(items, func(a, b scheduler.BackfillItem) int { return cmp.Compare(a.N, b.N) })
		}
		put(t, t.s.backfills.items, it.Backfill, items)
	}
	for _, st := range c.ItemStates {
		items := slices.Clone(t.s.backfills.items[st.Backfill])
		for i := range items {
			if items[i].Run == st.Run && st.Run != "" {
				items[i].State = st.State
			}
		}
		if len(items) > 0 {
			put(t, t.s.backfills.items, st.Backfill, items)
		}
	}
}

func keptItem(it scheduler.BackfillItem) scheduler.BackfillItem {
	it.Batches, it.Due = slices.Clone(it.Batches), kept(it.Due)
	return it
}

// counted returns a row with its counts.
func (s *Store) counted(b scheduler.Backfill) scheduler.Backfill {
	for _, it := range s.backfills.items[b.ID] {
		b.Counts.Add(it.State, 1)
	}
	return b
}

func (s *Store) liveBackfills() []scheduler.LiveBackfill {
	var out []scheduler.LiveBackfill
	for _, b := range slices.SortedFunc(maps.Values(s.backfills.rows), byCreation) {
		if b.State.Ended() {
			continue
		}
		one := scheduler.LiveBackfill{Backfill: b}
		for _, it := range s.backfills.items[b.ID] {
			if it.State == scheduler.StateQueued || it.State == scheduler.StateRunning {
				one.Items = append(one.Items, keptItem(it))
			}
		}
		out = append(out, one)
	}
	return out
}

func byCreation(a, b scheduler.Backfill) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
}

// Backfills implements scheduler.BackfillStore.
func (s *Store) Backfills(_ context.Context, q scheduler.BackfillQuery) ([]scheduler.Backfill, string, error) {
	at, err := cursorOf("backfills", q.Before)
	if err != nil {
		return nil, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.SortedFunc(maps.Values(s.backfills.rows), byCreation)
	slices.Reverse(all)
	out, more := page(all, q.Limit, func(b *scheduler.Backfill) bool {
		return at.before(b.CreatedAt, b.ID) && (q.DAG == "" || b.DAG == q.DAG) && (q.State == "" || b.State == q.State)
	})
	for i := range out {
		out[i] = s.counted(out[i])
	}
	if !more {
		return out, "", nil
	}
	last := out[len(out)-1]
	return out, fmt.Sprint(micros(last.CreatedAt)) + "." + last.ID, nil
}

// Backfill implements scheduler.BackfillStore.
func (s *Store) Backfill(_ context.Context, id string) (*scheduler.Backfill, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.backfills.rows[id]
	if !ok {
		return nil, fmt.Errorf("find backfill %q: %w", id, scheduler.ErrNotFound)
	}
	b = s.counted(b)
	return &b, nil
}

// BackfillItems implements scheduler.BackfillStore.
func (s *Store) BackfillItems(_ context.Context, id string, n, limit int) ([]scheduler.BackfillItem, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, _ := page(s.backfills.items[id], limit, func(it *scheduler.BackfillItem) bool { return it.N >= n })
	for i := range out {
		out[i] = keptItem(out[i])
	}
	return out, nil
}

// PastBatches implements scheduler.BackfillStore.
func (s *Store) PastBatches(_ context.Context, dag string, batches []string) (map[string]scheduler.Past, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]scheduler.Past{}
	runs := s.byTime()
	for _, id := range batches {
		var p scheduler.Past
		for _, d := range s.dispositions[id] {
			if strings.HasPrefix(d.Rule, dag+"/") {
				p.Fates = append(p.Fates, d)
			}
		}
		for i := range runs {
			if r := &runs[i]; r.DAG == dag && slices.Contains(r.Batches, id) {
				p.Runs = append(p.Runs, pastRun(r))
			}
		}
		for b, items := range s.backfills.items {
			if row := s.backfills.rows[b]; row.DAG == dag && !row.State.Ended() && slices.ContainsFunc(items, func(it scheduler.BackfillItem) bool {
				return it.State == scheduler.StateQueued && slices.Contains(it.Batches, id)
			}) {
				p.Planned = b
			}
		}
		if len(p.Fates)+len(p.Runs) > 0 || p.Planned != "" {
			out[id] = p
		}
	}
	return out, nil
}

// PastRuns implements scheduler.BackfillStore.
func (s *Store) PastRuns(_ context.Context, dag string, ids []string) (map[string]scheduler.Past, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]scheduler.Past{}
	runs := slices.Collect(maps.Values(s.runs))
	slices.SortFunc(runs, func(a, b scheduler.Run) int { return cmp.Compare(a.Replay, b.Replay) })
	for i := range runs {
		of := cmp.Or(runs[i].ReplayOf, runs[i].ID)
		if runs[i].DAG == dag && slices.Contains(ids, of) {
			p := out[of]
			p.Runs = append(p.Runs, pastRun(&runs[i]))
			out[of] = p
		}
	}
	return out, nil
}

func pastRun(r *scheduler.Run) scheduler.Run {
	return scheduler.Run{ID: r.ID, State: r.State, Backfill: r.Backfill, CreatedAt: r.CreatedAt}
}
