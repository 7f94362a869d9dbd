package main

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
)

// backdate makes all that is in the state of a server that has ended older, as if the clock had gone on.
func (s *server) backdate(age time.Duration) {
	s.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.dir, "state.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	us := age.Microseconds()
	for _, q := range []string{
		"UPDATE run SET created_at = created_at - ?, ended_at = ended_at - ? WHERE ended_at > 0", "UPDATE batch SET created_at = created_at - ?, arrived_at = arrived_at - ?",
	} {
		if _, err := db.Exec(q, us, us); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestArchive: a run that ended long ago leaves the scheduler's state for the archive, over a kill, and is found again with its log; its request does
// not start it anew, and its batch starts nothing again.
func TestArchive(t *testing.T) {
	t.Parallel()
	dir := dagDir(t, map[string]string{"old.yaml": "dag: old\non: [{batch: {source: web}}]\ntasks: {say: {run: 'echo said this; echo 7 > $MILLRACE_OUTPUT'}}\n"})
	s := newServer(t, "dev", "--log-level", "error", "--dags", dir)
	s.start()
	s.head("old", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	acked := map[string]bool{}
	s.send(acked, "e", 3)
	var runs []scheduler.Run
	s.waitFor("at the end of its runs", func() bool {
		runs = nil
		s.cliJSON(&runs, "runs", "ls", "--dag", "old", "--state", "success")
		return len(runs) > 0
	})
	s.drained()
	if out, code := s.cli("dags", "trigger", "old", "--id", "by-hand", "--wait"); code != 0 {
		t.Fatalf("trigger: %s", out)
	}
	var hand []scheduler.Run
	s.cliJSON(&hand, "runs", "ls", "--dag", "old")
	s.kill()
	s.backdate(60 * 24 * time.Hour)
	s.start()
	var done archivedNow
	s.cliJSON(&done, "admin", "archive", "now")
	if done.Runs < len(hand) || done.Objects < 1 {
		t.Errorf("got %+v, want at least %d runs", done, len(hand))
	}
	s.waitFor("rid of the batches, when the cursor has passed them", func() bool {
		removed := done.Batches
		s.cliJSON(&done, "admin", "archive", "now")
		return removed+done.Batches > 0
	})
	s.kill()
	s.start()
	for _, r := range hand {
		var d shownRun
		s.cliJSON(&d, "runs", "show", r.ID)
		if d.Run.State != scheduler.StateSuccess || len(d.Tasks) != 1 || !strings.HasPrefix(d.Archived.Object, "_millrace/archive/dt=") {
			t.Errorf("run %s: got %+v", r.ID, d)
		}
		if text, code := s.cli("runs", "logs", r.ID); code != 0 || !strings.Contains(text, "said this") || !strings.Contains(text, "the run is archived") {
			t.Errorf("logs: got %s, exit code %d", text, code)
		}
		if _, err := os.Stat(filepath.Join(s.dir, "tasks", "logs", r.ID)); !os.IsNotExist(err) {
			t.Errorf("the log of run %s is left: %v", r.ID, err)
		}
	}
	if text, code := s.cli("runs", "show", hand[0].ID); code != 0 || !strings.Contains(text, "archived") {
		t.Errorf("runs show: got %s", text)
	}
	if text, code := s.cli("tasks", "output", hand[0].ID, "say"); code != 0 || strings.TrimSpace(text) != "7" {
		t.Errorf("tasks output: got %q, exit code %d", text, code)
	}
	keys, _ := s.cli("admin", "archive", "ls", "-o", "name")
	if text, code := s.cli("admin", "archive", "show", firstLine(keys)); code != 0 || !strings.Contains(text, `"kind":"run"`) {
		t.Errorf("archive show %q: got %s", firstLine(keys), text)
	}
	line := []string{"dags", "trigger", "old", "--id", "by-hand", "--data-dir", s.dir, "--server", "http://" + s.console}
	if _, text, code := millrace(t, t.TempDir(), nil, line...); code == 0 || !strings.Contains(text, "is archived in _millrace/archive/") {
		t.Errorf("the same request again: got %s, exit code %d", text, code)
	}
	s.send(acked, "f", 3) // and nothing that was before starts again beside what this starts
	s.waitFor("at the end of the new run", func() bool {
		runs = nil
		s.cliJSON(&runs, "runs", "ls", "--dag", "old")
		return len(runs) > 0 && runs[0].State == scheduler.StateSuccess
	})
	s.drained()
	events := int64(0)
	s.cliJSON(&runs, "runs", "ls", "--dag", "old")
	for _, r := range runs {
		events += r.Events
	}
	if events != 3 {
		t.Errorf("runs of %d events were started after the archive, want those of the 3 that came then: %+v", events, runs)
	}
}
