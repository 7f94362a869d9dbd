package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

func newExplain(g *global) *cobra.Command {
	return group("explain", "Say why a run, a task or a batch waits, and for what", newExplainRun(g), newExplainTask(g), newExplainBatch(g))
}

func newExplainRun(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "run RUN", Short: "Say why a run and each of its tasks waits", Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			var d answer[scheduler.RunWhy]
			if err := api.get(c.Context(), "/explain/runs/"+url.PathEscape(args[0]), nil, &d); err != nil {
				return err
			}
			return printOne(g, d, d.v.Run, func(w io.Writer) error {
				_, _ = fmt.Fprintf(w, "run\t%s\ndag\t%s\nstate\t%s\nwhy\t%s\n", d.v.Run, d.v.DAG, d.v.State, d.v.Why.Text)
				deadlineTable(w, d.v.Deadlines)
				_, _ = fmt.Fprint(w, "\nTASK\tSTATE\tCODE\tWHY\n")
				for _, t := range d.v.Tasks {
					_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", scheduler.TaskName(t.Task, t.MapIndex), t.State, t.Why.Code, t.Why.Text)
				}
				return nil
			})
		},
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func newExplainTask(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "task RUN/TASK", Short: "Say why a task waits", Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path := strings.Split(args[0], "/")
			if len(path) < 2 || len(path) > 3 {
				return &codeError{exitUsage, fmt.Errorf("task %q: want RUN/TASK, or RUN/TASK/INDEX of a mapped one; 'millrace explain run RUN' lists them", args[0])}
			}
			query := url.Values{}
			if len(path) == 3 {
				query.Set("map_index", path[2])
			}
			api, err := g.client()
			if err != nil {
				return err
			}
			var d answer[scheduler.TaskWhy]
			if err := api.get(c.Context(), "/explain/tasks/"+url.PathEscape(path[0])+"/"+url.PathEscape(path[1]), query, &d); err != nil {
				return err
			}
			return printOne(g, d, d.v.ID, func(w io.Writer) error {
				_, _ = fmt.Fprintf(w, "task\t%s\nstate\t%s\ncode\t%s\nwhy\t%s\n", d.v.ID, d.v.State, d.v.Why.Code, d.v.Why.Text)
				return whyFacts(w, d.v.Why)
			})
		},
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// whyFacts prints what a sentence may leave out.
func whyFacts(w io.Writer, why scheduler.Why) error {
	if !why.Until.IsZero() {
		_, _ = fmt.Fprintf(w, "until\t%s\n", clock(why.Until))
	}
	for i, id := range why.On {
		head := ""
		if i == 0 {
			head = "on"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\n", head, id)
	}
	return nil
}

func newExplainBatch(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "batch BATCH", Short: "Say what became of a batch for each rule, and why", Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			var d answer[scheduler.BatchWhy]
			if err := api.get(c.Context(), "/explain/batches/"+url.PathEscape(args[0]), nil, &d); err != nil {
				return err
			}
			return printOne(g, d, d.v.Batch, func(w io.Writer) error {
				_, _ = fmt.Fprintf(w, "batch\t%s\nwhy\t%s\n", d.v.Batch, d.v.Text)
				if len(d.v.Rules) > 0 {
					_, _ = fmt.Fprint(w, "\nRULE\tDISPOSITION\tCODE\tWHY\n")
				}
				for _, r := range d.v.Rules {
					why := r.Why.Text
					for i := range r.Deadlines {
						why += "; deadline " + deadlineText(&r.Deadlines[i])
					}
					_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Rule, r.Disposition, r.Why.Code, why)
				}
				return nil
			})
		},
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// explained puts the reasons of what waits into a run that is to be shown. A server that can not say leaves it as it is.
func explained(ctx context.Context, api *client, d scheduler.RunDetail) scheduler.RunDetail {
	var why scheduler.RunWhy
	if d.Run.State.Terminal() || api.get(ctx, "/explain/runs/"+url.PathEscape(d.Run.ID), nil, &why) != nil {
		return d
	}
	if strings.HasPrefix(why.Why.Text, d.Run.Reason) { // also of a run that was asked to end
		d.Run.Reason = why.Why.Text
	}
	for _, w := range why.Tasks {
		for i := range d.Tasks {
			if t := &d.Tasks[i]; t.ID() == w.ID && t.State == w.State && !t.State.Terminal() {
				t.Reason = w.Why.Text
			}
		}
	}
	return d
}
