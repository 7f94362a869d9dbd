package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"millrace/cmd/internal/app"
	"millrace/configs"
)

func newServe(g *global) *cobra.Command {
	var roles []string
	var logs logFlags
	c := &cobra.Command{
		Use: "serve", Short: "Run a server from a configuration file: all roles, or some", Args: exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := g.load(configs.Default())
			if err != nil {
				return err
			}
			if c.Flags().Changed("roles") {
				l.Roles, l.Origin["roles"] = roles, "flag --roles"
			}
			log, err := logs.logger(g.err)
			if err != nil {
				return err
			}
			return app.Run(c.Context(), l, app.Options{Logger: log, Notices: g.err, Runner: runnerArgv(), Environ: os.Environ()})
		},
	}
	c.Flags().StringSliceVar(&roles, "roles", nil, "ingest, batch, schedule (default all)")
	logs.add(c, "info")
	return c
}

func newDev(g *global) *cobra.Command {
	var dags, listen, console string
	var logs logFlags
	c := &cobra.Command{
		Use: "dev", Short: "Run everything in one process below ./.millrace, with a demo DAG", Args: exactArgs(0),
		Long: `Run everything in one process below ./.millrace: log, objects, bus, store, executor.

There is a clickstream source "web" with the write key "dev", an unsigned webhook source "demo", a signed one "stripe" with the
secret whsec_dev, and, without --dags, a demo DAG that runs on every batch.`,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := g.load(configs.Dev())
			if err != nil {
				return err
			}
			for flag, to := range map[string]*string{"listen": &l.Ingest.Listen, "console": &l.Console.Listen} {
				if v, _ := c.Flags().GetString(flag); c.Flags().Changed(flag) {
					*to, l.Origin[flag] = v, "flag --"+flag
				}
			}
			opts := app.Options{Notices: g.err, Runner: runnerArgv(), Environ: os.Environ(), Dev: true}
			if dags != "" {
				l.DAGs, opts.Demo = dags, false
			} else {
				l.DAGs, opts.Demo = "", true
			}
			if opts.Logger, err = logs.logger(g.err); err != nil {
				return err
			}
			return app.Run(c.Context(), l, opts)
		},
	}
	c.Flags().StringVar(&dags, "dags", "", "a directory of DAG files instead of the demo DAG")
	c.Flags().StringVar(&listen, "listen", "", "address for events (default 127.0.0.1:8080)")
	c.Flags().StringVar(&console, "console", "", "address of page and API (default 127.0.0.1:8081)")
	logs.add(c, "warn")
	return c
}

// logFlags say how the process logs.
type logFlags struct {
	level, format string
}

func (f *logFlags) add(c *cobra.Command, level string) {
	c.Flags().StringVar(&f.level, "log-level", level, "debug, info, warn or error")
	c.Flags().StringVar(&f.format, "log-format", "text", "text or json")
}

func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return nil, &codeError{exitUsage, fmt.Errorf("log level %q: want debug, info, warn or error", f.level)}
	}
	opts := &slog.HandlerOptions{Level: level}
	switch f.format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	}
	return nil, &codeError{exitUsage, fmt.Errorf("log format %q: want text or json", f.format)}
}
