package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// needTool skips, saying what is missing: CI installs it, and there a skip is a failure.
func needTool(t *testing.T, names ...string) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/sbin:/usr/sbin")
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s: apt-get install strace e2fsprogs util-linux", name)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, for ptrace or mount")
	}
}

// must runs a command.
func must(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// TestSyncFails is row 7 of docs/faults.md: the N-th sync of the log's segment fails once, for real. Nothing may be acknowledged after it, the
// process must end with an error that says why, and everything acknowledged before must be there afterwards.
func TestSyncFails(t *testing.T) {
	needTool(t, "strace")
	for _, n := range []int{1, 2, 7, 40} {
		s := newServer(t, "dev", "--log-level", "error")
		segment := filepath.Join(s.dir, "log", fmt.Sprintf("%020d.wal", 0))
		s.launch("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", segment, "-e", "trace=fdatasync,fsync",
			"-e", fmt.Sprintf("inject=fdatasync:error=EIO:when=%d", n))
		x := sendTo(s, 4)
		select {
		case <-s.exited:
		case <-time.After(60 * time.Second):
			t.Fatalf("sync %d failed, but the process goes on:\n%s", n, s.stderr)
		}
		code := s.cmd.ProcessState.ExitCode()
		s.cmd = nil
		if code == 0 || !strings.Contains(s.stderr.String(), "input/output error") {
			t.Errorf("sync %d failed: exit code %d, message:\n%s", n, code, s.stderr)
		}
		acked := x.stop()
		s.start()
		s.drained()
		s.stop()
		r := readRows(t, filepath.Join(s.dir, "objects"))
		r.check(t, acked)
		t.Logf("measured: sync %d failed, exit %d, %d acknowledged, %d rows", n, code, len(acked), len(r.byPlace))
		s.endRunner()
	}
}

// TestPowerLoss is row 2: the data directory is on a file system of its own in a file. At instants right after an acknowledgement the process
// is stopped and the file copied: what a power failure would leave. On each copy every event acknowledged until then must be found.
func TestPowerLoss(t *testing.T) {
	needTool(t, "mkfs.ext4", "mount", "umount")
	const images = 12
	dir := t.TempDir()
	s := onImage(t, filepath.Join(dir, "live.img"))
	s.start()
	type crash struct {
		image string
		acked map[string]bool
	}
	var crashes []crash
	acked := map[string]bool{}
	for i := 0; len(crashes) < images; i++ {
		id := fmt.Sprintf("p-%d", i)
		if status, _, err := s.track(id); err != nil || status != http.StatusOK {
			t.Fatalf("event %d: status %d, %v", i, status, err)
		}
		acked[id] = true
		if i%17 != 16 {
			continue
		}
		s.signal(syscall.SIGSTOP)
		copied := crash{image: filepath.Join(dir, fmt.Sprintf("crash%d.img", len(crashes))), acked: map[string]bool{}}
		must(t, "cp", "--sparse=always", filepath.Join(dir, "live.img"), copied.image)
		s.signal(syscall.SIGCONT)
		for id := range acked {
			copied.acked[id] = true
		}
		crashes = append(crashes, copied)
	}
	s.kill()
	s.endRunner()
	for i, c := range crashes {
		after := onImage(t, c.image)
		after.start()
		after.drained()
		after.stop()
		after.endRunner()
		r := readRows(t, filepath.Join(after.dir, "objects"))
		r.check(t, c.acked)
		if t.Failed() {
			t.Fatalf("image %d of %d", i, images)
		}
	}
	t.Logf("measured: %d images, the last with %d acknowledged events: none lost", images, len(acked))
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(s.cmd.Process.Pid, sig); err != nil {
		s.t.Fatal(err)
	}
}

// onImage returns a server whose data directory is on the file system in an image, which is made if it is not there.
func onImage(t *testing.T, image string) *server {
	t.Helper()
	if _, err := os.Stat(image); err != nil {
		must(t, "truncate", "-s", "256M", image)
		must(t, "mkfs.ext4", "-q", "-F", image)
	}
	s := newServer(t, "dev", "--log-level", "error")
	s.env = append(s.env, "MILLRACE_LOG__WAL__SEGMENT=4MiB", "MILLRACE_LOG__WAL__MAX_BYTES=64MiB", "MILLRACE_LOG__WAL__MIN_FREE=1MiB")
	mnt := t.TempDir()
	must(t, "mount", "-o", "loop", image, mnt)
	t.Cleanup(func() {
		s.stop()
		s.endRunner()
		_ = exec.Command("umount", "-l", mnt).Run()
	})
	s.dir = filepath.Join(mnt, "data")
	s.args[2] = s.dir
	return s
}

// TestDiskFull is rows 9 and 10: the whole data directory fills up. Senders are told to come back, nothing that was acknowledged is lost, and
// when there is room again events are taken again, without a restart.
func TestDiskFull(t *testing.T) {
	needTool(t, "mount", "umount")
	s := newServer(t, "dev", "--log-level", "error")
	mnt := t.TempDir()
	must(t, "mount", "-t", "tmpfs", "-o", "size=96M", "tmpfs", mnt)
	t.Cleanup(func() {
		s.stop()
		s.endRunner()
		_ = exec.Command("umount", "-l", mnt).Run()
	})
	s.dir = filepath.Join(mnt, "data")
	s.args[2] = s.dir
	s.env = append(s.env, "MILLRACE_LOG__WAL__SEGMENT=4MiB", "MILLRACE_LOG__WAL__MAX_BYTES=64MiB", "MILLRACE_LOG__WAL__MIN_FREE=8MiB")
	s.start()
	acked := map[string]bool{}
	post := func(id string) int {
		status, _, err := s.track(id)
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		if status == http.StatusOK {
			acked[id] = true
		}
		return status
	}
	if got := post("before"); got != http.StatusOK {
		t.Fatalf("before: status %d", got)
	}
	ballast := filepath.Join(mnt, "ballast")
	_ = exec.Command("dd", "if=/dev/zero", "of="+ballast, "bs=1M").Run() // until it is full
	full := 0
	s.waitFor(20*time.Second, "refused while the disk is full", func() bool {
		full++
		return post(fmt.Sprintf("full-%d", full)) == http.StatusServiceUnavailable
	})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	again := 0
	s.waitFor(20*time.Second, "accepting again", func() bool {
		again++
		return post(fmt.Sprintf("again-%d", again)) == http.StatusOK
	})
	s.drained()
	s.stop()
	r := readRows(t, filepath.Join(s.dir, "objects"))
	r.check(t, acked)
	t.Logf("measured: %d acknowledged around a full disk, %d rows", len(acked), len(r.byPlace))
}

// TestSecondProcess is row 15: a second process on the same directory is refused and says why.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error")
	s.start()
	other := newServer(t, "dev", "--log-level", "error")
	other.dir, other.args[2] = s.dir, s.dir
	other.launch()
	<-other.exited
	code := other.cmd.ProcessState.ExitCode()
	other.cmd = nil
	if code == 0 || !strings.Contains(other.stderr.String(), "another process") {
		t.Errorf("second process: exit code %d, message:\n%s", code, other.stderr)
	}
	if status, _, err := s.track("still"); err != nil || status != http.StatusOK {
		t.Errorf("the first process: status %d, %v", status, err)
	}
}
