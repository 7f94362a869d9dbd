package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
	"millrace/scheduler/api/airflow"
)

// v2 is where Airflow's clients look. What is there is described by Airflow's own OpenAPI document, not by openapi.yaml; docs/airflow.md says how
// much of it there is.
const v2 = "/api/v2"

// airflow is the table of the routes that speak as Airflow 3 does. All but the token's read only.
func (s *Server) airflow() []route {
	const get, post = http.MethodGet, http.MethodPost
	const dags, dag, runs, run = v2 + "/dags", v2 + "/dags/:dag", v2 + "/dags/:dag/dagRuns", v2 + "/dags/:dag/dagRuns/:run"
	const tasks, task, mapped = run + "/taskInstances", run + "/taskInstances/:task", run + "/taskInstances/:task/:index"
	return []route{
		// Airflow's clients show no token to version and health, which Airflow has open. Neither says more than /readyz does.
		{post, "/auth/token", tokenless, false, s.airflowToken},
		{post, "/auth/token/cli", tokenless, false, s.airflowToken},
		{get, v2 + "/version", tokenless, false, s.airflowVersion},
		{get, v2 + "/monitor/health", tokenless, false, s.airflowHealth},

		{get, v2 + "/pools", guarded, false, s.airflowPools},
		{get, v2 + "/pools/:pool", guarded, false, s.airflowPool},
		{get, v2 + "/variables", guarded, false, s.withValues(s.airflowVariables)},
		{get, v2 + "/variables/:key", guarded, false, s.withValues(s.airflowVariable)},
		{get, v2 + "/connections", guarded, false, s.withValues(s.airflowConnections)},
		{get, v2 + "/connections/:connection", guarded, false, s.withValues(s.airflowConnection)},

		{get, dags, guarded, false, s.airflowDAGs},
		{get, dag, guarded, false, s.airflowDAG},
		{get, dag + "/details", guarded, false, s.airflowDAGDetails},
		{get, v2 + "/importErrors", guarded, false, s.airflowImportErrors},
		{get, v2 + "/backfills", guarded, false, s.airflowBackfills},
		{get, v2 + "/backfills/:backfill", guarded, false, s.airflowBackfill},

		{get, runs, guarded, false, s.airflowRuns},
		{get, run, guarded, false, s.airflowRun},
		{get, tasks, guarded, false, s.airflowTasks},
		{get, task, guarded, false, s.airflowTask},
		{get, task + "/listMapped", guarded, false, s.airflowMapped},
		{get, task + "/tries", guarded, false, s.airflowTries},
		{get, task + "/tries/:try", guarded, false, s.airflowTry},
		{get, task + "/logs/:try", guarded, true, s.airflowLog},
		{get, mapped, guarded, false, s.airflowTask},
		{get, mapped + "/tries", guarded, false, s.airflowTries},
		{get, mapped + "/tries/:try", guarded, false, s.airflowTry},
	}
}

// speaksAirflow says that a request is of an Airflow client, which wants errors in Airflow's shape.
func speaksAirflow(path string) bool {
	return strings.HasPrefix(path, v2+"/") || strings.HasPrefix(path, "/auth/token")
}

// airflowFault answers with {"detail": …}.
func airflowFault(c echo.Context, p problem) {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	if p.Code == "method" || p.Code == "not_found" && p.Detail == "" {
		text = "millrace answers a part of Airflow's API, for reading, and " + c.Request().Method + " " + c.Request().URL.Path + " is not in it; see docs/airflow.md"
	}
	_ = c.JSON(p.Status, airflow.Fault{Detail: text}) // The client is gone; there is nobody to tell.
}

