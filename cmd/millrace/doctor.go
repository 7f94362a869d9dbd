package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"millrace/cmd/internal/app"
	"millrace/cmd/internal/doctor"
	"millrace/configs"
)

var findingColumns = []column[doctor.Finding]{
	{"RESULT", func(f doctor.Finding) string {
		if f.Result == doctor.Fail {
			return "FAIL" // the eye finds it
		}
		return string(f.Result)
	}},
	{"CHECK", func(f doctor.Finding) string { return f.Check }},
	{"WHY", func(f doctor.Finding) string {
		if f.Fix == "" {
			return f.Why
		}
		return indent(f.Why) + "\n                  fix: " + indent(f.Fix)
	}},
}

// indent keeps further lines of a text in the last column.
func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n                  ") }

func newDoctor(g *global) *cobra.Command {
	var timeURL string
	var b strings.Builder
	for _, c := range doctor.Checks {
		fmt.Fprintf(&b, "  %-9s %s\n", c.Name, c.Short)
	}
	c := &cobra.Command{
		Use: "doctor [CHECK...]", Short: "Find what keeps a server from running here, and name the fix", Args: knownChecks,
		Long: "Find what keeps a server from running, or from keeping its promises, on this machine with this configuration, and name the fix.\n" +
			"It may be run beside a server, and changes nothing. Exit code 1 if a check fails; warnings do not count. The checks:\n\n" + b.String(),
		Example: `  millrace doctor
  millrace doctor ports disk
  millrace doctor --config /etc/millrace/millrace.yaml -o json`,
		RunE: func(c *cobra.Command, args []string) error {
			out := newRowStream(g, func(f doctor.Finding) string { return f.Check }, findingColumns)
			out.widths = []int{len("RESULT"), len("data_dir")}
			var failed error
			sound := doctor.Run(c.Context(), g.doctorEnv(timeURL), args, func(f doctor.Finding) { failed = errors.Join(failed, out.print(f)) })
			if err := errors.Join(failed, out.end()); err != nil {
				return err
			}
			if !sound {
				return &codeError{exitFailed, errSilent}
			}
			return c.Context().Err()
		},
	}
	c.Flags().StringVar(&timeURL, "time-url", "", "a server whose Date header the clock is compared with (default: the object store's)")
	g.rowFlags(c)
	return c
}

func checkNames() []string {
	var names []string
	for _, c := range doctor.Checks {
		names = append(names, c.Name)
	}
	return names
}

func knownChecks(_ *cobra.Command, args []string) error {
	for _, a := range args {
		if !slices.Contains(checkNames(), a) {
			return fmt.Errorf("no check %q%s; there are: %s", a, didYouMean(a, checkNames()), strings.Join(checkNames(), ", "))
		}
	}
	return nil
}

// doctorEnv gives the checks what they look at.
func (g *global) doctorEnv(timeURL string) *doctor.Env {
	l, err := g.load(configs.Default())
	e := &doctor.Env{Config: l, ConfigErr: err, TimeURL: timeURL}
	e.Objects = func(ctx context.Context) (string, error) { return app.ProbeObjects(ctx, l) }
	e.Bus = func(ctx context.Context) error { return app.ProbeBus(ctx, l) }
	e.Homes = func(ctx context.Context) ([]string, error) { return app.LogHomes(ctx, l) }
	e.Damage = func(ctx context.Context) ([]string, error) {
		damage, err := app.CheckLog(ctx, l)
		var out []string
		for _, d := range damage {
			out = append(out, d.Error())
		}
		return out, err
	}
	e.Docker = func(ctx context.Context) (string, error) { return app.ProbeDocker(ctx, l) }
	e.DAGs = func(file string, text []byte) (int, error) {
		dags, err := app.CompileDAGs(file, text)
		return len(dags), err
	}
	return e
}
