package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"millrace/cmd/internal/app"
	"millrace/configs"
)

func newConfig(g *global) *cobra.Command {
	return group("config", "Check, show and start a configuration", newConfigCheck(g), newConfigShow(g), newConfigSchema(g), newConfigInit(g))
}

func newConfigCheck(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Report all that is wrong with the configuration", Args: exactArgs(0),
		Long: `Report all that is wrong with the configuration, file, environment and flags: each fault with its place and what to do.
Secrets and certificates that are referred to must be there. The exit code is 3 if there is any fault.`,
		RunE: func(*cobra.Command, []string) error {
			l, err := g.load(configs.Default())
			if err != nil {
				return err
			}
			if err := app.Check(l); err != nil {
				return err
			}
			_, err = fmt.Fprintf(g.out, "ok: %s\n", orDefault(l.File))
			return err
		},
	}
}

func newConfigShow(g *global) *cobra.Command {
	var origin bool
	c := &cobra.Command{
		Use: "show", Short: "Print the effective configuration, secrets hidden", Args: exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			l, err := g.load(configs.Default())
			if err != nil {
				return err
			}
			if g.output == "yaml" {
				return l.Show(g.out, origin)
			}
			return printRows(g, answers(l.Values()), func(v configs.Value) string { return v.Path }, valueColumns)
		},
	}
	c.Flags().BoolVar(&origin, "origin", false, "one line for each setting, with where it came from, as all formats but yaml have it anyway")
	g.streamFlags(c, "yaml")
	return c
}

var valueColumns = []column[configs.Value]{
	{"SETTING", func(v configs.Value) string { return v.Path }},
	{"VALUE", func(v configs.Value) string { return fmt.Sprint(v.Value) }},
	{"ORIGIN", func(v configs.Value) string { return v.Origin }},
}

func newConfigSchema(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the configuration file, for editors", Args: exactArgs(0),
		Long: `Print the JSON Schema of the configuration file. Editors that know it complete keys, say what they mean and mark faults:

  millrace config schema > millrace.schema.json

and, as the first line of millrace.yaml:

  # yaml-language-server: $schema=millrace.schema.json`,
		RunE: func(*cobra.Command, []string) error {
			schema, err := configs.Schema()
			if err != nil {
				return err
			}
			_, err = g.out.Write(schema)
			return err
		},
	}
}

func newConfigInit(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "init [FILE]", Short: "Write a commented configuration file to start from", Args: cobra.MaximumNArgs(1),
		Long: `Write a configuration file with every key at its default, a comment for each, and example sources, to FILE (default
millrace.yaml). A file that is there already is left alone.`,
		RunE: func(_ *cobra.Command, args []string) error {
			path, use := "millrace.yaml", ""
			if len(args) > 0 {
				path, use = args[0], " --config "+args[0]
			}
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // secrets may be written into it
			if errors.Is(err, fs.ErrExist) {
				return &codeError{exitConflict, fmt.Errorf("%s exists and is left alone\nName another file: millrace config init FILE", path)}
			}
			if err != nil {
				return fmt.Errorf("write configuration: %w", err)
			}
			_, err = f.Write(configs.Example)
			if err := errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("write configuration: %w", errors.Join(err, os.Remove(path)))
			}
			_, err = fmt.Fprintf(g.out, "wrote %s\nChange what must be different, remove the rest, then: millrace config check%s\n", path, use)
			return err
		},
	}
}

func orDefault(file string) string {
	if file == "" {
		return "no file, defaults and environment"
	}
	return file
}
