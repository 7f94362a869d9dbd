package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"millrace/configs"
)

// Exit codes; `millrace --help` lists them.
const (
	exitOK          = 0
	exitFailed      = 1 // the thing asked for failed: verify found faults, a run did not succeed
	exitUsage       = 2
	exitConfig      = 3
	exitNotFound    = 4
	exitAuth        = 5
	exitUnreachable = 6
	exitConflict    = 7
	exitTimedOut    = 124
	exitInterrupted = 130
)

// codeError is an error that ends the process with a code of its own.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

// errSilent is a failure whose explanation has been printed already.
var errSilent = errors.New("")

// streams are the process's own; tests give buffers.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// global are the flags that every command has.
type global struct {
	streams
	config  string
	dataDir string
	server  string
	token   string
	output  string
	noHead  bool
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	cmd := newRoot(s)
	cmd.SetArgs(args)
	begun := false
	cmd.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		begun = true
		return checkOutput(c)
	}
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if code := (*codeError)(nil); !begun && !errors.As(err, &code) {
		err = &codeError{exitUsage, err} // nothing was done: the command line itself is at fault
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	if !errors.Is(err, errSilent) {
		_, _ = fmt.Fprintln(s.err, "millrace:", err)
	}
	if code := (*codeError)(nil); errors.As(err, &code) {
		return code.code
	}
	if errors.Is(err, configs.ErrInvalid) {
		return exitConfig
	}
	return exitFailed
}

func newRoot(s streams) *cobra.Command {
	g := &global{streams: s}
	root := &cobra.Command{
		Use:   "millrace",
		Short: "Events in over HTTP, durable, micro-batched, announced; a DAG run on every batch",
		Long: `millrace accepts events over HTTP, makes them durable before it answers, cuts them into micro-batches, announces every batch and runs the
DAGs that subscribed to it.

  millrace dev          everything in one process below ./.millrace, with a demo DAG
  millrace serve        the same from a configuration file, all roles or some

  millrace send web     an event, as its sender would post it
  millrace doctor       what is wrong with this machine and this configuration, and the fix

` + exitCodes(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &codeError{exitUsage, fmt.Errorf("%w%s\nSee '%s --help'", err, suggestFlag(c, err), c.CommandPath())}
	})
	f := root.PersistentFlags()
	f.StringVar(&g.config, "config", "", "configuration file (default $MILLRACE_CONFIG, ./millrace.yaml, /etc/millrace/millrace.yaml)")
	f.StringVar(&g.dataDir, "data-dir", "", "directory for everything that is kept (default ./.millrace)")
	for _, add := range []func(*global) *cobra.Command{
		newDev, newServe, newSend, newEvents, newBatches, newWhere, newLog, newDAGs, newRuns, newTasks, newApprovals, newReplay, newBackfill, newExplain, newPools, newVars, newConns, newNotify, newVerify, newDoctor, newBench, newMesos, newConfig, newAdmin,
		newVersion, newRunner, newOp, newDocs,
	} {
		root.AddCommand(add(g))
	}
	g.complete(root)
	exemplify(root)
	return root
}

// exitCodes is the text about them, for the help and the reference.
func exitCodes() string {
	return `Exit codes: 0 ok, 1 the thing asked for failed, 2 usage, 3 configuration invalid, 4 not found, 5 not authorised,
6 server unreachable, 7 conflict, 124 timed out, 130 interrupted.`
}

// exactArgs is cobra.ExactArgs with our exit code.
func exactArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return &codeError{exitUsage, fmt.Errorf("%s needs %s\nUsage: %s", c.CommandPath(), missing(c, len(args)), c.UseLine())}
		}
		if len(args) > n {
			return &codeError{exitUsage, fmt.Errorf("%s takes %s, got %d\nUsage: %s", c.CommandPath(), counted(n, "argument"), len(args), c.UseLine())}
		}
		return nil
	}
}

// minArgs is cobra.MinimumNArgs in the same way.
func minArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		return exactArgs(n)(c, args[:min(n, len(args))])
	}
}

// whereToFind says which command has the values of an argument.
var whereToFind = map[string]string{
	"RUN":        "'millrace runs ls' lists them",
	"BATCH":      "'millrace batches ls' lists them",
	"DAG":        "'millrace dags ls' lists them",
	"SOURCE":     "'millrace config show' has them below sources",
	"BACKFILL":   "'millrace backfill ls' lists them",
	"RUN/TASK":   "'millrace explain run RUN' lists them",
	"RECEIPT|ID": "the receipt is in the answer to a sender, X-Millrace-Receipt; the id is the event's own",
}

// missing names argument number i of a command, as its usage does, and says where to find one.
func missing(c *cobra.Command, i int) string {
	var names []string
	for _, word := range strings.Fields(c.Use)[1:] {
		if !strings.HasPrefix(word, "-") {
			names = append(names, word)
		}
	}
	if i >= len(names) {
		return "another argument"
	}
	name := names[i]
	if hint := whereToFind[strings.TrimRight(name, ".")]; hint != "" {
		return name + "; " + hint
	}
	return name
}

func counted(n int, what string) string {
	switch n {
	case 0:
		return "no " + what + "s"
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// group is a command that only has others below it.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			var names []string
			for _, sub := range c.Commands() {
				names = append(append(names, sub.Name()), sub.Aliases...)
			}
			return &codeError{exitUsage, fmt.Errorf("unknown command %q for %q%s\nSee '%s --help'", args[0], c.CommandPath(),
				didYouMean(args[0], names), c.CommandPath())}
		}
		return nil
	}, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(subs...)
	return c
}

// load reads the configuration over base, with --data-dir on top.
func (g *global) load(base configs.Config) (*configs.Loaded, error) {
	l, err := configs.Load(base, configs.Find(g.config), os.Environ())
	if err != nil {
		return nil, err
	}
	if g.dataDir != "" {
		l.DataDir = g.dataDir
		l.Origin["data_dir"] = "flag --data-dir"
		if l.File != "" { // the flag is the person's, so it is relative to where the person stands
			if wd, err := os.Getwd(); err == nil {
				l.DataDir = absolute(wd, g.dataDir)
			}
		}
	}
	return l, nil
}
