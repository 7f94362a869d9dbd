package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
)

func (s *Server) listDAGs(c echo.Context) error {
	if s.d.Control == nil {
		return errNoSchedule
	}
	heads, err := s.d.Control.DAGs(c.Request().Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page[scheduler.DAGHead]{Items: list(heads)})
}

// dagDetail is a head with its compiled form.
type dagDetail struct {
	scheduler.DAGHead
	Spec *scheduler.DAG `json:"spec"`
}

func (s *Server) getDAG(c echo.Context) error {
	if s.d.Control == nil {
		return errNoSchedule
	}
	head, spec, err := s.d.Control.DAG(c.Request().Context(), param(c, "dag"))
	if errors.Is(err, scheduler.ErrNotFound) {
		return s.noDAG(c.Request().Context(), param(c, "dag"), err)
	}
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, dagDetail{*head, spec})
}

// noDAG says where to look for a DAG that was not found: a file that has never compiled is known by its own name, since nobody can tell which
// DAGs are in it.
func (s *Server) noDAG(ctx context.Context, id string, notFound error) error {
	heads, err := s.d.Control.DAGs(ctx)
	if err != nil {
		return notFound
	}
	hint := "'millrace dags ls' lists all"
	for _, h := range heads {
		if h.Error == "" || h.Version != "" || h.Removed {
			continue
		}
		hint = fmt.Sprintf("it may be in %s, which has never compiled: 'millrace dags show %s' says why", h.File, h.ID)
		if h.ID == id {
			hint = fmt.Sprintf("%s has never compiled: 'millrace dags show %s' says why", h.File, id)
			break
		}
	}
	return fmt.Errorf("%w; %s", notFound, hint)
}

// pauseDAG returns the handler that sets the pause, or lifts it.
func (s *Server) pauseDAG(paused bool) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.d.Control == nil {
			return errNoSchedule
		}
		ctx, id := c.Request().Context(), param(c, "dag")
		head, err := s.d.Control.Pause(ctx, id, paused)
		if errors.Is(err, scheduler.ErrNotFound) {
			return s.noDAG(ctx, id, err)
		}
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, head)
	}
}

// validation is the verdict on the text of a DAG file.
type validation struct {
	Valid bool     `json:"valid"`
	Error string   `json:"error,omitempty"`
	DAGs  []string `json:"dags"`
}

func (s *Server) validateDAG(c echo.Context) error {
	if s.d.CompileDAGs == nil {
		return errNotHere
	}
	text, err := body(c)
	if err != nil {
		return err
	}
	v := validation{DAGs: []string{}}
	dags, err := s.d.CompileDAGs("request", text)
	if err != nil {
		v.Error = err.Error()
	} else {
		v.Valid = true
		for _, d := range dags {
			v.DAGs = append(v.DAGs, d.ID)
		}
	}
	return c.JSON(http.StatusOK, v)
}

func (s *Server) triggerRun(c echo.Context) error {
	if s.d.Control == nil {
		return errNoSchedule
	}
	text, err := body(c)
	if err != nil {
		return err
	}
	var in struct {
		ID     string          `json:"id"`
		Params json.RawMessage `json:"params"`
	}
	if len(bytes.TrimSpace(text)) > 0 {
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&in); err != nil {
			return invalid("the body is not {id, params}: %v", err)
		}
		if _, err := dec.Token(); err != io.EOF {
			return invalid("there is something after the body")
		}
	}
	params := bytes.TrimSpace(in.Params)
	switch {
	case len(in.ID) > 200:
		return invalid("id has %d characters, want at most 200", len(in.ID))
	case len(params) == 0 || bytes.Equal(params, []byte("null")):
		params = nil
	case params[0] != '{':
		return invalid("params is not an object")
	}
	r, err := s.d.Control.Trigger(c.Request().Context(), param(c, "dag"), in.ID, params)
	if errors.Is(err, scheduler.ErrNotFound) {
		return s.noDAG(c.Request().Context(), param(c, "dag"), err)
	}
	if err != nil {
		return err
	}
	c.Response().Header().Set("Location", s.o.BasePath+"api/v1/runs/"+url.PathEscape(r.ID))
	return c.JSON(http.StatusCreated, runOf(*r))
}
