package schedulertest

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"millrace/scheduler"
)

// taskRows are the tasks of a run, in the order of insertion.
type taskRows struct {
	list []scheduler.TaskRun
	at   map[taskKey]int
}

type taskKey struct {
	task  string
	index int
}

func newTaskRows() *taskRows { return &taskRows{at: map[taskKey]int{}} }

func (r *taskRows) all() []scheduler.TaskRun {
	if r == nil {
		return nil
	}
	return r.list
}

func (r *taskRows) get(task string, index int) (scheduler.TaskRun, bool) {
	i, ok := r.at[taskKey{task, index}]
	if !ok {
		return scheduler.TaskRun{}, false
	}
	return r.list[i], true
}

// set puts a row, and returns how to undo that, the last first.
func (r *taskRows) set(k scheduler.TaskRun) (undo func()) {
	key := taskKey{k.Task, k.MapIndex}
	if i, ok := r.at[key]; ok {
		old := r.list[i]
		r.list[i] = k
		return func() { r.list[i] = old }
	}
	r.at[key] = len(r.list)
	r.list = append(r.list, k)
	return func() {
		delete(r.at, key)
		r.list = r.list[:len(r.list)-1]
	}
}

// cloneMapped lets a row share nothing of what mapped tasks have.
func cloneMapped(k scheduler.TaskRun) scheduler.TaskRun {
	if k.Item != nil {
		item := *k.Item
		item.Value = slices.Clone(item.Value)
		k.Item = &item
	}
	if k.Map != nil {
		m := *k.Map
		k.Map = &m
	}
	return k
}

// Rows implements scheduler.MappedStore.
func (s *Store) Rows(ctx context.Context, id string) (*scheduler.RunDetail, scheduler.Ended, error) {
	d, err := s.Run(ctx, id)
	if err != nil {
		return nil, scheduler.Ended{}, err
	}
	d.Attempts, d.Moves = nil, nil
	as, err := s.AsOf(ctx, id)
	return d, as, err
}

// AsOf implements scheduler.MappedStore.
func (s *Store) AsOf(_ context.Context, id string) (scheduler.Ended, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.runs[id]
	if !ok {
		return scheduler.Ended{}, fmt.Errorf("find run %q: %w", id, scheduler.ErrNotFound)
	}
	return s.ended(&r), nil
}

// Look implements scheduler.MappedStore.
func (s *Store) Look(ctx context.Context, id string) (*scheduler.RunDetail, error) {
	d, err := s.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	d.Tasks = slices.DeleteFunc(d.Tasks, func(t scheduler.TaskRun) bool {
		if t.MapIndex == scheduler.NoMap {
			return false
		}
		if d.Mapped == nil {
			d.Mapped = map[string]map[scheduler.State]int{}
		}
		if d.Mapped[t.Task] == nil {
			d.Mapped[t.Task] = map[scheduler.State]int{}
		}
		d.Mapped[t.Task][t.State]++
		return true
	})
	d.Attempts = slices.DeleteFunc(d.Attempts, func(a scheduler.Attempt) bool { return a.MapIndex != scheduler.NoMap })
	d.Moves = slices.DeleteFunc(d.Moves, func(m scheduler.Move) bool { return m.MapIndex != scheduler.NoMap })
	return d, nil
}

// Mapped implements scheduler.MappedStore.
func (s *Store) Mapped(_ context.Context, q scheduler.MappedQuery) ([]scheduler.TaskRun, string, error) {
	after := -1
	if q.After != "" {
		var err error
		if after, err = strconv.Atoi(q.After); err != nil {
			return nil, "", fmt.Errorf("read mapped tasks after %q: %w: not a cursor", q.After, scheduler.ErrInvalid)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := slices.Clone(s.tasks[q.Run].all())
	slices.SortFunc(rows, func(a, b scheduler.TaskRun) int { return a.MapIndex - b.MapIndex })
	out, more := page(rows, q.Limit, func(t *scheduler.TaskRun) bool {
		return t.Task == q.Task && t.MapIndex != scheduler.NoMap && t.MapIndex > after && (q.State == "" || t.State == q.State)
	})
	for i := range out {
		out[i] = keptTask(out[i])
	}
	if !more {
		return out, "", nil
	}
	return out, strconv.Itoa(out[len(out)-1].MapIndex), nil
}

// Task implements scheduler.MappedStore.
func (s *Store) Task(_ context.Context, run, task string, index int) (*scheduler.TaskDetail, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var t scheduler.TaskRun
	ok := false
	if rows := s.tasks[run]; rows != nil {
		t, ok = rows.get(task, index)
	}
	if !ok {
		return nil, fmt.Errorf("find task %q of run %q: %w", scheduler.TaskName(task, index), run, scheduler.ErrNotFound)
	}
	d := &scheduler.TaskDetail{Task: keptTask(t)}
	for _, a := range s.attempts {
		if a.Run == run && a.Task == task && a.MapIndex == index {
			d.Attempts = append(d.Attempts, a)
		}
	}
	slices.SortFunc(d.Attempts, func(a, b scheduler.Attempt) int { return a.Try - b.Try })
	return d, nil
}
