package schedulertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"millrace/scheduler"
)

// TestExecutor runs the conformance suite of scheduler.Executor for those that run commands on this machine. open opens the executor that
// keeps its state in dir, which exists; opening it again, after Run of the one before has returned, is a restart of millrace: what ran goes
// on. open registers what ends the executor for good with t.Cleanup.
func TestExecutor(t *testing.T, open func(t *testing.T, dir string) scheduler.Executor) {
	t.Helper()
	for _, tt := range []struct {
		name string
		test func(*execTest)
	}{
		{"an exit code is reported", testExit},
		{"a signal is reported", testSignal},
		{"what can not be started is refused alone", testRefused},
		{"an attempt is started once", testOnce},
		{"a task has its input, and its output is taken", testInputOutput},
		{"an output that is too large is an error of its own", testLargeOutput},
		{"a task has the environment that it was given", testEnv},
		{"secrets are masked", testSecrets},
		{"the log has both streams, from an offset", testLog},
		{"the log comes while the task runs", testLogLive},
		{"a kill is a request first", testKillTerm},
		{"a kill is an order after the grace", testKillGrace},
		{"a timeout ends the task", testTimeout},
		{"unknown attempts can be killed", testKillUnknown},
		{"reconcile of an unknown attempt is lost for good", testReconcileUnknown},
		{"reconcile of a running attempt says so", testReconcileRunning},
		{"reports are repeated until they are taken", testRepeat},
		{"reports that were not taken survive a restart", testRestartReports},
		{"tasks survive a restart", testRestartTasks},
		{"there is a slot", func(t *execTest) {
			if n := t.ex.Slots(); n < 1 {
				t.Errorf("got %d slots, want at least 1", n)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := &execTest{T: t, dir: t.TempDir(), work: t.TempDir()}
			e.open = func() scheduler.Executor { return open(t, e.dir) }
			e.start()
			t.Cleanup(func() { e.stop() })
			tt.test(e)
		})
	}
}

// patience is how long something may take before the test gives up.
const patience = 30 * time.Second

type execTest struct {
	*testing.T
	// dir belongs to the executor, work to the test's commands.
	dir, work string
	open      func() scheduler.Executor
	ex        scheduler.Executor

	cancel context.CancelFunc
	done   chan error // of Run

	mu      sync.Mutex
	reports []scheduler.Report
	news    chan struct{} // closed at each report
	refuse  func(reports []scheduler.Report) error
}

// start opens the executor and takes its reports.
func (t *execTest) start() {
	t.Helper()
	t.ex = t.open()
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel, t.done = cancel, make(chan error, 1)
	if t.news == nil {
		t.news = make(chan struct{})
	}
	go func(ex scheduler.Executor) { t.done <- ex.Run(ctx, t.take) }(t.ex) // stop ends it and waits.
}

func (t *execTest) stop() {
	t.Helper()
	if t.cancel == nil {
		return
	}
	t.cancel()
	t.cancel = nil
	select {
	case err := <-t.done:
		if err != nil {
			t.Errorf("run: got %v after its context ended, want nil", err)
		}
	case <-time.After(patience):
		t.Errorf("run: still going %v after its context ended", patience)
	}
}

func (t *execTest) take(_ context.Context, reports []scheduler.Report) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refuse != nil {
		if err := t.refuse(reports); err != nil {
			return err
		}
	}
	t.reports = append(t.reports, slices.Clone(reports)...)
	close(t.news)
	t.news = make(chan struct{})
	return nil
}

// wait returns the first report on the attempt that ok accepts.
func (t *execTest) wait(attempt string, ok func(scheduler.Report) bool) scheduler.Report {
	t.Helper()
	deadline := time.After(patience)
	for {
		t.mu.Lock()
		seen, news := slices.Clone(t.reports), t.news
		t.mu.Unlock()
		for _, r := range seen {
			if r.Attempt == attempt && ok(r) {
				return r
			}
		}
		select {
		case <-news:
		case <-deadline:
			t.Fatalf("no such report on %s after %v; got %+v", attempt, patience, seen)
		}
	}
}

