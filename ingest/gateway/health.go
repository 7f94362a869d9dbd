package gateway

import (
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"millrace/ingest"
)

// unreadyFor is how long one failed append keeps the gateway unready. It must pass by itself: without traffic no append can succeed.
const unreadyFor = 5 * time.Second

// health is what /readyz knows. Safe for concurrent use.
type health struct {
	draining atomic.Bool
	failure  atomic.Pointer[failure]
}

type failure struct {
	err error
	at  time.Time
}

// saw notes how an append ended and reports whether that is news: the first failure after a success.
func (h *health) saw(err error) bool {
	last := h.failure.Load()
	switch {
	case err == nil && last == nil: // almost always
	case last != nil && lasting(last.err): // nothing makes it good
	case err == nil:
		h.failure.CompareAndSwap(last, nil)
	case errors.Is(err, ingest.ErrUnavailable), errors.Is(err, ingest.ErrFull), lasting(err):
		h.failure.Store(&failure{err: err, at: time.Now()})
		return last == nil || lasting(err)
	}
	return false
}

func lasting(err error) bool {
	return errors.Is(err, ingest.ErrFailed) || errors.Is(err, ingest.ErrClosed)
}

// Ready returns nil while the log takes appends, else why not: the process is draining, the log is full, has failed, or was unavailable a
// moment ago. What comes after the log does not matter.
func (s *Server) Ready() error {
	if s.health.draining.Load() {
		return errDraining
	}
	if f := s.health.failure.Load(); f != nil && (lasting(f.err) || time.Since(f.at) < unreadyFor) {
		return f.err
	}
	if p, ok := s.log.(ingest.Pressure); ok {
		if _, _, wait := p.Pressure(); wait > 0 {
			return ingest.ErrFull
		}
	}
	return nil
}

var errDraining = errors.New("shutting down")

// readyz answers 200 or 503; with ?verbose it says why, in the words of the error table.
func (s *Server) readyz(c echo.Context) error {
	err := s.Ready()
	status := http.StatusOK
	if err != nil {
		status = http.StatusServiceUnavailable
	}
	if !c.QueryParams().Has("verbose") {
		return c.String(status, http.StatusText(status)+"\n")
	}
	type check struct {
		Ready     bool   `json:"ready"`
		Reason    string `json:"reason,omitempty"`
		HeldBytes int64  `json:"log_bytes"`
		MaxBytes  int64  `json:"log_max_bytes"`
		Inflight  int64  `json:"inflight_bytes"`
	}
	out := check{Ready: err == nil, Inflight: s.held.Load()}
	switch {
	case errors.Is(err, errDraining):
		out.Reason = "draining"
	case err != nil:
		out.Reason = faultOf(err).code
	}
	if p, ok := s.log.(ingest.Pressure); ok {
		out.HeldBytes, out.MaxBytes, _ = p.Pressure()
	}
	return c.JSON(status, out)
}
