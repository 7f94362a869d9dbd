package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

// dagState is a DAG's state in words.
func dagState(d scheduler.DAGHead) string {
	state := "active"
	switch {
	case d.Removed:
		return "removed"
	case d.Error != "" && d.Version != "":
		state = "broken file, last good version in force"
	case d.Error != "":
		state = "broken file"
	case d.Paused:
		return "paused"
	}
	if d.Paused {
		state += ", paused"
	}
	return state
}

func newDAGsPause(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "pause DAG...", Short: "Let DAGs start nothing by themselves", Args: minArgs(1),
		Long: `Let DAGs start nothing by themselves, until 'millrace dags unpause'.

Batches that their rules want are held, and start runs when the pause ends. Ticks of cron rules pass without a run and do not come back. Runs
that exist go on to their end: 'millrace runs cancel' ends one. 'millrace dags trigger' starts a run of a paused DAG at once. A pause lasts over
restarts, new versions of the DAG's file, and its removal.`,
		RunE: func(c *cobra.Command, args []string) error { return setPaused(c, g, args, "pause") },
	}
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

func newDAGsUnpause(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "unpause DAG...", Short: "Let paused DAGs start runs again, first for the batches that were held", Args: minArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return setPaused(c, g, args, "unpause") },
	}
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

// setPaused asks for each DAG in turn; after a fault those before it are as asked for, and are shown.
func setPaused(c *cobra.Command, g *global, dags []string, verb string) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	var heads []answer[scheduler.DAGHead]
	var fault error
	for _, id := range dags {
		var head answer[scheduler.DAGHead]
		if fault = api.call(c.Context(), http.MethodPost, "/dags/"+url.PathEscape(id)+"/"+verb, nil, nil, &head); fault != nil {
			break
		}
		heads = append(heads, head)
	}
	if g.output != "table" {
		err = printRows(g, heads, func(d scheduler.DAGHead) string { return d.ID }, nil)
	} else {
		err = sayStates(g.out, heads)
	}
	if fault != nil {
		return fault
	}
	return err
}

func sayStates(w io.Writer, heads []answer[scheduler.DAGHead]) error {
	for _, h := range heads {
		if _, err := fmt.Fprintf(w, "dag %s is %s\n", h.v.ID, dagState(h.v)); err != nil {
			return err
		}
	}
	return nil
}
