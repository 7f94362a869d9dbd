package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestSignalToAll: the program and its children are asked to end, and may end as they like.
func TestSignalToAll(t *testing.T) {
	t.Parallel()
	a := shell(t, `trap 'wait; exit 7' TERM
		sh -c 'trap "echo child asked; exit 0" TERM; echo $$ > "$WORK/c"; mv "$WORK/c" "$WORK/child"; while :; do sleep 0.05; done' &
		while :; do sleep 0.05; done`, "MILLRACE_GRACE=1m")
	a.start()
	a.await("child")
	a.signal(syscall.SIGTERM)
	if code := a.end(); code != 7 || !strings.Contains(a.out.String(), "child asked\n") {
		t.Errorf("got %d and %q, want the program's 7, after its child", code, a.out.String())
	}
}

func (a *attempt) signal(sig os.Signal) {
	a.Helper()
	if err := a.cmd.Process.Signal(sig); err != nil {
		a.Fatal(err)
	}
}

func TestOtherSignals(t *testing.T) {
	t.Parallel()
	a := shell(t, `trap 'echo told; exit 4' USR1; echo up > "$WORK/u"; mv "$WORK/u" "$WORK/up"; while :; do sleep 0.05; done`)
	a.start()
	a.await("up")
	a.signal(syscall.SIGUSR1)
	if code := a.end(); code != 4 || !strings.Contains(a.out.String(), "told\n") {
		t.Errorf("got %d and %q, want 4 of the program's own trap", code, a.out.String())
	}
}

func TestGrace(t *testing.T) {
	t.Parallel()
	a := shell(t, `trap '' TERM; sleep 1000 & echo $! > "$WORK/p"; mv "$WORK/p" "$WORK/pid"; while :; do wait; done`, "MILLRACE_GRACE=50ms")
	a.start()
	child, err := strconv.Atoi(strings.TrimSpace(a.await("pid")))
	if err != nil {
		t.Fatal(err)
	}
	a.signal(syscall.SIGTERM)
	if code := a.end(); code != 128+9 {
		t.Errorf("got %d, want the end by SIGKILL", code)
	}
	a.eventually("the child is gone", func() bool { return gone(child) })
}

// TestLeftBehind: what a program leaves of its group is killed; it is over then, however long that would have run.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	a := shell(t, `(trap '' TERM HUP; exec sleep 1000) & echo $! > "$WORK/pid"; exit 6`)
	if code, out := a.run(); code != 6 {
		t.Errorf("got %d and %q, want 6", code, out)
	}
	child, err := strconv.Atoi(strings.TrimSpace(a.file("pid")))
	if err != nil || !gone(child) {
		t.Errorf("process %d (%v) has been left behind", child, err)
	}
}

// TestOrphans: orphans of the program become children of millrace-task, which reaps them: none stays a zombie while the program runs.
func TestOrphans(t *testing.T) {
	t.Parallel()
	a := shell(t, `for i in 1 2 3; do sh -c 'true & echo $! >> "$WORK/pids.new"'; done; mv "$WORK/pids.new" "$WORK/pids"; read -r line < "$WORK/gate"`)
	if err := syscall.Mkfifo(a.dir+"/gate", 0o600); err != nil {
		t.Fatal(err)
	}
	a.start()
	for pid := range strings.FieldsSeq(a.await("pids")) {
		a.eventually("orphan "+pid+" is reaped", func() bool {
			n, err := strconv.Atoi(pid)
			return err == nil && syscall.Kill(n, 0) == syscall.ESRCH
		})
	}
	if err := os.WriteFile(a.dir+"/gate", []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if code := a.end(); code != 0 {
		t.Errorf("got %d, want 0", code)
	}
}

// TestDiesWithUs: the program does not outlive a millrace-task that is killed.
func TestDiesWithUs(t *testing.T) {
	t.Parallel()
	a := shell(t, `echo $$ > "$WORK/p"; mv "$WORK/p" "$WORK/pid"; exec sleep 1000`)
	a.start()
	pid, err := strconv.Atoi(strings.TrimSpace(a.await("pid")))
	if err != nil {
		t.Fatal(err)
	}
	a.signal(syscall.SIGKILL)
	a.end()
	a.eventually("the program is gone", func() bool { return gone(pid) })
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	a := begin(t, nil, "--heartbeat", "700ms", "--", "sh", "-c", `trap 'echo asked; exit 0' TERM; while :; do sleep 0.05; done`)
	if code, out := a.run(); code != exitTimeout || !strings.Contains(out, "asked\n") || !strings.Contains(out, "no heartbeat for 700ms") {
		t.Errorf("got %d and %q, want %d and why", code, out, exitTimeout)
	}
	// One that beats is left alone: it beats for longer than it may be silent, as long as it is looked at.
	a = begin(t, nil, "--heartbeat", "5s", "--", "sh", "-c", `for i in 1 2 3 4 5 6 7 8 9; do echo $i >> "$MILLRACE_HEARTBEAT"; sleep 0.1; done`)
	if code, out := a.run(); code != 0 {
		t.Errorf("got %d and %q, want 0", code, out)
	}
}
