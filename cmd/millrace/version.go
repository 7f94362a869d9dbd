package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"millrace/cmd/internal/app"
)

func newVersion(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "version", Short: "Print the version", Args: exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			v := app.BuildVersion()
			return printOne(g, v, v.Version, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "millrace %s (%s, %s)\n", v.Version, v.Revision, v.Go)
				return err
			})
		},
	}
	g.outputFlags(c)
	return c
}
