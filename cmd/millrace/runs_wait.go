package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

func newRunsWait(g *global) *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: "wait RUN", Short: "Wait for the end of a run; the exit code says how it ended", Args: exactArgs(1),
		Long: `Wait for the end of a run and show it. The exit code is 0 if it succeeded, 1 if it failed or was cancelled, 124 if --timeout has passed; the
run goes on then. A restart of the server meanwhile does not end the wait, if it is back within a minute.`,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			return waitRun(c.Context(), g, api, args[0], timeout)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 0, "wait at most so long (default: for ever)")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// waitRun waits for the end of a run, shows it, and returns an error if it did not succeed. A timeout of 0 is none.
func waitRun(ctx context.Context, g *global, api *client, id string, timeout time.Duration) error {
	path := "/runs/" + url.PathEscape(id)
	if err := awaitEnd(ctx, api, path, timeout); err != nil {
		return err
	}
	var d answer[scheduler.RunDetail]
	if err := api.get(ctx, path, nil, &d); err != nil {
		return err
	}
	if err := printOne(g, d, id, func(w io.Writer) error { return runTable(w, d.v) }); err != nil {
		return err
	}
	if state := d.v.Run.State; state != scheduler.StateSuccess {
		return &codeError{exitFailed, errors.New("run " + id + " ended as " + string(state))}
	}
	return nil
}

// awayMost is how long a server that has answered once may be away.
const awayMost = time.Minute

// awaitEnd returns nil when the run has ended. The server answers then, or after half a minute, when it is asked again.
func awaitEnd(ctx context.Context, api *client, path string, timeout time.Duration) error {
	limited := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var last scheduler.Run
	var lost time.Time // since when the server is away
	err := every(limited, 500*time.Millisecond, func() (bool, error) {
		query := url.Values{}
		if last.ID == "" { // whether there is such a run is to be known at once
			query.Set("seconds", "0")
		}
		var r scheduler.Run
		err := api.get(limited, path+"/wait", query, &r)
		switch {
		case err == nil:
			last, lost = r, time.Time{}
			return r.State.Terminal(), nil
		case limited.Err() != nil:
			return false, limited.Err()
		case lost.IsZero():
			lost = time.Now()
		}
		if last.ID == "" || !mayComeBack(err) || time.Since(lost) > awayMost {
			return false, err
		}
		return false, nil
	})
	if limited.Err() != nil && ctx.Err() == nil && err != nil {
		return &codeError{exitTimedOut, fmt.Errorf("%s after %v; 'millrace runs show' says how far it is", stillText(last), timeout)}
	}
	return err
}

func stillText(r scheduler.Run) string {
	if r.ID == "" {
		return "the server has not answered"
	}
	return fmt.Sprintf("run %s is still %s", r.ID, r.State)
}

// mayComeBack reports whether a fault is of a server that is away or has trouble, not of the request.
func mayComeBack(err error) bool {
	code := (*codeError)(nil)
	return !errors.As(err, &code) || code.code == exitUnreachable || code.code == exitFailed
}
