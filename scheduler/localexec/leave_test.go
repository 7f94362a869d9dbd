//go:build linux

package localexec_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/localexec"
	"millrace/scheduler/localexec/runner"
)

// TestLeavesWhileTheRunnerStarts: millrace that ends while its runner is on its way waits for it and tells it so. Else the runner would take the
// directory after everybody had seen that nobody has it, and wait there for a millrace that is gone.
func TestLeavesWhileTheRunnerStarts(t *testing.T) {
	t.Parallel()
	dir, flags := t.TempDir(), t.TempDir()
	begun, proceed := filepath.Join(flags, "begun"), filepath.Join(flags, "proceed")
	slow := []string{argv()[0], "slow-runner", begun, proceed}
	e, err := localexec.New(dir, localexec.Options{RunnerArgv: slow, Idle: time.Hour})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- e.Run(ctx, func(context.Context, []scheduler.Report) error { return nil }) }()
	eventually(t, "the runner is being started", func() bool { _, err := os.Stat(begun); return err == nil })
	cancel()
	must(t, os.WriteFile(proceed, nil, 0o600))
	must(t, <-done)
	if _, err := os.Stat(filepath.Join(dir, "journal")); err != nil {
		t.Errorf("got %v, want the runner to have been waited for", err)
	}
	awaitNoRunner(t, dir)
}

// slowRunnerMain says by one file that it is there, and becomes a runner when there is another.
func slowRunnerMain(ctx context.Context, begun, proceed string, args []string) error {
	if err := os.WriteFile(begun, nil, 0o600); err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := os.Stat(proceed); err == nil {
			return runner.Main(ctx, args)
		}
	}
}
