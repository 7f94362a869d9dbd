package dirstore

import (
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
