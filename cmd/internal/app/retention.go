package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/archive"
	taskout "millrace/scheduler/output"
	"millrace/scheduler/sqlstore"
	"millrace/scheduler/tasklog"
)

// The store is pruned once a day, and soon after a start, when the process has more urgent things behind it: one that is restarted more
// often than once a day would never prune else.
const (
	pruneFirst = 2 * time.Minute
	pruneEvery = 24 * time.Hour
)

// pruned is what a round removed from the store.
type pruned struct {
	archive.Done
	sqlstore.Pruned
	// Cached are entries of the cache, Outputs objects, and Logs the runs whose logs were in the object store.
	Cached, Outputs, Logs int
}

// history is what rounds of pruning work on.
type history struct {
	store   *sqlstore.Store
	outputs *taskout.Store
	logs    *tasklog.Store
	keeper  *archive.Keeper
	mu      sync.Mutex // held during a round
}

// answer is what a person is told of a round.
type answer struct {
	Runs    int   `json:"runs"`
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	Batches int   `json:"batches"`
	Outputs int   `json:"outputs"`
	Logs    int   `json:"logs"`
}

// now makes a round at a person's word.
func (h *history) now(keep func() time.Duration) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) {
		if keep() == 0 {
			return nil, fmt.Errorf("store.retention is 0s, so that everything is kept: %w", scheduler.ErrInvalid)
		}
		p, err := h.round(ctx, time.Now().Add(-keep()))
		return answer{p.Runs, p.Objects, p.Bytes, p.Batches, p.Outputs, p.Logs}, err
	}
}

// newHistory returns the rounds of this installation.
func (a *app) newHistory(s *scheduling, outputs *taskout.Store) *history {
	keeper := archive.NewKeeper(s.store, a.objects, archive.Options{
		Executors: s.executors, Drop: func() bool { return !a.live.Load().Store.Archive },
	})
	return &history{store: s.store, outputs: outputs, logs: tasklog.New(a.objects), keeper: keeper}
}

// retention is how long what ended is kept, 0 for ever.
func (a *app) retention() time.Duration { return a.live.Load().Store.Retention }

// round archives and forgets what ended before the time, and then what only that needed. What one part can not do keeps none of the others.
func (h *history) round(ctx context.Context, before time.Time) (p pruned, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs [5]error
	p.Done, errs[0] = h.keeper.Round(ctx, before)
	p.Pruned, errs[1] = h.store.Prune(ctx, before)
	p.Cached, errs[2] = h.store.PruneCache(ctx, time.Now())
	p.Outputs, errs[3] = h.outputs.Sweep(ctx, before, h.store.OutputsUsed)
	p.Logs, errs[4] = h.logs.Sweep(ctx, before, h.store.RunsKept)
	return p, errors.Join(errs[:]...)
}

// prune removes from the store what ended longer than keep ago, until ctx ends; while that is 0 it keeps everything. A round is many small
// transactions, so that the engine never waits long. One that fails or is broken off has done a part, and the next one goes on.
func prune(ctx context.Context, round func(context.Context, time.Time) (pruned, error), keep func() time.Duration, log *slog.Logger) {
	timer := time.NewTimer(pruneFirst)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(pruneEvery)
		start, retention := time.Now(), keep()
		if retention == 0 {
			continue
		}
		removed, err := round(ctx, start.Add(-retention))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			log.Warn("store not pruned to the end, tomorrow again", "runs", removed.Runs, "batches", removed.Batches, "err", err)
		default:
			log.Info("store pruned", "runs", removed.Runs, "archives", removed.Objects, "batches", removed.Batches, "notices", removed.Notices, "outputs", removed.Outputs, "logs", removed.Logs, "retention", retention, "backfills", removed.Backfills, "took", time.Since(start))
		}
	}
}
