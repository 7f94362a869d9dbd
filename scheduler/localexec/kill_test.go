//go:build linux

package localexec_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/localexec"
)

// millrace starts this binary as a millrace that launches n tasks in dir, and returns when these are claimed.
func millrace(t *testing.T, dir, out string, n int, sleep string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, "millrace", dir, strconv.Itoa(n), out, sleep)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "launched\n" {
		t.Fatalf("got %q, %v from millrace, want launched", line, err)
	}
	return cmd
}

// checkMarks fails unless each of n tasks has started once and ended once.
func checkMarks(t *testing.T, out string, n int) {
	t.Helper()
	for i := range n {
		if got := strings.Join(lines(t, filepath.Join(out, strconv.Itoa(i))), " "); got != "start end" {
			t.Errorf("task %d: got %q, want one start and one end", i, got)
		}
	}
}

// TestKillMillrace is row 51 of the fault table: the process that launched dies; none of its tasks is killed, forgotten or doubled.
func TestKillMillrace(t *testing.T) {
	t.Parallel()
	const n = 100
	dir, out := t.TempDir(), t.TempDir()
	cmd := millrace(t, dir, out, n, "1.5")
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	r := start(t, dir, localexec.Options{})
	// The new engine does not know what was launched, and launches everything again.
	for i := range n {
		r.launch(script(taskID(i), markScript, "OUT="+filepath.Join(out, strconv.Itoa(i)), "SLEEP=0"))
	}
	for i := range n {
		if rep := r.await(taskID(i)); rep.Outcome != scheduler.OutcomeExited || rep.Exit != 0 {
			t.Errorf("task %d: got %+v, want exit code 0", i, rep)
		}
	}
	checkMarks(t, out, n)
}

// TestKillRunner: the runner dies in the middle of launches. Whatever was started goes on and is adopted, the rest is lost, none is doubled.
func TestKillRunner(t *testing.T) {
	t.Parallel()
	const n, kills = 60, 3
	dir, out := t.TempDir(), t.TempDir()
	r := start(t, dir, localexec.Options{})
	seen := map[int]bool{}
	for k := range kills {
		for i := k * n / kills; i < (k+1)*n/kills; i++ {
			l := script(taskID(i), markScript, "OUT="+filepath.Join(out, strconv.Itoa(i)), "SLEEP=2")
			// An error says that nothing is known; a launch may be repeated, with any runner.
			eventually(t, "the launch is answered", func() bool { return r.Launch(t.Context(), []scheduler.Launch{l}) == nil })
		}
		eventually(t, "another runner", func() bool {
			pid := runnerPID(t, dir)
			if pid == 0 || seen[pid] {
				return false
			}
			seen[pid] = true
			must(t, syscall.Kill(pid, syscall.SIGKILL))
			return true
		})
	}
	lost, unseen := 0, 0
	for i := range n {
		marks := filepath.Join(out, strconv.Itoa(i))
		switch rep := r.await(taskID(i)); {
		case rep.Outcome == scheduler.OutcomeExited && rep.Exit == 0:
			if got := strings.Join(lines(t, marks), " "); got != "start end" {
				t.Errorf("task %d: got %q, want one start and one end", i, got)
			}
		case rep.Outcome == scheduler.OutcomeLost && rep.StartedAt.IsZero():
			lost++
			if got := lines(t, marks); got != nil {
				t.Errorf("task %d: got %q, want nothing of a task that is lost before its start", i, got)
			}
		case rep.Outcome == scheduler.OutcomeLost:
			unseen++ // It ended while there was no runner, or this kernel tells no exit status of an adopted task.
			if got := strings.Join(lines(t, marks), " "); got != "start end" {
				t.Errorf("task %d: got %q, want one start and one end", i, got)
			}
		default:
			t.Errorf("task %d: got %+v", i, rep)
		}
	}
	t.Logf("of %d attempts %d were not started when their runner died, %d ended without one", n, lost, unseen)
	if lost > n/2 {
		t.Errorf("got %d of %d lost, want most of them executed", lost, n)
	}
}

