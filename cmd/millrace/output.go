package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// column is one column of a table: a header, and how to read it off a row.
type column[T any] struct {
	head string
	cell func(T) string
}

// outputs are the formats that -o knows, for every command that has it.
var outputs = []string{"table", "json", "jsonl", "yaml", "name"}

// checkOutput refuses an unknown format before anything is done: a request that changed something must not end in a usage error.
func checkOutput(c *cobra.Command) error {
	f := c.Flags().Lookup("output")
	if f == nil || slices.Contains(outputs, f.Value.String()) {
		return nil
	}
	return badOutput(f.Value.String())
}

func badOutput(format string) error {
	return &codeError{exitUsage, fmt.Errorf("output %q: want table, json, jsonl, yaml or name%s", format, didYouMean(format, outputs))}
}

// outputFlags adds -o to a command that shows something.
func (g *global) outputFlags(c *cobra.Command) {
	c.Flags().StringVarP(&g.output, "output", "o", "table", "table, json, jsonl, yaml or name")
}

// rowFlags adds -o and --no-headers to a command that lists something.
func (g *global) rowFlags(c *cobra.Command) {
	g.outputFlags(c)
	c.Flags().BoolVar(&g.noHead, "no-headers", false, "leave the table's header out")
}

// streamFlags is rowFlags for what is no table by nature, with a format of its own if none is given.
func (g *global) streamFlags(c *cobra.Command, format string) {
	var output string
	c.Flags().StringVarP(&output, "output", "o", format, "table, json, jsonl, yaml or name")
	c.Flags().BoolVar(&g.noHead, "no-headers", false, "leave the table's header out")
	c.PreRun = func(*cobra.Command, []string) { g.output = output }
}

// columnsOf makes columns of one thing those of another that has it.
func columnsOf[A, B any](cols []column[B], of func(A) B) []column[A] {
	out := make([]column[A], len(cols))
	for i, c := range cols {
		out[i] = column[A]{c.head, func(a A) string { return c.cell(of(a)) }}
	}
	return out
}

// printRows writes rows in the format asked for. Machine formats have the API's own values: one JSON array, one JSON object a line, or YAML.
func printRows[T any](g *global, rows []answer[T], name func(T) string, cols []column[T]) error {
	switch g.output {
	case "json":
		if rows == nil {
			rows = []answer[T]{}
		}
		return printJSON(g.out, rows)
	case "jsonl":
		enc := json.NewEncoder(g.out)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	case "yaml":
		return printYAML(g.out, rows)
	case "name":
		for _, r := range rows {
			if _, err := fmt.Fprintln(g.out, name(r.v)); err != nil {
				return err
			}
		}
		return nil
	case "table", "":
		return printTable(g, rows, cols)
	}
	return badOutput(g.output)
}

// answers makes rows of what was not asked of a server.
func answers[T any](vs []T) []answer[T] {
	out := make([]answer[T], len(vs))
	for i, v := range vs {
		raw, err := json.Marshal(v)
		if err != nil {
			raw = []byte("null")
		}
		out[i] = answer[T]{raw, v}
	}
	return out
}

// printOne writes one thing: as JSON or YAML, or by table.
func printOne(g *global, v any, name string, table func(w io.Writer) error) error {
	switch g.output {
	case "json":
		return printJSON(g.out, v)
	case "jsonl":
		return json.NewEncoder(g.out).Encode(v)
	case "yaml":
		return printYAML(g.out, v)
	case "name":
		_, err := fmt.Fprintln(g.out, name)
		return err
	case "table", "":
		w := tabwriter.NewWriter(g.out, 0, 0, 2, ' ', 0)
		if err := table(w); err != nil {
			return err
		}
		return w.Flush()
	}
	return badOutput(g.output)
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printYAML goes through JSON, so that the keys are the API's.
func printYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	y, err := yaml.JSONToYAML(b)
	if err != nil {
		return err
	}
	_, err = w.Write(y)
	return err
}

func printTable[T any](g *global, rows []answer[T], cols []column[T]) error {
	w := tabwriter.NewWriter(g.out, 0, 0, 2, ' ', 0)
	line := make([]string, len(cols))
	if !g.noHead {
		for i, c := range cols {
			line[i] = c.head
		}
		_, _ = fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	for _, r := range rows {
		for i, c := range cols {
			line[i] = c.cell(r.v)
		}
		_, _ = fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	return w.Flush()
}

// clock prints a time for people, in their own zone.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05.000")
}

// took prints how long something lasted, or has lasted until now.
func took(from, to time.Time) string {
	if from.IsZero() {
		return "-"
	}
	if to.IsZero() {
		to = time.Now()
	}
	d := to.Sub(from)
	switch {
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// bytesText prints a size for people.
func bytesText(n int64) string {
	const units = "KMGT"
	f, i := float64(n), -1
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i < 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
