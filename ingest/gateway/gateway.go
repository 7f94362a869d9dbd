package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"millrace/ingest"
	"millrace/ingest/clickstream"
)

// Options tune a [Server]. The zero value works.
type Options struct {
	// MaxEvent is the longest event in bytes, which is also the longest body of a webhook. 0: 1 MiB.
	MaxEvent int
	// MaxRequest is the longest body in bytes, after decompression. 0: 4 MiB.
	MaxRequest int
	// MaxInflight bounds the bytes of bodies that are read but not yet answered; beyond it requests get 503. The memory behind them is up to
	// four times as much. 0: 64 MiB.
	MaxInflight int
	// OrphanRate is how many bytes a second of events with unknown write keys go to quarantine, so that strangers can not fill the disk; a
	// thousand times as much may come at once. What is beyond gets 400. 0: 8 KiB/s; negative: none.
	OrphanRate int
	// ReadTimeout is how long a client may take to send a request. 0: 30 s, of which 5 s for the headers.
	ReadTimeout time.Duration
	// TrustedProxies is how many proxies in front are ours: that many of the last entries in X-Forwarded-* are believed.
	TrustedProxies int
	// Drain is how long Run waits for requests after its ctx ended. 0: 10 s.
	Drain time.Duration
	// Log and Metrics may be nil: discard.
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

func (o Options) withDefaults() Options {
	for _, f := range []struct {
		v   *int
		def int
	}{{&o.MaxEvent, 1 << 20}, {&o.MaxRequest, 4 << 20}, {&o.MaxInflight, 64 << 20}, {&o.OrphanRate, 8 << 10}} {
		if *f.v == 0 {
			*f.v = f.def
		}
	}
	if o.ReadTimeout <= 0 {
		o.ReadTimeout = 30 * time.Second
	}
	if o.Drain <= 0 {
		o.Drain = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports all options that can not be.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	if o.MaxEvent < 0 || o.MaxRequest < o.MaxEvent {
		errs = append(errs, fmt.Errorf("max_request %d must be at least max_event %d, and that positive", o.MaxRequest, o.MaxEvent))
	}
	if o.MaxInflight < o.MaxRequest {
		errs = append(errs, fmt.Errorf("max_inflight %d must be at least max_request %d", o.MaxInflight, o.MaxRequest))
	}
	return errors.Join(errs...)
}

// Server serves the ingest listener. Safe for concurrent use.
type Server struct {
	log     ingest.Appender
	opts    Options
	routes  *echo.Echo
	sources atomic.Pointer[registry]
	pool    sync.Pool // of *exchange
	metrics *metrics
	orphans *rate.Limiter
	health  health
	// held is the sum of the bytes of bodies in work.
	held atomic.Int64
	// serving is locked for reading by every request, and for writing by Run to see the last one end.
	serving sync.RWMutex
}

// New returns a server that appends to log what sources permit.
func New(log ingest.Appender, sources []ingest.Source, o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("check gateway options: %w", err)
	}
	o = o.withDefaults()
	s := &Server{log: log, opts: o, metrics: newMetrics(o.Metrics), orphans: rate.NewLimiter(0, 0)}
	if o.OrphanRate > 0 {
		s.orphans = rate.NewLimiter(rate.Limit(o.OrphanRate), max(1000*o.OrphanRate, o.MaxEvent))
	}
	s.metrics.watch(s)
	if err := s.SetSources(sources); err != nil {
		return nil, err
	}
	limits := clickstream.Limits{MaxEvent: o.MaxEvent, MaxRows: 4 * o.MaxRequest}
	keepOrphan := func(bytes int) bool { return s.orphans.AllowN(time.Now(), bytes) }
	s.pool.New = func() any { return &exchange{s: s, decoder: clickstream.NewDecoder(limits), keepOrphan: keepOrphan} }
	s.route()
	return s, nil
}

// route lists what the ingest listener answers.
func (s *Server) route() {
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) { writeFault(c.Response(), faultOf(err), 0) }
	for typ := clickstream.Identify; typ < clickstream.NumTypes; typ++ {
		for _, name := range []string{typ.String(), typ.String()[:1]} { // analytics.js posts to the first letter
			s.post(e, "/v1/"+name, s.clickstream(typ))
		}
	}
	for _, name := range []string{"batch", "import", "b"} {
		s.post(e, "/v1/"+name, s.clickstream(0))
	}
	e.Any("/hooks/:source", s.handle(s.hook))
	e.Any("/hooks/:source/:token", s.handle(s.hook))
	e.GET("/livez", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	e.GET("/readyz", s.readyz)
	s.routes = e
}

func (s *Server) post(e *echo.Echo, path string, work func(*exchange) error) {
	e.POST(path, s.handle(work))
	e.POST(path+"/", s.handle(work))
}

// Handler returns the routes, for servers other than Run's.
func (s *Server) Handler() http.Handler { return s.routes }

// Run serves ln until ctx ends. Then it is not ready any more, stops accepting, finishes the requests that it has, at most for Options.Drain,
// and returns nil when the last of them has ended. It returns an error only if it can not accept.
//
// A client that leaves does not end its append: what came whole is stored, since a browser that closes a page sends and is gone. Only the end
// of the drain ends appends.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	base := context.WithValue(life, lifeKey{}, life)
	srv := &http.Server{
		BaseContext:       func(net.Listener) context.Context { return base },
		Handler:           s.routes,
		ReadHeaderTimeout: min(5*time.Second, s.opts.ReadTimeout),
		ReadTimeout:       s.opts.ReadTimeout,
		WriteTimeout:      s.opts.ReadTimeout + 30*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelDebug), // faults of clients
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }() // ends by Shutdown or by itself; received below
	select {
	case err := <-served:
		return fmt.Errorf("serve ingest on %v: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	s.health.draining.Store(true)
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Drain)
	defer cancel()
	if err := srv.Shutdown(deadline); err != nil {
		s.opts.Log.Warn("requests cut off at the end of the drain", "err", err)
		end()
		srv.Close()
	}
	<-served
	s.serving.Lock() // waits for the last request
	defer s.serving.Unlock()
	return nil
}

// lifeKey is the key, in a request's context, of the context that ends with Run's drain.
type lifeKey struct{}

// lifeOf returns the context for the append of a request.
func lifeOf(ctx context.Context) context.Context {
	if life, ok := ctx.Value(lifeKey{}).(context.Context); ok {
		return life
	}
	return context.WithoutCancel(ctx)
}
