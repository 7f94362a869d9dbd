package api

import (
	"context"
	_ "embed"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"millrace/scheduler"
)

//go:embed openapi.yaml
var openapi []byte

// access says who may use a route.
type access int

const (
	guarded   access = iota // the token or a session, a known host, no other site
	open                    // everybody: nothing in it is secret
	login                   // as guarded, but a token in the query starts a session
	tokenless               // a known host, no other site; no token, since who asks can not show one
)

// route is one line of the table that everything else is made from: the mux, the guard, the metrics, and the test of the document.
type route struct {
	method, path string
	access       access
	// long says that the answer is a stream, or takes what time it takes.
	long    bool
	handler echo.HandlerFunc
}

// requestTime bounds a request that is not long.
const requestTime = 30 * time.Second

func (s *Server) table() []route {
	const get, post, v1 = http.MethodGet, http.MethodPost, "/api/v1"
	return []route{
		{get, "/livez", open, false, func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") }},
		{get, "/readyz", open, false, s.ready},
		{get, "/metrics", open, false, s.metrics()},
		{get, "/static/:name", open, false, s.pages.static},

		{get, "/", login, false, s.homePage},
		{get, "/runs/:run", guarded, false, s.runPage},
		{post, "/runs/:run/tasks/:task/decision", guarded, false, s.decideForm},
		{get, "/batches/:batch", guarded, false, s.batchPage},
		{get, "/dags/:dag", guarded, false, s.dagPage},

		{get, v1 + "/openapi.yaml", guarded, false, func(c echo.Context) error { return c.Blob(http.StatusOK, "application/yaml", openapi) }},
		{get, v1 + "/batches", guarded, false, s.listBatches},
		{get, v1 + "/batches/tail", guarded, true, s.tailBatches},
		{get, v1 + "/batches/:batch", guarded, false, s.getBatch},
		{get, v1 + "/batches/:batch/rows", guarded, true, s.getRows},
		{get, v1 + "/events/tail", guarded, true, s.tailEvents},
		{get, v1 + "/where/:query", guarded, false, s.where},
		{get, v1 + "/dags", guarded, false, s.listDAGs},
		{post, v1 + "/dags/validate", guarded, false, s.validateDAG},
		{get, v1 + "/dags/schema", guarded, false, s.dagSchema},
		{get, v1 + "/dags/:dag", guarded, false, s.getDAG},
		{post, v1 + "/dags/:dag/runs", guarded, false, s.triggerRun},
		{post, v1 + "/dags/:dag/pause", guarded, false, s.pauseDAG(true)},
		{post, v1 + "/dags/:dag/unpause", guarded, false, s.pauseDAG(false)},
		{post, v1 + "/dags/:dag/simulate", guarded, true, s.simulateDAG},
		{get, v1 + "/runs", guarded, false, s.listRuns},
		{get, v1 + "/runs/:run", guarded, false, s.getRun},
		{get, v1 + "/runs/:run/wait", guarded, true, s.waitRun},
		{get, v1 + "/runs/:run/tasks", guarded, false, s.listTasks},
		{get, v1 + "/runs/:run/tasks/:task/output", guarded, true, s.taskOutput},
		{post, v1 + "/runs/:run/cancel", guarded, false, s.cancelRun},
		{post, v1 + "/runs/:run/clear", guarded, false, s.clearRun},
		{post, v1 + "/runs/:run/mark", guarded, false, s.markRun},
		{post, v1 + "/runs/:run/replay", guarded, false, s.replayRun},
		{post, v1 + "/runs/:run/tasks/:task/decision", guarded, false, s.decide},
		{get, v1 + "/runs/:run/logs", guarded, true, s.getLogs},
		{get, v1 + "/backfills", guarded, false, s.listBackfills},
		{post, v1 + "/backfills", guarded, true, s.startBackfill},
		{get, v1 + "/backfills/:backfill", guarded, false, s.getBackfill},
		{get, v1 + "/backfills/:backfill/items", guarded, false, s.listItems},
		{post, v1 + "/backfills/:backfill/pause", guarded, false, s.steerBackfill(scheduler.BackfillPaused)},
		{post, v1 + "/backfills/:backfill/resume", guarded, false, s.steerBackfill(scheduler.BackfillRunning)},
		{post, v1 + "/backfills/:backfill/cancel", guarded, false, s.steerBackfill(scheduler.BackfillCancelled)},
		{get, v1 + "/explain/runs/:run", guarded, false, s.explainRun},
		{get, v1 + "/explain/tasks/:run/:task", guarded, false, s.explainTask},
		{get, v1 + "/explain/batches/:batch", guarded, false, s.explainBatch},
		{get, v1 + "/approvals", guarded, false, s.listApprovals},
		{get, v1 + "/pools", guarded, false, s.listPools},
		{get, v1 + "/notices", guarded, false, s.listNotices},
		{post, v1 + "/notices/:notice/retry", guarded, false, s.retryNotice},
		{get, v1 + "/notifiers", guarded, false, s.listNotifiers},
		{post, v1 + "/notifiers/:notifier/test", guarded, true, s.testNotifier},
		{get, v1 + "/verify", guarded, false, s.lastVerify},
		{post, v1 + "/verify", guarded, true, s.runVerify},
		{post, v1 + "/admin/resume", guarded, true, s.resume},
		{post, v1 + "/admin/archive", guarded, true, s.pruneNow},
		{get, v1 + "/mesos", guarded, false, s.mesosView},
		{post, v1 + "/mesos/confirm", guarded, false, s.mesosDo(Mesos.Confirm)},
		{post, v1 + "/mesos/register", guarded, false, s.mesosDo(Mesos.Register)},
		{post, v1 + "/mesos/teardown", guarded, true, s.mesosDo(Mesos.Teardown)},
		{get, v1 + "/archive", guarded, false, s.listArchives},
		{get, v1 + "/archive/object", guarded, true, s.getArchive},
		{get, v1 + "/config", guarded, false, s.getConfig},
		{get, v1 + "/version", guarded, false, func(c echo.Context) error { return c.JSON(http.StatusOK, s.o.Version) }},
		{get, v1 + "/status", guarded, false, s.getStatus},
	}
}

// mount joins the routes with what stands before all of them.
func (s *Server) mount() http.Handler {
	e := echo.New()
	e.HTTPErrorHandler = s.fail
	e.Logger.SetOutput(logWriter{s.o.Logger})
	for _, r := range s.routes {
		e.Add(r.method, r.path, s.guard(r))
	}
	e.RouteNotFound("/*", s.guard(route{path: "none", handler: func(echo.Context) error { return echo.ErrNotFound }}))
	base := strings.TrimSuffix(s.o.BasePath, "/")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		harden(w.Header())
		if rest, ok := strings.CutPrefix(r.URL.Path, base); ok && base != "" && (rest == "" || rest[0] == '/') {
			r = r.Clone(r.Context())
			r.URL.Path, r.URL.RawPath = "/"+strings.TrimPrefix(rest, "/"), strings.TrimPrefix(r.URL.RawPath, base)
		}
		e.ServeHTTP(w, r)
	})
}