func ended(r scheduler.Report) bool {
	return r.Outcome.Ends()
}

func (t *execTest) end(attempt string) scheduler.Report {
	t.Helper()
	return t.wait(attempt, ended)
}

// shell is an attempt that runs a script in sh.
func (t *execTest) shell(id, script string) scheduler.Launch {
	return scheduler.Launch{
		ID: "r1." + id + ".-1.1", Run: "r1", Task: id, MapIndex: scheduler.NoMap, Try: 1,
		Argv: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "WORK=" + t.work}, Input: []byte("{}"),
		Grace: 10 * time.Second,
	}
}

func (t *execTest) launch(attempts ...scheduler.Launch) {
	t.Helper()
	if err := t.ex.Launch(t.Context(), attempts); err != nil {
		t.Fatalf("launch: %v", err)
	}
}

// barrier returns when an attempt that was launched now has ended: what was to be started before it has been.
func (t *execTest) barrier(name string) {
	t.Helper()
	l := t.shell("barrier-"+name, "true")
	t.launch(l)
	t.end(l.ID)
}

// file returns the content of a file that the commands write, "" if there is none.
func (t *execTest) file(name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(t.work, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("read %s: %v", name, err)
	}
	return string(text)
}

func (t *execTest) fifo(name string) string {
	t.Helper()
	path := filepath.Join(t.work, name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatalf("make fifo: %v", err)
	}
	return path
}

// meet returns when a command has opened the fifo for writing, and what it wrote.
func (t *execTest) meet(fifo string) string {
	t.Helper()
	text := make(chan string, 1)
	go func() { // Ends with the command, or with the test's process.
		b, _ := os.ReadFile(fifo)
		text <- string(b)
	}()
	select {
	case s := <-text:
		return s
	case <-time.After(patience):
		t.Fatalf("no command opened %s", fifo)
		return ""
	}
}

// eventually asks again and again: for what other processes do and do not tell.
func (t *execTest) eventually(what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not after %v: %s", patience, what)
		}
	}
}

func (t *execTest) log(attempt string, offset int64) string {
	t.Helper()
	r, err := t.ex.Log(t.Context(), attempt, offset)
	if err != nil {
		t.Fatalf("log of %s: %v", attempt, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read log of %s: %v", attempt, err)
	}
	return string(b)
}

func testExit(t *execTest) {
	var all []scheduler.Launch
	codes := []int{0, 1, 3, 99, 255}
	for _, code := range codes {
		all = append(all, t.shell(fmt.Sprintf("exit%d", code), fmt.Sprintf("exit %d", code)))
	}
	before := time.Now()
	t.launch(all...)
	for i, code := range codes {
		r := t.end(all[i].ID)
		if r.Outcome != scheduler.OutcomeExited || r.Exit != code || r.Signal != "" {
			t.Errorf("got %+v, want exit code %d", r, code)
		}
		if r.StartedAt.Before(before.Add(-time.Second)) || r.EndedAt.Before(r.StartedAt) || r.EndedAt.After(time.Now().Add(time.Second)) {
			t.Errorf("got times %v to %v, want them in order and of now", r.StartedAt, r.EndedAt)
		}
	}
}

func testSignal(t *execTest) {
	l := t.shell("signal", "kill -KILL $$")
	t.launch(l)
	if r := t.end(l.ID); r.Outcome != scheduler.OutcomeExited || r.Exit != -1 || r.Signal != "SIGKILL" {
		t.Errorf("got %+v, want -1 by SIGKILL", r)
	}
}

func testRefused(t *execTest) {
	good := t.shell("good", "exit 0")
	bad := t.shell("bad", "")
	bad.Argv = []string{"/nonexistent/program"}
	lookup := t.shell("lookup", "")
	lookup.Argv = []string{"no-such-program-in-path"}
	t.launch(bad, good, lookup)
	for _, l := range []scheduler.Launch{bad, lookup} {
		if r := t.end(l.ID); r.Outcome != scheduler.OutcomeRefused || r.Reason == "" {
			t.Errorf("got %+v, want a refusal with its reason", r)
		}
	}
	if r := t.end(good.ID); r.Outcome != scheduler.OutcomeExited || r.Exit != 0 {
		t.Errorf("got %+v, want the neighbour to run", r)
	}
}

func testOnce(t *execTest) {
	l := t.shell("once", `echo x >> "$WORK/count"`)
	t.launch(l, l)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := t.ex.Launch(context.Background(), []scheduler.Launch{l}); err != nil {
				t.Errorf("launch: %v", err)
			}
		})
	}
	wg.Wait()
	t.end(l.ID)
	t.launch(l)
	t.barrier("once")
	if got := t.file("count"); got != "x\n" {
		t.Errorf("got %q, want one start", got)
	}
}

