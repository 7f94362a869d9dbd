package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
)

// listMapped answers with a page of the mapped tasks of one task.
func (s *Server) listMapped(c echo.Context) error {
	if s.d.Store == nil {
		return errNoSchedule
	}
	limit, err := number(c, "limit", 1, 1000, 100)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	q := scheduler.MappedQuery{
		Run: param(c, "run"), Task: c.QueryParam("task"), State: scheduler.State(c.QueryParam("state")), After: c.QueryParam("before"), Limit: int(limit),
	}
	if _, err := s.d.Store.Task(ctx, q.Run, q.Task, scheduler.NoMap); err != nil {
		return err
	}
	rows, next, err := s.d.Store.Mapped(ctx, q)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page[task]{Items: tasksOf(rows), Next: next})
}

// look reads what is to be known of a task: of a mapped one nothing else of its run, which may have a hundred thousand.
func (f *follower) look(ctx context.Context, k key) (*scheduler.RunDetail, error) {
	if k.mapIndex == scheduler.NoMap {
		return f.s.d.Store.Look(ctx, f.q.run)
	}
	return f.s.alone(ctx, f.q.run, k)
}

// alone returns a run with one of its tasks, and the attempts of that.
func (s *Server) alone(ctx context.Context, run string, k key) (*scheduler.RunDetail, error) {
	runs, _, err := s.d.Store.Runs(ctx, scheduler.RunQuery{ID: run})
	if err == nil && len(runs) == 0 {
		err = fmt.Errorf("find run %q: %w", run, scheduler.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	t, err := s.d.Store.Task(ctx, run, k.task, k.mapIndex)
	if err != nil {
		return nil, err
	}
	return &scheduler.RunDetail{Run: runs[0], Tasks: []scheduler.TaskRun{t.Task}, Attempts: t.Attempts}, nil
}

// maxLogs is how many mapped tasks are in the log of the task that they are of; who wants another asks for it.
const maxLogs = 100

// mapped copies the output of the mapped tasks of a task, if it has some: first of those that failed.
func (f *follower) mapped(ctx context.Context, k key) error {
	if k.mapIndex != scheduler.NoMap || f.q.try > 0 {
		return nil
	}
	bad, _, err := f.s.d.Store.Mapped(ctx, scheduler.MappedQuery{Run: f.q.run, Task: k.task, State: scheduler.StateFailed, Limit: maxLogs})
	if err != nil {
		return err
	}
	rows, next, err := f.s.d.Store.Mapped(ctx, scheduler.MappedQuery{Run: f.q.run, Task: k.task, Limit: maxLogs})
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(rows, func(t scheduler.TaskRun) bool {
		return t.State == scheduler.StateFailed || t.State == scheduler.StateRemoved
	})
	all := slices.Concat(bad, rest)
	for i := range all[:min(len(all), maxLogs)] {
		if err := f.task(ctx, key{k.task, all[i].MapIndex}, true); err != nil {
			return err
		}
	}
	if next != "" || len(all) > maxLogs {
		return f.sink.note(fmt.Sprintf("these are %d of the mapped tasks of %s; name another by its map index", maxLogs, k.task))
	}
	return nil
}

// taskOrPast returns a task of a run of the store, or else of the archive.
func (s *Server) taskOrPast(ctx context.Context, run, name string, index int) (*scheduler.TaskRun, error) {
	d, err := s.d.Store.Task(ctx, run, name, index)
	if err == nil {
		return &d.Task, nil
	}
	if !errors.Is(err, scheduler.ErrNotFound) {
		return nil, err
	}
	old, past, missing := s.runOrPast(ctx, run)
	if missing != nil {
		return nil, missing
	}
	if past != nil {
		for i := range old.Tasks {
			if t := &old.Tasks[i]; t.Task == name && t.MapIndex == index {
				return t, nil
			}
		}
	}
	return nil, err
}
