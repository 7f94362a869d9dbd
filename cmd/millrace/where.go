package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
)

// found is the API's answer: what is known of the events, and of the batches that they are in.
type found struct {
	Query  string `json:"query"`
	Events []struct {
		Stream     string    `json:"stream"`
		Offset     int64     `json:"offset"`
		Status     string    `json:"status"`
		Reason     string    `json:"reason"`
		Source     string    `json:"source"`
		Batch      string    `json:"batch"`
		URI        string    `json:"uri"`
		Row        int       `json:"row"`
		ReceivedAt time.Time `json:"received_at"`
		Command    string    `json:"command"`
	} `json:"events"`
	Batches []struct {
		Batch        batcher.Batch         `json:"batch"`
		Dispositions []trigger.Disposition `json:"dispositions"`
		Runs         []struct {
			Run   scheduler.Run `json:"run"`
			Tasks []struct {
				Task    string          `json:"task"`
				State   scheduler.State `json:"state"`
				Tries   int             `json:"tries"`
				Command string          `json:"command"`
			} `json:"tasks"`
		} `json:"runs"`
	} `json:"batches"`
	Truncated bool `json:"truncated"`
}

func newWhere(g *global) *cobra.Command {
	var since string
	c := &cobra.Command{
		Use: "where RECEIPT|ID", Short: "Follow one event: object and row, batch, runs, tasks, logs", Args: exactArgs(1),
		Long: `Follow one event to its object and row, its batch, the runs that were started for it, their tasks and logs.

Give the X-Millrace-Receipt of the answer that the sender got, or the event's own id (messageId, delivery id).`,
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			setIf(query, "since", since)
			var f answer[found]
			if err := api.get(c.Context(), "/where/"+url.PathEscape(args[0]), query, &f); err != nil {
				return err
			}
			return printOne(g, f, args[0], func(w io.Writer) error { return whereTable(w, &f.v) })
		},
	}
	c.Flags().StringVar(&since, "since", "", "how far back to look for an id beyond the dedupe window (72h)")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// whereTable prints the way of the events, from top to bottom.
func whereTable(w io.Writer, f *found) error {
	for _, e := range f.Events {
		place := fmt.Sprintf("offset %d of %s", e.Offset, e.Stream)
		if e.Row > 0 {
			place += fmt.Sprintf(", row %d of %s", e.Row, e.URI)
		}
		status := e.Status
		if e.Reason != "" {
			status += " (" + e.Reason + ")"
		}
		_, _ = fmt.Fprintf(w, "event\t%s\t%s\n\treceived %s\t%s\n", status, place, clock(e.ReceivedAt), e.Command)
	}
	if f.Truncated {
		_, _ = fmt.Fprintln(w, "\t…\tthe receipt names more events than are followed")
	}
	for _, b := range f.Batches {
		_, _ = fmt.Fprintf(w, "batch\t%s\t%d events, committed %s\n", b.Batch.ID, b.Batch.Events, clock(b.Batch.CommittedAt))
		for _, d := range b.Dispositions {
			_, _ = fmt.Fprintf(w, "rule\t%s\t%s\n", d.Rule, strings.TrimSpace(string(d.Fate)+" "+d.Reason))
		}
		for _, r := range b.Runs {
			_, _ = fmt.Fprintf(w, "run\t%s\t%s, %s\n", r.Run.ID, r.Run.DAG, r.Run.State)
			for _, t := range r.Tasks {
				_, _ = fmt.Fprintf(w, "task\t%s\t%s; %s\n", t.Task, t.State, t.Command)
			}
		}
	}
	return nil
}