func testInputOutput(t *execTest) {
	l := t.shell("io", `cat "$MILLRACE_INPUT" > "$MILLRACE_OUTPUT"`)
	l.Input = []byte(`{"v":1,"text":"\"quotes' and $dollars"}`)
	t.launch(l)
	if r := t.end(l.ID); r.Exit != 0 || !bytes.Equal(r.Output, l.Input) || r.OutputError != "" {
		t.Errorf("got %+v, want the input as output", r)
	}
	none := t.shell("none", "true")
	t.launch(none)
	if r := t.end(none.ID); len(r.Output) != 0 || r.OutputError != "" {
		t.Errorf("got %+v, want no output and no error", r)
	}
}

func testLargeOutput(t *execTest) {
	l := t.shell("large", `head -c 65537 /dev/zero | tr '\0' 1 > "$MILLRACE_OUTPUT"`)
	exact := t.shell("exact", `head -c 65536 /dev/zero | tr '\0' 1 > "$MILLRACE_OUTPUT"`)
	t.launch(l, exact)
	if r := t.end(l.ID); r.Outcome != scheduler.OutcomeExited || r.Exit != 0 || len(r.Output) != 0 || (r.OutputError == "") == (r.OutputRef == nil) {
		t.Errorf("got %v, exit %d, %d bytes, %q: want no output and why, or where it is", r.Outcome, r.Exit, len(r.Output), r.OutputError)
	}
	if r := t.end(exact.ID); len(r.Output) != 64<<10 || r.OutputError != "" {
		t.Errorf("got %d bytes, %q: want 64 KiB", len(r.Output), r.OutputError)
	}
}

// executorEnv are the variables that are the executor's to set, each to a path; PWD is the shell's, where there is one.
var executorEnv = []string{"MILLRACE_INPUT", "MILLRACE_OUTPUT", "MILLRACE_STATE", "PWD"}

func testEnv(t *execTest) {
	l := t.shell("env", "")
	l.Argv = []string{"env"}
	l.Env = append(l.Env, "ODD= a=b 'c'", "EMPTY=")
	t.launch(l)
	t.end(l.ID)
	var got []string
	for line := range strings.Lines(t.log(l.ID, 0)) {
		line = strings.TrimSuffix(line, "\n")
		if name, val, _ := strings.Cut(line, "="); !slices.Contains(executorEnv, name) || !strings.HasPrefix(val, "/") {
			got = append(got, line)
		}
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(l.Env))
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func testLog(t *execTest) {
	l := t.shell("log", "echo out; echo err >&2; printf 'no newline'")
	t.launch(l)
	t.end(l.ID)
	if got, want := t.log(l.ID, 0), "out\nerr\nno newline"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := t.log(l.ID, 4), "err\nno newline"; got != want {
		t.Errorf("from 4: got %q, want %q", got, want)
	}
	if got := t.log(l.ID, 1<<20); got != "" {
		t.Errorf("from beyond the end: got %q, want nothing", got)
	}
	if _, err := t.ex.Log(t.Context(), "r1.unknown.-1.1", 0); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("unknown attempt: got %v, want ErrNotFound", err)
	}
}

