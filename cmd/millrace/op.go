package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"millrace/batcher"
	"millrace/cmd/internal/app"
	"millrace/scheduler"
	"millrace/scheduler/operator"
	"millrace/scheduler/operator/http"
	"millrace/scheduler/operator/sql"
	"millrace/scheduler/operator/wait"
)

// newOp is not for people: executors start it for tasks that are no command. Its settings are in the environment, see package operator.
func newOp(g *global) *cobra.Command {
	c := group("op", "Execute tasks that are no command (started by executors)",
		operation(g, scheduler.KindHTTP, func(ctx context.Context, e *operator.Envelope) ([]byte, error) {
			return http.Do(ctx, e, http.Options{Environ: os.LookupEnv, Log: g.out, Agent: "millrace/" + app.BuildVersion().Version})
		}),
		operation(g, scheduler.KindWait, func(ctx context.Context, e *operator.Envelope) ([]byte, error) {
			return wait.For(ctx, e.Wait, wait.Options{Log: g.out, Store: func(ctx context.Context) (batcher.ObjectStore, error) {
				return app.OperatorStore(ctx, e.Objects)
			}})
		}),
		operation(g, scheduler.KindSQL, func(ctx context.Context, e *operator.Envelope) ([]byte, error) {
			return sql.Do(ctx, e.SQL, sql.Options{Environ: os.LookupEnv, Log: g.out})
		}),
	)
	c.Hidden = true
	return c
}

// operation is one kind of operator: it reads the envelope, does what it says, and writes the output, if there is one.
func operation(g *global, kind string, do func(context.Context, *operator.Envelope) ([]byte, error)) *cobra.Command {
	return &cobra.Command{
		Use: kind, Short: "Execute a task that has " + kind, Args: exactArgs(0), Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := operator.Open(kind, os.Getenv(operator.Variable))
			if err != nil {
				return &codeError{operator.ExitOf(err), err}
			}
			go beat(c.Context(), os.Getenv("MILLRACE_HEARTBEAT")) // ends with the process
			out, err := do(c.Context(), e)
			if err != nil {
				return &codeError{operator.ExitOf(err), err}
			}
			path := os.Getenv("MILLRACE_OUTPUT")
			if len(out) == 0 || path == "" {
				return nil
			}
			if err := os.WriteFile(path, out, 0o640); err != nil {
				return &codeError{scheduler.ExitAgain, fmt.Errorf("write the output: %w", err)}
			}
			return nil
		},
	}
}

// beat gives signs of life while an operator waits for somebody else, within time limits of its own.
func beat(ctx context.Context, path string) {
	if path == "" {
		return
	}
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		now := time.Now()
		_ = os.Chtimes(path, now, now) // without a sign the task is ended, and says why
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
