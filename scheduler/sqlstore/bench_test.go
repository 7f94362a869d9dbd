package sqlstore

import (
	"fmt"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/trigger"
)

// change n is what one batch causes: an arrival with its disposition and a run with one task.
func change(n int) (trigger.Arrival, scheduler.NewRun) {
	b := schedulertest.ExampleBatch(n)
	r := schedulertest.ExampleRun(b)
	r.Tasks = r.Tasks[:1]
	d := trigger.Disposition{Batch: b.ID, Rule: "load/clicks", Fate: trigger.FateRun, Run: r.Run.ID, At: b.CommittedAt}
	return trigger.Arrival{Batch: b, Dispositions: []trigger.Disposition{d}}, r
}

// BenchmarkApplyRun is the latency of a trigger: one batch, one run, one task, one transaction.
func BenchmarkApplyRun(b *testing.B) {
	s := openTest(b, b.TempDir())
	n := 0
	for b.Loop() {
		n++
		a, r := change(n)
		c := &scheduler.Change{Arrivals: []trigger.Arrival{a}, NewRuns: []scheduler.NewRun{r}}
		if err := s.Apply(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApplyMoves is the rate of task transitions, each with its attempt and its line in the audit trail, grouped into one transaction.
func BenchmarkApplyMoves(b *testing.B) {
	for _, group := range []int{1, 50, 256} {
		b.Run(fmt.Sprintf("group=%d", group), func(b *testing.B) {
			s := openTest(b, b.TempDir())
			tasks := seed(b, s, 4096)
			n := 0
			for b.Loop() {
				if err := s.Apply(b.Context(), moves(tasks, n, group)); err != nil {
					b.Fatal(err)
				}
				n += group
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "transitions/s")
		})
	}
}

// seed fills the store with runs of one task each.
func seed(b *testing.B, s *Store, n int) []scheduler.TaskRun {
	b.Helper()
	var tasks []scheduler.TaskRun
	for len(tasks) < n {
		c := &scheduler.Change{}
		for range 256 {
			a, r := change(len(tasks))
			c.Arrivals, c.NewRuns = append(c.Arrivals, a), append(c.NewRuns, r)
			r.Tasks[0].Rev = 1
			tasks = append(tasks, r.Tasks[0])
		}
		if err := s.Apply(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	return tasks
}

func moves(tasks []scheduler.TaskRun, from, n int) *scheduler.Change {
	c := &scheduler.Change{}
	now := time.Now()
	for i := range n {
		k := &tasks[(from+i)%len(tasks)]
		to, try := scheduler.StateRunning, int(k.Rev/2)+1
		if k.State == scheduler.StateRunning {
			to = scheduler.StateUpForRetry
		}
		c.Moves = append(c.Moves, scheduler.Move{Run: k.Run, Task: k.Task, MapIndex: k.MapIndex, Try: try, From: k.State, To: to, At: now})
		c.Attempts = append(c.Attempts, scheduler.Attempt{
			ID: k.AttemptID(try), Run: k.Run, Task: k.Task, MapIndex: k.MapIndex, Try: try, Executor: "local", State: to, CreatedAt: now,
		})
		k.State, k.Try = to, try
		c.Tasks = append(c.Tasks, *k)
		k.Rev++
	}
	return c
}

// BenchmarkFind is what a person waits for: a batch by the offset of a record, among many.
func BenchmarkFind(b *testing.B) {
	s := openTest(b, b.TempDir())
	const batches = 20_000
	for n := 0; n < batches; {
		c := &scheduler.Change{}
		for range 1000 {
			c.Arrivals = append(c.Arrivals, trigger.Arrival{Batch: schedulertest.ExampleBatch(n)})
			n++
		}
		if err := s.Apply(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	var got []batcher.Batch
	for b.Loop() {
		var err error
		got, _, err = s.Batches(b.Context(), scheduler.BatchQuery{Stream: schedulertest.ExampleStream, Offset: batches * 50})
		if err != nil || len(got) != 1 {
			b.Fatalf("got %d batches, %v", len(got), err)
		}
	}
}
