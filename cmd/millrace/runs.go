package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

func newRuns(g *global) *cobra.Command {
	return group("runs", "Look at runs, read their logs, wait for them, end them, execute them again", newRunsLs(g), newRunsShow(g),
		newRunsLogs(g), newRunsWait(g), newRunsCancel(g), newRunsClear(g), newRunsRetry(g), newRunsMark(g))
}

var runColumns = []column[scheduler.Run]{
	{"RUN", func(r scheduler.Run) string { return r.ID }},
	{"DAG", func(r scheduler.Run) string { return r.DAG }},
	{"STATE", func(r scheduler.Run) string { return string(r.State) }},
	{"TRIGGER", func(r scheduler.Run) string { return string(r.Trigger.Kind) + " " + r.Trigger.Rule + again(r) }},
	{"BATCHES", func(r scheduler.Run) string { return strconv.Itoa(len(r.Batches)) }},
	{"EVENTS", func(r scheduler.Run) string { return strconv.FormatInt(r.Events, 10) }},
	{"CREATED", func(r scheduler.Run) string { return clock(r.CreatedAt) }},
	{"TOOK", func(r scheduler.Run) string { return took(r.StartedAt, r.EndedAt) }},
}

func newRunsLs(g *global) *cobra.Command {
	var dag, state, batch, replayOf, backfill string
	var limit int
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List runs, newest first", Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			setIf(query, "dag", dag)
			setIf(query, "state", state)
			setIf(query, "batch", batch)
			setIf(query, "replay_of", replayOf)
			setIf(query, "backfill", backfill)
			rows, err := list[scheduler.Run](c.Context(), api, "/runs", query, limit)
			if err != nil {
				return err
			}
			return printRows(g, rows, func(r scheduler.Run) string { return r.ID }, runColumns)
		},
	}
	c.Flags().StringVar(&dag, "dag", "", "only runs of this DAG")
	c.Flags().StringVar(&state, "state", "", "only runs in this state")
	c.Flags().StringVar(&batch, "batch", "", "only runs that were given this batch")
	c.Flags().StringVar(&replayOf, "replay-of", "", "only replays of this run")
	c.Flags().StringVar(&backfill, "backfill", "", "only runs that this backfill started")
	c.Flags().IntVar(&limit, "limit", 50, "at most so many")
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

func newRunsShow(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "show RUN", Short: "Show one run with its tasks", Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			var d answer[shownRun]
			if err := api.get(c.Context(), "/runs/"+url.PathEscape(args[0]), nil, &d); err != nil {
				return err
			}
			return printOne(g, d, d.v.Run.ID, func(w io.Writer) error {
				if d.v.Archived.Object != "" {
					_, _ = fmt.Fprintf(w, "archived\t%s\n", d.v.Archived.Object)
				}
				err := runTable(w, explained(c.Context(), api, d.v.RunDetail))
				noticeTable(c.Context(), api, w, d.v.Run.ID)
				return err
			})
		},
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// shownRun is a run with where it is, if that is the archive.
type shownRun struct {
	scheduler.RunDetail
	Archived struct {
		Object string `json:"object"`
	} `json:"archived"`
}

func runTable(w io.Writer, d scheduler.RunDetail) error {
	r := d.Run
	for _, line := range [][2]string{
		{"run", r.ID}, {"dag", r.DAG + " at " + r.Version}, {"state", string(r.State)}, {"reason", r.Reason},
		{"trigger", string(r.Trigger.Kind) + " " + r.Trigger.Rule + " " + r.Trigger.Key}, {"parent", r.Trigger.Parent}, {"replay", replayText(r)}, {"backfill", r.Backfill},
		{"inputs", fmt.Sprintf("%d batches, %d events, %s", len(r.Batches), r.Events, bytesText(r.Bytes))},
		{"params", string(r.Params)}, {"created", clock(r.CreatedAt)}, {"took", took(r.StartedAt, r.EndedAt)},
	} {
		if line[1] != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
		}
	}
	deadlineTable(w, r.Deadlines)
	imageTable(w, r.Images)
	_, _ = fmt.Fprintf(w, "\nTASK\t%sSTATE\tTRIES\tEXIT\tSTARTED\tTOOK\tREASON\n", groupCell(d, "GROUP"))
	for _, t := range d.Tasks {
		_, _ = fmt.Fprintf(w, "%s\t%s%s\t%d\t%s\t%s\t%s\t%s\n", t.Task, groupCell(d, t.Group), t.State, t.Try, exitText(t), clock(t.StartedAt),
			took(t.StartedAt, t.EndedAt), t.Reason)
	}
	mappedCounts(w, d)
	childRuns(w, d.Tasks)
	_, err := fmt.Fprintf(w, "\nlogs:\tmillrace runs logs %s\n", r.ID)
	return err
}

