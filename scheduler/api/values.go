package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
	"millrace/scheduler/api/airflow"
	"millrace/scheduler/vars"
)

// valueRoutes are those of variables, secrets and connections. None of them answers with the value of a secret.
func (s *Server) valueRoutes() []route {
	const get, put, post, del, v1 = http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete, "/api/v1"
	return []route{
		{get, v1 + "/variables", guarded, false, s.withValues(s.listVariables)},
		{post, v1 + "/variables", guarded, false, s.withValues(s.setVariables)},
		{get, v1 + "/variables/:name", guarded, false, s.withValues(s.getVariable)},
		{put, v1 + "/variables/:name", guarded, false, s.withValues(s.setVariable)},
		{del, v1 + "/variables/:name", guarded, false, s.withValues(s.removeVariable)},
		{get, v1 + "/connections", guarded, false, s.withValues(s.listConnections)},
		{get, v1 + "/connections/:name", guarded, false, s.withValues(s.getConnection)},
		{put, v1 + "/connections/:name", guarded, false, s.withValues(s.setConnection)},
		{del, v1 + "/connections/:name", guarded, false, s.withValues(s.removeConnection)},
		{post, v1 + "/connections/:name/test", guarded, false, s.withValues(s.testConnection)},
		{post, v1 + "/admin/rotate-key", guarded, false, s.withValues(s.rotateKey)},
		{get, v1 + "/audit", guarded, false, s.withValues(s.listAudit)},
	}
}

func (s *Server) withValues(h echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.d.Values == nil {
			return errNoSchedule
		}
		return h(c)
	}
}

func (s *Server) listVariables(c echo.Context) error {
	return c.JSON(http.StatusOK, page[scheduler.Variable]{Items: list(s.d.Values.Variables())})
}

func (s *Server) getVariable(c echo.Context) error {
	v, err := s.d.Values.Lookup(param(c, "name"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, v)
}

// givenVariable is a variable as people set it.
type givenVariable struct {
	Name        string  `json:"name"`
	Value       *string `json:"value"`
	Secret      bool    `json:"secret"`
	Description *string `json:"description"`
}

func (g *givenVariable) set() (vars.Set, error) {
	if g.Value == nil {
		return vars.Set{}, invalid("variable %s has no value", g.Name)
	}
	kind := scheduler.ValueVariable
	if g.Secret {
		kind = scheduler.ValueSecret
	}
	return vars.Set{Kind: kind, Name: g.Name, Text: *g.Value, Description: g.Description}, nil
}

// readBody decodes a body without ever saying what is in it: it may have a secret.
func readBody(c echo.Context, into any, shape string) error {
	text, err := body(c)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return invalid("the body is not %s", shape)
	}
	if _, err := dec.Token(); err != io.EOF {
		return invalid("there is something after the body")
	}
	return nil
}

func (s *Server) setVariable(c echo.Context) error {
	var in struct {
		Value       *string `json:"value"`
		Secret      bool    `json:"secret"`
		Description *string `json:"description"`
		By          string  `json:"by"`
	}
	if err := readBody(c, &in, "{value, secret, description, by}"); err != nil {
		return err
	}
	given := givenVariable{Name: param(c, "name"), Value: in.Value, Secret: in.Secret, Description: in.Description}
	if err := s.keep(c, in.By, given); err != nil {
		return err
	}
	return s.getVariable(c)
}

// setVariables sets all of them, or none.
func (s *Server) setVariables(c echo.Context) error {
	var in struct {
		Variables []givenVariable `json:"variables"`
		By        string          `json:"by"`
	}
	if err := readBody(c, &in, "{variables: [{name, value, secret, description}], by}"); err != nil {
		return err
	}
	if err := s.keep(c, in.By, in.Variables...); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]int{"set": len(in.Variables)})
}

func (s *Server) keep(c echo.Context, by string, given ...givenVariable) error {
	if err := checkBy(by); err != nil {
		return err
	}
	var sets []vars.Set
	for i := range given {
		set, err := given[i].set()
		if err != nil {
			return err
		}
		sets = append(sets, set)
	}
	return s.d.Values.Set(c.Request().Context(), by, sets...)
}

func (s *Server) removeVariable(c echo.Context) error {
	return s.remove(c, scheduler.ValueVariable, scheduler.ValueSecret)
}

func (s *Server) remove(c echo.Context, kinds ...string) error {
	by := c.QueryParam("by")
	if err := checkBy(by); err != nil {
		return err
	}
	if err := s.d.Values.Remove(c.Request().Context(), by, param(c, "name"), kinds...); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]string{"removed": param(c, "name")})
}

