package sqlstore

import (
	"bufio"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"

	"millrace/ingest/vfs"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/trigger"
)

// childEnv names what the test binary does instead of testing, childDir where.
const (
	childEnv = "SQLSTORE_TEST_CHILD"
	childDir = "SQLSTORE_TEST_DIR"
)

func TestMain(m *testing.M) {
	dir := os.Getenv(childDir)
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "write":
		fmt.Println(childWrite(dir))
	case "full":
		fmt.Println(childFull(dir))
	case "migrate":
		fmt.Println(childMigrate(dir))
	}
}

// child starts the test binary in a role. lines are what it prints.
func child(t *testing.T, role, dir string) (cmd *exec.Cmd, lines *bufio.Scanner) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+role, childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("start child: %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewScanner(out)
}

func integrity(t *testing.T, s *Store) {
	t.Helper()
	var verdict string
	if err := s.readDB.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Fatalf("integrity_check: got %q, %v, want ok", verdict, err)
	}
}

// whole is the change of n: three batches with their runs and a cursor.
func whole(n int) *scheduler.Change {
	c := &scheduler.Change{Cursors: []trigger.Cursor{{Stream: schedulertest.ExampleStream, Seq: int64(n)}}}
	for i := range 3 {
		a, r := change(n*3 + i)
		c.Arrivals, c.NewRuns = append(c.Arrivals, a), append(c.NewRuns, r)
	}
	return c
}

// childWrite applies one change after the other and prints the number of each that has returned.
func childWrite(dir string) error {
	s, err := Open(context.Background(), filepath.Join(dir, "state.db"), Options{})
	if err != nil {
		return err
	}
	m, err := s.Remember(context.Background())
	if err != nil {
		return err
	}
	n := 1
	if !m.Fresh {
		n = int(m.Cursors[0].Seq) + 1
	}
	for ; ; n++ {
		if err := s.Apply(context.Background(), whole(n)); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// TestKill kills a writer again and again: what it had acknowledged is there, what it had not is there whole or not at all.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	acked, unacked := 0, 0
	for round := range 8 {
		cmd, lines := child(t, "write", dir)
		for stop := acked + 1 + rng.IntN(30); acked < stop && lines.Scan(); {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatalf("round %d: the child says %q", round, lines.Text())
			}
			acked = n
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatalf("kill: %v", err)
		}
		_ = cmd.Wait()
		for lines.Scan() { // What it said before it died counts.
			acked, _ = strconv.Atoi(lines.Text())
		}
		unacked += check(t, dir, acked)
	}
	t.Logf("%d changes acknowledged in 8 lives, %d more had been committed", acked, unacked)
}

// check opens what a killed writer left and returns how many changes it has beyond the acknowledged ones.
func check(t *testing.T, dir string, acked int) int {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(dir, "state.db"), Options{})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer s.Close()
	integrity(t, s)
	m, err := s.Remember(t.Context())
	if err != nil {
		t.Fatalf("remember: %v", err)
	}
	have := 0
	if !m.Fresh {
		have = int(m.Cursors[0].Seq)
	}
	if have < acked || have > acked+1 {
		t.Fatalf("got %d changes, want %d or one more", have, acked)
	}
	for table, want := range map[string]int{"batch": 3, "disposition": 3, "run": 3, "run_input": 3, "task_instance": 3} {
		var n int
		if err := s.readDB.QueryRow("SELECT COUNT(*) FROM " + table).Scan(&n); err != nil || n != want*have {
			t.Fatalf("%s: got %d rows, %v, want %d", table, n, err, want*have)
		}
	}
	return have - acked
}

// childFull fills a disk that is small, as far as this process can see, and then gets a larger one.
func childFull(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	ctx := context.Background()
	s, err := Open(ctx, filepath.Join(dir, "state.db"), Options{})
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	small := limit
	small.Cur = 1 << 20
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &small); err != nil {
		return err
	}
	n := 1
	for ; err == nil; n++ {
		if n > 10_000 {
			return errors.New("the disk never became full")
		}
		err = s.Apply(ctx, whole(n))
	}
	full := n - 1
	if !errors.Is(err, scheduler.ErrUnavailable) {
		return fmt.Errorf("change %d on a full disk: got %w, want ErrUnavailable", full, err)
	}
	if m, err := s.Remember(ctx); err != nil || int(m.Cursors[0].Seq) != full-1 {
		return fmt.Errorf("read on a full disk: got %v, %w, want changes up to %d", m.Cursors, err, full-1)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := s.Apply(ctx, whole(full)); err != nil {
		return fmt.Errorf("change %d after the disk has room: %w", full, err)
	}
	fmt.Println(full)
	return s.Close()
}

// TestDiskFull limits the size of files, which needs no file system of its own; the write fails with EFBIG instead of ENOSPC.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, lines := child(t, "full", dir)
	lines.Scan()
	n, err := strconv.Atoi(lines.Text())
	if err != nil {
		t.Fatalf("the child says %q", lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("child: %v", err)
	}
	if more := check(t, dir, n); more != 0 {
		t.Errorf("got %d more changes than were applied", more)
	}
}

