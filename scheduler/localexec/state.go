//go:build linux

package localexec

import (
	"context"
	"time"

	"millrace/scheduler/localexec/runner"
)

// sweepStates removes what the tasks of ended runs have kept, until ctx ends. It looks at what is there and remembers nothing, so a crash
// anywhere only puts it off.
func (e *Executor) sweepStates(ctx context.Context) {
	if e.opt.Ended == nil {
		return
	}
	tick := time.NewTicker(e.opt.Sweep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			e.sweepOnce(ctx)
		}
	}
}

func (e *Executor) sweepOnce(ctx context.Context) {
	if err := e.sweepOutputs(ctx); err != nil && ctx.Err() == nil {
		e.opt.Logger.Warn("fetched outputs are kept, although they may not be needed", "err", err)
	}
	runs, err := runner.States(e.dir)
	if err != nil {
		e.opt.Logger.Warn("state of tasks can not be listed", "err", err)
	}
	for _, run := range runs {
		ended, err := e.opt.Ended(ctx, run)
		if err == nil && ended {
			err = runner.RemoveState(e.dir, run)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			e.opt.Logger.Warn("state of tasks is kept, although it may not be needed", "run", run, "err", err)
		}
	}
}
