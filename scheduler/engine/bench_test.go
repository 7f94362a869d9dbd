package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/scheduler/spec"
	"millrace/scheduler/sqlstore"
)

// benchRuns takes runs of one task through an engine whose executor does nothing: b.N groups of 1,000.
func benchRuns(b *testing.B, store scheduler.Store, group int) {
	w := newWorld(64)
	w.forget = true
	e, err := New(store, map[string]scheduler.Executor{"local": w}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}()
	f := &fixture{t: b, e: e}
	file := spec.ReadFile("a.yaml", []byte("dag: a\non: [{batch: {}}]\ntasks: {one: {run: x}}"))
	if err := e.SetDAGs(ctx, spec.Set{Files: []spec.File{file}}); err != nil {
		b.Fatal(err)
	}
	n, before := 0, cpuTime()
	for b.Loop() {
		for range 1000 / group {
			var batches []batcher.Batch
			for range group {
				n++
				batches = append(batches, testBatch(n))
			}
			if err := e.Start(ctx, f.intake(batches...)); err != nil {
				b.Fatal(err)
			}
		}
		w.until(n)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "runs/s")
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(n), "CPU-µs/run")
}

// cpuTime is what this process has taken of the processors, which says something on a machine that is not quiet, too.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkRuns(b *testing.B) {
	for _, group := range []int{1, 20} {
		b.Run(fmt.Sprintf("memory/intake=%d", group), func(b *testing.B) { benchRuns(b, schedulertest.NewStore(), group) })
		b.Run(fmt.Sprintf("sqlite/intake=%d", group), func(b *testing.B) {
			store, err := sqlstore.Open(b.Context(), filepath.Join(b.TempDir(), "state.db"), sqlstore.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			benchRuns(b, store, group)
		})
	}
}

// BenchmarkSetDAGs puts 1,000 files into force, and then again with one that has changed, each with its commit.
func BenchmarkSetDAGs(b *testing.B) {
	const n = 1000
	read := func(i, version int) spec.File {
		text := fmt.Sprintf("dag: d%d\non: [{batch: {}}]\ntasks: {one: {run: [x, '%d']}}", i, version)
		return spec.ReadFile(fmt.Sprintf("d%d.yaml", i), []byte(text))
	}
	var set spec.Set
	for i := range n {
		set.Files = append(set.Files, read(i, 0))
	}
	start := func(b *testing.B) (*Engine, func()) {
		store, err := sqlstore.Open(b.Context(), filepath.Join(b.TempDir(), "state.db"), sqlstore.Options{})
		if err != nil {
			b.Fatal(err)
		}
		e, err := New(store, map[string]scheduler.Executor{"local": newWorld(1)}, Options{})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }() // ends with ctx, and is waited for below
		return e, func() { cancel(); <-ended; _ = store.Close() }
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			e, stop := start(b)
			b.StartTimer()
			if err := e.SetDAGs(b.Context(), set); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			stop()
			b.StartTimer()
		}
	})
	b.Run("one changed", func(b *testing.B) {
		e, stop := start(b)
		defer stop()
		if err := e.SetDAGs(b.Context(), set); err != nil {
			b.Fatal(err)
		}
		for i := 1; b.Loop(); i++ {
			next := spec.Set{Files: slices.Clone(set.Files)}
			next.Files[n/2] = read(n/2, i)
			if err := e.SetDAGs(b.Context(), next); err != nil {
				b.Fatal(err)
			}
		}
	})
}
