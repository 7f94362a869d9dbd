package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

func newRunsClear(g *global) *cobra.Command {
	var task, groups string
	var failed, downstream, dryRun bool
	index := scheduler.NoMap
	c := &cobra.Command{
		Use: "clear RUN", Short: "Execute tasks of a run again, all of them or some", Args: exactArgs(1),
		Example: `  millrace runs clear r7x3k5q2m4n6p --task load,report --dry-run
  millrace runs clear r7x3k5q2m4n6p --task extract --downstream`,
		Long: `Execute tasks of a run again: all of them, or those of --task and --group, of these with --failed only what is failed, upstream_failed or cancelled, and
with --downstream everything that comes after them as well, whatever became of it.

A run that has ended goes on, by the version of the DAG that it has and on the inputs that it was given. Tries go on counting, retries begin
anew. What runs is killed first, and begins again when it has ended. --dry-run shows what would be cleared.`,
		RunE: func(c *cobra.Command, args []string) error {
			body := map[string]any{"failed": failed, "downstream": downstream, "dry_run": dryRun}
			if task != "" {
				names := strings.Split(task, ",")
				if len(names) == 1 {
					names[0] = scheduler.TaskName(task, index)
				}
				body["tasks"] = names
			}
			if index != scheduler.NoMap && (task == "" || strings.Contains(task, ",")) {
				return &codeError{exitUsage, errors.New("--map-index needs one --task, whose item it is")}
			}
			if groups != "" {
				body["groups"] = strings.Split(groups, ",")
			}
			return mendRun(c, g, args[0], "clear", body)
		},
	}
	c.Flags().StringVar(&task, "task", "", "only these tasks, with commas between them")
	c.Flags().IntVar(&index, "map-index", index, "of a mapped task, only this item")
	c.Flags().StringVar(&groups, "group", "", "the tasks of these groups, with commas between them")
	c.Flags().BoolVar(&failed, "failed", false, "only what has failed or was cancelled")
	c.Flags().BoolVar(&downstream, "downstream", false, "and everything that comes after")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be done and do nothing")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func newRunsRetry(g *global) *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use: "retry RUN", Short: "Execute again what failed in a run, and what comes after that", Args: exactArgs(1),
		Example: `  millrace runs retry r7x3k5q2m4n6p
  millrace runs ls --dag load --state failed -o name | xargs -n 1 millrace runs retry`,
		Long: `Execute again what failed in a run or was cancelled, and everything that comes after that. It is 'millrace runs clear --failed --downstream'.`,
		RunE: func(c *cobra.Command, args []string) error {
			return mendRun(c, g, args[0], "clear", map[string]any{"failed": true, "downstream": true, "dry_run": dryRun})
		},
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be done and do nothing")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// markStates are what can be said of a task; of a run, the first two.
var markStates = []string{string(scheduler.StateSuccess), string(scheduler.StateFailed), string(scheduler.StateSkipped)}

func newRunsMark(g *global) *cobra.Command {
	var task string
	index := scheduler.NoMap
	c := &cobra.Command{
		Use: "mark RUN success|failed|skipped", Short: "Say how a run, or a task of it, has ended", Args: exactArgs(2),
		Example: `  millrace runs mark r7x3k5q2m4n6p success --task load
  millrace runs mark r7x3k5q2m4n6p failed`,
		Long: `Say how a run has ended, or a task of it, whatever it did. What runs is killed, and its result does not count.

A task that is marked success or skipped gives what failed after it another chance: that is executed. A run that is marked success has all its
tasks marked so, but for those that were skipped; of a run that is marked failed, what runs fails and what has not started is skipped.`,
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(markStates, args[1]) || task == "" && args[1] == string(scheduler.StateSkipped) {
				return &codeError{exitUsage, fmt.Errorf("state %q: want success or failed, or skipped with --task%s", args[1], didYouMean(args[1], markStates))}
			}
			if index != scheduler.NoMap && task == "" {
				return &codeError{exitUsage, errors.New("--map-index needs --task, whose item it is")}
			}
			return mendRun(c, g, args[0], "mark", map[string]any{"state": args[1], "task": scheduler.TaskName(task, index)})
		},
	}
	c.Flags().StringVar(&task, "task", "", "this task instead of the run")
	c.Flags().IntVar(&index, "map-index", index, "of a mapped task, only this item")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// mendRun asks for a clear or a mark and says what came of it.
func mendRun(c *cobra.Command, g *global, run, verb string, body map[string]any) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	body["by"] = whoAsks()
	var m answer[scheduler.Mended]
	if err := api.call(c.Context(), http.MethodPost, "/runs/"+url.PathEscape(run)+"/"+verb, nil, body, &m); err != nil {
		return err
	}
	return printOne(g, m, m.v.Run.ID, func(w io.Writer) error { return mendedTable(w, verb, m.v) })
}

// whoAsks is for the audit trail: the user and the machine.
func whoAsks() string {
	who := "somebody"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		who += "@" + host
	}
	return who[:min(len(who), 100)]
}

// mendedShown is how many tasks a table of what was changed has: a mapped one may have a hundred thousand.
const mendedShown = 100

func mendedTable(w io.Writer, verb string, m scheduler.Mended) error {
	if len(m.Tasks) > 0 {
		_, _ = fmt.Fprint(w, "TASK\tWAS\tTRIES\n")
	}
	for i, t := range m.Tasks {
		if i == mendedShown {
			_, _ = fmt.Fprintf(w, "and %d more\n", len(m.Tasks)-i)
			break
		}
		was := string(t.State)
		if t.Kill {
			was += ", is killed first"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\n", scheduler.TaskName(t.Task, t.MapIndex), was, t.Try)
	}
	if len(m.Tasks) > 0 {
		_, _ = fmt.Fprintln(w)
	}
	changed := counted(len(m.Tasks), "task")
	switch {
	case m.DryRun:
		_, err := fmt.Fprintf(w, "%s of run %s would be cleared; it is %s\n", changed, m.Run.ID, m.Run.State)
		return err
	case len(m.Tasks) == 0:
		_, err := fmt.Fprintf(w, "nothing to %s: run %s is %s\n", verb, m.Run.ID, m.Run.State)
		return err
	}
	_, err := fmt.Fprintf(w, "run %s is %s; %s changed\n", m.Run.ID, m.Run.State, changed)
	if err == nil && !m.Run.State.Terminal() {
		_, err = fmt.Fprintf(w, "its end: millrace runs wait %s\n", m.Run.ID)
	}
	return err
}
