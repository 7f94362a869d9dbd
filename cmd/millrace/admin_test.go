package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
)

// TestRestore goes back to a backup that knows the first of three batches. The second one started a run after the backup was made, the third one
// comes while dispatch is off. Resumed between them, the second starts nothing again, and the third starts its run.
func TestRestore(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error")
	s.start()
	backup := filepath.Join(t.TempDir(), "state.db")
	event := func(id string) (batch string) {
		t.Helper()
		s.send(map[string]bool{}, id, 1)
		s.drained()
		s.waitFor("showing the batch of "+id, func() bool {
			out, code := s.cli("where", id+"-0", "-o", "json")
			var f found
			if code == exitOK && json.Unmarshal([]byte(out), &f) == nil && len(f.Events) > 0 {
				batch = f.Events[0].Batch
			}
			return batch != ""
		})
		return batch
	}
	runs := func(batch string) []scheduler.Run {
		t.Helper()
		var out []scheduler.Run
		s.cliJSON(&out, "runs", "ls", "--batch", batch)
		return out
	}
	ran := func(batch string) func() bool { return func() bool { return len(runs(batch)) == 1 } }
	first := event("first")
	s.waitFor("running the first", ran(first))
	if out, errs, code := millrace(t, "", nil, "admin", "backup", backup, "--data-dir", s.dir); code != exitOK {
		t.Fatalf("backup beside a server: exit code %d\n%s%s", code, out, errs)
	}
	second := event("second")
	s.waitFor("running the second", ran(second))
	if _, errs, code := millrace(t, "", nil, "admin", "restore", backup, "--yes", "--data-dir", s.dir); code != exitConflict {
		t.Errorf("restore beside a server: exit code %d, want %d\n%s", code, exitConflict, errs)
	}
	s.stop()
	if _, _, code := millrace(t, "", nil, "admin", "restore", backup, "--data-dir", s.dir); code != exitUsage {
		t.Errorf("restore without --yes: exit code %d, want %d", code, exitUsage)
	}
	if out, errs, code := millrace(t, "", nil, "admin", "restore", backup, "--yes", "--data-dir", s.dir); code != exitOK || !strings.Contains(out, "admin resume") {
		t.Fatalf("restore: exit code %d\n%s%s", code, out, errs)
	}
	s.start()
	s.waitFor("saying that dispatch is off", func() bool { return strings.Contains(s.stderr.String(), "admin resume --since") })
	s.saysHeld(true)
	if got := len(runs(second)); got != 0 {
		t.Errorf("the restored state has %d runs of the second batch", got)
	}
	between := time.Now()
	third := event("third")
	s.kill() // on hold, a restart stays on hold
	s.start()
	var r resumed
	s.cliJSON(&r, "admin", "resume", "--since", between.UTC().Format(time.RFC3339Nano))
	if r.Batches < 1 || r.Chains != 1 {
		t.Errorf("got %+v, want at least the second batch to be passed over", r)
	}
	s.waitFor("running the third", ran(third))
	s.saysHeld(false)
	if got := len(runs(second)); got != 0 {
		t.Errorf("the second batch has %d runs, want none: it ran before the restore", got)
	}
	var d scheduler.BatchDetail
	s.cliJSON(&d, "batches", "show", second)
	if len(d.Dispositions) == 0 || d.Dispositions[0].Reason != "restored" {
		t.Errorf("the second batch has %+v, want it dropped as restored", d.Dispositions)
	}
	if len(runs(first)) != 1 {
		t.Errorf("the first batch has %d runs, want its one", len(runs(first)))
	}
	if _, code := s.cli("admin", "resume", "--since", "now"); code != exitConflict {
		t.Errorf("second resume: exit code %d, want %d", code, exitConflict)
	}
	s.kill()
	s.start()
	fourth := event("fourth")
	s.waitFor("running the fourth, without a word", ran(fourth))
}

// saysHeld requires that the status says whether dispatch is on hold.
func (s *server) saysHeld(want bool) {
	s.t.Helper()
	var status bytes.Buffer
	if s.dump(&status, "/api/v1/status"); strings.Contains(status.String(), "held_since") != want {
		s.t.Errorf("dispatch is on hold: want %v in the status:\n%s", want, &status)
	}
}

func TestParseSince(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"now": now, "2h": now.Add(-2 * time.Hour), "2026-11-23T09:30:00+01:00": now.Add(-210 * time.Minute),
		"": {}, "yesterday": {}, "-2h": {},
	} {
		got, err := parseSince(text, now)
		if !got.Equal(want) || (err != nil) != want.IsZero() {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
}

// TestMoveChain moves a site from one directory to another, in use before and after: every event is in exactly one object of the new place, and
// the old configuration is refused from then on.
func TestMoveChain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := func(objects string) string {
		file := filepath.Join(dir, objects+".yaml")
		write(t, file, "batch: {max_age: 200ms}\nobjects: {kind: dir, dir: {path: "+filepath.Join(dir, objects)+"}}\nsources: {web: {kind: clickstream, write_keys: [dev]}}\ndags: none\n")
		return file
	}
	was, is := config("was"), config("is")
	s := newServer(t, "serve", "--config", was, "--log-level", "error")
	s.start()
	acked := map[string]bool{}
	s.send(acked, "before", 20)
	s.drained()
	s.send(acked, "last", 5)
	move := func(args ...string) (string, string, int) {
		return millrace(t, dir, nil, append([]string{"admin", "move-chain", "--config", was, "--data-dir", s.dir}, args...)...)
	}
	if _, errs, code := move("--to", is); code != exitConflict || !strings.Contains(errs, "end it first") {
		t.Errorf("beside a server: exit code %d, want %d\n%s", code, exitConflict, errs)
	}
	s.kill() // with whatever is cut and has no object yet
	for _, args := range [][]string{nil, {"--to", was}, {"--to", filepath.Join(dir, "missing.yaml")}} {
		if out, errs, code := move(args...); code == exitOK {
			t.Errorf("move-chain %q was done\n%s%s", args, out, errs)
		}
	}
	for range 2 { // the second time there is nothing left to do
		if out, errs, code := move("--to", is); code != exitOK || !strings.Contains(out, "counted in both places") {
			t.Fatalf("move: exit code %d\n%s%s", code, out, errs)
		}
	}
	s.launch()
	s.waitFor("refusing the old place", func() bool {
		return strings.Contains(s.stderr.String(), "chain is elsewhere") || strings.Contains(s.stderr.String(), "is in \"dir:")
	})
	s.kill()
	for i, a := range s.args {
		if a == was {
			s.args[i] = is
		}
	}
	s.config = is
	s.start()
	s.send(acked, "after", 20)
	s.drained()
	r := readRows(t, filepath.Join(dir, "is"))
	r.check(t, acked)
	if out, code := s.cli("verify"); code != exitOK {
		t.Errorf("verify: exit code %d\n%s", code, out)
	}
}
