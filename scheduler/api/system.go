package api

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
)

// verifier lets one check run at a time and keeps the newest report.
type verifier struct {
	running sync.Mutex // held while a check runs

	mu   sync.Mutex // guards last
	last any
}

func (s *Server) runVerify(c echo.Context) error {
	if s.d.Verify == nil {
		return errNoObjects
	}
	if !s.verify.running.TryLock() {
		return errBusy
	}
	defer s.verify.running.Unlock()
	ctx, cancel := context.WithCancel(c.Request().Context())
	defer cancel()
	stopped := make(chan struct{})
	defer close(stopped)
	go func() { // Ends with the request.
		select {
		case <-s.closing:
			cancel()
		case <-stopped:
		}
	}()
	report, err := s.d.Verify(ctx)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	s.verify.mu.Lock()
	s.verify.last = report
	s.verify.mu.Unlock()
	return c.JSON(http.StatusOK, report)
}

func (s *Server) lastVerify(c echo.Context) error {
	if s.d.Verify == nil {
		return errNoObjects
	}
	s.verify.mu.Lock()
	report := s.verify.last
	s.verify.mu.Unlock()
	if report == nil {
		return fmt.Errorf("find report: no check has ended in this process: %w", scheduler.ErrNotFound)
	}
	return c.JSON(http.StatusOK, report)
}

func (s *Server) getConfig(c echo.Context) error {
	if s.d.Config == nil {
		return errNotHere
	}
	return c.JSON(http.StatusOK, s.d.Config())
}
