package main

import (
	"errors"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

func newTasks(g *global) *cobra.Command {
	return group("tasks", "Look at the tasks of a run, and decide on those that ask", newTasksLs(g), newTasksLogs(g), newTasksOutput(g), newTasksApprove(g), newTasksReject(g))
}

var taskColumns = []column[scheduler.TaskRun]{
	{"TASK", func(t scheduler.TaskRun) string {
		return scheduler.TaskName(t.Task, t.MapIndex)
	}},
	{"STATE", func(t scheduler.TaskRun) string { return string(t.State) }},
	{"TRIES", func(t scheduler.TaskRun) string { return strconv.Itoa(t.Try) }},
	{"EXIT", exitText},
	{"STARTED", func(t scheduler.TaskRun) string { return clock(t.StartedAt) }},
	{"TOOK", func(t scheduler.TaskRun) string { return took(t.StartedAt, t.EndedAt) }},
	{"REASON", func(t scheduler.TaskRun) string { return t.Reason }},
}

func exitText(t scheduler.TaskRun) string {
	if t.EndedAt.IsZero() || t.Try == 0 || t.Executor == "" {
		return "-"
	}
	return strconv.Itoa(t.Exit)
}

func newTasksLs(g *global) *cobra.Command {
	var task, state string
	var limit int
	c := &cobra.Command{
		Use: "ls RUN", Aliases: []string{"list"}, Short: "List the tasks of a run, in the order of the DAG", Args: exactArgs(1),
		Example: `  millrace tasks ls r7x3k5q2m4n6p
  millrace tasks ls r7x3k5q2m4n6p --task load --state failed`,
		Long: `List the tasks of a run, in the order of the DAG. One with foreach is a line, in which its items are counted; --task lists these.`,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			if task != "" {
				return listItems(c, g, api, itemQuery{args[0], task, state, limit})
			}
			if state != "" {
				return &codeError{exitUsage, errors.New("--state needs --task, the items of which it selects")}
			}
			var p page[scheduler.TaskRun]
			if err := api.get(c.Context(), "/runs/"+url.PathEscape(args[0])+"/tasks", nil, &p); err != nil {
				return err
			}
			return printRows(g, p.Items, func(t scheduler.TaskRun) string { return t.ID() }, taskColumns)
		},
	}
	c.Flags().StringVar(&task, "task", "", "the items of this task, which has foreach")
	c.Flags().StringVar(&state, "state", "", "only items in this state")
	c.Flags().IntVar(&limit, "limit", 100, "at most so many items")
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

// newTasksLogs is runs logs with the task as an argument.
func newTasksLogs(g *global) *cobra.Command {
	logs := newRunsLogs(g)
	inner := logs.RunE
	logs.Use, logs.Short, logs.Args = "logs RUN TASK", "Print the output of one task", exactArgs(2)
	logs.Example = "  millrace tasks logs -f r7x3k5q2m4n6p extract"
	logs.Long = `Print the output of one task: of its newest attempt, or of one by --try.

With -f the output is followed, through retries, until the task ends; the exit code is then 1 if the run has ended and did not succeed.`
	logs.RunE = func(c *cobra.Command, args []string) error {
		if err := c.Flags().Set("task", args[1]); err != nil {
			return err
		}
		return inner(c, args[:1])
	}
	_ = logs.Flags().MarkHidden("task") // the argument says it
	return logs
}
