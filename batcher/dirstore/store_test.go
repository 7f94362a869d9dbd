package dirstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"millrace/batcher"
	"millrace/batcher/batchertest"
	"millrace/ingest/vfs"
)

func TestConformanceOS(t *testing.T) {
	t.Parallel()
	batchertest.TestStore(t, func(t *testing.T) batcher.ObjectStore { return open(t, vfs.OS, t.TempDir()) })
}

func TestConformanceMem(t *testing.T) {
	t.Parallel()
	batchertest.TestStore(t, func(t *testing.T) batcher.ObjectStore { return open(t, vfs.NewMem(), "/objects") })
}

func open(t testing.TB, fsys vfs.FS, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, vfs.OS, dir)
	if _, err := Open(dir, Options{}); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("second opener: got %v, want %v", err, vfs.ErrLocked)
	}
	if err := s.PutIfAbsent(t.Context(), "a/b", []byte("x"), map[string]string{"k": "v"}); err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir, Options{ReadOnly: true})
	if err != nil {
		t.Fatalf("reader beside the writer: %v", err)
	}
	if body, info, err := r.Get(t.Context(), "a/b"); err != nil || string(body) != "x" || info.Meta["k"] != "v" {
		t.Errorf("reader reads %q of %v, %v", body, info.Meta, err)
	}
	if err := r.PutIfAbsent(t.Context(), "a/c", nil, nil); !errors.Is(err, batcher.ErrRefused) {
		t.Errorf("put by a reader: got %v, want %v", err, batcher.ErrRefused)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_ = open(t, vfs.OS, dir).Close()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.TempDir(), Options{ReadOnly: true}); !errors.Is(err, batcher.ErrNotFound) {
		t.Errorf("reader where nothing is: got %v, want %v", err, batcher.ErrNotFound)
	}
}

// TestHome: the identity stays with the directory, and differs from that of another.
func TestHome(t *testing.T) {
	t.Parallel()
	from, to := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	s := open(t, vfs.OS, from)
	home := s.Home()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	if got := open(t, vfs.OS, to).Home(); got != home || len(home) < 20 {
		t.Errorf("home after the move is %q, want %q", got, home)
	}
	if other := open(t, vfs.OS, from).Home(); other == home {
		t.Errorf("a new store has the home of another: %q", other)
	}
	if got, want := s.URI("a/b=%41"), "file://"+filepath.ToSlash(from)+"/a/b=%2541"; got != want {
		t.Errorf("URI %q, want %q", got, want)
	}
}

func TestNotSafe(t *testing.T) {
	t.Parallel()
	links := 0
	for name, hook := range map[string]func(vfs.Op) error{
		"no links": func(op vfs.Op) error {
			if op.Kind == vfs.OpLink {
				return syscall.EPERM
			}
			return nil
		},
		"second link fails otherwise": func(op vfs.Op) error {
			if op.Kind == vfs.OpLink {
				if links++; links == 2 {
					return syscall.EIO
				}
			}
			return nil
		},
	} {
		if _, err := Open("/objects", Options{FS: vfs.Inject(vfs.NewMem(), hook)}); !errors.Is(err, batcher.ErrNotSafe) {
			t.Errorf("%s: got %v, want %v", name, err, batcher.ErrNotSafe)
		}
	}
}

