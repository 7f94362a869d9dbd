package main

import (
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"millrace/scheduler"
)

func newTasksOutput(g *global) *cobra.Command {
	mapIndex := scheduler.NoMap
	c := &cobra.Command{
		Use: "output RUN TASK", Short: "Print what a task has put out", Args: exactArgs(2),
		Long: `Print the JSON that a task wrote to MILLRACE_OUTPUT, as it wrote it: also what is too large for its row and is in the object store.

A task that took its output from the cache has that one. A task that has not succeeded, or has put out nothing, has none; the exit code is then 1.`,
		Example: "  millrace tasks output r7x3k5q2m4n6p extract | jq .rows",
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			if mapIndex != scheduler.NoMap {
				query.Set("map_index", strconv.Itoa(mapIndex))
			}
			return api.stream(c.Context(), "/runs/"+url.PathEscape(args[0])+"/tasks/"+url.PathEscape(args[1])+"/output", query, g.out)
		},
	}
	c.Flags().IntVar(&mapIndex, "map-index", mapIndex, "of a mapped task, this one")
	g.serverFlags(c)
	return c
}
