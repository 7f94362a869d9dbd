package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/api"
	"millrace/trigger/whatif"
)

// maxPast bounds the batches of a simulation: all of them are in memory.
const maxPast = 200_000

// simulate says what other rules of a DAG would have started.
func (s *scheduling) simulate(ctx context.Context, q api.WhatIf) (any, error) {
	in := whatif.Question{DAG: q.DAG, After: q.On, From: q.From, To: q.To}
	head, dag, err := s.engine.DAG(ctx, q.DAG)
	switch {
	case errors.Is(err, scheduler.ErrNotFound):
	case err != nil:
		return nil, err
	case dag != nil && !head.Removed:
		in.Before, in.Since = dag.On, head.UpdatedAt
	}
	if in.Past, err = s.store.Arrived(ctx, q.From, q.To, maxPast+1); err != nil {
		return nil, err
	}
	if len(in.Past) > maxPast {
		return nil, fmt.Errorf("%w: more than %d batches came between %s and %s: look at a shorter time", scheduler.ErrInvalid, maxPast,
			q.From.Format(time.RFC3339), q.To.Format(time.RFC3339))
	}
	if in.Happened, err = s.happened(ctx, q.DAG, q.From, q.To); err != nil {
		return nil, err
	}
	report, err := whatif.Compare(&in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", scheduler.ErrInvalid, err)
	}
	return report, nil
}

// happened returns the runs that rules of a DAG have started between two times; replays are a person's wish.
func (s *scheduling) happened(ctx context.Context, dag string, from, to time.Time) ([]whatif.Happened, error) {
	var out []whatif.Happened
	for q := (scheduler.RunQuery{DAG: dag, Limit: 1000}); ; {
		runs, next, err := s.store.Runs(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			if r.CreatedAt.Before(from) {
				return out, nil
			}
			if r.Replay == 0 && r.CreatedAt.Before(to) {
				out = append(out, whatif.Happened{ID: r.ID, Rule: r.Trigger.Rule, Key: r.Trigger.Key, At: r.CreatedAt, Batches: r.Batches})
			}
		}
		if q.Before = next; next == "" {
			return out, nil
		}
	}
}
