package sqlstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"millrace/ingest"
	"millrace/ingest/vfs"
	"millrace/scheduler"
	"millrace/trigger"
)

// cursorOf opens a database and returns the cursor of a chain, and whether it is on hold.
func cursorOf(t *testing.T, path string, s ingest.Stream) (seq int64, held bool) {
	t.Helper()
	store, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	m, err := store.Remember(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range m.Cursors {
		if c.Stream == s {
			seq = c.Seq
		}
	}
	_, held = m.HeldAt()
	return seq, held
}

// TestBackupRestore goes back to a backup that was made beside a server; then to another; then with a database that can not be opened.
func TestBackupRestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, s := filepath.Join(dir, "state.db"), ingest.Stream{Log: "log", Incarnation: "aaa"}
	store, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	move := func(seq int64) {
		t.Helper()
		if err := store.Apply(t.Context(), &scheduler.Change{Cursors: []trigger.Cursor{{Stream: s, Seq: seq}}}); err != nil {
			t.Fatal(err)
		}
	}
	move(7)
	backup := filepath.Join(dir, "backup.db")
	if err := Backup(t.Context(), path, backup); err != nil {
		t.Fatal(err)
	}
	if err := Backup(t.Context(), path, backup); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second backup to one file: %v, want %v", err, fs.ErrExist)
	}
	move(9)
	now := time.Now()
	if _, err := Restore(t.Context(), path, backup, now); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("restore beside a server: %v, want %v", err, vfs.ErrLocked)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	old, err := Restore(t.Context(), path, backup, now)
	if err != nil {
		t.Fatal(err)
	}
	if seq, held := cursorOf(t, path, s); seq != 7 || !held {
		t.Errorf("restored: cursor %d, held %v, want 7, held", seq, held)
	}
	if seq, held := cursorOf(t, old, s); seq != 9 || !held {
		t.Errorf("the old one: cursor %d, held %v, want 9, held", seq, held)
	}
	if err := os.WriteFile(path, []byte("not a database, and longer than the head of one would be, so that it is looked at and refused as such"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), path, backup, now.Add(time.Second)); err != nil {
		t.Fatalf("over a damaged database: %v", err)
	}
	if seq, held := cursorOf(t, path, s); seq != 7 || !held {
		t.Errorf("over a damaged database: cursor %d, held %v, want 7, held", seq, held)
	}
}

// TestRestoreRefuses what is no backup, and leaves the database as it is.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, bad := filepath.Join(dir, "state.db"), filepath.Join(dir, "bad.db")
	store, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, make([]byte, 4096), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, backup := range []string{bad, filepath.Join(dir, "missing.db")} {
		if _, err := Restore(t.Context(), path, backup, time.Now()); err == nil {
			t.Errorf("%s was taken", backup)
		}
	}
	if _, held := cursorOf(t, path, ingest.Stream{}); held {
		t.Error("the database is on hold, though nothing was restored")
	}
	if err := Backup(t.Context(), filepath.Join(dir, "missing.db"), filepath.Join(dir, "x.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("backup of nothing: %v, want %v", err, fs.ErrNotExist)
	}
}