// TestFull is SQLite's own answer to ENOSPC.
func TestFull(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	pages := func(n int) {
		t.Helper()
		if _, err := s.conn.ExecContext(t.Context(), "PRAGMA max_page_count="+strconv.Itoa(n)); err != nil {
			t.Fatal(err)
		}
	}
	pages(100)
	n := 1
	var err error
	for ; err == nil; n++ {
		err = s.Apply(t.Context(), whole(n))
	}
	if !errors.Is(err, scheduler.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	pages(100_000)
	if err := s.Apply(t.Context(), whole(n-1)); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	integrity(t, s)
}

func TestBusy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openTest(t, dir)
	if _, err := s.conn.ExecContext(t.Context(), "PRAGMA busy_timeout=20"); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, q := range []string{"BEGIN IMMEDIATE", "DELETE FROM tick"} {
		if _, err := conn.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	if err := s.Apply(t.Context(), whole(1)); !errors.Is(err, scheduler.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	if m, err := s.Remember(t.Context()); err != nil || !m.Fresh {
		t.Fatalf("got %+v, %v: want reads to go on", m, err)
	}
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), whole(1)); err != nil {
		t.Fatalf("when it is free: %v", err)
	}
}

func TestDamaged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), path, Options{})
	if err == nil {
		s.Close()
	}
	if err == nil || errors.Is(err, scheduler.ErrUnavailable) {
		t.Fatalf("got %v, want an error that does not ask to try again", err)
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openTest(t, dir)
	if _, err := Open(t.Context(), filepath.Join(dir, "state.db"), Options{}); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	if err := s.Apply(t.Context(), whole(1)); err != nil {
		t.Fatalf("the first one: %v", err)
	}
}

func TestNewerSchema(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openTest(t, dir)
	if _, err := s.conn.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), filepath.Join(dir, "state.db"), Options{}); !errors.Is(err, ErrNewerSchema) {
		t.Fatalf("got %v, want ErrNewerSchema", err)
	}
}

// nextMigrations are the real ones and one more, which between its statements calls the SQL function pause, if asked to.
func nextMigrations(pause string) fstest.MapFS {
	files := firstMigrations(99)
	files["00999_next.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE later (id TEXT);\nALTER TABLE run ADD COLUMN later TEXT;\n" + pause +
		"CREATE TABLE later_still (id TEXT);\n")}
	return files
}

// firstMigrations are the first n real ones, or all if there are fewer.
func firstMigrations(n int) fstest.MapFS {
	files := fstest.MapFS{}
	real := sqliteMigrations()
	names, err := fs.Glob(real, "*.sql")
	if err != nil {
		panic(err)
	}
	slices.Sort(names)
	for _, name := range names[:min(n, len(names))] {
		data, err := fs.ReadFile(real, name)
		if err != nil {
			panic(err)
		}
		files[name] = &fstest.MapFile{Data: data}
	}
	return files
}

// childMigrate says when it is in the middle of a migration, and stays there.
func childMigrate(dir string) error {
	err := sqlite.RegisterScalarFunction("pause", 0, func(*sqlite.FunctionContext, []driver.Value) (driver.Value, error) {
		fmt.Println("paused")
		select {}
	})
	if err != nil {
		return err
	}
	_, err = open(context.Background(), filepath.Join(dir, "state.db"), Options{}, nextMigrations("INSERT INTO later VALUES (pause());\n"))
	return err
}

// TestMigrationKilled kills a migration between two of its statements: the schema is the old one, and the next start migrates it.
func TestMigrationKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openTest(t, dir)
	if err := s.Apply(t.Context(), whole(1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cmd, lines := child(t, "migrate", dir)
	if lines.Scan(); lines.Text() != "paused" {
		t.Fatalf("the child says %q, want it to pause", lines.Text())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	check(t, dir, 1) // The old version still opens it, and finds it whole.
	s, err := open(t.Context(), filepath.Join(dir, "state.db"), Options{}, nextMigrations(""))
	if err != nil {
		t.Fatalf("open with the new schema: %v", err)
	}
	defer s.Close()
	integrity(t, s)
	if _, err := s.conn.ExecContext(t.Context(), "INSERT INTO later_still SELECT later FROM run"); err != nil {
		t.Fatalf("the new schema is not whole: %v", err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "state.db"), Options{Readers: -1}); err == nil {
		t.Fatal("got nil for -1 readers, want an error")
	}
	odd := filepath.Join(t.TempDir(), "a?b#c%20d e", "state.db")
	s, err := Open(t.Context(), odd, Options{})
	if err != nil {
		t.Fatalf("open %s: %v", odd, err)
	}
	defer s.Close()
	if _, err := os.Stat(odd); err != nil {
		t.Fatalf("the file is not where it was asked for: %v", err)
	}
}
