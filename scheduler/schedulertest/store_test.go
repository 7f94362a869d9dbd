package schedulertest_test

import (
	"sync"
	"testing"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

func TestMemoryStore(t *testing.T) {
	t.Parallel()
	var stores sync.Map
	schedulertest.TestStore(t, func(_ *testing.T, dir string) scheduler.Store {
		s, _ := stores.LoadOrStore(dir, schedulertest.NewStore())
		return s.(*schedulertest.Store)
	})
}

func TestMemoryValues(t *testing.T) {
	t.Parallel()
	var v schedulertest.Values
	schedulertest.TestValues(t, func(*testing.T) scheduler.ValueStore { return &v })
}
