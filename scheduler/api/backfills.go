package api

import (
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
)

// replayRun starts one more run on what a run was given.
func (s *Server) replayRun(c echo.Context) error {
	if s.d.Backfiller == nil {
		return errNoSchedule
	}
	var in struct {
		Pin  string `json:"pin"`
		Emit bool   `json:"emit"`
	}
	if err := s.wordOf(c, &in, "{pin, emit}"); err != nil {
		return err
	}
	r, err := s.d.Backfiller.Replay(c.Request().Context(), param(c, "run"), scheduler.Replay{Pin: in.Pin, Emit: in.Emit})
	if err != nil {
		return err
	}
	c.Response().Header().Set("Location", s.o.BasePath+"api/v1/runs/"+url.PathEscape(r.ID))
	return c.JSON(http.StatusCreated, runOf(*r))
}
