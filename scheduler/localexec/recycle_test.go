//go:build linux

package localexec_test

import (
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"millrace/scheduler"
	"millrace/scheduler/localexec"
)

// TestDirectoriesAreFresh: whatever the tasks before have done to their directories, the next one finds its own empty.
func TestDirectoriesAreFresh(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), localexec.Options{})
	keep := t.TempDir()
	for i, mess := range []string{
		"true", "echo x > left", "mkdir -p a/b", `echo 1 > "$MILLRACE_OUTPUT"`, "chmod 777 .", `chmod 777 "$MILLRACE_INPUT"`, "touch ../more",
		`ln "$MILLRACE_OUTPUT" "$KEEP/out"`, `rm "$MILLRACE_OUTPUT"; ln -s /etc/passwd "$MILLRACE_OUTPUT"`, "rmdir ../work", "mkfifo ../fifo", "true",
	} {
		l := script(taskID(i), `ls -A . .. ; stat -c '%a %s' . .. "$MILLRACE_OUTPUT" | cut -d' ' -f1; wc -c < "$MILLRACE_OUTPUT"; `+mess, "KEEP="+keep)
		l.Input = []byte(strings.Repeat("in", i))
		r.launch(l)
		if rep := r.await(l.ID); rep.Exit != 0 {
			t.Errorf("%s: got %+v, want exit code 0", mess, rep)
		}
		if got, want := r.readLog(l.ID, 0), ".:\n\n..:\ninput.json\noutput.json\nwork\n750\n750\n640\n0\n"; got != want {
			t.Errorf("before %q: got %q, want %q", mess, got, want)
		}
	}
}

// TestDirectoriesAreReused: a clean directory is used again, but not while a process that has left its group may hold it.
func TestDirectoriesAreReused(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), localexec.Options{})
	tries := 0
	inode := func(text string) string {
		tries++
		l := script(taskID(tries), "stat -c %i .; "+text)
		r.launch(l)
		if rep := r.await(l.ID); rep.Outcome != scheduler.OutcomeExited {
			t.Fatalf("got %+v, want it to run", rep)
		}
		own := filepath.Join(r.dir, "attempts", l.ID)
		eventually(t, "the directory is given up", func() bool { return syscall.Access(own, 0) != nil })
		return r.readLog(l.ID, 0)
	}
	first := inode("")
	if second := inode(""); second != first {
		t.Errorf("got directory %s after %s, want it used again", second, first)
	}
	got := strings.Fields(inode(`setsid sleep 1000 & until [ "$(cut -d' ' -f6 /proc/$!/stat)" = $! ]; do :; done; echo $!`))
	stray, err := strconv.Atoi(got[1])
	must(t, err)
	defer func() { _ = syscall.Kill(stray, syscall.SIGKILL) }()
	if !alive(stray) {
		t.Fatal("the process that left its group was killed; the test needs it")
	}
	for range 3 {
		if next := strings.TrimSpace(inode("")); next == got[0] {
			t.Errorf("got directory %s, want not that of a process that lives", next)
		}
	}
}
