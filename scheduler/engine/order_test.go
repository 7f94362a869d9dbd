package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
)

// TestOrderOfRuns: of the runs that wait for their group the newest of a rule with lifo goes first, on the turn of its oldest, so that the runs
// of another rule keep theirs; also after a restart, and explain says so.
func TestOrderOfRuns(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart=", restart), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				files := map[string]string{"a.yaml": "dag: a\nconcurrency: 1\non: [{id: lifo, batch: {}, order: lifo}, {id: plain, batch: {}}]\ntasks: {a: {run: x}}"}
				f := newFixture(t, files)
				f.world.play(runs)
				names := map[string]string{}
				for i := range 4 {
					in := f.intake(testBatch(i + 1))
					if i%2 == 0 { // both rules want the first and the third
						in.Firings = in.Firings[:1]
						in.Arrivals[0].Dispositions = in.Arrivals[0].Dispositions[:1]
					}
					for _, fire := range in.Firings {
						names[fire.RunID()] = fmt.Sprint(fire.Rule, i+1)
					}
					if err := f.e.Start(context.Background(), in); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Millisecond)
				}
				if restart {
					f.restart(files)
				}
				for id, name := range names {
					why, err := f.e.Explain(t.Context(), id)
					if err != nil {
						t.Fatal(err)
					}
					ahead := map[string]int{"lifo4": 0, "plain2": 1, "lifo3": 2, "lifo2": 3, "plain4": 4}[name]
					if name != "lifo1" && !restart && (why.Why.Code != scheduler.CodeConcurrency || why.Why.Ahead != ahead) {
						t.Errorf("%s: got %+v, want %d before it", name, why.Why, ahead)
					}
					if lifo := strings.Contains(why.Why.Text, "since rule lifo has order: lifo"); !restart && lifo != (name == "lifo2" || name == "lifo3") {
						t.Errorf("%s: got %q", name, why.Why.Text)
					}
				}
				var order []string
				for range names {
					for id, name := range names {
						if f.state(id) == "running" {
							order = append(order, name)
							f.end(id, "a")
							break
						}
					}
				}
				if restart { // which of the two runs of a batch is the elder is not known any more
					slices.SortStableFunc(order, func(a, b string) int { return strings.Compare(a[:1], b[:1]) })
					want(t, order, []string{"lifo1", "lifo4", "lifo3", "lifo2", "plain2", "plain4"})
					return
				}
				want(t, order, []string{"lifo1", "lifo4", "plain2", "lifo3", "lifo2", "plain4"})
			})
		})
	}
}
