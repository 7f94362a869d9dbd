package engine

import (
	"context"
	"fmt"
	"testing"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

// BenchmarkRoundAtCap is one round with nothing to decide, while so many runs wait for a place in their group and so many tasks for a pool: it
// looks at the same few heads for any number of them.
func BenchmarkRoundAtCap(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprint("waiting=", n), func(b *testing.B) {
			w := newWorld(64)
			e, err := New(schedulertest.NewStore(), map[string]scheduler.Executor{"local": w}, Options{Pools: map[string]int{"db": 1}})
			if err != nil {
				b.Fatal(err)
			}
			ctx := context.Background()
			if err := e.load(ctx, nil); err != nil {
				b.Fatal(err)
			}
			round := func(group ...input) {
				if err := e.round(ctx, group); err != nil {
					b.Fatal(err)
				}
			}
			files := map[string]string{
				"held.yaml": "dag: held\nconcurrency: 1\ntasks: {one: {run: x}}", "pooled.yaml": "dag: pooled\ntasks: {one: {run: x, pool: db}}",
			}
			round(&dagSet{set: setOf(files), done: make(answer, 1)})
			for i := range n {
				id := fmt.Sprint(i)
				round(&manual{dag: "held", id: id, done: make(answer, 1)}, &manual{dag: "pooled", id: id, done: make(answer, 1)})
			}
			if got := len(e.core.runs); got != 2*n {
				b.Fatalf("%d runs are live, want %d", got, 2*n)
			}
			for b.Loop() {
				round()
			}
		})
	}
}
