package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/scheduler"
	"millrace/scheduler/spec"
	"millrace/scheduler/spec/diff"
	"millrace/trigger/whatif"
)

// dagChange is what a deployment would do to one DAG.
type dagChange struct {
	DAG string `json:"dag"`
	// Change is added, changed or removed; or unchanged, in a simulation.
	Change string `json:"change"`
	File   string `json:"file"`
	// From and To are versions.
	From   string       `json:"from,omitempty"`
	To     string       `json:"to,omitempty"`
	Fields []diff.Field `json:"fields"`
	// Simulation is what the change would have meant for the batches of the past, if that was asked.
	Simulation *whatif.Report `json:"simulation,omitempty"`
}

const unchanged = "unchanged"

func newDAGsDiff(g *global) *cobra.Command {
	var simulate string
	c := &cobra.Command{
		Use: "diff FILE|DIR", Short: "Say what files would change on a server", Args: exactArgs(1),
		Long: `Compare DAG files with the versions that are in force on a server: which DAGs would be added, changed and removed, and which fields of
rules and tasks. Nothing is changed.

A directory stands for all that the server has, but for built-in DAGs: what is not in it would be removed. A file stands for the
server's file of that name.

With --simulate, the batches that came since a time are decided on again, at the times at which they came: with the rules in force and with
the new ones, by the server's own code. For each rule it says how many runs that is, of how many batches, with what delay from the commit of a
batch to its run, and which batches would be in a run no more; and how many of the runs that happened follow from the rule in force. Batches
and runs older than store.retention are gone. Concurrency limits and pauses are not simulated. -o json has every run.

The exit code is 0 if nothing would change, 1 if something would, 3 if a file has faults, which are shown; then nothing is compared.`,
		Example: `  millrace dags diff dags
  millrace dags diff dags/load.yaml -o json
  millrace dags diff dags --simulate 168h`,
		RunE: func(c *cobra.Command, args []string) error {
			return diffDAGs(c.Context(), g, args[0], simulate)
		},
	}
	c.Flags().StringVar(&simulate, "simulate", "", "decide again on the batches since a time (RFC 3339), or of the last 168h, and say what would change")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

func diffDAGs(ctx context.Context, g *global, path, simulate string) error {
	files, err := dagFiles([]string{path}, spec.ReadLocal)
	if err != nil {
		return err
	}
	local, err := sound(files)
	if err != nil {
		return err
	}
	api, err := g.client()
	if err != nil {
		return err
	}
	changes, err := changesOf(ctx, api, local, path)
	if err != nil {
		return err
	}
	shown := changes
	if simulate != "" {
		from, err := parseTime("--simulate", simulate, time.Now())
		if err != nil {
			return err
		}
		if shown, err = simulateAll(ctx, api, changes, local, from); err != nil {
			return err
		}
	}
	if err := printChanges(g, shown); err != nil {
		return err
	}
	if len(changes) > 0 {
		return &codeError{exitFailed, errSilent}
	}
	return nil
}

// dagFiles reads DAG files, and all that are in directories, as a server does.
func dagFiles(paths []string, read func(name string, src []byte) spec.File) ([]spec.File, error) {
	var out []spec.File
	compiler := newCompiler(read)
	for _, top := range paths {
		err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			switch hidden := path != top && strings.HasPrefix(e.Name(), "."); {
			case err != nil:
				return err
			case e.IsDir() && hidden:
				return fs.SkipDir
			case e.IsDir(), path != top && (hidden || !spec.IsDAGFile(path)):
				return nil
			}
			src, err := os.ReadFile(path)
			if err == nil {
				out = append(out, compiler.file(path, src))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// sound returns the DAGs of files by id with their files, or an error with all faults.
func sound(files []spec.File) (map[string]localDAG, error) {
	out := map[string]localDAG{}
	var faults []string
	for _, f := range files {
		if len(f.Faults) > 0 {
			faults = append(faults, f.Faults.Detail())
		}
		for i := range f.DAGs {
			d := &f.DAGs[i]
			if other, ok := out[d.ID]; ok {
				faults = append(faults, fmt.Sprintf("%s: dag %q stands in %s as well", f.Name, d.ID, other.file))
			}
			out[d.ID] = localDAG{f.Name, d}
		}
	}
	if len(faults) > 0 {
		return nil, &codeError{exitConfig, errors.New("files have faults:\n" + strings.Join(faults, "\n\n"))}
	}
	return out, nil
}

type localDAG struct {
	file string
	dag  *scheduler.DAG
}

// changesOf compares local DAGs with the server's. path says which of the server's DAGs they stand for.
func changesOf(ctx context.Context, api *client, local map[string]localDAG, path string) ([]dagChange, error) {
	heads, err := list[scheduler.DAGHead](ctx, api, "/dags", url.Values{}, 10_000)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	var out []dagChange
	there := map[string]bool{}
	for _, h := range heads {
		head := h.v
		if head.Removed || head.Version == "" {
			continue
		}
		there[head.ID] = true
		l, ok := local[head.ID]
		if !ok {
			covered := head.File != "" && (info.IsDir() || filepath.Base(head.File) == filepath.Base(path))
			if covered {
				out = append(out, dagChange{DAG: head.ID, Change: "removed", File: head.File, From: head.Version, Fields: []diff.Field{}})
			}
			continue
		}
		change, err := changeOf(ctx, api, head, l)
		if err != nil {
			return nil, err
		}
		if change != nil {
			out = append(out, *change)
		}
	}
	for id, l := range local {
		if there[id] {
			continue
		}
		version, err := versionOf(l.dag)
		if err != nil {
			return nil, err
		}
		out = append(out, dagChange{DAG: id, Change: "added", File: l.file, To: version, Fields: diff.DAGs(&scheduler.DAG{V: l.dag.V, ID: id}, l.dag)})
	}
	slices.SortFunc(out, func(a, b dagChange) int { return cmp.Compare(a.DAG, b.DAG) })
	return out, nil
}

func versionOf(d *scheduler.DAG) (string, error) {
	raw, err := d.Canonical()
	if err != nil {
		return "", err
	}
	return scheduler.VersionOf(raw), nil
}

// changeOf returns how a DAG would change, or nil.
func changeOf(ctx context.Context, api *client, head scheduler.DAGHead, l localDAG) (*dagChange, error) {
	version, err := versionOf(l.dag)
	if err != nil || version == head.Version {
		return nil, err
	}
	var d dagDetail
	if err := api.get(ctx, "/dags/"+url.PathEscape(head.ID), nil, &d); err != nil {
		return nil, err
	}
	if l.dag, err = asServed(l, d.Spec); err != nil {
		return nil, err
	}
	if version, err = versionOf(l.dag); err != nil {
		return nil, err
	}
	if d.Spec == nil || d.Version == version { // it changed in the meantime
		return nil, nil
	}
	return &dagChange{DAG: head.ID, Change: "changed", File: l.file, From: d.Version, To: version, Fields: diff.DAGs(d.Spec, l.dag)}, nil
}

func printChanges(g *global, changes []dagChange) error {
	if g.output != "table" {
		return printRows(g, answers(changes), func(c dagChange) string { return c.DAG }, nil)
	}
	if len(changes) == 0 {
		_, err := fmt.Fprintln(g.out, "nothing would change")
		return err
	}
	for _, c := range changes {
		if err := printChange(g.out, c); err != nil {
			return err
		}
	}
	return nil
}

// printChange writes a line for the DAG, and below it one for each field.
func printChange(w io.Writer, c dagChange) error {
	sign := map[string]string{"added": "+", "changed": "~", "removed": "-", unchanged: "="}
	versions := strings.Trim(c.From+" → "+c.To, " →")
	if c.From != "" && c.To != "" {
		versions = c.From + " → " + c.To
	}
	if versions != "" {
		versions = ", " + versions
	}
	if _, err := fmt.Fprintf(w, "%s %s %s (%s%s)\n", sign[c.Change], c.DAG, c.Change, c.File, versions); err != nil {
		return err
	}
	for _, f := range c.Fields {
		line := fmt.Sprintf("    %s: %s → %s", f.Path, brief(f.Old), brief(f.New))
		switch {
		case f.Old == "":
			line = fmt.Sprintf("  + %s: %s", f.Path, brief(f.New))
		case f.New == "":
			line = fmt.Sprintf("  - %s: %s", f.Path, brief(f.Old))
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	if c.Simulation == nil {
		return nil
	}
	return printSimulation(w, c.Simulation)
}

// brief is a value on one line of bearable length; -o json has all of it.
func brief(s string) string {
	runes := []rune(strings.Join(strings.Fields(s), " "))
	if len(runes) > 100 {
		return string(runes[:99]) + "…"
	}
	return string(runes)
}
