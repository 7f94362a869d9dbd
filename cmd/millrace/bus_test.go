package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the server's own driver, to hold its database
)

// TestBusWiped is rows 43 and 45 for the embedded bus: the server is killed while batches are announced that the scheduler could not take in,
// because its database is locked; then JetStream's directory is emptied, or every block in it is damaged, or the consumers are gone. At the next
// start each batch gets its run, once, and triggers work again.
func TestBusWiped(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, jetstream string)
	}{
		{"wiped", func(t *testing.T, jetstream string) { remove(t, jetstream) }},
		{"damaged", func(t *testing.T, jetstream string) {
			blocks, _ := filepath.Glob(filepath.Join(jetstream, "*", "streams", "*", "msgs", "*.blk"))
			if len(blocks) == 0 {
				t.Fatalf("no blocks below %s", jetstream)
			}
			for _, path := range blocks {
				body, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for i := range body {
					body[i] ^= 0x55
				}
				write(t, path, string(body))
			}
		}},
		{"without consumers", func(t *testing.T, jetstream string) {
			dirs, _ := filepath.Glob(filepath.Join(jetstream, "*", "streams", "*", "obs"))
			if len(dirs) == 0 {
				t.Fatalf("no consumers below %s", jetstream)
			}
			for _, dir := range dirs {
				remove(t, dir)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"count.yaml": countDAG}))
			s.env = append(s.env, "MILLRACE_BATCH__MAX_AGE=20ms")
			s.start()
			acked := map[string]bool{}
			s.send(acked, "seen", 50)
			s.drained()
			s.oneRunEach("count")
			before := s.committed()
			release := s.lockStore()
			s.send(acked, "unseen", 50)
			s.drained()
			unseen := s.committed() - before
			s.kill()
			release()
			tt.spoil(t, filepath.Join(s.dir, "bus", "jetstream"))
			s.start()
			s.send(acked, "after", 50)
			s.drained()
			runs := s.oneRunEach("count")
			if got := s.counted(runs); got != int64(len(acked)) {
				t.Errorf("the runs' logs count %d events, %d were acknowledged", got, len(acked))
			}
			s.clean()
			t.Logf("measured: %s with %d triggers that nobody took, %d batches and as many runs", tt.name, unseen, len(runs))
			if unseen == 0 {
				t.Error("no batch was committed while the store was locked: the test has shown nothing")
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// dagDir makes a directory of DAG files.
func dagDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

// lockStore takes the write lock of the server's database, as a stray tool would, until the returned function is called.
func (s *server) lockStore() (release func()) {
	s.t.Helper()
	db, err := sql.Open("sqlite", fmt.Sprintf("file:%s?_pragma=busy_timeout(%d)&_txlock=immediate", filepath.Join(s.dir, "state.db"), 10*time.Second/time.Millisecond))
	if err != nil {
		s.t.Fatal(err)
	}
	tx, err := db.BeginTx(s.t.Context(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	release = func() {
		_ = tx.Rollback()
		_ = db.Close()
	}
	s.t.Cleanup(release)
	return release
}
