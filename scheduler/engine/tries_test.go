package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
)

// active counts the attempts of a task that are active now, in all runs.
func (f *fixture) active(ids []string, task string) int {
	f.t.Helper()
	n := 0
	for _, id := range ids {
		d, err := f.store.Run(f.t.Context(), id)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, t := range d.Tasks {
			if t.Task == task && t.State.Active() {
				n++
			}
		}
	}
	return n
}

// Attempts of one task beyond its concurrency wait, whatever run they are of, and start in the order in which they came, also across restarts;
// the other tasks of their runs go on.
func TestTaskConcurrency(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		key     string
		most    int
		restart bool
	}{{"", 4, false}, {", concurrency: 2", 2, false}, {", concurrency: 2", 2, true}} {
		t.Run(fmt.Sprintf("%s restart=%v", tt.key, tt.restart), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				files := map[string]string{"a.yaml": "dag: a\ntasks: {load: {run: x" + tt.key + "}, free: {run: x}}"}
				f := newFixture(t, files)
				f.world.set(func() { f.world.slots = 20 })
				f.world.play(runs)
				ids, names := f.begin("a", "1", "2", "3", "4")
				want(t, f.active(ids, "free"), 4)
				for i, id := range ids {
					if tt.restart {
						f.restart(files)
					}
					if got, most := f.active(ids, "load"), min(tt.most, len(ids)-i); got != most {
						t.Fatalf("%d attempts are active after %d ended, want %d", got, i, most)
					}
					if last := f.explain(ids[3])["load"]; i == 0 && tt.most == 2 {
						says(t, last, scheduler.CodeTries, fmt.Sprintf("waits for the concurrency of task load, of which 2 attempts may be active in all runs of a: %s/load, %s/load are",
							min(ids[0], ids[1]), max(ids[0], ids[1])))
						if last.Name != "a/load" || last.Used != 2 || last.Slots != 2 || last.Want != 1 || len(last.On) != 2 || last.Ahead != 1 {
							t.Errorf("got %+v", last)
						}
					}
					f.end(id, "load")
				}
				var order []string
				for _, s := range f.started(names) {
					if strings.HasSuffix(s, " load") {
						order = append(order, s)
					}
				}
				want(t, order, []string{"1 load", "2 load", "3 load", "4 load"})
				if n := len(f.world.doubled); n > 0 {
					t.Errorf("%d attempts were started twice", n)
				}
			})
		})
	}
}

// The limit is that of the file as it is now: runs that wait get on when it is raised, or taken out.
func TestTaskConcurrencyIsEdited(t *testing.T) {
	t.Parallel()
	file := func(key string) map[string]string {
		return map[string]string{"a.yaml": "dag: a\ntasks: {load: {run: x" + key + "}}"}
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, file(", concurrency: 1"))
		f.world.set(func() { f.world.slots = 20 })
		f.world.play(runs)
		ids, _ := f.begin("a", "1", "2", "3", "4")
		for _, tt := range []struct {
			key  string
			most int
		}{{", concurrency: 1", 1}, {", concurrency: 3", 3}, {", concurrency: 2", 3}, {"", 4}} {
			f.setDAGs(file(tt.key))
			synctest.Wait()
			if got := f.active(ids, "load"); got != tt.most {
				t.Errorf("with %q: %d attempts are active, want %d", tt.key, got, tt.most)
			}
		}
	})
}

// The items of a mapped task are attempts of one task, of all runs; a try that waits for its time holds no place.
func TestTaskConcurrencyOfItems(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\ntasks: {each: {run: x, concurrency: 3, foreach: 'lists.range(5)', retry: {limit: 1, delay: 1h}}}"})
		f.world.set(func() { f.world.slots = 20 })
		f.world.play(runs)
		ids, _ := f.begin("a", "1", "2")
		want(t, f.active(ids, "each"), 3)
		first := f.world.launched()[:3]
		for _, id := range first {
			f.world.tell(scheduler.Report{Attempt: id, Outcome: scheduler.OutcomeExited, Exit: 1})
		}
		synctest.Wait()
		want(t, f.active(ids, "each"), 3)
		want(t, len(f.world.launched()), 6)
		time.Sleep(2 * time.Hour) // the three are ready again, and come last
		want(t, f.active(ids, "each"), 3)
		for done := map[string]bool{}; ; {
			next := slices.DeleteFunc(f.world.launched(), func(id string) bool { return done[id] || slices.Contains(first, id) })
			if len(next) == 0 {
				break
			}
			for _, id := range next {
				done[id] = true
				f.world.tell(scheduler.Report{Attempt: id, Outcome: scheduler.OutcomeExited})
			}
			synctest.Wait()
			if got := f.active(ids, "each"); got > 3 {
				t.Fatalf("%d attempts are active, want at most 3", got)
			}
		}
		want(t, []string{f.state(ids[0]), f.state(ids[1])}, []string{"success", "success"})
	})
}

// A DAG whose tasks have limits of their own has one turn among the others, and its tasks start by age.
func TestTaskConcurrencyKeepsTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{
			"a.yaml": "dag: a\ntasks: {p: {run: x, concurrency: 9}, q: {run: x}, r: {run: x, concurrency: 9}, s: {run: x}}",
			"b.yaml": "dag: b\ntasks: {p: {run: x}, q: {run: x}}",
			"z.yaml": "dag: z\ntasks: {one: {run: x}}",
		})
		f.world.set(func() { f.world.slots = 1 })
		f.world.play(runs)
		zs, names := f.begin("z", "z")
		as, more := f.begin("a", "a")
		names[as[0]] = more[as[0]]
		bs, more := f.begin("b", "b")
		names[bs[0]] = more[bs[0]]
		f.end(zs[0], "one")
		for n := 2; n < 8; n++ {
			list := f.started(names)
			name, task, _ := strings.Cut(list[len(list)-1], " ")
			f.end(map[string]string{"a": as[0], "b": bs[0]}[name], task)
		}
		want(t, f.started(names), []string{"z one", "a p", "b p", "a q", "b q", "a r", "a s"})
	})
}

// A task that needs many slots of a pool is not passed by one that needs few and has a limit besides.
func TestTaskConcurrencyAndPools(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newPoolFixture(t, map[string]int{"db": 2}, map[string]string{
			"a.yaml": "dag: a\ntasks: {one: {run: x, pool: db, concurrency: 1, priority: 2}, big: {run: x, pool: db, pool_slots: 2, priority: 1}, two: {run: x, pool: db, concurrency: 1}}",
		})
		f.world.play(runs)
		ids, names := f.begin("a", "1")
		want(t, f.started(names), []string{"1 one"})
		why := f.explain(ids[0])
		says(t, why["two"], scheduler.CodePool, "comes after task "+ids[0]+"/big")
		f.end(ids[0], "one")
		want(t, f.started(names), []string{"1 one", "1 big"})
		f.end(ids[0], "big")
		want(t, f.started(names), []string{"1 one", "1 big", "1 two"})
	})
}
