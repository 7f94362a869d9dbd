//go:build linux

package runner

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/ingest/vfs"
	"millrace/scheduler"
)

// TestMain makes the test binary a runner.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "runner" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := Main(ctx, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// leave writes the journal of a runner that is dead.
func leave(t *testing.T, dir string, recs ...record) {
	t.Helper()
	j, _, err := openJournal(vfs.OS, filepath.Join(dir, journalName))
	must(t, err)
	must(t, j.append(recs...))
	must(t, j.close())
}

// successor starts a runner and returns a connection that has been welcomed. The runner ends with the test.
func successor(t *testing.T, dir string) net.Conn {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	ready, child, err := os.Pipe()
	must(t, err)
	defer ready.Close()
	cmd := exec.Command(self, "runner", "--dir", dir, "--ready-fd", "3")
	cmd.ExtraFiles = []*os.File{child}
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	must(t, child.Close())
	t.Cleanup(func() {
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		if err := cmd.Wait(); err != nil {
			t.Errorf("runner: %v", err)
		}
	})
	said, err := bufio.NewReader(ready).ReadString('\n')
	if said != "ok" {
		t.Fatalf("got %q, %v from the runner, want ok", said, err)
	}
	conn, err := Dial(dir)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	must(t, WriteMessage(conn, &Message{Kind: KindHello, Hello: &Hello{Proto: Proto}}))
	m, err := ReadMessage(conn)
	must(t, err)
	if m.Kind != KindWelcome || m.Welcome.Error != "" {
		t.Fatalf("got %+v, want a welcome", m)
	}
	return conn
}

// outcomes acknowledges reports until each attempt has ended, and returns their last ones.
func outcomes(t *testing.T, conn net.Conn, last map[string]scheduler.Report, ids ...string) map[string]scheduler.Report {
	t.Helper()
	for {
		ended := 0
		for _, id := range ids {
			if rep, ok := last[id]; ok && rep.Outcome != scheduler.OutcomeRunning {
				ended++
			}
		}
		if ended == len(ids) {
			return last
		}
		m, err := ReadMessage(conn)
		must(t, err)
		for _, rep := range m.Reports {
			last[rep.Attempt] = rep
		}
		if m.Kind == KindReports {
			must(t, WriteMessage(conn, &Message{Kind: KindAck, Seq: m.Seq}))
		}
	}
}

// TestReusedPID is row 53 of the fault table: the recorded pid is that of another process now, or the machine was started anew.
func TestReusedPID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	boot, err := bootID()
	must(t, err)
	other := exec.Command("sleep", "1000")
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, other.Start())
	defer func() {
		must(t, other.Process.Kill())
		_ = other.Wait()
	}()
	real, err := identify(other.Process.Pid, boot)
	must(t, err)
	reused, rebooted := *real, *real
	reused.Start -= 100
	rebooted.Boot = "00000000-0000-0000-0000-000000000000"
	leave(t, dir, claimOf("reused"), record{ID: "reused", Start: &reused}, claimOf("rebooted"), record{ID: "rebooted", Start: &rebooted},
		claimOf("unstarted"), endOf("told"))
	conn := successor(t, dir)
	got := outcomes(t, conn, map[string]scheduler.Report{}, "reused", "rebooted", "unstarted", "told")
	for _, id := range []string{"reused", "rebooted", "unstarted"} {
		if rep := got[id]; rep.Outcome != scheduler.OutcomeLost || rep.Reason == "" {
			t.Errorf("got %+v of %s, want lost", rep, id)
		}
	}
	if rep := got["told"]; rep.Exit != 3 || string(rep.Output) != "out" {
		t.Errorf("got %+v, want what the dead runner had written", rep)
	}
	if st, alive := real.alive(boot); !alive || st.dead() {
		t.Error("the other process was killed, want it untouched")
	}
}

// TestClaimWithoutStart: the runner died between exec and its record. The process is found by its environment, or by its log before that
// is set, and is adopted; what is left of a group without its leader is killed.
func TestClaimWithoutStart(t *testing.T) {
	t.Parallel()
	dir, err := canonical(t.TempDir())
	must(t, err)
	p, err := openPlace(dir)
	must(t, err)
	var procs []*exec.Cmd
	orphan := func(id string, env []string, script string) {
		log, err := p.createLog(id)
		must(t, err)
		defer log.Close()
		must(t, p.freshDir(attemptName(id)))
		cmd := exec.Command("sh", "-c", script)
		cmd.Env, cmd.Dir = append(env, "PATH="+os.Getenv("PATH")), filepath.Join(dir, attemptName(id), workName)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		must(t, cmd.Start())
		procs = append(procs, cmd)
	}
	orphan("r.byenv.0.1", []string{p.outputVar("r.byenv.0.1")}, "exec >/dev/null 2>&1; while ! test -e go; do sleep 0.02; done")
	orphan("r.bylog.0.1", nil, "while ! test -e go; do sleep 0.02; done")
	orphan("r.headless.0.1", []string{p.outputVar("r.headless.0.1")}, "sleep 1000 & echo $!")
	must(t, procs[2].Wait()) // Its leader is gone; the rest is not.
	leave(t, dir, claimOf("r.byenv.0.1"), claimOf("r.bylog.0.1"), claimOf("r.headless.0.1"))
	conn := successor(t, dir)
	m, err := ReadMessage(conn)
	must(t, err)
	first := map[string]scheduler.Report{}
	for _, rep := range m.Reports {
		first[rep.Attempt] = rep
	}
	for i, id := range []string{"r.byenv.0.1", "r.bylog.0.1"} {
		rep := first[id]
		if want := fmt.Sprintf("pid:%d", procs[i].Process.Pid); rep.Outcome != scheduler.OutcomeRunning || rep.External != want {
			t.Errorf("got %+v of %s, want it running as %s", rep, id, want)
		}
		must(t, os.WriteFile(filepath.Join(dir, attemptName(id), workName, "go"), nil, 0o600))
		must(t, procs[i].Wait())
	}
	must(t, WriteMessage(conn, &Message{Kind: KindAck, Seq: m.Seq}))
	got := outcomes(t, conn, first, "r.byenv.0.1", "r.bylog.0.1", "r.headless.0.1")
	if rep := got["r.headless.0.1"]; rep.Outcome != scheduler.OutcomeLost {
		t.Errorf("got %+v of a task whose exit nobody saw, want lost", rep)
	}
	text, err := os.ReadFile(p.logPath("r.headless.0.1"))
	must(t, err)
	var rest int
	_, err = fmt.Sscan(string(text), &rest)
	must(t, err)
	if st, err := readStat(rest); err == nil && !st.dead() {
		t.Errorf("process %d of a group without a leader is in state %c, want it killed", rest, st.state)
	}
}

// TestDamagedJournal: a runner that can not know what was executed does not start.
func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, journalName), []byte("MRXJ\x01\x00\x00\x00\xff\x00\x00\x00\x00\x00\x00\x00"), 0o600))
	self, err := os.Executable()
	must(t, err)
	out, err := exec.Command(self, "runner", "--dir", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), errDamaged.Error()) {
		t.Errorf("got %v, %q, want %v", err, out, errDamaged)
	}
}
