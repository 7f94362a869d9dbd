package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
)

// listApprovals lists the decisions that are waited for.
func (s *Server) listApprovals(c echo.Context) error {
	if s.d.Approve == nil {
		return errNoSchedule
	}
	list, err := s.questions(c, c.QueryParam("run"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page[scheduler.Question]{Items: list})
}

// questions returns those of a run, or all for "".
func (s *Server) questions(c echo.Context, run string) ([]scheduler.Question, error) {
	if s.d.Approve == nil {
		return nil, nil
	}
	out, err := s.d.Approve.Questions(c.Request().Context(), run)
	return list(out), err
}

// decide takes a decision on a task.
func (s *Server) decide(c echo.Context) error {
	in := struct {
		Decision string          `json:"decision"`
		By       string          `json:"by"`
		Comment  string          `json:"comment"`
		Option   string          `json:"option"`
		Input    json.RawMessage `json:"input"`
		MapIndex int             `json:"map_index"`
	}{MapIndex: scheduler.NoMap}
	if err := s.wordOf(c, &in, "{decision, by, comment, option, input, map_index}"); err != nil {
		return err
	}
	d := scheduler.Decision{Decision: in.Decision, By: in.By, Comment: in.Comment, Option: in.Option, Input: in.Input}
	row, err := s.decided(c, in.MapIndex, d)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, task{ID: row.ID(), TaskRun: *row})
}

func (s *Server) decided(c echo.Context, mapIndex int, d scheduler.Decision) (*scheduler.TaskRun, error) {
	if s.d.Approve == nil {
		return nil, errNoSchedule
	}
	if err := checkBy(d.By); err != nil {
		return nil, err
	}
	return s.d.Approve.Decide(c.Request().Context(), param(c, "run"), param(c, "task"), mapIndex, d)
}

// decideForm is decide for the form on a run's page, to which it leads back.
func (s *Server) decideForm(c echo.Context) error {
	run, name := param(c, "run"), param(c, "task")
	if err := c.Request().ParseForm(); err != nil {
		return invalid("the form can not be read: %v", err)
	}
	form := c.Request().PostForm
	index, err := strconv.Atoi(form.Get("map_index"))
	if err != nil {
		return invalid("map_index is %q, want a whole number", form.Get("map_index"))
	}
	d := scheduler.Decision{Decision: form.Get("decision"), By: strings.TrimSpace(form.Get("by")), Comment: strings.TrimSpace(form.Get("comment"))}
	if d.Decision == scheduler.DecisionApprove {
		d.Option = form.Get("option")
		if d.Input, err = s.formInput(c, run, name, index); err != nil {
			return err
		}
	}
	if _, err := s.decided(c, index, d); err != nil {
		return err
	}
	return c.Redirect(http.StatusSeeOther, s.o.BasePath+"runs/"+url.PathEscape(run))
}

// formInput makes what was typed into the fields of a form values of the types that are declared. A field that is empty is left out.
func (s *Server) formInput(c echo.Context, run, name string, index int) (json.RawMessage, error) {
	list, err := s.questions(c, run)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(q scheduler.Question) bool { return q.Task == name && q.MapIndex == index })
	if i < 0 || len(list[i].Params) == 0 {
		return nil, nil
	}
	input := map[string]json.RawMessage{}
	for param, p := range list[i].Params {
		text := strings.TrimSpace(c.Request().PostForm.Get("input." + param))
		switch {
		case text == "":
			continue
		case p.Type == "string":
			if input[param], err = json.Marshal(text); err != nil {
				return nil, fmt.Errorf("encode parameter %s: %w", param, err)
			}
		case !json.Valid([]byte(text)):
			return nil, invalid("parameter %s is %q, want a value of the type %s", param, text, p.Type)
		default:
			input[param] = json.RawMessage(text)
		}
	}
	return json.Marshal(input)
}
