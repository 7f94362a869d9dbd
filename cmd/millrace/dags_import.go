package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"millrace/scheduler/spec/dagfactory"
)

// importer is what the flags of dags import say.
type importer struct {
	out, defaults  string
	partial, force bool
}

func newDAGsImport(g *global) *cobra.Command {
	var im importer
	c := &cobra.Command{
		Use: "import FILE...", Short: "Turn Airflow's DAGs, as dag-factory describes them, into DAG files", Args: minArgs(1),
		Long: `Read DAGs that are described in YAML for dag-factory, and write DAG files, to standard output or one for each DAG below --out.

What has no counterpart is listed with file, line and reason. A DAG that loses something that its runs do is written only with --partial: what
could not be converted then stands on top of it, and a task that could not be is one that fails and says why. Without --partial, the
exit code is 1 if anything is lost. A defaults.yml or defaults.yaml beside a file counts, as it does for dag-factory. See docs/airflow.md.`,
		Example: `  millrace dags import airflow/dags/shop.yml
  millrace dags import airflow/dags/*.yml --out dags --partial`,
		RunE: func(_ *cobra.Command, args []string) error { return im.run(g, args) },
	}
	c.Flags().StringVar(&im.out, "out", "", "directory for a file of each DAG (default: all to standard output)")
	c.Flags().StringVar(&im.defaults, "defaults", "", "file with defaults of all DAGs (default: the defaults.yml beside a file)")
	c.Flags().BoolVar(&im.partial, "partial", false, "write DAGs of which something is lost, too")
	c.Flags().BoolVar(&im.force, "force", false, "write over files that exist")
	return c
}

func (im *importer) run(g *global, files []string) error {
	var dags []dagfactory.DAG
	var findings []dagfactory.Finding
	for _, file := range files {
		more, found, err := im.convert(file)
		if err != nil {
			return err
		}
		dags, findings = append(dags, more...), append(findings, found...)
	}
	for _, line := range merged(findings) {
		_, _ = fmt.Fprintln(g.err, line)
	}
	written, err := im.write(g, slices.DeleteFunc(slices.Clone(dags), func(d dagfactory.DAG) bool { return d.Text == nil || d.Lost && !im.partial }))
	if err != nil {
		return err
	}
	to := "standard output"
	if im.out != "" {
		to = im.out
	}
	_, _ = fmt.Fprintf(g.err, "%s written to %s", counted(written, "DAG"), to)
	if left := len(dags) - written; left > 0 {
		_, _ = fmt.Fprintf(g.err, ", %s not: see 'lost' above", counted(left, "DAG"))
		if !im.partial {
			_, _ = fmt.Fprint(g.err, "; --partial writes what there is of them")
		}
	}
	_, _ = fmt.Fprintln(g.err)
	lost := slices.ContainsFunc(findings, func(f dagfactory.Finding) bool { return f.Kind == dagfactory.Loss })
	if lost && !im.partial || written < len(dags) {
		return &codeError{exitFailed, errSilent}
	}
	return nil
}

func (im *importer) convert(file string) ([]dagfactory.DAG, []dagfactory.Finding, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	beside := []string{im.defaults}
	if im.defaults == "" {
		beside = []string{filepath.Join(filepath.Dir(file), "defaults.yml"), filepath.Join(filepath.Dir(file), "defaults.yaml")}
	}
	for _, path := range beside {
		defaults, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && im.defaults == "" {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		return dagfactory.Convert(file, src, defaults)
	}
	return dagfactory.Convert(file, src, nil)
}

// merged returns the findings as lines; what several DAGs of a file share is one.
func merged(findings []dagfactory.Finding) (lines []string) {
	var last dagfactory.Finding
	for _, f := range findings {
		names := f.DAG
		f.DAG = ""
		if f == last {
			line := &lines[len(lines)-1]
			before, after, _ := strings.Cut(*line, ": "+f.What+": ")
			*line = before + ", " + names + ": " + f.What + ": " + after
			continue
		}
		last = f
		f.DAG = names
		lines = append(lines, fmt.Sprintf("%s: %s", f.Kind, f))
	}
	return lines
}

// write writes all DAGs, or none if a file is there that must not be written over.
func (im *importer) write(g *global, dags []dagfactory.DAG) (int, error) {
	if im.out == "" {
		var texts [][]byte
		for _, d := range dags {
			texts = append(texts, d.Text)
		}
		_, err := g.out.Write(bytes.Join(texts, []byte("---\n")))
		return len(dags), err
	}
	if err := os.MkdirAll(im.out, 0o755); err != nil {
		return 0, err
	}
	seen := map[string]bool{}
	for _, d := range dags {
		path := filepath.Join(im.out, d.ID+".yaml")
		if _, err := os.Lstat(path); err == nil && !im.force {
			return 0, fmt.Errorf("write DAG %s: %s exists, and nothing was written; --force writes over it", d.ID, path)
		}
		if seen[d.ID] {
			return 0, fmt.Errorf("write DAG %s: two DAGs have this id, and nothing was written; import them one by one", d.ID)
		}
		seen[d.ID] = true
	}
	for i, d := range dags {
		if err := os.WriteFile(filepath.Join(im.out, d.ID+".yaml"), d.Text, 0o644); err != nil {
			return i, err
		}
	}
	return len(dags), nil
}