func testLogLive(t *execTest) {
	gate := t.fifo("gate")
	l := t.shell("live", `echo before; cat "$WORK/gate"; echo after`)
	t.launch(l)
	t.eventually("the first line is in the log", func() bool {
		r, err := t.ex.Log(t.Context(), l.ID, 0)
		if err != nil {
			return false
		}
		defer r.Close()
		b, _ := io.ReadAll(r)
		return string(b) == "before\n"
	})
	if err := os.WriteFile(gate, nil, 0); err != nil {
		t.Fatalf("open the gate: %v", err)
	}
	t.end(l.ID)
	if got, want := t.log(l.ID, 0), "before\nafter\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func testKillTerm(t *execTest) {
	ready := t.fifo("ready")
	l := t.shell("term", `trap 'exit 7' TERM; echo up > "$WORK/ready"; while :; do sleep 0.05; done`)
	t.launch(l)
	t.meet(ready)
	if err := t.ex.Kill(t.Context(), l.ID, patience); err != nil {
		t.Fatalf("kill: %v", err)
	}
	if r := t.end(l.ID); r.Outcome != scheduler.OutcomeExited || r.Exit != 7 {
		t.Errorf("got %+v, want the task's own exit code 7", r)
	}
}

func testKillGrace(t *execTest) {
	ready := t.fifo("ready")
	l := t.shell("deaf", `trap '' TERM; sleep 1000 & echo $! > "$WORK/ready"; while :; do wait; done`)
	t.launch(l)
	child, err := strconv.Atoi(strings.TrimSpace(t.meet(ready)))
	if err != nil {
		t.Fatalf("read pid: %v", err)
	}
	if err := t.ex.Kill(t.Context(), l.ID, 50*time.Millisecond); err != nil {
		t.Fatalf("kill: %v", err)
	}
	if r := t.end(l.ID); r.Exit != -1 || r.Signal != "SIGKILL" {
		t.Errorf("got %+v, want SIGKILL", r)
	}
	t.eventually("the task's child is gone", func() bool { return gone(child) })
}

// gone reports whether a process has ended; a zombie that nobody waits for has.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

func testTimeout(t *execTest) {
	l := t.shell("slow", "sleep 1000")
	l.Timeout, l.Grace = 50*time.Millisecond, 50*time.Millisecond
	t.launch(l)
	if r := t.end(l.ID); r.Outcome != scheduler.OutcomeTimeout {
		t.Errorf("got %+v, want a timeout", r)
	}
}

