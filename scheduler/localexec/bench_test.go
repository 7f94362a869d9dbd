//go:build linux

package localexec_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/localexec"
)

// program is the shortest task: no shell.
func program(id string, argv ...string) scheduler.Launch {
	l := script(id, "")
	l.Argv = argv
	return l
}

// status reads a value in kB of /proc/<pid>/status.
func status(t testing.TB, pid int, key string) int {
	t.Helper()
	for _, line := range lines(t, fmt.Sprintf("/proc/%d/status", pid)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			must(t, err)
			return n
		}
	}
	t.Fatalf("no %s of process %d", key, pid)
	return 0
}

// cpu is the processor time that a process has used.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, err := strconv.Atoi(f[11])
	must(t, err)
	system, err := strconv.Atoi(f[12])
	must(t, err)
	return time.Duration(user+system) * 10 * time.Millisecond // In ticks of 1/100 s, on every Linux that Go supports.
}

// TestMemoryOfRunner: 500 tasks that sleep cost the runner at most 2 MB each; in fact a few kB.
func TestMemoryOfRunner(t *testing.T) {
	t.Parallel()
	const n = 500
	dir := t.TempDir()
	r := start(t, dir, localexec.Options{Slots: n})
	first := program("r1.first.-1.1", "true")
	r.launch(first)
	r.await(first.ID)
	pid := runnerPID(t, dir)
	idle := status(t, pid, "VmRSS")
	var all []scheduler.Launch
	for i := range n {
		all = append(all, program(taskID(i), "sleep", "1000"))
	}
	r.launch(all...)
	for _, l := range all {
		r.await(l.ID, scheduler.OutcomeRunning)
	}
	busy, peak := status(t, pid, "VmRSS"), status(t, pid, "VmHWM")
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
	must(t, err)
	t.Logf("runner: %d kB before, %d kB with %d tasks, %d kB at most; %d kB a task; %d descriptors, %d threads",
		idle, busy, n, peak, (busy-idle)/n, len(open), status(t, pid, "Threads"))
	if peak > idle+2048*n {
		t.Errorf("got %d kB for %d tasks, want at most 2 MB each", peak-idle, n)
	}
	if len(open) > 50 {
		t.Errorf("got %d descriptors with %d tasks, want none for a task", len(open), n)
	}
	for _, l := range all {
		must(t, r.Kill(t.Context(), l.ID, 0))
	}
	for _, l := range all {
		r.await(l.ID)
	}
}

// BenchmarkTasks runs the shortest task there is, alone and 500 at once, beside a loop that only forks, executes and waits.
func BenchmarkTasks(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			must(b, exec.Command("/bin/true").Run())
		}
	})
	e, done := benchExecutor(b)
	next := 0
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			benchRun(b, e, done, next, 1)
			next++
		}
	})
	b.Run("claim", func(b *testing.B) {
		for b.Loop() {
			l := program(taskID(next), "/bin/true")
			next++
			must(b, e.Launch(b.Context(), []scheduler.Launch{l}))
			b.StopTimer()
			<-done
			b.StartTimer()
		}
	})
	b.Run("500", func(b *testing.B) {
		for b.Loop() {
			benchRun(b, e, done, next, 500)
			next += 500
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/500, "µs/task")
	})
}

func benchRun(b *testing.B, e *localexec.Executor, done <-chan struct{}, first, n int) {
	b.Helper()
	var all []scheduler.Launch
	for i := range n {
		all = append(all, program(taskID(first+i), "/bin/true"))
	}
	must(b, e.Launch(b.Context(), all))
	for range n {
		<-done
	}
}

// benchExecutor returns an executor and a channel that gets one value for each end.
func benchExecutor(b *testing.B) (*localexec.Executor, <-chan struct{}) {
	b.Helper()
	dir := b.TempDir()
	e, err := localexec.New(dir, localexec.Options{Slots: 500, RunnerArgv: argv()})
	must(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	ends, stopped := make(chan struct{}, 1000), make(chan struct{})
	go func() {
		defer close(stopped)
		_ = e.Run(ctx, func(_ context.Context, reports []scheduler.Report) error {
			for _, rep := range reports {
				if rep.Outcome != scheduler.OutcomeRunning {
					ends <- struct{}{}
				}
			}
			return nil
		})
	}()
	b.Cleanup(func() {
		if pid := runnerPID(b, dir); pid != 0 {
			b.Logf("runner used %v of processor time, %d kB", cpu(b, pid), status(b, pid, "VmHWM"))
			cancel()
			<-stopped
			awaitNoRunner(b, dir)
		}
	})
	return e, ends
}
