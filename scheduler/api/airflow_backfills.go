package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
	"millrace/scheduler/api/airflow"
)

// eachBackfill calls do for the backfills of a DAG ("": of all), newest first, until it returns false.
func (s *Server) eachBackfill(ctx context.Context, dag string, do func(b *scheduler.Backfill) bool) error {
	q := scheduler.BackfillQuery{DAG: dag, Limit: maxWindow}
	for {
		rows, next, err := s.d.Store.Backfills(ctx, q)
		if err != nil {
			return err
		}
		for i := range rows {
			if !do(&rows[i]) {
				return nil
			}
		}
		if q.Before = next; next == "" {
			return nil
		}
	}
}

func (s *Server) airflowBackfills(c echo.Context) error {
	if s.d.Store == nil {
		return errNoSchedule
	}
	w, err := windowOf(c, "dag_id", "order_by")
	if err != nil {
		return err
	}
	dag := c.QueryParam("dag_id")
	if dag == "" {
		return invalid("dag_id is missing: backfills are listed for one DAG, or for all with ~")
	}
	if dag == every {
		dag = ""
	}
	if order := c.QueryParams()["order_by"]; slices.ContainsFunc(order, func(by string) bool { return by != "-id" }) {
		return invalid("order_by is %q, and backfills are listed newest first: leave it out, or write -id", order)
	}
	out := airflow.Backfills{Backfills: []airflow.Backfill{}}
	err = s.eachBackfill(c.Request().Context(), dag, func(b *scheduler.Backfill) bool {
		if out.Total >= w.offset && len(out.Backfills) < w.limit {
			out.Backfills = append(out.Backfills, airflow.NewBackfill(b))
		}
		out.Total++
		return true
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, out)
}

// airflowBackfill looks at all backfills for the one whose number is asked for: the store knows them by their own ids only, and they are few, since
// people make them.
func (s *Server) airflowBackfill(c echo.Context) error {
	if s.d.Store == nil {
		return errNoSchedule
	}
	number, err := strconv.ParseInt(param(c, "backfill"), 10, 64)
	if err != nil || number < 0 {
		return invalid("the id of a backfill is %q, want the number that the list of backfills has", param(c, "backfill"))
	}
	var found *airflow.Backfill
	err = s.eachBackfill(c.Request().Context(), "", func(b *scheduler.Backfill) bool {
		if airflow.BackfillID(b.ID) == number {
			one := airflow.NewBackfill(b)
			found = &one
		}
		return found == nil
	})
	if err != nil {
		return err
	}
	if found == nil {
		return fmt.Errorf("find backfill %d: %w", number, scheduler.ErrNotFound)
	}
	return c.JSON(http.StatusOK, *found)
}
