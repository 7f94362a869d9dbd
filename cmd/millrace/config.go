package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"millrace/configs"
)

func newConfig(g *global) *cobra.Command {
	return group("config", "Check and show the configuration", newConfigCheck(g), newConfigShow(g))
}

func newConfigCheck(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Report all that is wrong with the configuration", Args: exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			l, err := g.load(configs.Default())
			if err != nil {
				return err
			}
			if err := l.Validate(); err != nil {
				return err
			}
			if _, err := l.SourceList(l.Dir()); err != nil {
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
			if g.output == "json" {
				return printJSON(g.out, l.Values())
			}
			return l.Show(g.out, origin)
		},
	}
	c.Flags().BoolVar(&origin, "origin", false, "one line for each setting, with where it came from")
	c.Flags().StringVarP(&g.output, "output", "o", "yaml", "yaml or json (json always has the origin)")
	return c
}

func orDefault(file string) string {
	if file == "" {
		return "no file, defaults and environment"
	}
	return file
}
