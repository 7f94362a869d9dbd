package api

import (
	"fmt"
	"net/http"

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
	if s.d.Store == nil {
		return errNoSchedule
	}
	name := param(c, "task")
	t, err := s.taskOrPast(c.Request().Context(), param(c, "run"), name, int(mapIndex))
	if err != nil {
		return err
	}
	switch {
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
		return fmt.Errorf("task %q of run %s is %s and has put out nothing: %w", name, t.Run, t.State, scheduler.ErrNotFound)
	}
}
