package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/scheduler/vars"
)

// Deps are what the console shows and asks. What is nil is not in this process: routes that need it answer with the code "not_here".
type Deps struct {
	Store   scheduler.Store
	Control scheduler.Control
	// Explain says why runs and tasks wait.
	Explain scheduler.Explainer
	// Approve takes the decisions of people.
	Approve scheduler.Approver
	// Backfiller starts runs anew.
	Backfiller scheduler.Backfiller
	// Outbox has the notices, and Notifications sends them.
	Outbox        scheduler.Outbox
	Notifications scheduler.Notifications
	// PlanBackfill says which runs a request for a backfill makes.
	PlanBackfill func(ctx context.Context, s scheduler.BackfillSpec) (*scheduler.BackfillPlan, error)
	// Values are the variables, secrets and connections. TestConnection speaks to what one leads to, by its fields, and says what it found.
	Values         *vars.Registry
	TestConnection func(ctx context.Context, fields map[string]string) (string, error)
	// Executors by the name that stands in an attempt.
	Executors map[string]scheduler.Executor
	// Mesos is the one of them that is on a Mesos cluster; nil: there is none.
	Mesos     Mesos
	Catalogue batcher.Catalogue
	Objects   batcher.ObjectStore
	// Codec reads objects and sidecars.
	Codec Codec
	// Finder is the dedupe index of this process, if it batches.
	Finder batcher.Finder
	// Stuck returns what in this process waits for a person's word; nil: nothing does.
	Stuck func() []Stuck
	// Pressure is the log of this process, if it has one.
	Pressure ingest.Pressure
	// Sources returns those that are configured now; nil: there are none.
	Sources func() []ingest.Source
	// Verify checks the chain and returns a report that becomes JSON.
	Verify func(ctx context.Context) (any, error)
	// Simulate says what other rules would have started. The answer becomes JSON. ErrInvalid.
	Simulate func(ctx context.Context, q WhatIf) (any, error)
	// Prune archives and forgets now what is due, as is done once a day anyway. The answer becomes JSON.
	Prune func(ctx context.Context) (any, error)
	// Resume ends the hold of a restored ledger: what was cut before the time starts nothing. The answer becomes JSON. [ErrNotHeld].
	Resume func(ctx context.Context, since time.Time) (any, error)
	// Held is since when dispatch has been on hold, zero if it is not; nil: it never is.
	Held func() time.Time
	// ExecutorNotes say what people should know of executors, by their names: that one is a double.
	ExecutorNotes map[string]string
	// Config returns the settings, secrets hidden, as they become JSON.
	Config func() any
	// CompileDAGs checks the text of a DAG file; the error is for people.
	CompileDAGs func(file string, text []byte) ([]*scheduler.DAG, error)
	// Ready returns why the process is not ready, or nil.
	Ready func() error
	// Metrics are served at /metrics and summed up in the status.
	Metrics prometheus.Gatherer
}

// Codec reads what the batcher wrote.
type Codec interface {
	// Rows decompresses the body of an object; codec is [batcher.Cut.Codec], as in its key.
	Rows(codec string, body []byte) (io.ReadCloser, error)
	// IDs calls row for each row of a sidecar, in the order of the object's rows, until it returns false.
	IDs(body []byte, row func(id SidecarRow) bool) error
}

// SidecarRow is one row of an id sidecar.
type SidecarRow struct {
	ID         [16]byte
	ReceivedAt time.Time
	Offset     int64
}

// Options tune a [Server]. All but Token have a default that works.
type Options struct {
	// Token opens the console; see [LoadToken].
	Token string
	// BasePath is the path below which a proxy serves the console; default "/". Requests are taken with and without it.
	BasePath string
	// Hosts are names by which the console may be called, besides loopback names. A leading "*." stands for one or more labels.
	Hosts []string
	// Redact names fields whose values the stream of events does not show, besides those that look like secrets: "properties.email" is a path,
	// "*.email" a field of any path. A webhook's body is below "body".
	Redact []string
	// TLS says that browsers reach the console by TLS, so that its cookie is marked secure.
	TLS bool
	// Pprof serves the profiles of [net/http/pprof] at /debug/pprof/.
	Pprof   bool
	Version Version
	// Poll is how often logs and chains are looked at for those who follow them; default 150 ms.
	Poll time.Duration
	// Sample is how often counters are read for rates; default 5 s.
	Sample     time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Version says what was built.
type Version struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
}

