package api

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
	"millrace/scheduler/output"
)

// taskOutput answers with what a task has put out, wherever that is.
func (s *Server) taskOutput(c echo.Context) error {
	mapIndex, err := number(c, "map_index", scheduler.NoMap, 1<<30, scheduler.NoMap)
	if err != nil {
		return err
	}
	d, err := s.run(c)
	if err != nil {
		return err
	}
	name := param(c, "task")
	i := slices.IndexFunc(d.Tasks, func(t scheduler.TaskRun) bool { return t.Task == name && t.MapIndex == int(mapIndex) })
	if i < 0 {
		return fmt.Errorf("find task %q of run %s: %w", name, d.Run.ID, scheduler.ErrNotFound)
	}
	switch t := &d.Tasks[i]; {
	case t.OutputRef != nil && s.d.Objects == nil:
		return errNotHere
	case t.OutputRef != nil:
		body, err := output.NewStore(s.d.Objects).Get(c.Request().Context(), *t.OutputRef)
		if err != nil {
			return err
		}
		return c.Blob(http.StatusOK, echo.MIMEApplicationJSON, body)
	case len(t.Output) > 0:
		return c.Blob(http.StatusOK, echo.MIMEApplicationJSON, t.Output)
	default:
		return fmt.Errorf("task %q of run %s is %s and has put out nothing: %w", name, d.Run.ID, t.State, scheduler.ErrNotFound)
	}
}
