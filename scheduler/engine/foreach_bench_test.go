package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/scheduler/spec"
	"millrace/scheduler/sqlstore"
)

// mappedEngine runs an engine whose executor does nothing, with a DAG of one mapped task of n items.
func mappedEngine(t testing.TB, store scheduler.Store, n int) (*fixture, *world, func()) {
	t.Helper()
	w := newWorld(64)
	w.forget = true
	e, err := New(store, map[string]scheduler.Executor{"local": w}, Options{Env: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	src := fmt.Sprintf("dag: a\ntasks: {load: {run: [x, '${{ item }}'], foreach: {items: lists.range(%d), max_concurrent: 64}}}", n)
	if err := e.SetDAGs(ctx, spec.Set{Files: []spec.File{spec.ReadFile("a.yaml", []byte(src))}}); err != nil {
		t.Fatal(err)
	}
	return &fixture{t: t, e: e}, w, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkMapped is the time for one mapped task, from its row to its end, in lists of different lengths: it must not depend on them.
func BenchmarkMapped(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		for name, open := range map[string]func() scheduler.Store{
			"memory": func() scheduler.Store { return schedulertest.NewStore() },
			"sqlite": func() scheduler.Store {
				store, err := sqlstore.Open(b.Context(), filepath.Join(b.TempDir(), "state.db"), sqlstore.Options{})
				if err != nil {
					b.Fatal(err)
				}
				return store
			},
		} {
			b.Run(fmt.Sprintf("%s/items=%d", name, n), func(b *testing.B) {
				store := open()
				defer store.Close()
				f, w, stop := mappedEngine(b, store, n)
				defer stop()
				done := 0
				for b.Loop() {
					for range max(1, 10_000/n) {
						f.trigger("a", fmt.Sprint(done), "")
						done += n
						w.until(done)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(done), "ns/item")
			})
		}
	}
}

// TestSoakMapped runs 100,000 mapped tasks in one run on SQLite, with a restart in the middle, and measures memory while all of them are there, the
// longest round of the loop, and what a look at the run costs.
func TestSoakMapped(t *testing.T) {
	if os.Getenv("MILLRACE_SOAK") == "" {
		t.Skip("set MILLRACE_SOAK=1 to run 100,000 mapped tasks")
	}
	const n = 100_000
	path := filepath.Join(t.TempDir(), "state.db")
	open := func() *sqlstore.Store {
		store, err := sqlstore.Open(t.Context(), path, sqlstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	before := inUse()
	store := open()
	f, w, stop := mappedEngine(t, store, n)
	w.set(func() { w.slots = 0 })
	began := time.Now()
	run := f.trigger("a", "1", "").ID
	lookUntil(t, f.e, store, run, func(d *scheduler.RunDetail) bool { return d.Tasks[0].Map != nil && d.Tasks[0].Map.Made == n })
	made := time.Since(began)
	t.Logf("%d rows made in %v, heap %d MiB more", n, made.Round(time.Millisecond), (inUse()-before)>>20)
	began = time.Now()
	if _, err := f.e.Trigger(t.Context(), "a", "1", nil); err != nil {
		t.Fatal(err)
	}
	t.Logf("an input beside it took %v", time.Since(began).Round(time.Microsecond))
	stop()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}

	store = open()
	defer store.Close()
	began = time.Now()
	f, w, stop = mappedEngine(t, store, n)
	defer stop()
	<-f.e.Ready()
	t.Logf("back after a restart in %v, heap %d MiB more", time.Since(began).Round(time.Millisecond), (inUse()-before)>>20)
	began = time.Now()
	w.until(n)
	d := lookUntil(t, f.e, store, run, func(d *scheduler.RunDetail) bool { return d.Run.State.Terminal() })
	if d.Run.State != scheduler.StateSuccess || d.Mapped["load"][scheduler.StateSuccess] != n {
		t.Fatalf("the run is %s, %v", d.Run.State, d.Mapped)
	}
	took := time.Since(began)
	t.Logf("%d executed in %v: %.0f/s", n, took.Round(time.Millisecond), n/took.Seconds())
	mendMapped(t, f, store, run, n)
	for name, look := range map[string]func() error{
		"look": func() error { _, err := store.Look(t.Context(), run); return err },
		"page": func() error {
			_, _, err := store.Mapped(t.Context(), scheduler.MappedQuery{Run: run, Task: "load", After: "50000", Limit: 100})
			return err
		},
		"one":     func() error { _, err := store.Task(t.Context(), run, "load", 77_777); return err },
		"explain": func() error { _, err := f.e.Explain(t.Context(), run); return err },
	} {
		began := time.Now()
		if err := look(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %v", name, time.Since(began).Round(time.Microsecond))
	}
}

// mendMapped measures what a clear and a mark of one task take, of a run of n mapped tasks that has ended, and how long the loop does nothing else.
func mendMapped(t *testing.T, f *fixture, store scheduler.Store, run string, n int) {
	t.Helper()
	beside := func(what string, call func() error) {
		done := make(chan error, 1)
		began := time.Now()
		go func() { done <- call() }() // ends with the call
		worst := time.Duration(0)
		for i := 0; ; i++ {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%s took %v, the longest input beside it %v", what, time.Since(began).Round(time.Millisecond), worst.Round(time.Millisecond))
				return
			default:
			}
			asked := time.Now()
			if _, err := f.e.Pause(t.Context(), "a", i%2 == 0); err != nil {
				t.Fatal(err)
			}
			worst = max(worst, time.Since(asked))
		}
	}
	one := scheduler.TaskName("load", n/2)
	beside("clear of one task", func() error {
		_, err := f.e.Clear(t.Context(), run, scheduler.Clear{Tasks: []string{one}})
		return err
	})
	lookUntil(t, f.e, store, run, func(d *scheduler.RunDetail) bool { return d.Run.State.Terminal() })
	beside("mark of one task", func() error {
		_, err := f.e.Mark(t.Context(), run, scheduler.Mark{Task: one, State: scheduler.StateFailed})
		return err
	})
}

// lookUntil waits for a change of the run after which ok.
func lookUntil(t *testing.T, e *Engine, store scheduler.Store, run string, ok func(*scheduler.RunDetail) bool) *scheduler.RunDetail {
	t.Helper()
	for {
		changed, stop := e.Watch(run)
		d, err := store.Look(t.Context(), run)
		if err != nil {
			t.Fatal(err)
		}
		if ok(d) {
			stop()
			return d
		}
		<-changed
		stop()
	}
}

// inUse is what is in use after a collection.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
