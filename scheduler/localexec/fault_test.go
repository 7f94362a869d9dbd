//go:build linux

package localexec_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/localexec"
)

// TestDeafForkingFlooding is row 52 of the fault table: a task that ignores SIGTERM, one that leaves children behind, and one that fills the
// disk with its log.
func TestDeafForkingFlooding(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), localexec.Options{MaxLog: 64 << 10})
	flood := script("r1.flood.-1.1", "yes")
	fork := script("r1.fork.-1.1", `sleep 1000 & echo $! ; (trap "" TERM HUP; sleep 1000 & echo $! ; sleep 1000) & sleep 0.1; exit 3`)
	deaf := script("r1.deaf.-1.1", `trap "" TERM; while :; do sleep 0.05; done`)
	deaf.Timeout, deaf.Grace = 100*time.Millisecond, 100*time.Millisecond
	r.launch(flood, fork, deaf)
	if rep := r.await(flood.ID); rep.Outcome != scheduler.OutcomeExited || rep.Signal != "SIGKILL" || !strings.HasPrefix(rep.Reason, "log_limit") {
		t.Errorf("got %+v, want killed for log_limit", rep)
	}
	if rep := r.await(fork.ID); rep.Exit != 3 {
		t.Errorf("got %+v, want exit code 3", rep)
	}
	for _, text := range strings.Fields(r.readLog(fork.ID, 0)) {
		child, err := strconv.Atoi(text)
		must(t, err)
		if alive(child) {
			t.Errorf("child %d is alive after the end of its task was reported", child)
		}
	}
	if rep := r.await(deaf.ID); rep.Outcome != scheduler.OutcomeTimeout || rep.Signal != "SIGKILL" {
		t.Errorf("got %+v, want timeout by SIGKILL", rep)
	}
}

// TestGraceOfChildren: when the leader obeys SIGTERM at once, its children still have their grace.
func TestGraceOfChildren(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), localexec.Options{})
	l := script("r1.team.-1.1", `(trap "sleep 0.3; echo cleaned; exit" TERM; echo up; while :; do sleep 0.01; done) 2>/dev/null & wait`)
	r.launch(l)
	eventually(t, "the child is up", func() bool {
		rc, err := r.Log(t.Context(), l.ID, 0)
		if err == nil {
			_ = rc.Close()
		}
		return err == nil && r.readLog(l.ID, 0) == "up\n"
	})
	must(t, r.Kill(t.Context(), l.ID, waitTime))
	if rep := r.await(l.ID); rep.Signal != "SIGTERM" {
		t.Errorf("got %+v, want SIGTERM", rep)
	}
	if got := r.readLog(l.ID, 0); got != "up\ncleaned\n" {
		t.Errorf("got log %q, want the child to have ended in its own way", got)
	}
}

// TestStrangeOutput: a task may leave anything at MILLRACE_OUTPUT.
func TestStrangeOutput(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), localexec.Options{})
	for i, tt := range []struct{ text, want string }{
		{`rm "$MILLRACE_OUTPUT"`, ""},
		{`rm "$MILLRACE_OUTPUT"; mkfifo "$MILLRACE_OUTPUT"`, "not a plain file"},
		{`rm "$MILLRACE_OUTPUT"; ln -s /etc/passwd "$MILLRACE_OUTPUT"`, "could not be opened"},
		{`rm "$MILLRACE_OUTPUT"; mkdir "$MILLRACE_OUTPUT"`, "not a plain file"},
		{`head -c 70000 /dev/zero > "$MILLRACE_OUTPUT"`, "70000 bytes"},
	} {
		l := script(taskID(i), tt.text)
		r.launch(l)
		rep := r.await(l.ID)
		if rep.Exit != 0 || rep.Output != nil || !strings.Contains(rep.OutputError, tt.want) || (tt.want == "") != (rep.OutputError == "") {
			t.Errorf("%s: got %+v, want no output and %q", tt.text, rep, tt.want)
		}
	}
}

// TestStrangeIDs: ids are not paths.
func TestStrangeIDs(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), localexec.Options{})
	for _, id := range []string{"../../../x.y.-1.1", "..", "a/b.c/d.-1.1", "..x./../y.-1.1", strings.Repeat("long", 100) + "." + strings.Repeat("ü", 200), "%2e.%2e"} {
		l := script(id, "echo \"$PWD\"")
		r.launch(l)
		if rep := r.await(id); rep.Exit != 0 || !strings.HasPrefix(rep.Log, filepath.Join(r.dir, "logs")+"/") {
			t.Errorf("%q: got %+v, want exit code 0 and a log in its place", id, rep)
		}
		if got := r.readLog(id, 0); !strings.HasPrefix(got, filepath.Join(r.dir, "attempts")+"/") {
			t.Errorf("%q: got working directory %q", id, got)
		}
	}
	above, err := os.ReadDir(filepath.Dir(r.dir))
	must(t, err)
	if len(above) != 1 {
		t.Errorf("got %v beside the directory, want nothing", above)
	}
}

// TestReportsRepeat: what the engine could not commit comes again, and what it has not committed keeps the runner alive without it.
func TestReportsRepeat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, dir, localexec.Options{Idle: 50 * time.Millisecond})
	r.mu.Lock()
	r.refuse = 1 << 30
	r.mu.Unlock()
	l := script("r1.kept.-1.1", `echo '"x"' > "$MILLRACE_OUTPUT"`)
	r.launch(l)
	eventually(t, "the first end", func() bool {
		data, err := os.ReadFile(filepath.Join(dir, "journal"))
		return err == nil && strings.Contains(string(data), `"end"`)
	})
	r.stop()
	pid := runnerPID(t, dir)
	after := time.After(300 * time.Millisecond) // Longer than Idle: it would have ended.
	<-after
	if pid == 0 || runnerPID(t, dir) != pid {
		t.Errorf("got runner %d, want %d to stay", runnerPID(t, dir), pid)
	}
	next := start(t, dir, localexec.Options{})
	if rep := next.await(l.ID); rep.Exit != 0 || string(rep.Output) != "\"x\"\n" {
		t.Errorf("got %+v, want its output", rep)
	}
}
