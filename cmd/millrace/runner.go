package main

import (
	"os"

	"github.com/spf13/cobra"

	"millrace/cmd/internal/app"
)

// runnerArgv is how this binary is started as the supervisor of local tasks. The path is resolved once, so that an upgrade in place does not
// change what a running server starts.
func runnerArgv() []string {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return []string{self, "runner"}
}

// newRunner is not for people: the server starts it, once, and it outlives the server.
func newRunner(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "runner", Short: "Supervise local tasks (started by the server)", Hidden: true, DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error { return app.Runner(c.Context(), args) },
	}
}