func testKillUnknown(t *execTest) {
	if err := t.ex.Kill(t.Context(), "r1.unknown.-1.1", time.Second); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func testReconcileUnknown(t *execTest) {
	l := t.shell("ghost", `echo x >> "$WORK/ghost"`)
	if err := t.ex.Reconcile(t.Context(), []string{l.ID}); err != nil {
		t.Fatalf("reconcile: %v", err)
	}
	r := t.wait(l.ID, func(r scheduler.Report) bool { return r.Outcome == scheduler.OutcomeUnsent || ended(r) })
	if r.Outcome == scheduler.OutcomeUnsent {
		// It never left the executor, so that it can be launched now, and is not by itself.
		t.barrier("unsent")
		if got := t.file("ghost"); got != "" {
			t.Fatal("an attempt was started that was reported as unsent")
		}
		t.launch(l)
		t.end(l.ID)
		if got := t.file("ghost"); got != "x\n" {
			t.Errorf("got %q, want one start", got)
		}
		return
	}
	if r.Outcome != scheduler.OutcomeLost {
		t.Fatalf("got %+v, want lost, or unsent", r)
	}
	late := func(name string) {
		// The launch that was on its way when the engine gave it up. An error is as good as silence, a start is not.
		_ = t.ex.Launch(t.Context(), []scheduler.Launch{l})
		t.barrier(name)
		if got := t.file("ghost"); got != "" {
			t.Fatalf("%s: an attempt was started after it had been reported as lost", name)
		}
	}
	late("before-restart")
	t.stop()
	t.start()
	late("after-restart")
}

func testReconcileRunning(t *execTest) {
	gate := t.fifo("gate")
	l := t.shell("runs", `cat "$WORK/gate"`)
	t.launch(l)
	if err := t.ex.Reconcile(t.Context(), []string{l.ID}); err != nil {
		t.Fatalf("reconcile: %v", err)
	}
	t.wait(l.ID, func(r scheduler.Report) bool { return r.Outcome == scheduler.OutcomeRunning })
	if err := os.WriteFile(gate, nil, 0); err != nil {
		t.Fatalf("open the gate: %v", err)
	}
	if r := t.end(l.ID); r.Outcome != scheduler.OutcomeExited || r.Exit != 0 {
		t.Errorf("got %+v, want exit code 0", r)
	}
}

func testRepeat(t *execTest) {
	l := t.shell("again", "exit 5")
	refused := 0
	t.mu.Lock()
	t.refuse = func(reports []scheduler.Report) error {
		for _, r := range reports {
			if r.Attempt == l.ID && ended(r) && refused < 3 {
				refused++
				return scheduler.ErrUnavailable
			}
		}
		return nil
	}
	t.mu.Unlock()
	t.launch(l)
	if r := t.end(l.ID); r.Exit != 5 {
		t.Errorf("got %+v, want exit code 5", r)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if refused != 3 {
		t.Errorf("got the report after %d refusals, want 3", refused)
	}
}

func testRestartReports(t *execTest) {
	offered := make(chan struct{})
	var once sync.Once
	l := t.shell("kept", "exit 6")
	t.mu.Lock()
	t.refuse = func(reports []scheduler.Report) error {
		if !slices.ContainsFunc(reports, func(r scheduler.Report) bool { return r.Attempt == l.ID && ended(r) }) {
			return nil // A cluster tells of the end when the start was taken.
		}
		once.Do(func() { close(offered) })
		return scheduler.ErrUnavailable
	}
	t.mu.Unlock()
	t.launch(l)
	select {
	case <-offered:
	case <-time.After(patience):
		t.Fatal("no report was offered")
	}
	t.stop()
	t.mu.Lock()
	t.refuse = nil
	t.mu.Unlock()
	t.start()
	if r := t.end(l.ID); r.Outcome != scheduler.OutcomeExited || r.Exit != 6 {
		t.Errorf("got %+v, want exit code 6", r)
	}
}

func testRestartTasks(t *execTest) {
	ready, gate := t.fifo("ready"), t.fifo("gate")
	l := t.shell("survivor", `echo x >> "$WORK/count"; echo up > "$WORK/ready"; cat "$WORK/gate"; echo bye; exit 4`)
	t.launch(l)
	t.meet(ready)
	t.stop()
	t.start()
	if err := t.ex.Reconcile(t.Context(), []string{l.ID}); err != nil {
		t.Fatalf("reconcile: %v", err)
	}
	t.launch(l) // The engine does not know whether the first one arrived.
	if err := os.WriteFile(gate, nil, 0); err != nil {
		t.Fatalf("open the gate: %v", err)
	}
	if r := t.end(l.ID); r.Outcome != scheduler.OutcomeExited || r.Exit != 4 {
		t.Errorf("got %+v, want exit code 4", r)
	}
	if got := t.log(l.ID, 0); got != "bye\n" {
		t.Errorf("got log %q, want %q", got, "bye\n")
	}
	if got := t.file("count"); got != "x\n" {
		t.Errorf("got %q, want one start", got)
	}
}
