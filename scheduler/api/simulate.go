package api

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"millrace/trigger"
)

// WhatIf asks what other rules of a DAG would have started.
type WhatIf struct {
	DAG string `json:"-"`
	// On are the rules that are meant; nil for a DAG that is to be removed.
	On []trigger.Rule `json:"on"`
	// From is when the time begins that is looked at. To is when it ends; zero: now.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

func (s *Server) simulateDAG(c echo.Context) error {
	if s.d.Simulate == nil {
		return errNoSchedule
	}
	q := WhatIf{DAG: param(c, "dag")}
	if err := s.wordOf(c, &q, "{on, from, to}"); err != nil {
		return err
	}
	if q.To.IsZero() {
		q.To = time.Now().UTC()
	}
	switch {
	case q.From.IsZero():
		return invalid("from is missing: when does the time begin that is looked at?")
	case !q.From.Before(q.To):
		return invalid("from (%s) is not before to (%s)", q.From.Format(time.RFC3339), q.To.Format(time.RFC3339))
	}
	for i := range q.On {
		q.On[i].DAG = q.DAG
	}
	report, err := s.d.Simulate(c.Request().Context(), q)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, report)
}