// TestOwnNames: what the store keeps for itself is no object, and a file that was replaced by a person has no metadata.
func TestOwnNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, vfs.OS, dir)
	if err := s.PutIfAbsent(t.Context(), "events/x", []byte("x"), map[string]string{"k": "v"}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"_millrace/tmp/x", "_millrace/meta/ab/cd", "_millrace/home", "_millrace/home.tmp", "_millrace/lock"} {
		if err := s.PutIfAbsent(t.Context(), key, nil, nil); !errors.Is(err, batcher.ErrRefused) {
			t.Errorf("put %q: got %v, want %v", key, err, batcher.ErrRefused)
		}
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, batcher.ErrNotFound) {
			t.Errorf("stat %q: got %v, want %v", key, err, batcher.ErrNotFound)
		}
	}
	for info, err := range s.List(t.Context(), batcher.ListOptions{}) {
		if err != nil || info.Key != "events/x" {
			t.Errorf("list has %q, %v", info.Key, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "events", "x"), []byte("replaced"), 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := s.Stat(t.Context(), "events/x"); err != nil || len(info.Meta) != 0 || info.Size != 8 {
		t.Errorf("replaced object: %+v, %v", info, err)
	}
}

// TestDamaged: an object that the disk does not read, or whose metadata make no sense, is damaged: it alone, and with what is left of it. An
// error that goes away by itself is none.
func TestDamaged(t *testing.T) {
	t.Parallel()
	body := func(s *Store) string { return s.path("events/b") }
	meta := func(s *Store) string { return s.metaPath("events/b") }
	for _, tt := range []struct {
		name  string
		bad   func(s *Store) string // the file that
		fails int                   // reads, or
		text  string                // has this in it
		left  string                // of the body
		want  error
	}{
		{"body fails once", body, 1, "", "body", nil},
		{"body", body, 1000, "", "", batcher.ErrDamaged},
		{"metadata", meta, 1000, "", "body", batcher.ErrDamaged},
		{"metadata is no JSON", meta, 0, "{", "body", batcher.ErrDamaged},
		{"metadata of another", meta, 0, `{"v":1,"key":"events/c","size":4}`, "body", batcher.ErrDamaged},
		{"newer metadata", meta, 0, `{"v":9,"key":"events/b","size":4}`, "", batcher.ErrUnknownVersion},
	} {
		bad, fails := "", 0
		s := open(t, vfs.Inject(vfs.OS, func(op vfs.Op) error {
			if op.Name == bad && op.Kind == vfs.OpRead && fails > 0 {
				fails--
				return &fs.PathError{Op: "read", Path: op.Name, Err: syscall.EIO}
			}
			return nil
		}), t.TempDir())
		for _, key := range []string{"events/b", "events/c"} {
			if err := s.PutIfAbsent(t.Context(), key, []byte("body"), map[string]string{"k": "v"}); err != nil {
				t.Fatal(err)
			}
		}
		bad, fails = tt.bad(s), tt.fails
		if tt.text != "" {
			if err := os.WriteFile(bad, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, _, err := s.Get(t.Context(), "events/b")
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil || string(got) != tt.left {
			t.Errorf("%s: got %q, %v, want %q, %v", tt.name, got, err, tt.left, tt.want)
		}
		if got, _, err := s.Get(t.Context(), "events/c"); err != nil || string(got) != "body" {
			t.Errorf("%s: the other object gives %q, %v", tt.name, got, err)
		}
		if errors.Is(tt.want, batcher.ErrDamaged) && !listed(t, s, "events/b") {
			t.Errorf("%s: not listed", tt.name)
		}
	}
}

func TestRefusedByTheFileSystem(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*Store{"os": open(t, vfs.OS, t.TempDir()), "mem": open(t, vfs.NewMem(), "/objects")} {
		if err := s.PutIfAbsent(t.Context(), "a/b", nil, nil); err != nil {
			t.Fatal(err)
		}
		keys := []string{"a", "a/b/c", "a/b/c/d"}
		if name == "os" {
			keys = append(keys, strings.Repeat("n", 256))
		}
		for _, key := range keys {
			if err := s.PutIfAbsent(t.Context(), key, nil, nil); !errors.Is(err, batcher.ErrRefused) {
				t.Errorf("%s: put %.20q: got %v, want %v", name, key, err, batcher.ErrRefused)
			}
			if _, err := s.Stat(t.Context(), key); !errors.Is(err, batcher.ErrNotFound) {
				t.Errorf("%s: stat %.20q: got %v, want %v", name, key, err, batcher.ErrNotFound)
			}
		}
	}
}

// TestDiskFull: a full disk is no fault of the object, and room makes it good.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	s := open(t, disk, "/objects")
	disk.SetCapacity(10_000)
	body := make([]byte, 9_000)
	if err := s.PutIfAbsent(t.Context(), "a", body, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.PutIfAbsent(t.Context(), "b", body, nil); !errors.Is(err, batcher.ErrUnavailable) {
		t.Fatalf("got %v, want %v", err, batcher.ErrUnavailable)
	}
	disk.SetCapacity(0)
	if err := s.PutIfAbsent(t.Context(), "b", body, nil); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkPut is one object with metadata, on the real disk: two syncs of files and two of directories.
func BenchmarkPut(b *testing.B) {
	s := open(b, vfs.OS, b.TempDir())
	body := make([]byte, 64<<10)
	for i := range b.N {
		if err := s.PutIfAbsent(b.Context(), fmt.Sprintf("events/%08d", i), body, map[string]string{"k": "v"}); err != nil {
			b.Fatal(err)
		}
	}
}