// groupCell is a cell of the column of groups, which is there if a task is in one.
func groupCell(d scheduler.RunDetail, text string) string {
	if !slices.ContainsFunc(d.Tasks, func(t scheduler.TaskRun) bool { return t.Group != "" }) {
		return ""
	}
	return text + "\t"
}

// childRuns lists the runs that tasks have started.
func childRuns(w io.Writer, tasks []scheduler.TaskRun) {
	head := "\nTASK\tITS RUN\n"
	for _, t := range tasks {
		if t.Executor == "" && t.External != "" {
			_, _ = fmt.Fprintf(w, "%s%s\t%s\n", head, t.Task, t.External)
			head = ""
		}
	}
}

func newRunsLogs(g *global) *cobra.Command {
	var task string
	var try, index int
	var follow bool
	c := &cobra.Command{
		Use: "logs RUN", Short: "Print the output of a run's tasks", Args: exactArgs(1),
		Long: `Print the output of a run's tasks, all of them one after the other or one by --task.

With -f the output is followed until the run ends; the exit code is then 1 if the run did not succeed.`,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			setIf(query, "task", task)
			if try > 0 {
				query.Set("try", strconv.Itoa(try))
			}
			if index >= 0 {
				query.Set("map_index", strconv.Itoa(index))
			}
			if follow {
				query.Set("follow", "1")
			}
			path := "/runs/" + url.PathEscape(args[0])
			if err := api.stream(c.Context(), path+"/logs", query, g.out); err != nil || !follow || c.Context().Err() != nil {
				return err
			}
			return runVerdict(c, api, path)
		},
	}
	c.Flags().StringVar(&task, "task", "", "only this task")
	c.Flags().IntVar(&try, "try", 0, "this attempt (default: the newest)")
	c.Flags().IntVar(&index, "map-index", scheduler.NoMap, "this element of a mapped task")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run ends")
	g.serverFlags(c)
	return c
}

func runVerdict(c *cobra.Command, api *client, path string) error {
	var r scheduler.Run
	if err := api.get(c.Context(), path+"/wait", url.Values{"seconds": {"0"}}, &r); err != nil {
		return err
	}
	if r.State.Terminal() && r.State != scheduler.StateSuccess {
		return &codeError{exitFailed, errors.New("run " + r.ID + " ended as " + string(r.State))}
	}
	return nil
}

func newRunsCancel(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "cancel RUN", Short: "End a run: start nothing more of it and kill what runs", Args: exactArgs(1),
		Long: `End a run: nothing more of it is started, and what runs is killed. What was set up is taken down: teardowns still run, and the run ends with
them. A second cancel ends them, too, and skips those that have not started.`,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			var r answer[cancelledRun]
			if err := api.call(c.Context(), http.MethodPost, "/runs/"+url.PathEscape(args[0])+"/cancel", nil, nil, &r); err != nil {
				return err
			}
			return printOne(g, r, r.v.ID, func(w io.Writer) error {
				text := fmt.Sprintf("run %s is %s", r.v.ID, r.v.State)
				if r.v.Why != nil {
					text += ": " + r.v.Why.Text
				}
				_, err := fmt.Fprintln(w, text)
				return err
			})
		},
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// cancelledRun is the answer to a cancel.
type cancelledRun struct {
	scheduler.Run
	Why *scheduler.Why `json:"why"`
}
