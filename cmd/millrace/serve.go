package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"millrace/cmd/internal/app"
	"millrace/configs"
)

func newServe(g *global) *cobra.Command {
	var roles []string
	var logs logFlags
	c := &cobra.Command{
		Use: "serve", Short: "Run a server from a configuration file: all roles, or some", Args: exactArgs(0),
		Long: `Run a server from a configuration file: all roles, or some.

SIGTERM drains and ends it. SIGHUP makes it read configuration, secrets, certificates and DAG files again: a file with faults changes
nothing, and what takes a restart is named in the log.`,
		RunE: func(c *cobra.Command, _ []string) error {
			load := func() (*configs.Loaded, error) {
				l, err := g.load(configs.Default())
				if err == nil && c.Flags().Changed("roles") {
					l.Roles, l.Origin["roles"] = roles, "flag --roles"
				}
				return l, err
			}
			return g.serve(c, load, &logs, app.Options{})
		},
	}
	c.Flags().StringSliceVar(&roles, "roles", nil, "ingest, batch, schedule (default all)")
	logs.add(c, "info")
	return c
}

func newDev(g *global) *cobra.Command {
	var flags devFlags
	var logs logFlags
	c := &cobra.Command{
		Use: "dev", Short: "Run everything in one process below ./.millrace, with a demo DAG", Args: exactArgs(0),
		Long: `Run everything in one process below ./.millrace: log, objects, bus, store, executor.

There is a clickstream source "web" with the write key "dev", an unsigned webhook source "demo", a signed one "stripe" with the
secret whsec_dev, and, without --dags, a demo DAG that runs on every batch, beside the DAGs in ./dags.

With --tls both listeners speak TLS, which some SDKs insist on, with a certificate that is made in the data directory for the names and
addresses of this machine. Clients must be told to trust it.

With --executor mesos there is a double of a Mesos cluster in the process, and the executor mesos uses it: the demo DAG runs there, and tasks with executor: mesos.
It is for trying things out: it runs commands as processes of this machine, and isolates nothing.`,
		Example: `  millrace dev
  millrace dev --dags ./dags --log-level info
  millrace dev --executor mesos`,
		RunE: func(c *cobra.Command, _ []string) error {
			opts := app.Options{Dev: true, Demo: flags.dags == ""}
			switch flags.executor {
			case "local":
			case "mesos":
				double, err := app.StartDouble()
				if err != nil {
					return err
				}
				defer func() { _ = double.Close() }()
				flags.double, opts.Double, opts.DemoExecutor = double, double.Says, "mesos"
			default:
				return &codeError{exitUsage, fmt.Errorf("--executor is %q, want local or mesos", flags.executor)}
			}
			load := func() (*configs.Loaded, error) {
				l, err := g.load(configs.Dev())
				if err != nil {
					return nil, err
				}
				return l, flags.apply(l)
			}
			return g.serve(c, load, &logs, opts)
		},
	}
	c.Flags().StringVar(&flags.dags, "dags", "", "a directory of DAG files, without the demo DAG (default: ./dags, with it)")
	c.Flags().StringVar(&flags.listen, "listen", "", "address for events (default 127.0.0.1:8080)")
	c.Flags().StringVar(&flags.console, "console", "", "address of page and API (default 127.0.0.1:8081)")
	c.Flags().StringVar(&flags.executor, "executor", "local", "where the demo DAG runs: local, or mesos, a double of a cluster in this process")
	c.Flags().BoolVar(&flags.tls, "tls", false, "speak TLS on both, with a certificate made in the data directory")
	logs.add(c, "warn")
	return c
}

// devFlags are what `dev` is told on the command line.
type devFlags struct {
	dags, listen, console, executor string
	tls                             bool
	double                          *app.Double // nil: there is none
}

// apply puts the flags over l.
func (f *devFlags) apply(l *configs.Loaded) error {
	set := func(path, flag, value string, to *string) {
		if value != "" {
			*to, l.Origin[path] = value, "flag --"+flag
		}
	}
	set("ingest.listen", "listen", f.listen, &l.Ingest.Listen)
	set("console.listen", "console", f.console, &l.Console.Listen)
	set("dags", "dags", here(f.dags), &l.DAGs)
	if f.double != nil {
		f.double.Configure(l, "flag --executor")
	}
	if !f.tls {
		return nil
	}
	files, err := app.SelfSigned(here(l.Data(".")), l.Ingest.Listen, l.Console.Listen)
	if err != nil {
		return err
	}
	for path, side := range map[string]*configs.TLS{"ingest.tls.": &l.Ingest.TLS, "console.tls.": &l.Console.TLS} {
		if !side.On() { // what is configured is meant
			set(path+"cert", "tls", files.Cert, &side.Cert)
			set(path+"key", "tls", files.Key, &side.Key)
		}
	}
	return nil
}

// here is a path that a person wrote on the command line: relative to where the person stands, not to the configuration file.
func here(path string) string {
	wd, err := os.Getwd()
	if err != nil || path == "" {
		return path
	}
	return absolute(wd, path)
}

// serve runs the process that load describes, and loads again on SIGHUP.
func (g *global) serve(c *cobra.Command, load func() (*configs.Loaded, error), logs *logFlags, opts app.Options) error {
	l, err := load()
	if err != nil {
		return err
	}
	if opts.Logger, err = logs.logger(g.err); err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	terminal := hasTerminal() && !signal.Ignored(syscall.SIGHUP)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	opts.Reload, opts.Load = hup, func() (*configs.Loaded, error) {
		if terminal && !hasTerminal() {
			// The signal's other meaning: the terminal is gone, and with it the person who started this.
			return nil, errors.Join(errors.New("the terminal was closed, the process ends"), syscall.Kill(os.Getpid(), syscall.SIGTERM))
		}
		return load()
	}
	opts.Notices, opts.Runner, opts.Environ = g.err, runnerArgv(), os.Environ()
	return app.Run(c.Context(), l, opts)
}

// hasTerminal reports whether a terminal controls this process.
func hasTerminal() bool {
	f, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
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
