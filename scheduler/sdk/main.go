package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// The verbs of a program.
const (
	verbDescribe = "describe"
	verbRun      = "run-task"
)

// Exit codes with a meaning for millrace.
const (
	exitOK      = 0
	exitFailed  = 1
	exitNoRetry = 64
	exitSkip    = 99
)

// MaxOutput is the most that a task may return, in bytes of JSON. What is above 64 KiB goes through the object store.
const MaxOutput = 64 << 20

// skipped and final are the errors of [Skip] and [NoRetry].
type (
	skipped struct{ reason string }
	final   struct{ error }
)

func (s skipped) Error() string { return "skipped: " + s.reason }
func (f final) Unwrap() error   { return f.error }

// Skip returns the error of a task that has nothing to do: it is skipped, not failed.
func Skip(reason string) error { return skipped{reason} }

// NoRetry returns an error like err that fails the task for good, whatever its [Retry] says.
func NoRetry(err error) error { return final{err} }

// Main is the body of main in a program with these DAGs, whose ids differ. It does what the command line says and ends the process:
//
//	describe        prints the DAGs, and runs nothing
//	run-task <id>   runs a task, within the task contract; of several DAGs, that of MILLRACE_DAG_ID
func Main(dags ...*DAG) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := serve(ctx, dags, process{args: os.Args[1:], env: os.Getenv, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

// process is what serve knows of its process.
type process struct {
	args     []string
	env      func(string) string
	out, err io.Writer
}

func serve(ctx context.Context, dags []*DAG, p process) int {
	var err error
	switch {
	case slices.Equal(p.args, []string{verbDescribe}):
		err = describe(dags, p.out)
	case len(p.args) == 2 && p.args[0] == verbRun:
		err = runTask(ctx, dags, p)
	default:
		err = NoRetry(fmt.Errorf("usage: %s | %s TASK\nThis program is a DAG: put it into the DAG directory of millrace, executable, "+
			"with a name that ends in .dag", verbDescribe, verbRun))
	}
	return p.exit(err)
}

// exit says how the process ends, and returns its exit code.
func (p process) exit(err error) int {
	var skip skipped
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &skip):
		_, _ = fmt.Fprintln(p.out, skip.Error())
		return exitSkip
	}
	_, _ = fmt.Fprintln(p.err, "error:", err)
	if errors.As(err, new(final)) {
		return exitNoRetry
	}
	return exitFailed
}

// logger is where a task logs.
func (p process) logger() *slog.Logger { return slog.New(slog.NewTextHandler(p.out, nil)) }

func describe(dags []*DAG, w io.Writer) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	var texts []string
	for _, d := range dags {
		text, err := d.Describe(exe)
		if err != nil {
			return err
		}
		texts = append(texts, string(text))
	}
	_, err = io.WriteString(w, strings.Join(texts, "---\n"))
	return err
}

func runTask(ctx context.Context, dags []*DAG, p process) error {
	t, err := find(dags, p.env("MILLRACE_DAG_ID"), p.args[1])
	if err != nil {
		return NoRetry(err)
	}
	a, err := readAttempt(p.env)
	if err != nil {
		return NoRetry(err)
	}
	a.Logger = p.logger()
	out, err := t.run(ctx, a)
	if err != nil || out == nil {
		return err
	}
	return writeOutput(p.env("MILLRACE_OUTPUT"), out)
}

// find returns the task. A program with one DAG need not be told which.
func find(dags []*DAG, dag, id string) (*task, error) {
	for _, d := range dags {
		if d.id != dag && (dag != "" || len(dags) > 1) {
			continue
		}
		if t := d.byID[id]; t != nil && t.run != nil {
			return t, nil
		}
		var have []string
		for _, t := range d.tasks {
			if t.run != nil {
				have = append(have, t.id)
			}
		}
		return nil, fmt.Errorf("dag %q of this program has no task %q to run; it has %s", d.id, id, strings.Join(have, ", "))
	}
	return nil, fmt.Errorf("this program has no dag %q", dag)
}

func writeOutput(path string, out any) error {
	text, err := compact(out)
	if err != nil {
		return NoRetry(fmt.Errorf("encode output: %w", err))
	}
	if len(text) > MaxOutput {
		return NoRetry(fmt.Errorf("the output has %d bytes, the limit is %d: write it to an object and return its address", len(text), MaxOutput))
	}
	// In place: millrace reads this very file.
	if err := os.WriteFile(path, text, 0o640); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
