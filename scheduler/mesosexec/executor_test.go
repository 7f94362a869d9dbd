package mesosexec_test

import (
	"encoding/hex"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/batcher/memstore"
	"millrace/scheduler"
	"millrace/scheduler/mesosexec"
	"millrace/scheduler/mesosexec/sandbox"
	"millrace/scheduler/mesossim"
	"millrace/scheduler/schedulertest"
	"millrace/scheduler/sqlstore"
)

// quick is a cluster that does at once what a real one takes seconds for.
func quick() mesossim.Options {
	return mesossim.Options{
		Heartbeat: time.Second, Allocation: 10 * time.Millisecond, Retry: 100 * time.Millisecond, AgentReturn: 20 * time.Millisecond, Election: 50 * time.Millisecond,
		HTTPCommandExecutor: true,
	}
}

func cluster(t *testing.T, opt mesossim.Options) *mesossim.Cluster {
	t.Helper()
	if opt.Dir == "" {
		opt.Dir = t.TempDir()
	}
	sim, err := mesossim.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	return sim
}

// site is what an executor finds again after a restart: a cluster, a store and a directory.
type site struct {
	t       *testing.T
	dir     string
	sim     *mesossim.Cluster
	store   *sqlstore.Store
	objects *memstore.Store
	opt     mesosexec.ExecutorOptions
	// records are those of the store, unless a test has others.
	records scheduler.Records
}

func newSite(t *testing.T, dir string, sim *mesossim.Cluster) *site {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), filepath.Join(dir, "state.db"), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &site{t: t, dir: dir, sim: sim, store: store, records: store, objects: memstore.New(memstore.Options{}), opt: options()}
}

// open makes an executor.
func (s *site) open() *mesosexec.Executor {
	s.t.Helper()
	list, err := mesosexec.NewList(s.sim.Masters()...)
	if err != nil {
		s.t.Fatal(err)
	}
	e, err := mesosexec.NewExecutor(list, s.records, mesosexec.Sandboxes{
		Dir: filepath.Join(s.dir, "logs"), Objects: s.objects, Options: sandbox.Options{MinPause: 10 * time.Millisecond},
	}, s.opt)
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

func options() mesosexec.ExecutorOptions {
	opt := mesosexec.ExecutorOptions{
		AskMin: 50 * time.Millisecond, AskMax: 500 * time.Millisecond, Settle: 3 * time.Second, Silence: time.Second,
		Seal: func(attempt, text string) (string, error) {
			return attempt + " " + hex.EncodeToString([]byte(text)), nil
		},
		Unseal: func(attempt, sealed string) (string, error) {
			text, err := hex.DecodeString(strings.TrimPrefix(sealed, attempt+" "))
			return string(text), err
		},
		Task: mesosexec.TaskOptions{Labels: map[string]string{"millrace": "test"}},
	}
	opt.Client.MinPause, opt.Client.MaxPause = time.Millisecond, 50*time.Millisecond
	return opt
}

// TestExecutorConformance runs attempts on the double's agents, which execute real commands on this machine.
func TestExecutorConformance(t *testing.T) {
	t.Parallel()
	var sites sync.Map // by directory: an executor that is opened again finds what it had
	schedulertest.TestExecutor(t, func(t *testing.T, dir string) scheduler.Executor {
		t.Helper()
		if s, ok := sites.Load(dir); ok {
			return s.(*site).open()
		}
		s := newSite(t, dir, cluster(t, quick()))
		sites.Store(dir, s)
		return s.open()
	})
}
