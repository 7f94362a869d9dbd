package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"unicode"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
)

// clearRun lets tasks of a run be executed again.
func (s *Server) clearRun(c echo.Context) error {
	var in struct {
		Tasks      []string `json:"tasks"`
		Groups     []string `json:"groups"`
		Failed     bool     `json:"failed"`
		Downstream bool     `json:"downstream"`
		DryRun     bool     `json:"dry_run"`
		By         string   `json:"by"`
	}
	if err := s.wordOf(c, &in, "{tasks, groups, failed, downstream, dry_run, by}"); err != nil {
		return err
	}
	if err := checkBy(in.By); err != nil {
		return err
	}
	m, err := s.d.Control.Clear(c.Request().Context(), param(c, "run"), scheduler.Clear{
		Tasks: in.Tasks, Groups: in.Groups, Failed: in.Failed, Downstream: in.Downstream, DryRun: in.DryRun, By: in.By,
	})
	return mended(c, m, err)
}

// markRun sets the end of a run, or of a task.
func (s *Server) markRun(c echo.Context) error {
	var in struct {
		State scheduler.State `json:"state"`
		Task  string          `json:"task"`
		By    string          `json:"by"`
	}
	if err := s.wordOf(c, &in, "{state, task, by}"); err != nil {
		return err
	}
	if err := checkBy(in.By); err != nil {
		return err
	}
	m, err := s.d.Control.Mark(c.Request().Context(), param(c, "run"), scheduler.Mark{Task: in.Task, State: in.State, By: in.By})
	return mended(c, m, err)
}

// wordOf decodes a body that says what a person wants; an empty one says nothing.
func (s *Server) wordOf(c echo.Context, into any, shape string) error {
	if s.d.Control == nil {
		return errNoSchedule
	}
	text, err := body(c)
	if err != nil || len(bytes.TrimSpace(text)) == 0 {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return invalid("the body is not %s: %v", shape, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return invalid("there is something after the body")
	}
	return nil
}

// checkBy keeps what is shown to others to a line.
func checkBy(by string) error {
	if len(by) > 100 || strings.ContainsFunc(by, unicode.IsControl) {
		return invalid("by has %d bytes, want at most 100, without control characters", len(by))
	}
	return nil
}

func mended(c echo.Context, m *scheduler.Mended, err error) error {
	if err != nil {
		return err
	}
	m.Run, m.Tasks = runOf(m.Run), list(m.Tasks)
	return c.JSON(http.StatusOK, m)
}
