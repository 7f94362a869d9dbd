package sqlstore

import (
	"path/filepath"
	"testing"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

func openTest(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(dir, "state.db"), Options{})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	t.Parallel()
	schedulertest.TestStore(t, func(t *testing.T, dir string) scheduler.Store { return openTest(t, dir) })
}
