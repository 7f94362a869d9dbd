package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest/vfs"
)

// each runs a test of the contract on both file systems.
func each(t *testing.T, test func(t *testing.T, fsys vfs.FS, dir string)) {
	t.Helper()
	t.Parallel()
	t.Run("os", func(t *testing.T) {
		t.Parallel()
		test(t, vfs.OS, t.TempDir())
	})
	t.Run("mem", func(t *testing.T) {
		t.Parallel()
		mem := vfs.NewMem()
		must(t, mem.MkdirAll("/data"))
		test(t, mem, "/data")
	})
	t.Run("injected", func(t *testing.T) {
		t.Parallel()
		in := vfs.Inject(vfs.OS, nil)
		test(t, in, t.TempDir())
		if in.Ops() == 0 {
			t.Error("got no operations counted")
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantIs(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}

func create(t *testing.T, fsys vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func write(t *testing.T, f vfs.File, off int64, text string) {
	t.Helper()
	if n, err := f.WriteAt([]byte(text), off); err != nil || n != len(text) {
		t.Fatalf("got %d, %v, want %d bytes written", n, err, len(text))
	}
}

func content(t *testing.T, fsys vfs.FS, name string) string {
	t.Helper()
	data, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "<absent>"
	}
	must(t, err)
	return string(data)
}

func names(t *testing.T, fsys vfs.FS, dir string) []string {
	t.Helper()
	entries, err := fsys.List(dir)
	must(t, err)
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestFiles(t *testing.T) {
	each(t, func(t *testing.T, fsys vfs.FS, dir string) {
		name := filepath.Join(dir, "f")
		_, err := fsys.OpenFile(name, os.O_RDONLY)
		wantIs(t, err, fs.ErrNotExist)
		f := create(t, fsys, name)
		_, err = fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
		wantIs(t, err, fs.ErrExist)
		for _, part := range []string{"ab", "cd"} {
			_, err = f.Write([]byte(part))
			must(t, err)
		}
		write(t, f, 6, "gh")
		must(t, f.Sync())
		if got, want := content(t, fsys, name), "abcd\x00\x00gh"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		buf := make([]byte, 4)
		if n, err := f.ReadAt(buf, 6); n != 2 || err != io.EOF {
			t.Errorf("got %d, %v, want 2, EOF", n, err)
		}
		must(t, f.Truncate(3))
		must(t, f.Preallocate(2))
		must(t, f.Preallocate(5))
		if got, want := content(t, fsys, name), "abc\x00\x00"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		info, err := f.Stat()
		must(t, err)
		if info.Size() != 5 || info.IsDir() {
			t.Errorf("got size %d, dir %v, want 5, false", info.Size(), info.IsDir())
		}
		must(t, f.Close())
		if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("got %v after Close, want %v", err, fs.ErrClosed)
		}
	})
}

func TestNames(t *testing.T) {
	each(t, func(t *testing.T, fsys vfs.FS, dir string) {
		a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "sub", "c")
		write(t, create(t, fsys, a), 0, "one")
		must(t, fsys.Link(a, b))
		wantIs(t, fsys.Link(a, b), fs.ErrExist)
		wantIs(t, fsys.Link(filepath.Join(dir, "none"), c), fs.ErrNotExist)
		must(t, vfs.MkdirAllSync(fsys, filepath.Join(dir, "sub")))
		must(t, vfs.MkdirAllSync(fsys, filepath.Join(dir, "sub")))
		must(t, fsys.Rename(a, c))
		must(t, fsys.SyncDir(dir))
		must(t, fsys.SyncAll(dir))
		if diff := cmp.Diff([]string{"b", "sub"}, names(t, fsys, dir)); diff != "" {
			t.Errorf("names (-want +got):\n%s", diff)
		}
		if got := content(t, fsys, c); got != "one" {
			t.Errorf("got %q, want one", got)
		}
		must(t, fsys.Remove(c))
		wantIs(t, fsys.Remove(c), fs.ErrNotExist)
		_, err := fsys.Stat(c)
		wantIs(t, err, fs.ErrNotExist)
		if got := content(t, fsys, b); got != "one" {
			t.Errorf("got %q by the other name, want one", got)
		}
		free, total, err := fsys.Free(dir)
		if err != nil || free <= 0 || total < free {
			t.Errorf("got %d of %d free, %v, want a part of the disk", free, total, err)
		}
	})
}

func TestLockExcludes(t *testing.T) {
	each(t, func(t *testing.T, fsys vfs.FS, dir string) {
		name := filepath.Join(dir, "LOCK")
		held, err := fsys.Lock(name)
		must(t, err)
		_, err = fsys.Lock(name)
		wantIs(t, err, vfs.ErrLocked)
		must(t, held.Close())
		again, err := fsys.Lock(name)
		must(t, err)
		must(t, again.Close())
	})
}

func TestWriteFileSyncReplaces(t *testing.T) {
	each(t, func(t *testing.T, fsys vfs.FS, dir string) {
		name := filepath.Join(dir, "m")
		for _, text := range []string{"first", "2"} {
			if stage, err := vfs.WriteFileSync(fsys, name, []byte(text)); err != nil || stage != vfs.StageDone {
				t.Fatalf("got stage %d, %v, want %d", stage, err, vfs.StageDone)
			}
			if got := content(t, fsys, name); got != text {
				t.Errorf("got %q, want %q", got, text)
			}
		}
		if diff := cmp.Diff([]string{"m"}, names(t, fsys, dir)); diff != "" {
			t.Errorf("names (-want +got):\n%s", diff)
		}
	})
}
