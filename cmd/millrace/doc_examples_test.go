package main

import (
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
)

// exampleServer serves the DAGs of a page, which has so many files, with batches of a few milliseconds.
func exampleServer(t *testing.T, page string, files int) (s *server, dir string) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3, at least 3.9")
	}
	dir = t.TempDir()
	if n := pageFiles(t, page, dir); n != files {
		t.Fatalf("%s has %d files, want %d", page, n, files)
	}
	s = newServer(t, "dev", "--log-level", "error", "--dags", dir)
	s.env = append(s.env, "MILLRACE_BATCH__MAX_AGE=20ms")
	return s, dir
}

// TestStripeExample runs docs/examples/stripe-load.md: signed webhooks, one of them twice and one of another kind, are rows of the table, each once.
func TestStripeExample(t *testing.T) {
	t.Parallel()
	s, dir := exampleServer(t, "docs/examples/stripe-load.md", 2)
	write(t, filepath.Join(dir, "warehouse.db"), "")
	s.start()
	s.head("payments", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	for _, template := range []string{"stripe.invoice", "stripe.charge", "stripe.invoice"} {
		if out, said, code := millrace(t, t.TempDir(), nil, "send", "stripe", "--template", template, "--to", "http://"+s.ingest); code != exitOK {
			t.Fatalf("send %s: exit %d, %s%s", template, code, out, said)
		}
	}
	paid := func() (rows, customers int) {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "warehouse.db")+"?mode=ro")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		_ = db.QueryRow("SELECT count(*), count(DISTINCT customer) FROM payments WHERE cents >= 900 AND currency = 'eur'").Scan(&rows, &customers) // no table yet
		return rows, customers
	}
	s.waitFor("done loading", func() bool { rows, _ := paid(); return rows == 2 })
	// Executed again, on the same inputs, nothing is added.
	for _, r := range s.runs("payments") {
		s.waitFor("at rest", func() bool { return s.runs("payments")[0].State.Terminal() })
		if out, code := s.cli("runs", "clear", r.ID); code != exitOK {
			t.Fatalf("clear: exit %d, %s", code, out)
		}
	}
	s.waitFor("done again", func() bool {
		for _, r := range s.runs("payments") {
			if r.State != scheduler.StateSuccess {
				return false
			}
		}
		return true
	})
	if rows, customers := paid(); rows != 2 || customers != 2 {
		t.Errorf("got %d rows of %d customers, want 2 of 2", rows, customers)
	}
}

// TestRollupExample runs docs/examples/hourly-rollup.md with a group that closes after a moment instead of ten minutes.
func TestRollupExample(t *testing.T) {
	t.Parallel()
	s, dir := exampleServer(t, "docs/examples/hourly-rollup.md", 3)
	page := readPage(t, filepath.Join(dir, "rollup.yaml"))
	write(t, filepath.Join(dir, "rollup.yaml"), strings.Replace(page, "{quiet: 10m, max_wait: 75m}", "{quiet: 1s, max_wait: 75m}", 1))
	s.start()
	s.head("rollup", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	const events = 20
	begin := time.Now().UTC()
	for range events {
		if status, _, err := s.track(""); err != nil || status != 200 {
			t.Fatalf("status %d, %v", status, err)
		}
	}
	counted := func() (n int64) {
		for _, r := range s.succeeded("rollup") {
			n += r.Events
		}
		return n
	}
	s.waitFor("done counting", func() bool { return counted() == events })
	// An hour may end while this runs, and a machine may stand still; the counts are of the hours that there were.
	var files []string
	for hour := begin.Truncate(time.Hour); !hour.After(time.Now().UTC()); hour = hour.Add(time.Hour) {
		if text, err := os.ReadFile(filepath.Join(dir, "rollup-"+hour.Format("2006010215")+".json")); err == nil {
			files = append(files, string(text))
		}
	}
	if len(files) == 0 || !strings.Contains(files[0], `"`) {
		t.Errorf("got files %q, want counts by name", files)
	}
	s.saysInRun("rollup", 1, " events in ", "hour "+s.runs("rollup")[0].Trigger.LaneKey+" has ")
}
