package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

func newNotify(g *global) *cobra.Command {
	return group("notify", "Look at what notifiers were told of runs, test them, and send notices again", newNotifyLs(g), newNotifyStatus(g), newNotifyTest(g),
		newNotifyRetry(g))
}

var noticeColumns = []column[scheduler.Notice]{
	{"NOTICE", func(n scheduler.Notice) string { return n.ID }},
	{"NOTIFIER", func(n scheduler.Notice) string { return n.Notifier }},
	{"EVENT", func(n scheduler.Notice) string { return n.Event }},
	{"DAG", func(n scheduler.Notice) string { return n.DAG }},
	{"RUN", func(n scheduler.Notice) string { return n.Run }},
	{"TASK", func(n scheduler.Notice) string { return n.Task }},
	{"STATE", func(n scheduler.Notice) string { return string(n.State) }},
	{"TRIES", func(n scheduler.Notice) string { return strconv.Itoa(n.Tries) }},
	{"HAPPENED", func(n scheduler.Notice) string { return clock(n.CreatedAt) }},
	{"ERROR", func(n scheduler.Notice) string { return n.Error }},
}

func newNotifyLs(g *global) *cobra.Command {
	var notifier, run, state string
	var limit int
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List notices, newest first", Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			setIf(query, "notifier", notifier)
			setIf(query, "run", run)
			setIf(query, "state", state)
			rows, err := list[scheduler.Notice](c.Context(), api, "/notices", query, limit)
			if err != nil {
				return err
			}
			return printRows(g, rows, func(n scheduler.Notice) string { return n.ID }, noticeColumns)
		},
	}
	c.Flags().StringVar(&notifier, "notifier", "", "only those for this notifier")
	c.Flags().StringVar(&run, "run", "", "only those of this run")
	c.Flags().StringVar(&state, "state", "", "only those in this state: pending, sent or dead")
	c.Flags().IntVar(&limit, "limit", 50, "at most so many")
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

var notifierColumns = []column[scheduler.NotifierStatus]{
	{"NAME", func(n scheduler.NotifierStatus) string { return n.Name }},
	{"KIND", func(n scheduler.NotifierStatus) string {
		if n.Missing {
			return "(missing)"
		}
		return n.Kind
	}},
	{"CIRCUIT", func(n scheduler.NotifierStatus) string { return n.Circuit }},
	{"PENDING", func(n scheduler.NotifierStatus) string { return strconv.Itoa(n.Pending) }},
	{"OLDEST", func(n scheduler.NotifierStatus) string { return clock(n.Oldest) }},
	{"SENT", func(n scheduler.NotifierStatus) string { return strconv.FormatInt(n.Sent, 10) }},
	{"FAILED", func(n scheduler.NotifierStatus) string { return strconv.FormatInt(n.Failed, 10) }},
	{"DEAD", func(n scheduler.NotifierStatus) string { return strconv.Itoa(n.Dead) }},
	{"DAGS", func(n scheduler.NotifierStatus) string { return strings.Join(n.DAGs, ", ") }},
	{"ERROR", func(n scheduler.NotifierStatus) string {
		if n.Missing {
			return "the configuration lacks it: add notify." + n.Name + " and reload"
		}
		return n.LastError
	}},
}

func newNotifyStatus(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "status", Short: "List notifiers: those of the configuration and those that DAG files name, and how they do", Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			rows, err := list[scheduler.NotifierStatus](c.Context(), api, "/notifiers", url.Values{}, 100_000)
			if err != nil {
				return err
			}
			return printRows(g, rows, func(n scheduler.NotifierStatus) string { return n.Name }, notifierColumns)
		},
	}
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

func newNotifyTest(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "test NOTIFIER", Short: "Send something to a notifier now, and say whether it worked", Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			var out answer[map[string]string]
			if err := api.call(c.Context(), http.MethodPost, "/notifiers/"+url.PathEscape(args[0])+"/test", nil, nil, &out); err != nil {
				return err
			}
			return printOne(g, out, args[0], func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "sent to %s: look there\n", args[0])
				return err
			})
		},
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func newNotifyRetry(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "retry NOTICE...", Short: "Send notices again, whatever became of them, with the ids that they have", Args: minArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			var rows []answer[scheduler.Notice]
			for _, id := range args {
				var n answer[scheduler.Notice]
				if err := api.call(c.Context(), http.MethodPost, "/notices/"+url.PathEscape(id)+"/retry", nil, nil, &n); err != nil {
					return err
				}
				rows = append(rows, n)
			}
			return printRows(g, rows, func(n scheduler.Notice) string { return n.ID }, noticeColumns)
		},
	}
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

// deadlineTable prints by when something was to be done, and whether it was.
func deadlineTable(w io.Writer, deadlines []scheduler.Deadline) {
	for i := range deadlines {
		d := &deadlines[i]
		_, _ = fmt.Fprintf(w, "deadline\t%s\n", deadlineText(d))
	}
}

func deadlineText(d *scheduler.Deadline) string {
	text := clock(d.At) + " (" + d.Rule + "): "
	switch {
	case !d.MissedAt.IsZero():
		return text + "missed, seen at " + clock(d.MissedAt)
	case !d.MetAt.IsZero():
		return text + "met at " + clock(d.MetAt)
	}
	return text + "to come"
}

// noticeTable prints what was told of a run. A server that can not say leaves it out.
func noticeTable(ctx context.Context, api *client, w io.Writer, run string) {
	rows, err := list[scheduler.Notice](ctx, api, "/notices", url.Values{"run": {run}}, 20)
	if err != nil || len(rows) == 0 {
		return
	}
	_, _ = fmt.Fprint(w, "\nNOTICE\tNOTIFIER\tEVENT\tSTATE\tTRIES\tERROR\n")
	for i := len(rows) - 1; i >= 0; i-- {
		n := &rows[i].v
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", n.ID, n.Notifier, n.Event, n.State, n.Tries, n.Error)
	}
}