// airflowToken takes the console's token as the password of any user, and returns it as what a bearer shows: it is the only one that there is.
func (s *Server) airflowToken(c echo.Context) error {
	text, err := body(c)
	if err != nil {
		return err
	}
	var in airflow.Login
	if strings.HasPrefix(c.Request().Header.Get(echo.HeaderContentType), echo.MIMEApplicationForm) {
		form, err := url.ParseQuery(string(text))
		if err != nil {
			return invalid("the body is not a form of username and password")
		}
		in.Password = form.Get("password")
	} else if err := json.Unmarshal(text, &in); err != nil && len(text) > 0 {
		return invalid("the body is not {username, password}, as JSON or as a form")
	}
	if !s.auth.valid(in.Password) {
		return errPassword
	}
	return c.JSON(http.StatusCreated, airflow.Token{Access: in.Password})
}

func (s *Server) airflowVersion(c echo.Context) error {
	return c.JSON(http.StatusOK, airflow.VersionInfo{Version: airflow.Version, Git: "millrace"})
}

func (s *Server) airflowHealth(c echo.Context) error {
	if s.d.Store == nil {
		return errNoSchedule
	}
	_, _, err := s.d.Store.Runs(c.Request().Context(), scheduler.RunQuery{Limit: 1})
	ready := s.d.Ready == nil || s.d.Ready() == nil
	return c.JSON(http.StatusOK, airflow.NewHealth(err == nil, err == nil && ready, time.Now().UTC()))
}

// poolsNow returns all pools with what is in them now.
func (s *Server) poolsNow(c echo.Context) ([]airflow.Pool, error) {
	if s.d.Explain == nil {
		return nil, errNoSchedule
	}
	slots, err := s.d.Explain.Slots(c.Request().Context())
	if err != nil {
		return nil, err
	}
	return airflow.NewPools(slots), nil
}

func (s *Server) airflowPools(c echo.Context) error {
	w, err := windowOf(c)
	if err != nil {
		return err
	}
	pools, err := s.poolsNow(c)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, airflow.Pools{Pools: cutTo(pools, w), Total: len(pools)})
}

func (s *Server) airflowPool(c echo.Context) error {
	pools, err := s.poolsNow(c)
	if err != nil {
		return err
	}
	name := param(c, "pool")
	i := slices.IndexFunc(pools, func(p airflow.Pool) bool { return p.Name == name })
	if i < 0 {
		return fmt.Errorf("find pool %q: 'millrace pools ls' lists them: %w", name, scheduler.ErrNotFound)
	}
	return c.JSON(http.StatusOK, pools[i])
}

// Bounds of Airflow's pages, which count from an offset: what is before it must be passed over.
const (
	maxOffset   = 10_000
	maxWindow   = 1000
	usualWindow = 50
)

// window is a page of Airflow's.
type window struct{ offset, limit int }

// windowOf reads limit and offset, and refuses filters that are not among known: an answer that was not filtered as asked is a wrong one.
func windowOf(c echo.Context, known ...string) (window, error) {
	for name := range c.QueryParams() {
		if name != "limit" && name != "offset" && !slices.Contains(known, name) && !strings.HasPrefix(name, "_") {
			return window{}, invalid("%s is not supported here; limit, offset, %s are", name, strings.Join(known, ", "))
		}
	}
	limit, err := number(c, "limit", 0, 1<<31, usualWindow)
	if err != nil {
		return window{}, err
	}
	offset, err := number(c, "offset", 0, maxOffset, 0)
	return window{int(offset), int(min(limit, maxWindow))}, err
}

// cutTo returns the part of rows that is in the window; it is never nil.
func cutTo[T any](rows []T, w window) []T {
	rows = rows[min(w.offset, len(rows)):]
	return list(rows[:min(w.limit, len(rows))])
}

// truth reads a boolean from the query; it is nil if it is not there.
func truth(c echo.Context, name string) (*bool, error) {
	text := c.QueryParam(name)
	if text == "" {
		return nil, nil
	}
	v, err := strconv.ParseBool(strings.ToLower(text))
	if err != nil {
		return nil, invalid("%s is %q, want true or false", name, text)
	}
	return &v, nil
}
