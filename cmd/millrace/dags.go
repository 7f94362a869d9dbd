package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"millrace/scheduler"
	"millrace/scheduler/spec"
	"millrace/scheduler/spec/graph"
)

func newDAGs(g *global) *cobra.Command {
	return group("dags", "Look at DAGs, check their files, start runs, pause", newDAGsLs(g), newDAGsShow(g), newDAGsValidate(g), newDAGsTrigger(g), newDAGsSchema(g), newDAGsGraph(g), newDAGsDiff(g), newDAGsLint(g), newDAGsTest(g), newDAGsPause(g), newDAGsUnpause(g), newDAGsImport(g))
}

var dagColumns = []column[scheduler.DAGHead]{
	{"DAG", func(d scheduler.DAGHead) string { return d.ID }},
	{"VERSION", func(d scheduler.DAGHead) string { return d.Version }},
	{"FILE", func(d scheduler.DAGHead) string { return cmp.Or(d.File, "(built in)") }},
	{"STATE", dagState},
	{"UPDATED", func(d scheduler.DAGHead) string { return clock(d.UpdatedAt) }},
}

func newDAGsLs(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List DAGs", Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			rows, err := list[scheduler.DAGHead](c.Context(), api, "/dags", url.Values{}, 10_000)
			if err != nil {
				return err
			}
			return printRows(g, rows, func(d scheduler.DAGHead) string { return d.ID }, dagColumns)
		},
	}
	g.serverFlags(c)
	g.rowFlags(c)
	return c
}

// dagDetail is the API's answer for one DAG.
type dagDetail struct {
	scheduler.DAGHead
	Spec *scheduler.DAG `json:"spec"`
}

func newDAGsShow(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "show DAG", Short: "Show one DAG: its rules, its tasks, what is wrong with its file", Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			var d answer[dagDetail]
			if err := api.get(c.Context(), "/dags/"+url.PathEscape(args[0]), nil, &d); err != nil {
				return err
			}
			return printOne(g, d, d.v.ID, func(w io.Writer) error { return dagTable(w, d.v) })
		},
	}
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func dagTable(w io.Writer, d dagDetail) error {
	_, _ = fmt.Fprintf(w, "dag\t%s\nstate\t%s\nversion\t%s\nfile\t%s\n", d.ID, dagState(d.DAGHead), d.Version, cmp.Or(d.File, "(built in)"))
	if d.Error != "" {
		_, _ = fmt.Fprintf(w, "error\t%s\n", strings.ReplaceAll(d.Error, "\n", "\n\t"))
	}
	if d.Spec == nil {
		return nil
	}
	_, _ = fmt.Fprint(w, "\nRULE\tKIND\tON\tIF\n")
	for _, r := range d.Spec.On {
		on := r.Source
		if r.Cron != "" {
			on = r.Cron + " " + r.Timezone
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.ID, r.Kind, on, r.If)
	}
	_, _ = fmt.Fprint(w, "\nTASK\tNEEDS\tRUN\n")
	for _, t := range d.Spec.Tasks {
		what := t.Shell
		if what == "" {
			what = strings.Join(t.Run, " ")
		}
		if first, _, more := strings.Cut(strings.TrimSpace(what), "\n"); more {
			what = first + " …"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", t.ID, strings.Join(graph.Parents(d.Spec, &t), ", "), what)
	}
	return nil
}

// verdict is what is said of one DAG of a file, or of a file that has none that is good.
type verdict struct {
	File  string `json:"file"`
	DAG   string `json:"dag,omitempty"`
	Rules int    `json:"rules"`
	Tasks int    `json:"tasks"`
	OK    bool   `json:"ok"`
	// Error shows each fault with its place.
	Error string `json:"error,omitempty"`
	// Warnings are about what is permitted and probably not meant.
	Warnings []spec.Warning `json:"warnings,omitempty"`
}

func newDAGsValidate(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "validate FILE...", Short: "Check DAG files, without a server", Args: minArgs(1),
		Long: `Check DAG files, without a server. Faults make the exit code 1; warnings, about what is permitted and probably not meant, do not.`,
		RunE: func(_ *cobra.Command, args []string) error {
			verdicts, err := validate(args)
			if err != nil {
				return err
			}
			failed := slices.ContainsFunc(verdicts, func(v verdict) bool { return !v.OK })
			if g.output == "table" {
				for _, v := range verdicts {
					for i := range v.Warnings {
						_, _ = fmt.Fprintln(g.err, v.Warnings[i].Detail())
					}
					if !v.OK {
						_, _ = fmt.Fprintln(g.err, v.Error)
						continue
					}
					_, _ = fmt.Fprintf(g.out, "ok: %s: %s, %s, %s\n", v.File, v.DAG, counted(v.Rules, "rule"), counted(v.Tasks, "task"))
				}
			} else if err := printRows(g, answers(verdicts), func(v verdict) string { return v.DAG }, nil); err != nil {
				return err
			}
			if failed {
				return &codeError{exitFailed, errSilent}
			}
			return nil
		},
	}
	g.outputFlags(c)
	return c
}

func validate(files []string) ([]verdict, error) {
	var out []verdict
	compiler := newCompiler(spec.ReadLocal)
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		f := compiler.file(file, src)
		if len(f.Faults) > 0 {
			out = append(out, verdict{File: file, Error: f.Faults.Detail(), Warnings: f.Warnings})
			continue
		}
		for _, d := range f.DAGs {
			own := slices.DeleteFunc(slices.Clone(f.Warnings), func(w spec.Warning) bool { return w.DAG != d.ID })
			out = append(out, verdict{File: file, DAG: d.ID, Rules: len(d.On), Tasks: len(d.Tasks), OK: true, Warnings: own})
		}
	}
	return out, nil
}

func newDAGsTrigger(g *global) *cobra.Command {
	var params []string
	var id string
	var wait bool
	c := &cobra.Command{
		Use: "trigger DAG", Short: "Start a run by hand", Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			body := map[string]any{"id": id, "params": paramValues(params)}
			var r answer[scheduler.Run]
			if err := api.call(c.Context(), http.MethodPost, "/dags/"+url.PathEscape(args[0])+"/runs", nil, body, &r); err != nil {
				return err
			}
			if wait {
				return waitRun(c.Context(), g, api, r.v.ID, 0)
			}
			return printOne(g, r, r.v.ID, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "run %s is %s\nlogs: millrace runs logs -f %s\n", r.v.ID, r.v.State, r.v.ID)
				return err
			})
		},
	}
	c.Flags().StringArrayVar(&params, "param", nil, "a parameter, NAME=VALUE; the value is JSON, or else text")
	c.Flags().StringVar(&id, "id", "", "a name for the request: repeated with it, the same run is returned")
	c.Flags().BoolVar(&wait, "wait", false, "wait for the end; exit code 1 if the run does not succeed")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func paramValues(params []string) map[string]any {
	out := map[string]any{}
	for _, p := range params {
		name, text, _ := strings.Cut(p, "=")
		var v any
		if json.Unmarshal([]byte(text), &v) != nil {
			v = text
		}
		out[name] = v
	}
	return out
}