// exitInfo reports whether the kernel tells the exit status of processes that are not children: from 6.15 on.
func exitInfo(t *testing.T) bool {
	t.Helper()
	var name syscall.Utsname
	must(t, syscall.Uname(&name))
	var release []byte
	for _, c := range name.Release {
		release = append(release, byte(c))
	}
	var major, minor int
	_, err := fmt.Sscanf(string(release), "%d.%d", &major, &minor)
	must(t, err)
	return major > 6 || major == 6 && minor >= 15
}

// TestAdoptedIsWatched: a task whose runner died keeps its timeout and can be killed.
func TestAdoptedIsWatched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, dir, localexec.Options{})
	slow := script("r1.slow.-1.1", "sleep 1000 & sleep 1000; wait")
	slow.Timeout, slow.Grace = 3*time.Second, time.Second
	deaf := script("r1.deaf.-1.1", `trap "" TERM; echo up > "$READY"; while :; do sleep 0.1; done`, "READY="+filepath.Join(t.TempDir(), "ready"))
	code := script("r1.code.-1.1", `while ! test -e go; do sleep 0.02; done; echo 1 > "$MILLRACE_OUTPUT"; exit 5`)
	r.launch(slow, deaf, code)
	for _, l := range []scheduler.Launch{slow, deaf, code} {
		r.await(l.ID, scheduler.OutcomeRunning)
	}
	must(t, r.Kill(t.Context(), deaf.ID, 3*time.Second)) // Asked of the runner that dies.
	old := runnerPID(t, dir)
	must(t, syscall.Kill(old, syscall.SIGKILL))
	eventually(t, "another runner", func() bool { pid := runnerPID(t, dir); return pid != 0 && pid != old })
	must(t, os.WriteFile(filepath.Join(dir, "attempts", code.ID, "work", "go"), nil, 0o600))
	if rep := r.await(slow.ID); rep.Outcome != scheduler.OutcomeTimeout {
		t.Errorf("got %+v, want timeout", rep)
	}
	if rep := r.await(deaf.ID); exitInfo(t) && rep.Signal != "SIGKILL" {
		t.Errorf("got %+v, want SIGKILL", rep)
	}
	if rep := r.await(code.ID); exitInfo(t) && (rep.Exit != 5 || string(rep.Output) != "1\n") {
		t.Errorf("got %+v, want exit code 5 and its output", rep)
	}
}

// TestUpgrade: a client of another build makes the runner that build, in place: same process, same children, their exit codes.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := start(t, dir, localexec.Options{})
	l := script("r1.over.-1.1", "while ! test -e go; do sleep 0.02; done; exit 9")
	old.launch(l)
	old.await(l.ID, scheduler.OutcomeRunning)
	pid := runnerPID(t, dir)
	other := filepath.Join(t.TempDir(), "other")
	data, err := os.ReadFile(argv()[0])
	must(t, err)
	must(t, os.WriteFile(other, data, 0o700))
	old.stop()
	r := start(t, dir, localexec.Options{RunnerArgv: []string{other, "runner"}})
	r.await(l.ID, scheduler.OutcomeRunning)
	eventually(t, "the runner is the other program", func() bool {
		exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
		return err == nil && exe == other
	})
	if got := runnerPID(t, dir); got != pid {
		t.Errorf("got runner %d, want %d still", got, pid)
	}
	must(t, os.WriteFile(filepath.Join(dir, "attempts", l.ID, "work", "go"), nil, 0o600))
	if rep := r.await(l.ID); rep.Exit != 9 {
		t.Errorf("got %+v, want exit code 9", rep)
	}
}

// TestReplaced: of two processes on one directory the later one wins, and the other one gives up instead of taking it back.
func TestReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, dir, localexec.Options{})
	l := script("r1.one.-1.1", "exit 0")
	first.launch(l)
	first.await(l.ID)
	second := start(t, dir, localexec.Options{})
	must(t, second.Reconcile(t.Context(), nil))
	next := script("r1.two.-1.1", "exit 0")
	second.launch(next)
	second.await(next.ID)
	first.stop()
	if !errors.Is(first.runErr, localexec.ErrReplaced) {
		t.Errorf("got %v, want ErrReplaced", first.runErr)
	}
	if err := first.Launch(t.Context(), []scheduler.Launch{l}); !errors.Is(err, scheduler.ErrUnavailable) {
		t.Errorf("got %v from the replaced executor, want ErrUnavailable", err)
	}
}