// harden sets the headers of every answer.
func harden(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer") // The login link has the token.
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// guard lets through who may pass, bounds time and body, counts, and keeps one request's panic from the others.
func (s *Server) guard(r route) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		start := time.Now()
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				s.o.Logger.Error("console request panicked", "path", r.path, "panic", p)
				err = errPanic
			}
			if err != nil {
				s.fail(err, c)
				err = nil
			}
			if !r.long {
				s.m.observe(r, c.Response().Status, time.Since(start))
			}
		}()
		req := c.Request()
		if r.access == login && s.auth.hostKnown(req.Host) && s.auth.valid(req.URL.Query().Get("token")) {
			http.SetCookie(c.Response(), s.auth.login(start))
			return c.Redirect(http.StatusSeeOther, s.o.BasePath)
		}
		if err := s.auth.admit(r.access, req); err != nil {
			return err
		}
		req.Body = http.MaxBytesReader(c.Response(), req.Body, maxBody)
		if r.long {
			unbounded(c)
			return r.handler(c)
		}
		ctx, cancel := context.WithTimeout(req.Context(), requestTime)
		defer cancel()
		c.SetRequest(req.WithContext(ctx))
		return r.handler(c)
	}
}

// maxBody bounds the body of a request.
const maxBody = 1 << 20

// param returns a parameter of the path, as the client meant it.
func param(c echo.Context, name string) string {
	v := c.Param(name)
	if c.Request().URL.RawPath == "" {
		return v
	}
	if plain, err := url.PathUnescape(v); err == nil {
		return plain
	}
	return v
}

// number reads a whole number from the query.
func number(c echo.Context, name string, least, most, def int64) (int64, error) {
	text := c.QueryParam(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, invalid("%s is %q, want a whole number from %d to %d", name, text, least, most)
	}
	return n, nil
}

func (s *Server) ready(c echo.Context) error {
	if s.d.Ready != nil {
		if err := s.d.Ready(); err != nil {
			return c.String(http.StatusServiceUnavailable, "not ready\n") // Why is for those with the token: see /api/v1/status.
		}
	}
	return c.String(http.StatusOK, "ok\n")
}

func (s *Server) metrics() echo.HandlerFunc {
	if s.d.Metrics == nil {
		return func(echo.Context) error { return errNotHere }
	}
	return echo.WrapHandler(promhttp.HandlerFor(s.d.Metrics, promhttp.HandlerOpts{}))
}
