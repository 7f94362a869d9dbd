//go:build linux

package localexec

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"millrace/scheduler/localexec/runner"
)

const (
	// startTime is how long a runner may take to be ready, and helloTime to answer.
	startTime = 30 * time.Second
	helloTime = 30 * time.Second
	// maxStderr is the size of runner.log from which a new runner begins another; one old one is kept.
	maxStderr = 1 << 20
)

// connect returns a connection that is welcome. If it had to start a runner, pid is that process, also with an error. It has no context: a runner
// that is on its way when millrace ends would not be told so, and would wait for it, or take the directory when everybody thinks that nobody has it.
func (e *Executor) connect() (conn net.Conn, pid int, err error) {
	conn, err = runner.Dial(e.dir)
	if err != nil {
		// None, or one that is about to go. If another process starts one too, the lock decides and both dial the same.
		if pid, err = e.start(); err != nil {
			return nil, pid, err
		}
		if conn, err = runner.Dial(e.dir); err != nil {
			return nil, pid, fmt.Errorf("connect to runner: %w", err)
		}
	}
	if err := e.greet(conn); err != nil {
		return nil, pid, errors.Join(err, conn.Close())
	}
	return conn, pid, nil
}

func (e *Executor) greet(conn net.Conn) error {
	exe, err := runner.ExeID(e.opt.RunnerArgv[0])
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(helloTime))
	err = runner.WriteMessage(conn, &runner.Message{Kind: runner.KindHello, Hello: &runner.Hello{
		Proto: runner.Proto, Journal: runner.JournalVersion, Argv: e.argv(), Exe: exe, MaxLog: e.opt.MaxLog, Idle: e.opt.Idle,
	}})
	if err != nil {
		return fmt.Errorf("greet runner: %w", err)
	}
	m, err := runner.ReadMessage(conn)
	switch {
	case err != nil:
		return fmt.Errorf("greet runner: %w", err)
	case m.Kind != runner.KindWelcome || m.Welcome == nil:
		return fmt.Errorf("greet runner: answer is %q", m.Kind)
	case m.Welcome.Error != "":
		return fmt.Errorf("greet runner %d: %s", m.Welcome.PID, m.Welcome.Error)
	}
	e.active.Store(int64(m.Active))
	return conn.SetDeadline(time.Time{})
}

func (e *Executor) argv() []string { return append(slices.Clone(e.opt.RunnerArgv), "--dir", e.dir) }

// start starts a runner and waits until it is ready. It has a session of its own, so that neither a terminal's signals nor our end reach
// it, and nothing of our environment, which may hold secrets.
func (e *Executor) start() (pid int, err error) {
	stderr, err := e.openStderr()
	if err != nil {
		return 0, fmt.Errorf("start runner: %w", err)
	}
	defer stderr.Close()
	ready, child, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("start runner: %w", err)
	}
	defer ready.Close()
	argv := append(e.argv(), "--ready-fd", "3")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	cmd.Stdout, cmd.Stderr = stderr, stderr
	cmd.ExtraFiles = []*os.File{child}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = child.Close()
	if err != nil {
		return 0, fmt.Errorf("start runner: %w", err)
	}
	pid = cmd.Process.Pid
	_ = cmd.Process.Release() // reapRunners waits for it.
	_ = ready.SetReadDeadline(time.Now().Add(startTime))
	said, err := io.ReadAll(io.LimitReader(ready, 4096))
	if err != nil || string(said) != "ok" {
		return pid, fmt.Errorf("start runner: it says %q, more may be in %s: %w", said, runner.StderrName(e.dir), errors.Join(err, errNotReady))
	}
	return pid, nil
}

var errNotReady = errors.New("runner is not ready")

func (e *Executor) openStderr() (*os.File, error) {
	name := runner.StderrName(e.dir)
	if info, err := os.Stat(name); err == nil && info.Size() > maxStderr {
		if err := os.Rename(name, name+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
}

// reapRunners takes the exit status of runners that have ended and returns the others. A runner that ends breaks the connection, and then
// Run comes by here; so no zombie stays for long.
func reapRunners(pids []int) []int {
	return slices.DeleteFunc(pids, func(pid int) bool {
		got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		return got == pid || errors.Is(err, unix.ECHILD)
	})
}
