package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"millrace/batcher"
	"millrace/scheduler"
)

// task is a task as the API shows it: with its id.
type task struct {
	ID string `json:"id"`
	scheduler.TaskRun
}

// shown returns the tasks of a run as the API shows them.
func (s *Server) shown(c echo.Context, d *scheduler.RunDetail) []task {
	s.fillGroups(c.Request().Context(), d)
	return tasksOf(d.Tasks)
}

// fillGroups fills in the groups of tasks, if the run's version has some. One that can not be read leaves them out.
func (s *Server) fillGroups(ctx context.Context, d *scheduler.RunDetail) {
	v, err := s.d.Store.Version(ctx, d.Run.Version)
	if err != nil || !bytes.Contains(v.Canonical, []byte(`"group":`)) {
		return
	}
	var dag struct {
		Tasks []struct{ ID, Group string } `json:"tasks"`
	}
	if json.Unmarshal(v.Canonical, &dag) != nil {
		return
	}
	groups := map[string]string{}
	for _, t := range dag.Tasks {
		groups[t.ID] = t.Group
	}
	for i := range d.Tasks {
		d.Tasks[i].Group = groups[d.Tasks[i].Task]
	}
}

func tasksOf(tasks []scheduler.TaskRun) []task {
	out := make([]task, len(tasks))
	for i := range tasks {
		out[i] = task{tasks[i].ID(), tasks[i]}
	}
	return out
}

// runOf makes what is nil empty, as it is in JSON.
func runOf(r scheduler.Run) scheduler.Run {
	r.Batches = list(r.Batches)
	if len(r.Params) == 0 {
		r.Params = json.RawMessage("null")
	}
	return r
}

// runDetail is scheduler.RunDetail without null, and with ids of tasks.
type runDetail struct {
	Run      scheduler.Run       `json:"run"`
	Tasks    []task              `json:"tasks"`
	Attempts []scheduler.Attempt `json:"attempts"`
	Batches  []batcher.Batch     `json:"batches"`
	Moves    []scheduler.Move    `json:"moves"`
	Notices  []scheduler.Notice  `json:"notices"`
	// Mapped counts mapped tasks, which are not among Tasks, by task and state.
	Mapped map[string]map[scheduler.State]int `json:"mapped,omitempty"`
	// Archived is where the run is, if it is in the store no more.
	Archived *archivedAt `json:"archived,omitempty"`
}

var runStates = []scheduler.State{
	scheduler.StateQueued, scheduler.StateRunning, scheduler.StateSuccess, scheduler.StateFailed, scheduler.StateCancelled,
}

func (s *Server) listRuns(c echo.Context) error {
	if s.d.Store == nil {
		return errNoSchedule
	}
	limit, err := number(c, "limit", 1, 1000, 100)
	if err != nil {
		return err
	}
	state := scheduler.State(c.QueryParam("state"))
	if state != "" && !slices.Contains(runStates, state) {
		return invalid("state is %q, want one of %v", state, runStates)
	}
	runs, next, err := s.d.Store.Runs(c.Request().Context(), scheduler.RunQuery{
		DAG: c.QueryParam("dag"), State: state, Batch: c.QueryParam("batch"), ReplayOf: c.QueryParam("replay_of"),
		Backfill: c.QueryParam("backfill"), Before: c.QueryParam("before"), Limit: int(limit),
	})
	if err != nil {
		return err
	}
	for i := range runs {
		runs[i] = runOf(runs[i])
	}
	return c.JSON(http.StatusOK, page[scheduler.Run]{list(runs), next})
}

func (s *Server) run(c echo.Context) (*scheduler.RunDetail, error) {
	if s.d.Store == nil {
		return nil, errNoSchedule
	}
	d, _, err := s.runOrPast(c.Request().Context(), param(c, "run"))
	return d, err
}

// runRow reads a run without its tasks, of which there may be thousands.
func (s *Server) runRow(c echo.Context) (*scheduler.Run, error) {
	if s.d.Store == nil {
		return nil, errNoSchedule
	}
	id := param(c, "run")
	runs, _, err := s.d.Store.Runs(c.Request().Context(), scheduler.RunQuery{ID: id})
	if err == nil && (id == "" || len(runs) == 0) {
		err = fmt.Errorf("find run %q: %w", id, scheduler.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return &runs[0], nil
}

func (s *Server) getRun(c echo.Context) error {
	if s.d.Store == nil {
		return errNoSchedule
	}
	d, past, err := s.runOrPast(c.Request().Context(), param(c, "run"))
	if err != nil {
		return err
	}
	notices, err := s.runNotices(c, d.Run.ID)
	if err != nil {
		return err
	}
	detail := runDetail{Run: runOf(d.Run), Tasks: s.shown(c, d), Attempts: list(d.Attempts), Batches: list(d.Batches), Moves: list(d.Moves), Notices: notices, Mapped: d.Mapped}
	if past != nil {
		detail.Archived = &past.at
	}
	return c.JSON(http.StatusOK, detail)
}

// waitRun answers when the run has ended. One wait is bounded, since proxies cut what is silent for long.
func (s *Server) waitRun(c echo.Context) error {
	if s.d.Control == nil {
		return errNoSchedule
	}
	seconds, err := number(c, "seconds", 0, 60, 30)
	if err != nil {
		return err
	}
	enough := time.NewTimer(time.Duration(seconds) * time.Second)
	defer enough.Stop()
	for more := true; ; {
		changed, stop := s.d.Control.Watch(param(c, "run"))
		r, err := s.runRow(c)
		if err != nil || !more || r.State.Terminal() {
			stop()
			if err != nil {
				return err
			}
			return c.JSON(http.StatusOK, runOf(*r))
		}
		select {
		case <-changed:
			more = s.wait(c.Request().Context(), s.o.Poll) // a run of thousands of tasks changes all the time
		case <-enough.C:
			more = false
		case <-s.closing:
			more = false
		case <-c.Request().Context().Done():
			stop()
			return c.Request().Context().Err()
		}
		stop()
	}
}

func (s *Server) listTasks(c echo.Context) error {
	if c.QueryParam("task") != "" {
		return s.listMapped(c)
	}
	d, err := s.run(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page[task]{Items: s.shown(c, d)})
}

func (s *Server) cancelRun(c echo.Context) error {
	if s.d.Control == nil {
		return errNoSchedule
	}
	r, err := s.d.Control.Cancel(c.Request().Context(), param(c, "run"))
	if err != nil {
		return err
	}
	out := cancelled{Run: runOf(*r)}
	if !r.State.Terminal() { // it is not over yet: say what it waits for
		if why, err := s.whyRun(c); err == nil {
			out.Why = &why.Why
		}
	}
	return c.JSON(http.StatusOK, out)
}

// cancelled is a run that was cancelled, with what it waits for if it has not ended.
type cancelled struct {
	scheduler.Run
	Why *scheduler.Why `json:"why,omitempty"`
}

// body reads a body of at most maxBody bytes.
func body(c echo.Context) ([]byte, error) {
	b, err := io.ReadAll(c.Request().Body)
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return nil, errTooLong
	}
	if err != nil {
		return nil, invalid("the body did not come whole")
	}
	return b, nil
}