func (o Options) withDefaults() Options {
	if o.Poll == 0 {
		o.Poll = 150 * time.Millisecond
	}
	if o.Sample == 0 {
		o.Sample = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.BasePath = "/" + strings.Trim(o.BasePath, "/")
	if o.BasePath != "/" {
		o.BasePath += "/"
	}
	return o
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	var errs []error
	if len(o.Token) < minToken {
		errs = append(errs, fmt.Errorf("token has %d characters, want at least %d", len(o.Token), minToken))
	}
	if strings.ContainsAny(o.BasePath, "?#\"<>\\ ;,") {
		errs = append(errs, fmt.Errorf("base_path is %q, want a plain path", o.BasePath))
	}
	for _, h := range o.Hosts {
		if h == "" || strings.ContainsAny(h, "/:@ ") && net.ParseIP(h) == nil {
			errs = append(errs, fmt.Errorf("host %q: want a name or an address, without port", h))
		}
	}
	if o.Poll < 0 || o.Sample < 0 {
		errs = append(errs, errors.New("poll and sample must not be negative"))
	}
	return errors.Join(errs...)
}

// CheckListen refuses a listen address that others can reach while nothing encrypts, unless insecure says that this is meant.
func CheckListen(addr string, tls, insecure bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("console.listen %q: %w", addr, err)
	}
	if tls || insecure || loopback(host) {
		return nil
	}
	return fmt.Errorf("console.listen %q is not a loopback address, and the token would travel in the clear: set console.insecure to permit it", addr)
}

// Server is the console. Safe for concurrent use.
type Server struct {
	d       Deps
	o       Options
	routes  []route
	handler http.Handler
	auth    *auth
	status  *sampler
	m       *metrics
	pages   *pages
	verify  verifier
	// closing is closed by Run when it ends: streams end, too.
	closing chan struct{}
}

// New builds the console; it opens nothing.
func New(d Deps, o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	o = o.withDefaults()
	s := &Server{d: d, o: o, auth: newAuth(o), m: newMetrics(o.Registerer), closing: make(chan struct{})}
	s.status = newSampler(s)
	var err error
	if s.pages, err = newPages(o.BasePath); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	s.routes = slices.Concat(s.table(), s.valueRoutes(), s.airflow(), s.profiles())
	s.handler = s.mount()
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// LoginURL is the link that a person follows once; base is scheme and host.
func (s *Server) LoginURL(base string) string {
	return strings.TrimRight(base, "/") + s.o.BasePath + "?token=" + s.o.Token
}

// drain is how long Run waits for requests when it ends.
const drain = 5 * time.Second

// Run serves on ln until ctx ends and all requests have been answered or cut off. It closes ln and may be called once.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: requestTime, WriteTimeout: 2 * requestTime, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelDebug), // faults of clients
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }() // Ends by Shutdown or by itself; received below.
	sampled := make(chan struct{})
	sampling, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // Ends with its context; received below.
		defer close(sampled)
		s.status.run(sampling)
	}()
	var failed error
	select {
	case err := <-served:
		failed = fmt.Errorf("serve console on %v: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	close(s.closing)
	if failed == nil {
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if err := srv.Shutdown(deadline); err != nil {
			s.o.Logger.Warn("console requests cut off", "err", err)
			_ = srv.Close()
		}
		<-served
	}
	stop()
	<-sampled
	return failed
}

// wait lets d pass; false says that the request or the server ends.
func (s *Server) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-s.closing:
	}
	return false
}

// stream prepares an answer that goes on for long: each flush has its own time limit, so that a reader who is stuck does not hold on.
type stream struct {
	c  echo.Context
	rc *http.ResponseController
}

func (s *Server) stream(c echo.Context, contentType string) *stream {
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, contentType)
	h.Set("X-Accel-Buffering", "no") // nginx
	return &stream{c: c, rc: http.NewResponseController(c.Response())}
}

func (s *stream) Write(p []byte) (int, error) {
	_ = s.rc.SetWriteDeadline(time.Now().Add(30 * time.Second)) // not every writer has one
	return s.c.Response().Write(p)
}

// unbounded takes the server's time limits off a request.
func unbounded(c echo.Context) {
	rc := http.NewResponseController(c.Response())
	_ = rc.SetReadDeadline(time.Time{}) // else the server takes the end of ReadTimeout for the end of the client
	_ = rc.SetWriteDeadline(time.Time{})
}

func (s *stream) flush() error { return s.rc.Flush() }