func (s *Server) listConnections(c echo.Context) error {
	return c.JSON(http.StatusOK, page[scheduler.Connection]{Items: list(s.d.Values.Connections(c.Request().Context()))})
}

func (s *Server) getConnection(c echo.Context) error {
	conn, err := s.d.Values.LookupConnection(c.Request().Context(), param(c, "name"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, conn)
}

func (s *Server) setConnection(c echo.Context) error {
	var in struct {
		URI         string  `json:"uri"`
		Description *string `json:"description"`
		By          string  `json:"by"`
	}
	if err := readBody(c, &in, "{uri, description, by}"); err != nil {
		return err
	}
	if err := checkBy(in.By); err != nil {
		return err
	}
	err := s.d.Values.Set(c.Request().Context(), in.By, vars.Set{
		Kind: scheduler.ValueConnection, Name: param(c, "name"), Text: in.URI, Description: in.Description,
	})
	if err != nil {
		return err
	}
	return s.getConnection(c)
}

func (s *Server) removeConnection(c echo.Context) error {
	return s.remove(c, scheduler.ValueConnection)
}

// tested says what a test of a connection found.
type tested struct {
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// testConnection answers also if the other side does not: that is what was asked.
func (s *Server) testConnection(c echo.Context) error {
	ctx, name := c.Request().Context(), param(c, "name")
	if _, err := s.d.Values.LookupConnection(ctx, name); err != nil {
		return err
	}
	if s.d.TestConnection == nil {
		return errNoSchedule
	}
	fields, err := s.d.Values.Connection(ctx, name)
	var text string
	if err == nil {
		text, err = s.d.TestConnection(ctx, fields)
	}
	if err != nil {
		text = hideFields(err.Error(), fields)
	}
	return c.JSON(http.StatusOK, tested{OK: err == nil, Text: text})
}

func (s *Server) rotateKey(c echo.Context) error {
	var in struct {
		Drop bool   `json:"drop"`
		By   string `json:"by"`
	}
	if err := readBody(c, &in, "{drop, by}"); err != nil {
		return err
	}
	if err := checkBy(in.By); err != nil {
		return err
	}
	r, err := s.d.Values.Rotate(c.Request().Context(), in.By, in.Drop)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, r)
}

// maxAudit bounds a page of the audit trail.
const maxAudit = 1000

func (s *Server) listAudit(c echo.Context) error {
	limit := 100
	if text := c.QueryParam("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxAudit {
			return invalid("limit is %q, want 1 to %d", text, maxAudit)
		}
	}
	lines, err := s.d.Values.Audits(c.Request().Context(), limit)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page[scheduler.Audit]{Items: list(lines)})
}

func (s *Server) airflowVariables(c echo.Context) error {
	w, err := windowOf(c, "variable_key_pattern")
	if err != nil {
		return err
	}
	match := like(c.QueryParam("variable_key_pattern"))
	all := slices.DeleteFunc(airflow.NewVariables(s.d.Values.Variables()), func(v airflow.Variable) bool {
		return !match.MatchString(v.Key)
	})
	return c.JSON(http.StatusOK, airflow.Variables{Variables: cutTo(all, w), Total: len(all)})
}

func (s *Server) airflowVariable(c echo.Context) error {
	key := param(c, "key")
	for _, v := range airflow.NewVariables(s.d.Values.Variables()) {
		if v.Key == key {
			return c.JSON(http.StatusOK, v)
		}
	}
	return fmt.Errorf("find variable %q: 'millrace vars ls' lists them: %w", key, scheduler.ErrNotFound)
}

func (s *Server) airflowConnections(c echo.Context) error {
	w, err := windowOf(c, "connection_id_pattern")
	if err != nil {
		return err
	}
	match := like(c.QueryParam("connection_id_pattern"))
	var all []airflow.Connection
	for _, conn := range s.d.Values.Connections(c.Request().Context()) {
		if match.MatchString(conn.Name) {
			all = append(all, airflow.NewConnection(&conn))
		}
	}
	return c.JSON(http.StatusOK, airflow.Connections{Connections: cutTo(all, w), Total: len(all)})
}

func (s *Server) airflowConnection(c echo.Context) error {
	conn, err := s.d.Values.LookupConnection(c.Request().Context(), param(c, "connection"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, airflow.NewConnection(conn))
}
