package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"millrace/batcher/verify"
	"millrace/ingest/wal"
)

// refused starts a server that must end by itself, and returns what it said.
func (s *server) refused() string {
	s.t.Helper()
	s.launch()
	s.waitFor("ended", s.ended)
	code := s.cmd.ProcessState.ExitCode()
	s.cmd = nil
	if code != exitFailed {
		s.t.Errorf("exit code %d, message:\n%s", code, s.stderr)
	}
	return s.stderr.String()
}

// TestSecondProcess is row 15: a second process on the same directory is refused and says why.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error")
	s.start()
	other := newServer(t, "dev", "--log-level", "error")
	other.move(s.dir)
	if text := other.refused(); !strings.Contains(text, "another process") {
		t.Errorf("message: %s", text)
	}
	if status, _, err := s.track("still"); err != nil || status != http.StatusOK {
		t.Errorf("the first process: status %d, %v", status, err)
	}
}

// TestRestoredLog is row 14, and what can be seen of row 13: the log's directory is replaced by a copy that was made while it was written,
// after more of it had been acknowledged and batched. What was batched stays batched, new events get places of their own, nothing is doubled.
func TestRestoredLog(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error")
	s.env = append(s.env, "MILLRACE_LOG__WAL__SEGMENT=1MiB")
	log, old := filepath.Join(s.dir, "log"), filepath.Join(s.dir, "old")
	acked := map[string]bool{}
	s.start()
	s.send(acked, "before", 40)
	s.drained()
	must(t, "cp", "-a", log, old)
	s.send(acked, "after", 40)
	s.drained()
	s.kill()
	if err := os.RemoveAll(log); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(old, log); err != nil {
		t.Fatal(err)
	}
	for i := range 2 { // a restart after the restore must not change anything either
		s.start()
		s.send(acked, fmt.Sprintf("restored-%d", i), 40)
		s.drained()
		if out, code := s.cli("verify"); code != exitOK {
			t.Errorf("verify: exit %d\n%s", code, out)
		}
		s.kill()
	}
	r := readRows(t, filepath.Join(s.dir, "objects"))
	r.check(t, acked)
	t.Logf("measured: %d acknowledged around a restored log, %d rows", len(acked), len(r.byPlace))
}

