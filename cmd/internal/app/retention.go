package app

import (
	"context"
	"log/slog"
	"time"

	"millrace/scheduler/sqlstore"
)

// The store is pruned once a day, and soon after a start, when the process has more urgent things behind it: one that is restarted more
// often than once a day would never prune else.
const (
	pruneFirst = 2 * time.Minute
	pruneEvery = 24 * time.Hour
)

// prune removes from the store what ended longer than keep ago, until ctx ends; while that is 0 it keeps everything. A round is many small
// transactions, so that the engine never waits long. One that fails or is broken off has done a part, and the next one goes on.
func prune(ctx context.Context, round func(context.Context, time.Time) (sqlstore.Pruned, error), keep func() time.Duration, log *slog.Logger) {
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
			log.Info("store pruned", "runs", removed.Runs, "batches", removed.Batches, "notices", removed.Notices, "retention", retention, "backfills", removed.Backfills, "took", time.Since(start))
		}
	}
}
