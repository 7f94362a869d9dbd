package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

// pins are the values of --pin.
var pins = []string{scheduler.PinOriginal, scheduler.PinLatest}

func newReplay(g *global) *cobra.Command {
	var pin string
	var emit, wait bool
	c := &cobra.Command{
		Use: "replay RUN...", Short: "Run runs again, each as a new run on the same inputs and params", Args: minArgs(1),
		Long: `Run runs again, each as a new run on the same inputs and params, by the version of the DAG that the run had, or with --pin latest by that of
the DAG's file. The run that is replayed stays as it is, and so does what became of its batches; 'millrace runs clear' executes tasks again within
the same run.

A replay waits for slots behind live runs, and starts no run of another DAG unless --emit says so. It is refused while a run of the same inputs is
under way. With --wait the exit code is 1 if one of them does not succeed.`,
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(pins, pin) {
				return &codeError{exitUsage, fmt.Errorf("pin %q: want original or latest%s", pin, didYouMean(pin, pins))}
			}
			return replayAll(c.Context(), g, args, map[string]any{"pin": pin, "emit": emit}, wait)
		},
	}
	c.Flags().StringVar(&pin, "pin", scheduler.PinOriginal, "by which version of the DAG: original or latest")
	c.Flags().BoolVar(&emit, "emit", false, "let it start runs of other DAGs")
	c.Flags().BoolVar(&wait, "wait", false, "wait for the end; exit code 1 if the run does not succeed")
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

// replayAll replays runs, one after the other, as far as that goes, and shows those that were started.
func replayAll(ctx context.Context, g *global, ids []string, body map[string]any, wait bool) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	var rows []answer[scheduler.Run]
	var failed error
	for _, id := range ids {
		var r answer[scheduler.Run]
		if failed = api.call(ctx, http.MethodPost, "/runs/"+url.PathEscape(id)+"/replay", nil, body, &r); failed != nil {
			break
		}
		rows = append(rows, r)
	}
	var bad []string
	for i := range rows {
		if !wait {
			break
		}
		path := "/runs/" + url.PathEscape(rows[i].v.ID)
		if err := awaitEnd(ctx, api, path, 0); err != nil {
			return err
		}
		if err := api.get(ctx, path+"/wait", url.Values{"seconds": {"0"}}, &rows[i]); err != nil {
			return err
		}
		if state := rows[i].v.State; state != scheduler.StateSuccess {
			bad = append(bad, "run "+rows[i].v.ID+" ended as "+string(state))
		}
	}
	if len(rows) > 0 || failed == nil {
		if err := printRows(g, rows, func(r scheduler.Run) string { return r.ID }, replayColumns); err != nil {
			return err
		}
	}
	if failed == nil && len(bad) > 0 {
		failed = &codeError{exitFailed, errors.New(bad[0])}
	}
	return failed
}

var replayColumns = []column[scheduler.Run]{
	{"RUN", func(r scheduler.Run) string { return r.ID }},
	{"REPLAY", replayText},
	{"DAG", func(r scheduler.Run) string { return r.DAG + " at " + r.Version }},
	{"STATE", func(r scheduler.Run) string { return string(r.State) }},
	{"BATCHES", func(r scheduler.Run) string { return strconv.Itoa(len(r.Batches)) }},
	{"TOOK", func(r scheduler.Run) string { return took(r.StartedAt, r.EndedAt) }},
}

// replayText says which replay of what a run is, or nothing.
func replayText(r scheduler.Run) string {
	if r.Replay == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %s", r.Replay, r.ReplayOf)
}

// again says in a list that a run is no rule's own.
func again(r scheduler.Run) string {
	switch {
	case r.Backfill != "":
		return ", backfill " + r.Backfill
	case r.Replay > 0:
		return ", replay " + strconv.Itoa(r.Replay)
	}
	return ""
}
