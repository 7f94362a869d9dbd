//go:build linux

package dockerexec_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"millrace/scheduler"
	"millrace/scheduler/dockerexec"
	"millrace/scheduler/schedulertest"
	"millrace/scheduler/sqlstore"
)

// image is one that the engine has.
const image = "registry.example/task@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// inImage gives the attempts of the suite, which are commands, an image.
type inImage struct{ *dockerexec.Executor }

// Launch implements scheduler.Executor.
func (e inImage) Launch(ctx context.Context, attempts []scheduler.Launch) error {
	for i := range attempts {
		attempts[i].Container = &scheduler.Container{Image: image}
	}
	return e.Executor.Launch(ctx, attempts)
}

// stores are those that are open, by directory: a restart closes the one before.
var stores sync.Map

// openAt opens the executor that has its state in dir.
func openAt(t *testing.T, dir string, opt dockerexec.Options) *dockerexec.Executor {
	t.Helper()
	if before, found := stores.Load(dir); found {
		_ = before.(*sqlstore.Store).Close() // it may be closed already
	}
	store, err := sqlstore.Open(t.Context(), filepath.Join(dir, "state.db"), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	stores.Store(dir, store)
	e, err := dockerexec.Open(t.Context(), filepath.Join(dir, "docker"), store, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = e.Close(), store.Close() })
	return e
}

func TestExecutorConformance(t *testing.T) {
	t.Parallel()
	var engines sync.Map // A test opens its directory again, and finds the same engine.
	schedulertest.TestExecutor(t, func(t *testing.T, dir string) scheduler.Executor {
		t.Helper()
		eng, found := engines.Load(dir)
		if !found {
			eng = newEngine(t)
			engines.Store(dir, eng)
		}
		return inImage{openAt(t, dir, dockerexec.Options{Host: eng.(*engine).host()})}
	})
}
