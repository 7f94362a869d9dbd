package main

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// crash is what a power failure would have left at an instant right after an acknowledgement.
type crash struct {
	image string
	acked map[string]bool
}

// crashes runs a server on a file system of its own in a file, and copies the file while the server is stopped, n times.
func crashes(t *testing.T, n int, wrap func(*server) []string) []crash {
	t.Helper()
	dir := t.TempDir()
	live := filepath.Join(dir, "live.img")
	s := onImage(t, live)
	s.start(wrap(s)...)
	var out []crash
	acked := map[string]bool{}
	for i := 0; len(out) < n; i++ {
		s.send(acked, fmt.Sprintf("p%d", i), 1)
		if i%17 != 16 {
			continue
		}
		s.signal(syscall.SIGSTOP)
		image := filepath.Join(dir, fmt.Sprintf("crash%d.img", len(out)))
		must(t, "cp", "--sparse=always", live, image)
		s.signal(syscall.SIGCONT)
		out = append(out, crash{image, maps.Clone(acked)})
	}
	s.kill()
	s.endRunner()
	return out
}

// TestPowerLoss is row 2: on each copy of the disk every event acknowledged until then must be found, once.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	needTool(t, "mkfs.ext4", "mount", "umount")
	const images = 12
	acked := 0
	for _, c := range crashes(t, images, func(*server) []string { return nil }) {
		s := onImage(t, c.image)
		s.start()
		s.drained()
		s.stop()
		s.endRunner()
		r := readRows(t, filepath.Join(s.dir, "objects"))
		if r.check(t, c.acked); t.Failed() {
			t.Fatalf("%s of %d images", filepath.Base(c.image), images)
		}
		acked = len(c.acked)
	}
	t.Logf("measured: %d images, the last with %d acknowledged events: none lost", images, acked)
}

// TestPowerLossWithoutSyncs is the test of that test: the same with syncs that are answered and not made, all of them or those of the log's
// segment alone. If nothing is lost then, copies of the image show nothing about syncs.
func TestPowerLossWithoutSyncs(t *testing.T) {
	t.Parallel()
	needTool(t, "strace", "mkfs.ext4", "mount", "umount")
	for _, tt := range []struct {
		name string
		only func(s *server) []string
	}{
		{"all", func(*server) []string { return nil }},
		{"of the segment", func(s *server) []string { return []string{"-P", s.segment()} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const images = 4
			calls := "fdatasync,fsync,syncfs,sync_file_range"
			losses := 0
			for _, c := range crashes(t, images, func(s *server) []string {
				argv := append([]string{"strace", "-D", "-f", "-qq", "-o", "/dev/null"}, tt.only(s)...)
				return append(argv, "-e", "trace="+calls, "-e", "inject="+calls+":retval=0")
			}) {
				found, why := foundOn(t, c)
				if found < len(c.acked) {
					losses++
				}
				t.Logf("measured: %s has %d of %d acknowledged events%s", filepath.Base(c.image), found, len(c.acked), why)
			}
			if losses == 0 {
				t.Errorf("%d images without these syncs, and nothing lost: the copies prove nothing", images)
			}
		})
	}
}

// foundOn counts the acknowledged events that are in rows after a start on the image, or says why it does not start.
func foundOn(t *testing.T, c crash) (found int, why string) {
	t.Helper()
	s := onImage(t, c.image)
	s.launch()
	defer s.endRunner()
	defer s.kill()
	if !s.comesUp() {
		return 0, ", and does not start: " + s.stderr.String()
	}
	s.drained()
	r := readRows(t, filepath.Join(s.dir, "objects"))
	for id := range c.acked {
		found += min(1, r.byID[id])
	}
	return found, ""
}

// comesUp reports whether the server gets ready, or ends.
func (s *server) comesUp() bool {
	s.t.Helper()
	up := false
	s.waitFor("ready or ended", func() bool {
		resp, err := http.Get("http://" + s.ingest + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			up = resp.StatusCode == http.StatusOK
		}
		return up || s.ended()
	})
	return up
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
	s.onMount("-o", "loop,errors=remount-ro", image)
	return s
}

// onMount puts the data directory on a file system that is mounted for the test.
func (s *server) onMount(args ...string) (mnt string) {
	s.t.Helper()
	mnt = s.t.TempDir()
	must(s.t, "mount", append(args, mnt)...)
	s.t.Cleanup(func() {
		s.kill()
		s.endRunner()
		if out, err := exec.Command("umount", mnt).CombinedOutput(); err != nil {
			s.t.Errorf("umount %s: %v\n%s", mnt, err, out)
			_ = exec.Command("umount", "-l", mnt).Run()
		}
	})
	s.move(filepath.Join(mnt, "data"))
	return mnt
}

// TestReadOnly is row 11: the kernel finds an error in the file system and makes it read-only. The process stops acknowledging and ends with
// the reason; what was acknowledged is there when the disk has been seen to.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	needTool(t, "mkfs.ext4", "mount", "umount")
	image := filepath.Join(t.TempDir(), "disk.img")
	s := onImage(t, image)
	s.start()
	x := sendTo(s, 4)
	<-after(t, 0.5)
	source, err := exec.Command("findmnt", "-no", "SOURCE", filepath.Dir(s.dir)).Output()
	if err != nil {
		t.Fatal(err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(source))), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("millrace test"), 0o200); err != nil {
		t.Fatal(err)
	}
	s.waitFor("ended", s.ended)
	code := s.cmd.ProcessState.ExitCode()
	s.cmd = nil
	if code != exitFailed || !strings.Contains(s.stderr.String(), "read-only file system") {
		t.Errorf("exit code %d, message:\n%s", code, s.stderr)
	}
	acked := x.stop()
	s.endRunner()
	mnt := filepath.Dir(s.dir)
	must(t, "umount", mnt)
	must(t, "mount", "-o", "loop", image, mnt)
	s.start()
	s.drained()
	s.stop()
	r := readRows(t, filepath.Join(s.dir, "objects"))
	r.check(t, acked)
	t.Logf("measured: disk read-only, exit %d, %d acknowledged, %d rows", code, len(acked), len(r.byPlace))
}

// TestDiskFull is rows 9 and 10: the whole data directory fills up. Senders are told to come back, nothing that was acknowledged is lost, and
// when there is room again events are taken again, without a restart.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	needTool(t, "mount", "umount")
	s := newServer(t, "dev", "--log-level", "error")
	mnt := s.onMount("-t", "tmpfs", "-o", "size=96M", "tmpfs")
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
	s.waitFor("refused while the disk is full", func() bool {
		full++
		return post(fmt.Sprintf("full-%d", full)) == http.StatusServiceUnavailable
	})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	again := 0
	s.waitFor("accepting again", func() bool {
		again++
		return post(fmt.Sprintf("again-%d", again)) == http.StatusOK
	})
	s.drained()
	s.stop()
	r := readRows(t, filepath.Join(s.dir, "objects"))
	r.check(t, acked)
	t.Logf("measured: %d acknowledged around a full disk, %d rows", len(acked), len(r.byPlace))
}
