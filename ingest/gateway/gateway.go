package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"millrace/ingest"
)

// Options tune a [Server]. The zero value works.
type Options struct {
	// Limits are those at the start; see [Server.SetLimits].
	Limits
	Front
	// DrainDelay is how long Run goes on accepting after its ctx ended, while it says that it is not ready, so that whoever spreads the load
	// sends no more. 0: not at all.
	DrainDelay time.Duration
	// Drain is how long Run waits for requests after that. 0: 10 s.
	Drain time.Duration
	// Log and Metrics may be nil: discard.
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

func (o Options) withDefaults() Options {
	o.Limits = o.Limits.withDefaults()
	orDefault(&o.Drain, 10*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports all options that can not be.
func (o Options) Validate() error {
	err := errors.Join(o.Limits.Validate(), o.Front.validate())
	if o.Drain < 0 || o.DrainDelay < 0 {
		err = errors.Join(err, fmt.Errorf("drain %v and its delay %v must not be negative", o.Drain, o.DrainDelay))
	}
	return err
}

// Server serves the ingest listener. Safe for concurrent use.
type Server struct {
	log     ingest.Appender
	opts    Options
	routes  *echo.Echo
	sources atomic.Pointer[registry]
	pool    sync.Pool // of *exchange
	metrics *metrics
	limits  atomic.Pointer[Limits]
	orphans atomic.Pointer[rate.Limiter]
	rates   atomic.Pointer[rates]
	retime  chan struct{} // has a value when Run must look at the limits again
	health  health
	// held is the sum of the bytes of bodies in work.
	held atomic.Int64
	open conns
	// serving is locked for reading by every request, and for writing by Run to see the last one end.
	serving sync.RWMutex
}

// New returns a server that appends to log what sources permit.
func New(log ingest.Appender, sources []ingest.Source, o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("check gateway options: %w", err)
	}
	o = o.withDefaults()
	s := &Server{log: log, opts: o, metrics: newMetrics(o.Metrics), retime: make(chan struct{}, 1)}
	if err := s.SetLimits(o.Limits); err != nil {
		return nil, err
	}
	s.metrics.watch(s)
	if err := s.SetSources(sources); err != nil {
		return nil, err
	}
	s.pool.New = func() any { return s.newExchange(s.limits.Load()) }
	s.route()
	return s, nil
}

// route lists what the ingest listener answers.
func (s *Server) route() {
	e := echo.New()
	s.clickstreamRoutes(e)
	e.Any("/hooks/:source", s.handle(shareWebhook, s.hook))
	e.Any("/hooks/:source/:token", s.handle(shareWebhook, s.hook))
	e.POST("/bulk/:source", s.handle(shareBulk, s.bulk))
	e.GET("/livez", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	e.GET("/readyz", s.readyz)
	s.routes = e
}

// Handler returns the routes, for servers other than Run's: those have to follow the framing of requests by themselves.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// serve refuses what no route may see.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	err := s.admit(r)
	if err == nil {
		s.routes.ServeHTTP(w, r)
		return
	}
	f := faultOf(err)
	s.metrics.refused(f.code)
	w.Header().Set("Connection", "close") // whatever else it sends is not read
	writeFault(w, f, f.retry)
}

func (s *Server) admit(r *http.Request) error {
	if over, ok := r.Context().Value(overKey{}).(*refusedConn); ok {
		return over.err
	}
	if r.Method == http.MethodTrace || r.Method == http.MethodConnect || r.ProtoMajor != 1 {
		return errMethod
	}
	lines := 0
	for _, values := range r.Header {
		lines += len(values)
	}
	if lines > s.limits.Load().MaxHeaders {
		return errHeaders
	}
	return nil
}
