package api

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"

	"millrace/scheduler"
)

// replayRun starts one more run on what a run was given.
func (s *Server) replayRun(c echo.Context) error {
	if s.d.Backfiller == nil {
		return errNoSchedule
	}
	var in struct {
		Pin  string `json:"pin"`
		Emit bool   `json:"emit"`
	}
	if err := s.wordOf(c, &in, "{pin, emit}"); err != nil {
		return err
	}
	r, err := s.d.Backfiller.Replay(c.Request().Context(), param(c, "run"), scheduler.Replay{Pin: in.Pin, Emit: in.Emit})
	if err != nil {
		return err
	}
	c.Response().Header().Set("Location", s.o.BasePath+"api/v1/runs/"+url.PathEscape(r.ID))
	return c.JSON(http.StatusCreated, runOf(*r))
}

var backfillStates = []scheduler.BackfillState{
	scheduler.BackfillRunning, scheduler.BackfillPaused, scheduler.BackfillDone, scheduler.BackfillCancelled,
}

func (s *Server) listBackfills(c echo.Context) error {
	if s.d.Store == nil {
		return errNoSchedule
	}
	limit, err := number(c, "limit", 1, 1000, 100)
	if err != nil {
		return err
	}
	state := scheduler.BackfillState(c.QueryParam("state"))
	if state != "" && !slices.Contains(backfillStates, state) {
		return invalid("state is %q, want one of %v", state, backfillStates)
	}
	rows, next, err := s.d.Store.Backfills(c.Request().Context(), scheduler.BackfillQuery{
		DAG: c.QueryParam("dag"), State: state, Before: c.QueryParam("before"), Limit: int(limit),
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page[scheduler.Backfill]{list(rows), next})
}

func (s *Server) getBackfill(c echo.Context) error {
	if s.d.Store == nil {
		return errNoSchedule
	}
	b, err := s.d.Store.Backfill(c.Request().Context(), param(c, "backfill"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, b)
}

// listItems pages by the place of an item: the cursor is that of the last one.
func (s *Server) listItems(c echo.Context) error {
	if s.d.Store == nil {
		return errNoSchedule
	}
	limit, err := number(c, "limit", 1, 1000, 100)
	if err != nil {
		return err
	}
	last, err := number(c, "before", -1, 1<<31, -1)
	if err != nil {
		return err
	}
	ctx, id := c.Request().Context(), param(c, "backfill")
	if _, err := s.d.Store.Backfill(ctx, id); err != nil {
		return err
	}
	items, err := s.d.Store.BackfillItems(ctx, id, int(last)+1, int(limit))
	if err != nil {
		return err
	}
	next := ""
	if len(items) == int(limit) {
		next = strconv.Itoa(items[len(items)-1].N)
	}
	return c.JSON(http.StatusOK, page[scheduler.BackfillItem]{itemsOf(items), next})
}

// itemsOf makes what is nil empty, as it is in JSON.
func itemsOf(items []scheduler.BackfillItem) []scheduler.BackfillItem {
	for i := range items {
		items[i].Batches = list(items[i].Batches)
	}
	return list(items)
}

// startBackfill plans a backfill, and stores it unless only the plan is asked for.
func (s *Server) startBackfill(c echo.Context) error {
	if s.d.Backfiller == nil || s.d.PlanBackfill == nil {
		return errNoSchedule
	}
	var in struct {
		scheduler.BackfillSpec
		DryRun bool `json:"dry_run"`
	}
	if err := s.wordOf(c, &in, "{dag, rule, selection, reprocess, group, max_active_runs, order, params, emit, id, dry_run, by}"); err != nil {
		return err
	}
	if err := checkBy(in.By); err != nil {
		return err
	}
	ctx := c.Request().Context()
	if in.ID != "" && !in.DryRun { // a repeated request is answered by what the first one made
		if b, err := s.d.Store.Backfill(ctx, in.ID); err == nil {
			return c.JSON(http.StatusOK, b)
		}
	}
	plan, err := s.d.PlanBackfill(ctx, in.BackfillSpec)
	if errors.Is(err, scheduler.ErrNotFound) && s.d.Control != nil {
		if _, _, unknown := s.d.Control.DAG(ctx, in.DAG); errors.Is(unknown, scheduler.ErrNotFound) {
			return s.noDAG(ctx, in.DAG, err)
		}
	}
	if err != nil {
		return err
	}
	if in.DryRun {
		plan.Items, plan.Left = itemsOf(plan.Items), list(plan.Left)
		return c.JSON(http.StatusOK, plan)
	}
	b, err := s.d.Backfiller.StartBackfill(ctx, plan)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Location", s.o.BasePath+"api/v1/backfills/"+url.PathEscape(b.ID))
	return c.JSON(http.StatusCreated, startedBackfill{*b, list(plan.Left), plan.LeftTotal})
}

// startedBackfill is a new backfill with what was left out, which is not stored.
type startedBackfill struct {
	scheduler.Backfill
	Left      []scheduler.LeftOut `json:"left_out"`
	LeftTotal int                 `json:"left_out_total"`
}

// steerBackfill returns the handler that takes a backfill to a state.
func (s *Server) steerBackfill(to scheduler.BackfillState) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.d.Backfiller == nil {
			return errNoSchedule
		}
		var in struct {
			Runs bool   `json:"runs"`
			By   string `json:"by"`
		}
		if err := s.wordOf(c, &in, "{runs, by}"); err != nil {
			return err
		}
		if err := checkBy(in.By); err != nil {
			return err
		}
		b, err := s.d.Backfiller.SteerBackfill(c.Request().Context(), param(c, "backfill"), to, scheduler.Steer{Runs: in.Runs, By: in.By})
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, b)
	}
}
