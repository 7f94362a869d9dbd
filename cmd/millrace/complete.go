package main

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/batcher"
	"millrace/cmd/internal/send"
	"millrace/configs"
	"millrace/scheduler"
	"millrace/scheduler/spec/graph"
)

// completeTime bounds what a press of the tab key may wait for.
const completeTime = 700 * time.Millisecond

// completer proposes values: of an argument, or of a flag.
type completer func(ctx context.Context, typed string) []string

// complete joins commands and flags with what is proposed for them. A server that does not answer proposes nothing.
func (g *global) complete(root *cobra.Command) {
	words := func(list ...string) completer { return func(context.Context, string) []string { return list } }
	args := map[string]completer{"DAG": g.dagNames, "DAG|FILE": g.dagNames, "RUN": g.runIDs, "BATCH": g.batchIDs, "BACKFILL": g.backfillIDs, "SOURCE": g.sourceNames, "CHECK": words(checkNames()...)}
	flags := map[string]completer{
		"output": words(outputs...), "roles": words(configs.RoleIngest, configs.RoleBatch, configs.RoleSchedule), "dag": g.dagNames,
		"batch": g.batchIDs, "source": g.sourceNames, "log-level": words("debug", "info", "warn", "error"), "log-format": words("text", "json"),
		"from": words("now", "start"), "template": words(send.Templates()...), "progress": words(progressModes...), "format": words(graph.Formats...),
		"order": words(scheduler.OrderOldest, scheduler.OrderNewest), "pin": words(pins...), "reprocess": words("none", "failed", "all"),
		"backfill": g.backfillIDs, "state": words("queued", "running", "success", "failed", "cancelled"),
	}
	walk(root, func(c *cobra.Command) {
		fields := strings.Fields(c.Use)
		if len(fields) > 1 && c.ValidArgsFunction == nil {
			if f := args[strings.TrimRight(strings.Trim(fields[1], "[]"), ".")]; f != nil {
				c.ValidArgsFunction = f.args(!strings.Contains(c.Use, "..."))
			}
		}
		for name, f := range flags {
			if c.Flags().Lookup(name) != nil {
				_ = c.RegisterFlagCompletionFunc(name, f.args(false)) // fails only if it is there already, and then that one is meant
			}
		}
	})
}

// args is the completer as cobra calls it; one says that there is one argument at most.
func (f completer) args(one bool) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if one && len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(c.Context(), completeTime)
		defer cancel()
		var out []string
		for _, v := range f(ctx, typed) {
			if strings.HasPrefix(v, typed) {
				out = append(out, v)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// walk calls f for c and for all commands below it.
func walk(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		walk(sub, f)
	}
}

func (g *global) dagNames(ctx context.Context, _ string) []string {
	return namesOf(ctx, g, "/dags", func(d scheduler.DAGHead) string { return d.ID })
}

func (g *global) runIDs(ctx context.Context, _ string) []string {
	return namesOf(ctx, g, "/runs", func(r scheduler.Run) string { return r.ID + "\t" + r.DAG + ", " + string(r.State) })
}

func (g *global) backfillIDs(ctx context.Context, _ string) []string {
	return namesOf(ctx, g, "/backfills", func(b scheduler.Backfill) string { return b.ID + "\t" + b.DAG + ", " + string(b.State) })
}

func (g *global) batchIDs(ctx context.Context, _ string) []string {
	return namesOf(ctx, g, "/batches", func(b batcher.Batch) string { return b.ID + "\t" + b.Source })
}

func namesOf[T any](ctx context.Context, g *global, path string, name func(T) string) []string {
	api, err := g.client()
	if err != nil {
		return nil
	}
	rows, err := list[T](ctx, api, path, url.Values{}, 50)
	if err != nil {
		return nil
	}
	var out []string
	for _, r := range rows {
		out = append(out, name(r.v))
	}
	return out
}

func (g *global) sourceNames(context.Context, string) []string {
	l, _, err := g.senders()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(l.Sources))
}