// TestDamagedLog is rows 4, 5 and 6: a bit flips, a segment is cut short, a segment is gone. The server refuses to start, or cuts nothing, and
// names what is missing; `log check` says it again; after `log accept-loss` it goes on without those records and `verify` reports them from then on.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		starts bool // what is in the middle of a closed segment is found when it is read: the server takes events, and cuts nothing
		damage func(t *testing.T, segment string)
	}{
		{"flipped bit", true, func(t *testing.T, segment string) {
			b, err := os.ReadFile(segment)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/3] ^= 4
			if err := os.WriteFile(segment, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"truncated", false, func(t *testing.T, segment string) {
			if err := os.Truncate(segment, 300_000); err != nil {
				t.Fatal(err)
			}
		}},
		{"zeroed", false, func(t *testing.T, segment string) {
			if err := os.WriteFile(segment, make([]byte, 1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"missing", false, func(t *testing.T, segment string) {
			if err := os.Remove(segment); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, "dev", "--log-level", "error")
			s.env = append(s.env, "MILLRACE_LOG__WAL__SEGMENT=1MiB", "MILLRACE_BATCH__MAX_AGE=1h")
			acked := fillSegments(s, 4)
			segments, _ := filepath.Glob(filepath.Join(s.dir, "log", "*.wal"))
			slices.Sort(segments)
			tt.damage(t, segments[1])
			damaged(s, filepath.Base(segments[1]), tt.starts, acked)
		})
	}
}

// fillSegments writes events that are not cut until there are n segments, and kills the server.
func fillSegments(s *server, n int) map[string]bool {
	s.t.Helper()
	s.start()
	acked := map[string]bool{}
	for i := 0; ; i++ {
		prefix := fmt.Sprintf("e-%d", i)
		if status, err := s.batch(prefix, 100); err != nil || status != http.StatusOK {
			s.t.Fatalf("batch %d: status %d, %v", i, status, err)
		}
		for k := range 100 {
			acked[fmt.Sprintf("%s-%d", prefix, k)] = true
		}
		if segments, _ := filepath.Glob(filepath.Join(s.dir, "log", "*.wal")); len(segments) >= n {
			break
		}
	}
	s.kill()
	return acked
}

// damaged takes a server whose segment is damaged through what a person would do.
func damaged(s *server, segment string, starts bool, acked map[string]bool) {
	t := s.t
	t.Helper()
	if starts {
		s.start()
		s.waitFor("saying what is damaged", func() bool { return strings.Contains(s.stderr.String(), segment) })
		if status, _, err := s.track("meanwhile"); err != nil || status != http.StatusOK {
			t.Errorf("an event while the batcher waits for a person: status %d, %v", status, err)
		}
		acked["meanwhile"] = true
		s.blamesLog("verify")
		s.kill()
	} else if text := s.refused(); !strings.Contains(text, segment) || !strings.Contains(text, "record") {
		t.Errorf("the message does not name %s and its records: %s", segment, text)
	}
	s.blamesLog("verify", "--offline")
	text, code := s.cli("log", "check", "-o", "json")
	var found []wal.Damage
	decode(t, text, &found)
	if code != exitFailed || len(found) == 0 || found[0].Segment != segment {
		t.Fatalf("log check: exit %d, %s", code, text)
	}
	var lost int64
	for _, d := range found {
		lost += d.Next - d.First
	}
	first, last := found[0].First, found[len(found)-1].Next-1
	if _, code := s.cli("log", "accept-loss", "--first", fmt.Sprint(first), "--last", fmt.Sprint(last)); code != exitUsage {
		t.Errorf("log accept-loss without --yes: exit %d, want %d", code, exitUsage)
	}
	if out, code := s.cli("log", "accept-loss", "--first", fmt.Sprint(first), "--last", fmt.Sprint(last), "--yes"); code != exitOK {
		t.Fatalf("log accept-loss: exit %d\n%s", code, out)
	}
	s.start()
	var r verify.Report
	s.waitFor("done with the older incarnations", func() bool { // which need not wait for max_age
		text, code = s.cli("verify", "-o", "json")
		decode(t, text, &r)
		return r.Totals[verify.Accepted].Rows > 0 && !pending(&r)
	})
	if code != exitFailed || r.Totals[verify.Accepted].Rows != lost || len(r.Totals) != 1 {
		t.Errorf("verify: exit %d, %v, want %d rows of accepted loss and nothing else", code, r.Totals, lost)
	}
	rows := readRows(t, filepath.Join(s.dir, "objects"))
	missing := 0
	for id := range acked {
		if rows.byID[id] == 0 {
			missing++
		}
	}
	if int64(missing) != lost {
		t.Errorf("%d of %d acknowledged events are in no row, want the %d of the accepted range", missing, len(acked), lost)
	}
	t.Logf("measured: %d records acknowledged, %d in %s lost and named (%d-%d)", len(acked), lost, segment, first, last)
}

// blamesLog requires that verify reports the log as damaged, and is done with everything else.
func (s *server) blamesLog(args ...string) {
	s.t.Helper()
	var r verify.Report
	text, code := s.cli(append(args, "-o", "json")...)
	decode(s.t, text, &r)
	if code != exitFailed || r.Totals[verify.Damaged].Items != 1 || len(r.Totals) != 1 || r.Problems[0].Last < r.Problems[0].First {
		s.t.Errorf("%v: exit %d, want one problem, the log's damage:\n%s", args, code, text)
	}
}

// TestFewDescriptors is row 16: with 60 file descriptors, 200 connections make the server refuse some, and nothing else: it stays, and goes on
// when they are gone.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Skip("needs prlimit: apt-get install util-linux")
	}
	s := newServer(t, "dev", "--log-level", "error")
	s.start("prlimit", "--nofile=60:60")
	acked := map[string]bool{}
	s.send(acked, "before", 5)
	held := holdConnections(t, s.ingest, 200)
	<-after(t, 1)
	for _, c := range held {
		_ = c.Close()
	}
	s.waitFor("accepting again", func() bool {
		status, _, err := s.track("again")
		return err == nil && status == http.StatusOK
	})
	acked["again"] = true
	s.send(acked, "after", 5)
	s.drained()
	if code := s.stop(); code != exitOK {
		t.Errorf("exit code %d; the server said:\n%s", code, s.stderr)
	}
	if text := s.stderr.String(); strings.Contains(text, "panic") || strings.Contains(text, "goroutine ") {
		t.Errorf("the server said:\n%s", text)
	}
	r := readRows(t, filepath.Join(s.dir, "objects"))
	r.check(t, acked)
}
