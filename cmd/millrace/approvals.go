package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

func newApprovals(g *global) *cobra.Command {
	return group("approvals", "Look at what waits for a person's decision", newApprovalsLs(g))
}

var approvalColumns = []column[scheduler.Question]{
	{"TASK", func(q scheduler.Question) string { return q.ID }},
	{"DAG", func(q scheduler.Question) string { return q.DAG }},
	{"SINCE", func(q scheduler.Question) string { return clock(q.Since) }},
	{"UNTIL", func(q scheduler.Question) string {
		if q.Until.IsZero() {
			return "-"
		}
		return clock(q.Until) + ", then " + q.OnExpire
	}},
	{"BY", func(q scheduler.Question) string { return cmp.Or(strings.Join(q.By, ", "), "anybody") }},
	{"MESSAGE", func(q scheduler.Question) string { return strings.Join(strings.Fields(q.Message), " ") + wants(q) }},
}

// wants says what an approval has to have besides a yes.
func wants(q scheduler.Question) string {
	text := ""
	if len(q.Options) > 0 {
		text = " --option " + strings.Join(q.Options, "|")
	}
	for _, name := range slices.Sorted(maps.Keys(q.Params)) {
		p := q.Params[name]
		arg := fmt.Sprintf("--input %s=%s", name, strings.ToUpper(p.Type))
		if !p.Required || p.Default != nil {
			arg = "[" + arg + "]"
		}
		text += " " + arg
	}
	if text != "" {
		text = " (" + strings.TrimSpace(text) + ")"
	}
	return text
}

func newApprovalsLs(g *global) *cobra.Command {
	var run string
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the tasks that wait for a person's decision, the oldest first", Args: exactArgs(0),
		Example: `  millrace approvals ls
  millrace approvals ls --run r7x3k5q2m4n6p -o name | xargs -n 1 millrace tasks approve`,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			setIf(query, "run", run)
			rows, err := list[scheduler.Question](c.Context(), api, "/approvals", query, 100_000)
			if err != nil {
				return err
			}
			return printRows(g, rows, func(q scheduler.Question) string { return q.ID }, approvalColumns)
		},
	}
	c.Flags().StringVar(&run, "run", "", "only those of this run")
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

func newTasksApprove(g *global) *cobra.Command {
	var option string
	var input []string
	c := decideCommand(g, scheduler.DecisionApprove, "Approve what a task asks, so that its run goes on", func(body map[string]any) {
		if option != "" {
			body["option"] = option
		}
		if len(input) > 0 {
			body["input"] = paramValues(input)
		}
	})
	c.Flags().StringVar(&option, "option", "", "the answer, of a task that has some to choose from")
	c.Flags().StringArrayVar(&input, "input", nil, "what is to be filled in, NAME=VALUE; the value is JSON, or else text")
	return c
}

func newTasksReject(g *global) *cobra.Command {
	return decideCommand(g, scheduler.DecisionReject, "Reject what a task asks", func(map[string]any) {})
}

// decideCommand makes one of the two commands; more adds to the request.
func decideCommand(g *global, word, short string, more func(map[string]any)) *cobra.Command {
	var by, comment string
	c := &cobra.Command{
		Use: word + " RUN TASK", Short: short, Args: minArgs(1),
		Example: "  millrace tasks " + word + " r7x3k5q2m4n6p check --comment 'numbers look right'\n  millrace tasks " + word + " r7x3k5q2m4n6p/check --by ops",
		Long: short + `. RUN TASK can be written as RUN/TASK, as 'millrace approvals ls' does.

A decision is taken once: the exit code is 7 if somebody has decided already, and the message says who, what and when. --by is who decides; for a
task that names those who may, it must be one of them. It is taken on trust: whoever has the console's token may say it.`,
		RunE: func(c *cobra.Command, args []string) error {
			path, err := taskPath(args)
			if err != nil {
				return err
			}
			api, err := g.client()
			if err != nil {
				return err
			}
			body := map[string]any{"decision": word, "by": cmp.Or(by, whoAsks()), "comment": comment, "map_index": path.index}
			more(body)
			var t answer[scheduler.TaskRun]
			if err := api.call(c.Context(), http.MethodPost, "/runs/"+url.PathEscape(path.run)+"/tasks/"+url.PathEscape(path.task)+"/decision", nil, body, &t); err != nil {
				if by == "" && strings.Contains(err.Error(), "may decide on it") {
					code := (*codeError)(nil)
					errors.As(err, &code)
					return &codeError{code.code, fmt.Errorf("%w\nSay who decides with --by", err)}
				}
				return err
			}
			return printOne(g, t, t.v.ID(), func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "task %s is %s: %s\nits run: millrace runs wait %s\n", t.v.ID(), t.v.State, t.v.Reason, t.v.Run)
				return err
			})
		},
	}
	c.Flags().StringVar(&by, "by", "", "who decides (default: the user and the machine)")
	c.Flags().StringVar(&comment, "comment", "", "why, for the audit trail and for the tasks that follow")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// place names a task.
type place struct {
	run, task string
	index     int
}

// taskPath reads RUN TASK or RUN/TASK, or RUN/TASK/INDEX of a mapped one.
func taskPath(args []string) (place, error) {
	parts := strings.Split(strings.Join(args, "/"), "/")
	p := place{index: scheduler.NoMap}
	if len(parts) < 2 || len(parts) > 3 {
		return p, &codeError{exitUsage, fmt.Errorf("task %q: want RUN TASK; 'millrace approvals ls' lists what waits for a decision", strings.Join(args, " "))}
	}
	p.run, p.task = parts[0], parts[1]
	if len(parts) == 3 {
		var err error
		if p.index, err = strconv.Atoi(parts[2]); err != nil {
			return p, &codeError{exitUsage, fmt.Errorf("task %q: %q is no index of a mapped task", strings.Join(args, " "), parts[2])}
		}
	}
	return p, nil
}
