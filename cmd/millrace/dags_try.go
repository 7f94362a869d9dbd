package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"millrace/batcher"
	"millrace/cmd/internal/app"
	"millrace/scheduler"
	"millrace/trigger"
)

// tryFlags are what `dags test` is told.
type tryFlags struct {
	dag, batch, source, task string
	params                   []string
}

func newDAGsTest(g *global) *cobra.Command {
	var flags tryFlags
	c := &cobra.Command{
		Use: "test FILE", Short: "Run a DAG once on this machine, without a server", Args: exactArgs(1),
		Long: `Run a DAG of a file once, on this machine and without a server, and print the states of its tasks and their output as they come.

The engine, the executor and the rules are those of a server, below a temporary directory of which nothing is left: retries, timeouts,
joins and conditions are what they would be there. Tasks of other executors run here, too. What tasks do elsewhere, they do.

--batch FILE gives the run a batch of these rows, JSON objects, one a line, as 'millrace batches cat' prints them; --source names the source that
they are said to be from, else that of the DAG's first rule for batches. A rule of the DAG must take the batch. --batch ID fetches a batch from a
server, and --source alone the newest one of that source. Without both the run is one by hand.

The exit code is 0 if the run succeeds, 1 if it does not or no rule takes the batch, 130 if it was interrupted: then tasks get SIGTERM and have
their grace to end.`,
		Example: `  millrace dags test dags/load.yaml
  millrace dags test dags/load.yaml --batch testdata/orders.ndjson --param day=2026-11-23
  millrace dags test dags/load.yaml --source web --task check`,
		RunE: func(c *cobra.Command, args []string) error {
			dag, err := flags.pick(args[0])
			if err != nil {
				return err
			}
			batch, err := flags.fetch(c.Context(), g, dag)
			if err != nil {
				return err
			}
			return try(c.Context(), g, dag, batch, flags.params)
		},
	}
	f := c.Flags()
	f.StringVar(&flags.batch, "batch", "", "the run's batch: a file of rows, or the id of one that a server has")
	f.StringVar(&flags.source, "source", "", "the source of the batch; without --batch, its newest one on a server")
	f.StringArrayVar(&flags.params, "param", nil, "a parameter, NAME=VALUE; the value is JSON, or else text")
	f.StringVar(&flags.task, "task", "", "only this task, and those that it needs")
	f.StringVar(&flags.dag, "dag", "", "this DAG, of a file with several")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// pick reads the DAG, with the tasks that are wanted of it.
func (f *tryFlags) pick(file string) (*scheduler.DAG, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	dags, err := compileAll(file, src)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, d := range dags {
		ids = append(ids, d.ID)
	}
	i := slices.Index(ids, cmp.Or(f.dag, ids[0]))
	if i < 0 {
		return nil, &codeError{exitUsage, fmt.Errorf("%s has no dag %q%s; it has %s", file, f.dag, didYouMean(f.dag, ids), strings.Join(ids, ", "))}
	}
	if len(dags) > 1 && f.dag == "" {
		return nil, &codeError{exitUsage, fmt.Errorf("%s has several DAGs: name one by --dag: %s", file, strings.Join(ids, ", "))}
	}
	dag := &dags[i]
	if f.task == "" {
		return dag, nil
	}
	only := app.OnlyTask(dag, f.task)
	if only == nil {
		var tasks []string
		for _, t := range dag.Tasks {
			tasks = append(tasks, t.ID)
		}
		return nil, &codeError{exitUsage, fmt.Errorf("dag %s has no task %q%s", dag.ID, f.task, didYouMean(f.task, tasks))}
	}
	return only, nil
}

// fetch returns the batch that is asked for, or nil.
func (f *tryFlags) fetch(ctx context.Context, g *global, dag *scheduler.DAG) (*app.TryBatch, error) {
	if f.batch != "" {
		rows, err := os.ReadFile(f.batch)
		if err == nil {
			return &app.TryBatch{Tenant: "default", Source: cmp.Or(f.source, sourceOf(dag)), Rows: rows, Name: f.batch}, nil
		}
		if !isBatchID(f.batch) {
			return nil, err
		}
	} else if f.source == "" {
		return nil, nil
	}
	api, err := g.client()
	if err != nil {
		return nil, err
	}
	var b batcher.Batch
	if f.batch != "" {
		var d answer[scheduler.BatchDetail]
		if err := api.get(ctx, "/batches/"+url.PathEscape(f.batch), nil, &d); err != nil {
			return nil, err
		}
		b = d.v.Batch
	} else {
		newest, err := list[batcher.Batch](ctx, api, "/batches", url.Values{"source": {f.source}}, 1)
		if err != nil {
			return nil, err
		}
		if len(newest) == 0 {
			return nil, &codeError{exitNotFound, fmt.Errorf("the server has no batch of source %q; give rows by --batch FILE", f.source)}
		}
		b = newest[0].v
	}
	var rows bytes.Buffer
	if err := api.stream(ctx, "/batches/"+url.PathEscape(b.ID)+"/rows", nil, &rows); err != nil {
		return nil, err
	}
	_, _ = fmt.Fprintf(g.err, "batch %s of %s: %s\n", b.ID, b.Source, counted(int(b.Events), "event"))
	return &app.TryBatch{Tenant: b.Tenant, Source: cmp.Or(f.source, b.Source), Rows: rows.Bytes(), Name: "batch " + b.ID}, nil
}

// isBatchID reports whether the text has the form of a batch's id, a ULID.
func isBatchID(text string) bool {
	return len(text) == 26 && strings.Trim(text, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == ""
}

// sourceOf is a source of which the DAG has a rule.
func sourceOf(dag *scheduler.DAG) string {
	for _, r := range dag.On {
		if r.Kind == trigger.KindBatch && r.Source != "" && r.Source != "*" {
			return r.Source
		}
	}
	return "test"
}

// try runs the DAG and says what happens: people read it where results go, machines get the run there and all else beside it.
func try(ctx context.Context, g *global, dag *scheduler.DAG, batch *app.TryBatch, params []string) error {
	out := g.out
	if g.output != "table" {
		out = g.err
	}
	for i := range dag.Tasks {
		if t := &dag.Tasks[i]; t.Executor != "" && t.Executor != "local" {
			_, _ = fmt.Fprintf(g.err, "task %s runs on executor %s; here it runs on this machine\n", t.ID, t.Executor)
			t.Executor = ""
		}
	}
	raw, err := json.Marshal(paramValues(params))
	if err != nil {
		return err
	}
	p := newTryPrinter(out, dag)
	d, err := app.Try(ctx, app.TryOptions{DAG: dag, Batch: batch, Params: raw, Runner: runnerArgv(), Move: p.move, Output: p.output})
	if errors.Is(err, scheduler.ErrInvalid) {
		return &codeError{exitUsage, err}
	}
	if err != nil {
		return err
	}
	if g.output == "table" {
		reason := d.Run.Reason
		if reason != "" {
			reason = ": " + reason
		}
		_, err = fmt.Fprintf(out, "run of %s: %s in %s%s\n", d.Run.DAG, d.Run.State, took(d.Run.CreatedAt, d.Run.EndedAt), reason)
	} else {
		err = printOne(g, d, d.Run.ID, nil)
	}
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case d.Run.State != scheduler.StateSuccess:
		return &codeError{exitFailed, errSilent}
	}
	return nil
}

// tryPrinter writes lines with the name of the task in front.
type tryPrinter struct {
	w     io.Writer
	width int
}

func newTryPrinter(w io.Writer, dag *scheduler.DAG) *tryPrinter {
	p := &tryPrinter{w: w}
	for _, t := range dag.Tasks {
		p.width = max(p.width, len(t.ID))
	}
	return p
}

func (p *tryPrinter) move(m scheduler.Move) {
	switch m.To {
	case scheduler.StateScheduled, scheduler.StateLaunching:
		return // the run of a task on one machine has no news between the two
	}
	if m.Task == "" {
		return // the last line says it
	}
	text := string(m.To)
	if m.Try > 1 {
		text += fmt.Sprintf(", try %d", m.Try)
	}
	if m.Reason != "" {
		text += ": " + m.Reason
	}
	_, _ = fmt.Fprintf(p.w, "%-*s = %s\n", p.width, scheduler.TaskName(m.Task, m.MapIndex), text)
}

func (p *tryPrinter) output(task, line string) {
	_, _ = fmt.Fprintf(p.w, "%-*s | %s\n", p.width, task, strings.TrimSuffix(line, "\r"))
}
