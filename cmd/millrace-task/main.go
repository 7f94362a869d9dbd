// Command millrace-task is the entrypoint of task images: it gives one attempt its side of the task contract, in the foreground, wherever a container runs.
//
//	docker, mesos, a shell ──▶ millrace-task -- program args…
//	                              │ 1  writes the input document to a file
//	                              │ 2  makes the files for output and heartbeat
//	                              │ 3  fetches the objects of the batches, if asked
//	                              └ 4  starts the program, passes signals on, reaps orphans, and exits as it did
//
// It talks to nobody but the object store while it fetches: the scheduler may be gone all the while. The part that executes is package
// scheduler/localexec/runner, which also executes the tasks of the local executor.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"millrace/scheduler"
	"millrace/scheduler/localexec/runner"
	"millrace/scheduler/mask"
)

// Exit codes that are millrace-task's own; any other is the program's, or 128 and the number of the signal that ended it.
const (
	exitUsage   = 64  // the task contract's: it failed, and trying again is of no use
	exitFetch   = 75  // an object could not be fetched (EX_TEMPFAIL)
	exitTimeout = 124 // the heartbeat stopped
	exitMachine = 125 // the machine did not let the program be started; another try may be let
	exitRefused = 127 // the program can never be started
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(run(os.Args[1:], os.Environ(), os.Stdout)) }

// run is main: log takes what the program writes, and what millrace-task has to say.
func run(args, environ []string, log *os.File) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals) // before anything takes time: as the first process of a container, what is not handled is lost
	defer signal.Stop(signals)
	opt, err := parse(args, environ)
	switch {
	case errors.Is(err, errHelp):
		return say(log, 0, "%s", usage)
	case err != nil:
		return say(log, exitUsage, "millrace-task: %v; see millrace-task --help\n", err)
	case opt.version:
		return say(log, 0, "millrace-task %s%s\n", version, revision())
	}
	t := &task{options: opt, log: log, masker: mask.New(opt.secrets)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := t.prepare(); err != nil {
		return t.refuse(err)
	}
	if opt.fetch != "" {
		done := make(chan error, 1)
		go func() { done <- t.fetchAll(ctx) }() // ends soon after ctx, and is waited for
		if err := await(done, signals, cancel); err != nil {
			return say(log, codeOf(err), "millrace-task: fetch the objects of the batches: %s\n", t.masker.String(err.Error()))
		}
	}
	return t.execute(ctx, signals)
}

// execute runs the program and returns the exit code.
func (t *task) execute(ctx context.Context, signals <-chan os.Signal) int {
	dir, err := os.Getwd()
	if err != nil {
		return t.refuse(fmt.Errorf("find the working directory: %w", err))
	}
	f := &runner.Foreground{
		Argv: t.argv, Env: t.env, Dir: dir, Out: t.log, Secrets: t.secrets, Grace: t.grace,
		HeartbeatFile: t.heartbeatFile, Heartbeat: t.heartbeat, Signals: signals,
	}
	rep, err := f.Run(ctx)
	switch {
	case errors.Is(err, runner.ErrRefused):
		return t.refuse(err)
	case err != nil:
		return say(t.log, exitMachine, "millrace-task: %v\n", err)
	case rep.Outcome == scheduler.OutcomeTimeout:
		return say(t.log, exitTimeout, "millrace-task: ended: %s\n", rep.Reason)
	case rep.Signal != "":
		return 128 + int(unix.SignalNum(rep.Signal))
	}
	return rep.Exit
}

// refuse leaves word why the program can never be started.
func (t *task) refuse(err error) int {
	reason := t.masker.String(err.Error())
	if err := os.WriteFile(t.path(refusedName), []byte(reason+"\n"), fileMode); err != nil {
		reason += fmt.Sprintf(" (and that could not be noted: %v)", err)
	}
	return say(t.log, exitRefused, "millrace-task: %s\n", reason)
}

// say prints a message and returns code. Nobody could be told that it can not be printed.
func say(w io.Writer, code int, format string, args ...any) int {
	_, _ = fmt.Fprintf(w, format, args...)
	return code
}

// errAsked: a signal came before the program was started.
var errAsked = errors.New("asked to end")

// await returns what done says. A signal that asks for the end is obeyed.
func await(done <-chan error, signals <-chan os.Signal, cancel func()) error {
	for {
		select {
		case err := <-done:
			return err
		case s := <-signals:
			if sig, ok := s.(unix.Signal); ok && runner.AsksForEnd(sig) {
				cancel()
				<-done
				return &endedError{sig}
			}
		}
	}
}

// endedError: a signal came before there was a program to pass it on to.
type endedError struct{ sig unix.Signal }

func (e *endedError) Error() string { return "ended by " + unix.SignalName(e.sig) }

func (e *endedError) Is(target error) bool { return target == errAsked }

func codeOf(err error) int {
	if ended, ok := errors.AsType[*endedError](err); ok {
		return 128 + int(ended.sig)
	}
	if errors.Is(err, errNever) {
		return exitUsage
	}
	return exitFetch
}

func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return " (" + s.Value + ")"
		}
	}
	return ""
}
