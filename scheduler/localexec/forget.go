//go:build linux

package localexec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"millrace/scheduler"
	"millrace/scheduler/localexec/runner"
)

var _ scheduler.RunForgetter = (*Executor)(nil)

// ForgetRun implements scheduler.RunForgetter: it removes logs, state and fetched outputs. The logs are the last proof against a second execution of an
// attempt, so it is for runs of which nothing can be launched any more.
func (e *Executor) ForgetRun(_ context.Context, run string) error {
	root, err := os.OpenRoot(e.dir)
	if err != nil {
		return fmt.Errorf("forget run %s: %w", run, err)
	}
	err = errors.Join(root.RemoveAll(filepath.Join(outputsDir, filepath.Base(run))), root.Close(), runner.RemoveLogs(e.dir, run), runner.RemoveState(e.dir, run))
	if err != nil {
		return fmt.Errorf("forget run %s: %w", run, err)
	}
	return nil
}
