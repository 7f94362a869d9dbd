package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
	"millrace/scheduler/api/airflow"
)

// compiled returns the form of the DAG that a run pins, or nil if it is not stored any more.
func (s *Server) compiled(ctx context.Context, version string) (*scheduler.DAG, error) {
	v, err := s.d.Store.Version(ctx, version)
	if errors.Is(err, scheduler.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var dag scheduler.DAG
	if err := json.Unmarshal(v.Canonical, &dag); err != nil {
		return nil, fmt.Errorf("decode dag version %s: %w", version, err)
	}
	return &dag, nil
}

// tasksOfRun returns the tasks of the run that the path names.
func (s *Server) tasksOfRun(c echo.Context) (*scheduler.RunDetail, []airflow.Task, error) {
	d, err := s.airflowRunOf(c)
	if err != nil {
		return nil, nil, err
	}
	spec, err := s.compiled(c.Request().Context(), d.Run.Version)
	if err != nil {
		return nil, nil, err
	}
	return d, airflow.NewTasks(d, spec), nil
}

func (s *Server) airflowTasks(c echo.Context) error {
	w, err := windowOf(c, "state", "task_id", "map_index", "executor", "order_by")
	if err != nil {
		return err
	}
	_, tasks, err := s.tasksOfRun(c)
	if err != nil {
		return err
	}
	query := c.QueryParams()
	tasks = slices.DeleteFunc(tasks, func(t airflow.Task) bool {
		return !permits(query["state"], said(t.State, "none")) || !permits(query["task_id"], t.Task) ||
			!permits(query["map_index"], strconv.Itoa(t.MapIndex)) || !permits(query["executor"], said(t.Executor, ""))
	})
	if err := orderTasks(tasks, c.QueryParam("order_by")); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, airflow.Tasks{Tasks: cutTo(tasks, w), Total: len(tasks)})
}

// said returns what a field says, or the word for one that says nothing.
func said(field *string, nothing string) string {
	if field == nil {
		return nothing
	}
	return *field
}

// permits reports whether a filter, which permits everything if it is empty, permits the word.
func permits(filter []string, word string) bool {
	return len(filter) == 0 || slices.Contains(filter, word) || word == "none" && slices.Contains(filter, "no_status")
}

// taskOrders are what tasks can be ordered by. A task without the thing comes last.
var taskOrders = map[string]func(a, b airflow.Task) int{
	"start_date": func(a, b airflow.Task) int {
		return orderOf(a.Start, b.Start, func(a, b *time.Time) int { return a.Compare(*b) })
	},
	"end_date": func(a, b airflow.Task) int {
		return orderOf(a.End, b.End, func(a, b *time.Time) int { return a.Compare(*b) })
	},
	"duration": func(a, b airflow.Task) int {
		return orderOf(a.Seconds, b.Seconds, func(a, b *float64) int { return cmp.Compare(*a, *b) })
	},
	"state": func(a, b airflow.Task) int {
		return orderOf(a.State, b.State, func(a, b *string) int { return cmp.Compare(*a, *b) })
	},
	"map_index":  func(a, b airflow.Task) int { return cmp.Compare(a.MapIndex, b.MapIndex) },
	"try_number": func(a, b airflow.Task) int { return cmp.Compare(a.Number, b.Number) },
}

func orderOf[T any](a, b *T, compare func(a, b *T) int) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return compare(a, b)
}

func orderTasks(tasks []airflow.Task, by string) error {
	if by == "" {
		return nil
	}
	name, down := strings.CutPrefix(by, "-")
	compare := taskOrders[name]
	if compare == nil {
		return invalid("order_by is %q, want start_date, end_date, duration, state, map_index or try_number, with - before it for the other way", by)
	}
	slices.SortStableFunc(tasks, func(a, b airflow.Task) int {
		if down {
			a, b = b, a
		}
		return compare(a, b)
	})
	return nil
}

