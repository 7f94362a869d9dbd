package archive

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"millrace/batcher/memstore"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/scheduler/sqlstore"
	"millrace/trigger"
)

// BenchmarkRound archives runs of five tasks, each with an attempt and six moves, and says how many rows a second that is, and how long the
// slowest of the small changes took that somebody else made all the while.
func BenchmarkRound(b *testing.B) {
	store, err := sqlstore.Open(b.Context(), b.TempDir()+"/state.db", sqlstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	const tasks, moves = 5, 6
	rows := 0
	var c scheduler.Change
	apply := func() {
		if err := store.Apply(b.Context(), &c); err != nil {
			b.Fatal(err)
		}
		c = scheduler.Change{}
	}
	for n := range b.N {
		batch := schedulertest.ExampleBatch(n)
		r := schedulertest.ExampleRun(batch)
		r.Run.State, r.Run.EndedAt = scheduler.StateSuccess, day(0).Add(time.Duration(n)*time.Millisecond)
		one := r.Tasks[0]
		r.Tasks = nil
		for i := range tasks {
			t := one
			t.Task = fmt.Sprint("t", i)
			r.Tasks = append(r.Tasks, t)
			c.Attempts = append(c.Attempts, scheduler.Attempt{ID: t.AttemptID(1), Run: t.Run, Task: t.Task, MapIndex: t.MapIndex, Try: 1, Executor: "local"})
			for range moves {
				c.Moves = append(c.Moves, scheduler.Move{Run: t.Run, Task: t.Task, MapIndex: t.MapIndex, To: scheduler.StateSuccess, At: r.Run.EndedAt})
			}
		}
		c.Arrivals, c.NewRuns = append(c.Arrivals, trigger.Arrival{Batch: batch}), append(c.NewRuns, r)
		if rows += 2 + tasks*(2+moves); n%200 == 199 {
			apply()
		}
	}
	apply()
	ctx, stop := context.WithCancel(b.Context())
	slowest := make(chan time.Duration)
	go func() { // ends with ctx; received below
		var worst time.Duration
		for n := int64(1); ctx.Err() == nil; n++ {
			begin := time.Now()
			err := store.Apply(ctx, &scheduler.Change{Cursors: []trigger.Cursor{{Stream: schedulertest.ExampleStream, Seq: n}}})
			if err == nil {
				worst = max(worst, time.Since(begin))
			} else if !errors.Is(err, scheduler.ErrUnavailable) {
				b.Error(err)
			}
		}
		slowest <- worst
	}()
	k := NewKeeper(store, memstore.New(memstore.Options{}), Options{})
	b.ResetTimer()
	done, err := k.Round(b.Context(), day(1))
	b.StopTimer()
	stop()
	worst := <-slowest
	if err != nil || done.Runs != b.N {
		b.Fatalf("got %+v, %v", done, err)
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(done.Bytes)/float64(b.N), "bytes/run")
	b.ReportMetric(worst.Seconds()*1000, "ms-slowest-writer")
}
