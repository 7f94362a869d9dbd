package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"millrace/scheduler/spec"
)

// finding is a fault or a warning of a DAG file.
type finding struct {
	Severity string `json:"severity"` // error or warning
	// Code names the kind of a warning; of an error it is "invalid".
	Code string `json:"code"`
	File string `json:"file"`
	DAG  string `json:"dag,omitempty"`
	Line int    `json:"line,omitempty"`
	Col  int    `json:"col,omitempty"`
	Msg  string `json:"msg"`
	Hint string `json:"hint,omitempty"`

	detail string
}

func newDAGsLint(g *global) *cobra.Command {
	var strict bool
	var ignore []string
	c := &cobra.Command{
		Use: "lint FILE|DIR...", Short: "Check DAG files, and warn of what is probably not meant", Args: minArgs(1),
		Long: `Check DAG files, by themselves, and warn of what is probably not meant. Errors are those of 'dags validate'. Warnings:

  join-after-branch    a task is skipped whenever one of several branches before it is
  rule-without-needs   a task has a rule for its parents, and no parents
  failure-hidden       a task may fail, and its run succeed
  never-fires          a cron expression that fires for the first time in more than five years
  no-retry             a task of a DAG that starts by itself is not tried again
  no-timeout           nothing ends an attempt of such a task that hangs
  any-source           a batch rule does not name its source
  open-group           batches are coalesced without a bound in time
  no-such-dag          a task starts a run of a DAG that none of the files has
  dag-circle           DAGs start runs of each other in a circle
  not-set              a task uses a variable, a secret or a connection that the server does not have

The last one asks a server, if --server or MILLRACE_SERVER names one: it alone knows its environment, configuration and store. One that does not
answer is no error. Secrets are not looked for if it has a Vault.

What is written out is meant: retry: 0, timeout: 0, source: "*". The exit code is 1 if there are errors, with --strict also for warnings.`,
		Example: `  millrace dags lint dags
  millrace dags lint --strict --ignore no-timeout dags/load.yaml
  millrace dags lint --server http://127.0.0.1:8081 dags
  millrace dags lint dags -o json | jq -r '.[].code'`,
		RunE: func(c *cobra.Command, args []string) error {
			files, err := dagFiles(args, spec.LintLocal)
			if err != nil {
				return err
			}
			found := findings(files)
			if held := g.heldValues(c.Context()); held != nil {
				found = append(found, warned(held.unset(files))...)
			}
			found = slices.DeleteFunc(found, func(f finding) bool { return slices.Contains(ignore, f.Code) && f.Severity == "warning" })
			failed := slices.ContainsFunc(found, func(f finding) bool { return strict || f.Severity == "error" })
			if g.output == "table" {
				err = printFindings(g, found, len(files))
			} else {
				err = printRows(g, answers(found), func(f finding) string { return f.File }, nil)
			}
			if err == nil && failed {
				err = &codeError{exitFailed, errSilent}
			}
			return err
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "exit with 1 for warnings, too")
	c.Flags().StringSliceVar(&ignore, "ignore", nil, "warnings to leave out, by their codes")
	g.serverFlags(c)
	g.outputFlags(c)
	return c
}

// findings are the faults and warnings of files, and DAGs that stand in two of them.
func findings(files []spec.File) []finding {
	var out []finding
	seen := map[string]string{}
	for _, f := range files {
		for _, e := range f.Faults {
			out = append(out, finding{
				Severity: "error", Code: "invalid", File: e.File, DAG: e.DAG, Line: e.Line, Col: e.Col, Msg: e.Msg, Hint: e.Hint, detail: e.Detail(),
			})
		}
		for i := range f.DAGs {
			id := f.DAGs[i].ID
			if other, ok := seen[id]; ok && other != f.Name {
				msg := fmt.Sprintf("dag %q stands in %s as well", id, other)
				out = append(out, finding{Severity: "error", Code: "invalid", File: f.Name, DAG: id, Msg: msg, detail: f.Name + ": " + msg})
			}
			seen[id] = f.Name
		}
		out = append(out, warned(f.Warnings)...)
	}
	return append(out, warned(spec.SubDAGs(files))...)
}

func warned(list []spec.Warning) []finding {
	var out []finding
	for _, w := range list {
		out = append(out, finding{
			Severity: "warning", Code: w.Code, File: w.File, DAG: w.DAG, Line: w.Line, Col: w.Col, Msg: w.Msg, Hint: w.Hint, detail: w.Detail(),
		})
	}
	return out
}

func printFindings(g *global, found []finding, files int) error {
	var details []string
	errors := 0
	for _, f := range found {
		details = append(details, f.detail+"\n\n")
		if f.Severity == "error" {
			errors++
		}
	}
	verdict := fmt.Sprintf("%s, %s in %s", counted(errors, "error"), counted(len(found)-errors, "warning"), counted(files, "file"))
	if len(found) == 0 {
		verdict = "ok: " + verdict
	}
	_, err := fmt.Fprintf(g.out, "%s%s\n", strings.Join(details, ""), verdict)
	return err
}