// indexOf reads the map index of the path, or of the query, or that of a task that is not mapped.
func indexOf(c echo.Context) (int, error) {
	text := cmp.Or(c.Param("index"), c.QueryParam("map_index"))
	if text == "" {
		return scheduler.NoMap, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < scheduler.NoMap {
		return 0, invalid("map index is %q, want a whole number", text)
	}
	return n, nil
}

// taskOf finds the task that the path names, within its run.
func taskOf(c echo.Context, d *scheduler.RunDetail) (int, error) {
	index, err := indexOf(c)
	if err != nil {
		return 0, err
	}
	name, mapped := param(c, "task"), false
	for i, t := range d.Tasks {
		if t.Task == name && t.MapIndex == index {
			return i, nil
		}
		mapped = mapped || t.Task == name && t.MapIndex != scheduler.NoMap
	}
	if mapped && index == scheduler.NoMap {
		return 0, fmt.Errorf("find task %q of run %s: it is mapped, add the map index to the path: %w", name, d.Run.ID, scheduler.ErrNotFound)
	}
	return 0, fmt.Errorf("find task %q, map index %d, of run %s: %w", name, index, d.Run.ID, scheduler.ErrNotFound)
}

// instanceOf finds the task that the path names, and its run, which has what is known of that task at the least: the others of a mapped one, which may
// be a hundred thousand, are not read.
func (s *Server) instanceOf(c echo.Context) (*scheduler.RunDetail, int, error) {
	index, err := indexOf(c)
	if err != nil {
		return nil, 0, err
	}
	if index != scheduler.NoMap && s.d.Store != nil {
		d, err := s.alone(c.Request().Context(), param(c, "run"), key{param(c, "task"), index})
		if err == nil {
			return d, 0, ofDAG(c, d)
		}
		if !errors.Is(err, scheduler.ErrNotFound) {
			return nil, 0, err
		}
	}
	d, err := s.airflowRunOf(c)
	if err != nil {
		return nil, 0, err
	}
	i, err := taskOf(c, d)
	return d, i, err
}

func (s *Server) airflowTask(c echo.Context) error {
	d, i, err := s.instanceOf(c)
	if err != nil {
		return err
	}
	spec, err := s.compiled(c.Request().Context(), d.Run.Version)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, airflow.NewTasks(d, spec)[i])
}

func (s *Server) airflowMapped(c echo.Context) error {
	w, err := windowOf(c, "order_by", "state")
	if err != nil {
		return err
	}
	d, tasks, err := s.tasksOfRun(c)
	if err != nil {
		return err
	}
	name, states := param(c, "task"), c.QueryParams()["state"]
	known := slices.ContainsFunc(tasks, func(t airflow.Task) bool { return t.Task == name && t.MapIndex != scheduler.NoMap })
	if !known {
		return fmt.Errorf("find task %q of run %s: there is no mapped task of this name: %w", name, d.Run.ID, scheduler.ErrNotFound)
	}
	tasks = slices.DeleteFunc(tasks, func(t airflow.Task) bool {
		return t.Task != name || t.MapIndex == scheduler.NoMap || !permits(states, said(t.State, "none"))
	})
	if err := orderTasks(tasks, c.QueryParam("order_by")); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, airflow.Tasks{Tasks: cutTo(tasks, w), Total: len(tasks)})
}

// triesOf returns the tries of the task that the path names.
func (s *Server) triesOf(c echo.Context) ([]airflow.Try, error) {
	d, i, err := s.instanceOf(c)
	if err != nil {
		return nil, err
	}
	spec, err := s.compiled(c.Request().Context(), d.Run.Version)
	if err != nil {
		return nil, err
	}
	var task *scheduler.Task
	if spec != nil {
		task = spec.Task(d.Tasks[i].Task)
	}
	return airflow.NewTries(d, &d.Tasks[i], task), nil
}

func (s *Server) airflowTries(c echo.Context) error {
	tries, err := s.triesOf(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, airflow.Tries{Tries: tries, Total: len(tries)})
}

func (s *Server) airflowTry(c echo.Context) error {
	tries, err := s.triesOf(c)
	if err != nil {
		return err
	}
	n, err := tryNumber(c)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(tries, func(t airflow.Try) bool { return t.Number == n })
	if i < 0 {
		return fmt.Errorf("find try %d of task %q: %w", n, param(c, "task"), scheduler.ErrNotFound)
	}
	return c.JSON(http.StatusOK, tries[i])
}

// tryNumber reads the number of a try.
func tryNumber(c echo.Context) (int, error) {
	n, err := strconv.Atoi(c.Param("try"))
	if err != nil || n < 1 {
		return 0, invalid("try is %q, want a whole number from 1", c.Param("try"))
	}
	return n, nil
}
