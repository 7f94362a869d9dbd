package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"millrace/scheduler"
	"millrace/scheduler/spec"
	"millrace/scheduler/spec/graph"
)

func newDAGsGraph(g *global) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "graph DAG|FILE", Short: "Draw a DAG: from a server, or from a file without one", Args: exactArgs(1),
		Long: `Draw the tasks of a DAG and what starts its runs.

What names a file is read from there, with all DAGs that it has; else the DAG's version in force is asked of the server. As text, a task with
several parents stands below the one that is farthest from the start, and names the others.`,
		Example: `  millrace dags graph load
  millrace dags graph dags/load.yaml
  millrace dags graph dags/load.yaml --format dot | dot -Tsvg > load.svg`,
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(graph.Formats, format) {
				return &codeError{exitUsage, fmt.Errorf("format %q: want text, mermaid or dot%s", format, didYouMean(format, graph.Formats))}
			}
			dags, err := g.dagsOf(c.Context(), args[0])
			if err != nil {
				return err
			}
			for i := range dags {
				drawing, err := graph.Draw(&dags[i], format)
				if err != nil {
					return err
				}
				if i > 0 {
					drawing = "\n" + drawing
				}
				if _, err := fmt.Fprint(g.out, drawing); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text, mermaid or dot")
	g.serverFlags(c)
	return c
}

// dagsOf reads the DAGs of a file, or asks the server for one DAG.
func (g *global) dagsOf(ctx context.Context, name string) ([]scheduler.DAG, error) {
	src, err := os.ReadFile(name)
	if err == nil {
		return compileAll(name, src)
	}
	if spec.CheckID(name) != nil || !errors.Is(err, fs.ErrNotExist) {
		return nil, err // no DAG can have this name: it is a file
	}
	api, err := g.client()
	if err != nil {
		return nil, err
	}
	var d dagDetail
	if err := api.get(ctx, "/dags/"+url.PathEscape(name), nil, &d); err != nil {
		return nil, err
	}
	if d.Spec == nil {
		return nil, fmt.Errorf("dag %s has no good version: %s", name, d.Error)
	}
	return []scheduler.DAG{*d.Spec}, nil
}
