//go:build linux

package localexec_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"millrace/ingest/vfs"
	"millrace/scheduler"
	"millrace/scheduler/localexec"
	"millrace/scheduler/localexec/runner"
)

// TestMain makes the test binary its own runner and its own millrace, for tests that kill these.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		var err error
		switch os.Args[1] {
		case "runner":
			err = runner.Main(ctx, os.Args[2:])
		case "slow-runner":
			err = slowRunnerMain(ctx, os.Args[2], os.Args[3], os.Args[4:])
		case "millrace":
			err = millraceMain(ctx, os.Args[2], os.Args[3:])
		default:
			os.Exit(m.Run())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// millraceMain launches n sleeping shells in dir, says "launched" on standard output, and stays until it is killed.
func millraceMain(ctx context.Context, dir string, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	e, err := localexec.New(dir, localexec.Options{Slots: n, RunnerArgv: argv()})
	if err != nil {
		return err
	}
	// Nothing is ever taken, as if the process died before its first commit.
	go func() {
		_ = e.Run(ctx, func(context.Context, []scheduler.Report) error { return scheduler.ErrUnavailable })
	}()
	var all []scheduler.Launch
	for i := range n {
		all = append(all, script(taskID(i), markScript, "OUT="+filepath.Join(args[1], strconv.Itoa(i)), "SLEEP="+args[2]))
	}
	if err := e.Launch(ctx, all); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "launched")
	<-ctx.Done()
	return nil
}

// markScript writes one line when it starts and one when it ends, so that a second execution would show.
const markScript = `echo start >> "$OUT"; sleep "$SLEEP"; echo end >> "$OUT"`

func argv() []string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return []string{self, "runner"}
}

func taskID(i int) string { return fmt.Sprintf("r1.t%d.-1.1", i) }

// script is the launch of a shell script.
func script(id, text string, env ...string) scheduler.Launch {
	run, rest, _ := strings.Cut(id, ".")
	return scheduler.Launch{
		ID: id, Run: run, Task: rest, MapIndex: scheduler.NoMap, Try: 1,
		Argv: []string{"sh", "-c", text}, Env: append([]string{"PATH=" + os.Getenv("PATH")}, env...),
		Input: []byte(`{"v":1}`), Grace: 5 * time.Second,
	}
}

// rig is an executor that runs, and the reports that it has delivered.
type rig struct {
	*localexec.Executor
	t   *testing.T
	dir string

	stop func() // ends Run and waits for it

	mu      sync.Mutex
	refuse  int // how many more batches of reports are not taken
	reports []scheduler.Report
	more    chan struct{} // closed and replaced with each report
	runErr  error
}

// waitTime bounds every wait in these tests; it is only reached when something is broken.
const waitTime = 60 * time.Second

func start(t *testing.T, dir string, opt localexec.Options) *rig {
	t.Helper()
	if opt.RunnerArgv == nil {
		opt.RunnerArgv = argv()
	}
	if opt.Wait == 0 {
		opt.Wait = waitTime
	}
	opt.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	e, err := localexec.New(dir, opt)
	must(t, err)
	r := &rig{Executor: e, t: t, dir: dir, more: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.runErr = e.Run(ctx, r.take)
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := os.ReadFile(runner.StderrName(dir))
			t.Logf("runner said:\n%s", said)
		}
		r.stop()
		awaitNoRunner(t, dir)
	})
	return r
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

func (r *rig) take(_ context.Context, reports []scheduler.Report) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse > 0 {
		r.refuse--
		return scheduler.ErrUnavailable
	}
	r.reports = append(r.reports, reports...)
	close(r.more)
	r.more = make(chan struct{})
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// of returns the reports on an attempt so far.
func (r *rig) of(id string) []scheduler.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.reports), func(rep scheduler.Report) bool { return rep.Attempt != id })
}

// await returns the first report on id with one of the outcomes; none means any that ends it.
func (r *rig) await(id string, outcomes ...scheduler.Outcome) scheduler.Report {
	r.t.Helper()
	late := time.After(waitTime)
	for {
		r.mu.Lock()
		more := r.more
		r.mu.Unlock()
		for _, rep := range r.of(id) {
			if slices.Contains(outcomes, rep.Outcome) || len(outcomes) == 0 && rep.Outcome != scheduler.OutcomeRunning {
				return rep
			}
		}
		select {
		case <-more:
		case <-late:
			r.t.Fatalf("got no report %v on %s, but %+v", outcomes, id, r.of(id))
		}
	}
}

func (r *rig) launch(all ...scheduler.Launch) {
	r.t.Helper()
	must(r.t, r.Launch(r.t.Context(), all))
}

func (r *rig) readLog(id string, offset int64) string {
	r.t.Helper()
	rc, err := r.Log(r.t.Context(), id, offset)
	must(r.t, err)
	defer rc.Close()
	data, err := io.ReadAll(rc)
	must(r.t, err)
	return string(data)
}

// eventually waits for something that has no event: a process that is not ours, or a file that one writes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(waitTime)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not seen in %v: %s", waitTime, what)
		}
	}
}

// runnerPID returns the process that holds the lock of dir, 0 if there is none.
func runnerPID(t testing.TB, dir string) int {
	t.Helper()
	conn, err := runner.Dial(dir)
	if err != nil {
		return 0
	}
	defer conn.Close()
	raw, err := conn.(interface {
		SyscallConn() (syscall.RawConn, error)
	}).SyscallConn()
	must(t, err)
	pid := 0
	must(t, raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	}))
	return pid
}

func awaitNoRunner(t testing.TB, dir string) {
	t.Helper()
	eventually(t, "the runner ends", func() bool {
		lock, err := vfs.OS.Lock(filepath.Join(dir, "LOCK"))
		return err == nil && lock.Close() == nil
	})
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func lines(t testing.TB, name string) []string {
	t.Helper()
	data, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return nil
	}
	must(t, err)
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}
