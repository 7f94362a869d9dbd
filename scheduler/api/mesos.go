package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
	"millrace/scheduler/mesosexec"
)

// Mesos is the executor on a Mesos cluster, as far as people deal with it.
type Mesos interface {
	// View says how it is.
	View() mesosexec.View
	// Confirm, Register and Teardown are as those of mesosexec.Executor.
	Confirm(ctx context.Context) error
	Register(ctx context.Context) error
	Teardown(ctx context.Context) error
}

func (s *Server) mesos() (Mesos, error) {
	switch {
	case s.d.Executors == nil:
		return nil, errNoSchedule
	case s.d.Mesos == nil:
		return nil, fmt.Errorf("there is no executor on Mesos: executors.mesos.masters of the configuration names no masters: %w", scheduler.ErrNotFound)
	}
	return s.d.Mesos, nil
}

func (s *Server) mesosView(c echo.Context) error {
	m, err := s.mesos()
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, m.View())
}

// mesosDo answers with how the executor is when a person's decision was carried out.
func (s *Server) mesosDo(do func(m Mesos, ctx context.Context) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		m, err := s.mesos()
		if err == nil {
			err = do(m, c.Request().Context())
		}
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, m.View())
	}
}
