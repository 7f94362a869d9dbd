package sqlstore

import (
	"path/filepath"
	"testing"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

func TestValues(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	var s *Store
	schedulertest.TestValues(t, func(t *testing.T) scheduler.ValueStore {
		if s != nil {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if s, err = Open(t.Context(), path, Options{}); err != nil {
			t.Fatal(err)
		}
		return s
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
