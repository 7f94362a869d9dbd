package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHangup: SIGHUP means "read again" to a server, but not if it comes because the terminal was closed: nobody is there any more to end what
// was started in it.
func TestHangup(t *testing.T) {
	t.Parallel()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	fd := int(terminal.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	side, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, "dev")
	s.stderr, s.exited = &lockedBuffer{}, make(chan struct{})
	s.cmd = exec.Command(bin, s.args...)
	s.cmd.Stdin, s.cmd.Stderr = side, s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = side.Close()
	go func() { // ends with the process
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	s.ready()
	const when = "millrace_config_last_reload_success_timestamp_seconds"
	before := s.metric(when)
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.waitFor("reloaded", func() bool { return s.metric(when) > before })
	if s.ended() {
		t.Fatalf("SIGHUP has ended a server whose terminal is there:\n%s", s.stderr)
	}
	_ = terminal.Close()
	select {
	case <-s.exited:
		if code := s.cmd.ProcessState.ExitCode(); code != exitOK {
			t.Errorf("exit %d\n%s", code, s.stderr)
		}
	case <-time.After(patience):
		t.Errorf("the server lives on without its terminal:\n%s", s.stderr)
	}
}
