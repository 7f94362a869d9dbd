//go:build linux

package dockerexec

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"millrace/scheduler"
	"millrace/scheduler/localexec/runner"
)

var _ scheduler.RunForgetter = (*Executor)(nil)

// ForgetRun implements scheduler.RunForgetter: it removes logs. The volumes of the run are removed when it has ended, whoever asks.
func (e *Executor) ForgetRun(_ context.Context, run string) error {
	if err := runner.RemoveLogs(e.dir, run); err != nil {
		return fmt.Errorf("forget run %s: %w", run, err)
	}
	return nil
}

// sweep removes the volumes of runs that have ended, and records that are over, until ctx ends. It looks at what is there and remembers nothing, so a
// crash anywhere only puts it off.
func (e *Executor) sweep(ctx context.Context) {
	tick := time.NewTicker(e.opt.Sweep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := e.sweepVolumes(ctx); err != nil && ctx.Err() == nil {
			e.opt.Logger.Warn("volumes are kept, although they may not be needed", "err", err)
		}
		e.prune(ctx, time.Now().Add(-overTime))
	}
}

// prune forgets attempts that were over before a time.
func (e *Executor) prune(ctx context.Context, before time.Time) {
	if _, err := e.records.PruneRecords(ctx, e.opt.Name, before); err != nil {
		if ctx.Err() == nil {
			e.opt.Logger.Warn("records are kept, although they are not needed", "err", err)
		}
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	maps.DeleteFunc(e.attempts, func(_ string, a *attempt) bool { return !a.over.IsZero() && a.over.Before(before) })
}

func (e *Executor) sweepVolumes(ctx context.Context) error {
	if e.opt.Ended == nil {
		return nil
	}
	list, err := e.api.VolumeList(ctx, client.VolumeListOptions{Filters: e.ours()})
	if err != nil {
		return err
	}
	var errs []error
	over := map[string]bool{}
	for _, v := range list.Items {
		run := v.Labels[labelRun]
		ended, known := over[run]
		if !known {
			if ended, err = e.opt.Ended(ctx, run); err != nil {
				return err
			}
			over[run] = ended
		}
		if !ended {
			continue
		}
		// A conflict: the container that has it is not removed yet.
		if _, err := e.api.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{}); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
