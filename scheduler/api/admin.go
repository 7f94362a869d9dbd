package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

func (s *Server) resume(c echo.Context) error {
	if s.d.Resume == nil {
		return errNoSchedule
	}
	var body struct {
		Since time.Time `json:"since"`
	}
	dec := json.NewDecoder(c.Request().Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil || body.Since.IsZero() {
		return invalid(`the body must be {"since": "<time, RFC 3339>"}`)
	}
	answer, err := s.d.Resume(c.Request().Context(), body.Since)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answer)
}
