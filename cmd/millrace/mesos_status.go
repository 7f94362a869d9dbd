package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/scheduler/mesosexec"
)

func newMesosStatus(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "status", Short: "Show how the executor on Mesos is: master, offers, agents, tasks, and what waits for a person", Args: exactArgs(0),
		Long: `Show how the executor on Mesos is: the master that leads, the framework's id, the offers that are held and why others are not, the agents, the
tasks by state, and why attempts wait for a place. The exit code is 0 also when it is stopped or on hold; -o json has the fields stopped and hold.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return g.mesosCall(c, http.MethodGet, "")
		},
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// mesosCall asks the server about its executor on Mesos, or to do something with it, and prints how that is then.
func (g *global) mesosCall(c *cobra.Command, method, path string) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	var v answer[mesosexec.View]
	if err := api.call(c.Context(), method, "/mesos"+path, nil, nil, &v); err != nil {
		return err
	}
	return printOne(g, v, v.v.FrameworkID, func(w io.Writer) error { return writeMesos(w, &v.v) })
}

func newMesosConfirm(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "confirm", Short: "Say that the cluster is the right one, though it does not know the tasks that ran", Args: exactArgs(0),
		Long: `Say that the cluster is the right one, though it does not know the tasks that ran: it was made anew. They are lost, and tried again.

A cluster takes any framework id as if it had given it out, and a configuration may name the wrong masters. So an executor that finds none of its running
tasks on a master that leads anew launches nothing and gives nothing up, until it has been restarted with the right masters, or this was said.`,
		RunE: func(c *cobra.Command, _ []string) error { return g.mesosCall(c, http.MethodPost, "/confirm") },
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func newMesosRegister(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "register", Short: "Let the framework subscribe again after it was removed or taken over", Args: exactArgs(0),
		Long: `Let the framework subscribe again after it was stopped.

If the cluster has removed it (a teardown, or nobody was there for executors.mesos.failover_timeout), it gets a new id; its tasks were killed by the
masters, are lost, and are tried again. If another process had subscribed as this framework, it takes it back: make sure first that there is one only.`,
		RunE: func(c *cobra.Command, _ []string) error { return g.mesosCall(c, http.MethodPost, "/register") },
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func newMesosTeardown(g *global) *cobra.Command {
	yes := false
	c := &cobra.Command{
		Use: "teardown", Short: "Remove the framework from the cluster for good, which kills its tasks", Args: exactArgs(0),
		Long: `Remove the framework from the cluster for good. All its tasks are killed, and nothing is launched any more until 'millrace mesos register'. Stopping
a server is not that: its tasks run on.`,
		Example: `  millrace mesos teardown --yes`,
		RunE: func(c *cobra.Command, _ []string) error {
			if !yes {
				return &codeError{exitUsage, fmt.Errorf("this kills all tasks of millrace on the cluster: say so with --yes")}
			}
			return g.mesosCall(c, http.MethodPost, "/teardown")
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func writeMesos(w io.Writer, v *mesosexec.View) error {
	state := "not subscribed"
	switch {
	case v.Stopped != "":
		state = "stopped: " + v.Stopped
	case v.Hold != "":
		state = "on hold: " + v.Hold
	case v.Subscribed:
		state = fmt.Sprintf("subscribed since %s", v.Since.UTC().Format(time.DateTime))
	case v.Error != "":
		state += ": " + v.Error
	}
	b := &strings.Builder{}
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(b, "%s\t%s\n", name, text)
		}
	}
	line("state", state)
	line("next", v.Next)
	master := v.Master
	if v.Version != "" {
		master += ", Mesos " + v.Version
	}
	line("master", master)
	line("framework", v.FrameworkID)
	line("roles", strings.Join(v.Roles, ", "))
	offers := fmt.Sprintf("%d held", len(v.Offers))
	if v.Suppressed {
		offers += ", none asked for: there is nothing to launch"
	}
	if len(v.Declined) > 0 {
		offers += "; gone: " + countsOf(v.Declined)
	}
	line("offers", offers)
	line("tasks", countsOf(v.Tasks))
	for _, a := range v.Agents {
		line("agent", fmt.Sprintf("%s (%s): %s, %s", a.Hostname, a.ID, counted(a.Offers, "offer"), counted(a.Tasks, "task")))
	}
	for _, wait := range v.Waiting {
		line("waits", fmt.Sprintf("%s since %s: %s", wait.Attempt, wait.Since.UTC().Format(time.DateTime), wait.Why))
	}
	for _, i := range v.Inverse {
		line("asked back", fmt.Sprintf("agent %s, from %s", i.Agent, i.From.UTC().Format(time.DateTime)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// countsOf writes numbers by name, in the order of the names.
func countsOf[N int | int64](m map[string]N) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%d %s", m[name], name))
	}
	return strings.Join(parts, ", ")
}
