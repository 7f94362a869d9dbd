package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// needTool skips, saying what is missing: CI installs it, and there a skip is a failure.
func needTool(t *testing.T, names ...string) {
	t.Helper()
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

// segment is the log's first, which is the only one while tests are small.
func (s *server) segment() string { return filepath.Join(s.dir, "log", fmt.Sprintf("%020d.wal", 0)) }

// inject starts a server under strace, which does what the faults say to the system calls on the log's first segment.
func (s *server) inject(faults ...string) {
	s.t.Helper()
	// -D: the server is our child and its exit code its own. strace ends with the last process it follows, which is the runner.
	argv := []string{"strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", s.segment(), "-e", "trace=fdatasync,fsync,pwrite64"}
	for _, f := range faults {
		argv = append(argv, "-e", "inject="+f)
	}
	s.launch(argv...)
}

// TestSyncFails is row 7 of docs/faults.md: the N-th sync of the log's segment fails once, for real. Nothing may be acknowledged after it, the
// process must end with an error that says why, and everything acknowledged before must be there afterwards.
func TestSyncFails(t *testing.T) {
	t.Parallel()
	needTool(t, "strace")
	for _, n := range []int{1, 2, 7, 40} {
		failOnce(t, fmt.Sprintf("sync %d", n), fmt.Sprintf("fdatasync:error=EIO:when=%d", n))
	}
}

// TestWriteFails is row 8: the same for writes.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	needTool(t, "strace")
	for _, n := range []int{2, 3, 9, 30} {
		failOnce(t, fmt.Sprintf("write %d", n), fmt.Sprintf("pwrite64:error=EIO:when=%d", n))
	}
}

func failOnce(t *testing.T, what, fault string) {
	t.Helper()
	s := newServer(t, "dev", "--log-level", "error")
	s.inject(fault)
	x := sendTo(s, 4)
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Fatalf("%s failed, but the process goes on:\n%s", what, s.stderr)
	}
	code := s.cmd.ProcessState.ExitCode()
	s.cmd = nil
	if code != exitFailed || !strings.Contains(s.stderr.String(), "input/output error") {
		t.Errorf("%s failed: exit code %d, message:\n%s", what, code, s.stderr)
	}
	acked := x.stop()
	s.start()
	s.drained()
	s.stop()
	r := readRows(t, filepath.Join(s.dir, "objects"))
	r.check(t, acked)
	t.Logf("measured: %s failed, exit %d, %d acknowledged, %d rows", what, code, len(acked), len(r.byPlace))
	s.endRunner()
}

// TestSlowSync is row 12: every sync of the log takes 300 ms longer. Latency grows by about that and not by more, because all that wait share
// a sync; memory stays bounded; nothing is refused or lost.
func TestSlowSync(t *testing.T) {
	t.Parallel()
	needTool(t, "strace")
	const delay, senders, each = 300 * time.Millisecond, 32, 6
	s := newServer(t, "dev", "--log-level", "error")
	s.inject(fmt.Sprintf("fdatasync:delay_enter=%d", delay.Microseconds()))
	s.ready()
	acked := map[string]bool{}
	took := make(chan time.Duration, senders*each)
	for i := range senders {
		for k := range each {
			acked[fmt.Sprintf("slow-%d-%d", i, k)] = true
		}
		go func() { // ends with its last event; all are received below
			for k := range each {
				begin := time.Now()
				if status, _, err := s.track(fmt.Sprintf("slow-%d-%d", i, k)); err != nil || status != 200 {
					t.Errorf("status %d, %v", status, err)
				}
				took <- time.Since(begin)
			}
		}()
	}
	var all []time.Duration
	for range senders * each {
		all = append(all, <-took)
	}
	slices.Sort(all)
	rss, syncs := s.usage().rss, s.metric("millrace_wal_fsync_duration_seconds_count")
	s.drained()
	s.stop()
	r := readRows(t, filepath.Join(s.dir, "objects"))
	r.check(t, acked)
	t.Logf("measured: every sync 300 ms slower, %d senders: %v syncs for %d events, p50 %v, max %v, %d MiB", senders, syncs, len(all), all[len(all)/2], all[len(all)-1], rss>>20)
	if all[0] < delay {
		t.Errorf("an event was acknowledged after %v, before its sync was over", all[0])
	}
	if syncs < 1 || syncs > float64(len(all)/4) {
		t.Errorf("%v syncs for %d events: senders do not share them", syncs, len(all))
	}
	if rss > 200<<20 {
		t.Errorf("%d MiB of memory", rss>>20)
	}
}
