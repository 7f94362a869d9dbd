package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

// saysMapped is about a mapped task of three items, one at a time, and one that is over.
func saysMapped(t *testing.T, f *fixture, run string, got map[string]scheduler.Why) {
	t.Helper()
	says(t, got["maps"], scheduler.CodeMapped, "0 of its 3 items ended; 1 are under way")
	says(t, got["over"], scheduler.CodeEnded, "success")
	says(t, got["maps/0"], scheduler.CodeRunning, "try 1 runs since")
	if _, shown := got["maps/2"]; shown {
		t.Error("an item that does nothing is explained with the run")
	}
	w, err := f.e.ExplainTask(t.Context(), run, "maps/2")
	if err != nil {
		t.Fatal(err)
	}
	says(t, w.Why, scheduler.CodeLimit, "waits for max_concurrent of task maps: 1 of 1 go on")
	if _, err := f.e.ExplainTask(t.Context(), run, "maps/3"); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("explain an item that the list does not have: got %v", err)
	}
}

// mappedStates are the states of a task and of its items.
func mappedStates(d *scheduler.RunDetail, task string) string {
	var out []string
	for i := range d.Tasks {
		if t := &d.Tasks[i]; t.Task == task {
			out = append(out, string(t.State))
		}
	}
	return strings.Join(out, " ")
}

// A task runs once for each object of the run's batches, knows which one is its own, and the next task gets what all of them have put out.
func TestForeach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": `dag: a
on: [{batch: {}, coalesce: {max_batches: 3}}]
tasks:
  load:
    run: [load, "${{ obj.key }}"]
    env: {AT: "${{ map.index }} of ${{ map.count }}: ${{ map.key }}"}
    foreach: {items: inputs.objects, as: obj, key: obj.batch}
  sum:
    run: [sum, "${{ tasks.load.output[1].rows }}", "${{ tasks.load.count }}"]
    needs: load
`})
		batches := []string{}
		in := f.intake(testBatch(1), testBatch(2), testBatch(3))
		in.Firings = in.Firings[:1]
		in.Firings[0].Batches = nil
		for _, a := range in.Arrivals {
			b := a.Batch
			b.Key = "k" + fmt.Sprint(b.Seq)
			in.Firings[0].Batches = append(in.Firings[0].Batches, b)
			batches = append(batches, b.ID)
		}
		f.world.play(func(l scheduler.Launch) []scheduler.Report {
			return []scheduler.Report{{Outcome: scheduler.OutcomeExited, Output: fmt.Appendf(nil, `{"rows":%d}`, 10*l.MapIndex)}}
		})
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		d := f.wait(in.Firings[0].RunID())
		if got := mappedStates(d, "load"); got != "success success success success" || d.Run.State != scheduler.StateSuccess {
			t.Fatalf("got %s, run %s (%s)", got, d.Run.State, d.Run.Reason)
		}
		for i := range 3 {
			l := f.world.attempts[d.Run.ID+fmt.Sprintf(".load.%d.1", i)].launch
			wantEnv := fmt.Sprintf("AT=%d of 3: %s", i, batches[i])
			if diff := cmp.Diff([]string{"load", fmt.Sprintf("k%d", i+1)}, l.Argv); diff != "" || !slices.Contains(l.Env, wantEnv) ||
				!slices.Contains(l.Env, fmt.Sprintf("MILLRACE_MAP_INDEX=%d", i)) {
				t.Errorf("item %d: %s env %v, want %s", i, diff, l.Env, wantEnv)
			}
			var in scheduler.Input
			if err := json.Unmarshal(l.Input, &in); err != nil || in.Map == nil {
				t.Fatal(err, in.Map)
			}
			if diff := cmp.Diff(scheduler.InputMap{Index: i, Count: 3, Key: batches[i]}, *in.Map); diff != "" || !strings.Contains(string(in.Item), batches[i]) {
				t.Errorf("item %d: %s%s", i, in.Item, diff)
			}
		}
		sum := f.world.attempts[d.Run.ID+".sum.-1.1"].launch
		if diff := cmp.Diff([]string{"sum", "10", "3"}, sum.Argv); diff != "" || !strings.Contains(string(sum.Input), `"load":[{"rows":0},{"rows":10},{"rows":20}]`) {
			t.Errorf("%s%s", diff, sum.Input)
		}
	})
}

// No more items go on at once than may.
func TestForeachMaxConcurrent(t *testing.T) {
	t.Parallel()
	for _, most := range []int{0, 2} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, map[string]string{"a.yaml": fmt.Sprintf("dag: a\ntasks: {load: {run: x, foreach: {items: lists.range(6)%s}}}",
				map[int]string{0: "", 2: ", max_concurrent: 2"}[most])})
			f.world.play(runs)
			run := f.trigger("a", "1", "").ID
			synctest.Wait()
			want := 6
			if most > 0 {
				want = most
			}
			for ended := 0; ended < 6; ended++ {
				if got := len(f.world.launched()) - ended; got != min(want, 6-ended) {
					t.Fatalf("%d items run after %d have ended, want %d", got, ended, min(want, 6-ended))
				}
				f.world.tell(scheduler.Report{Attempt: f.world.launched()[ended], Outcome: scheduler.OutcomeExited})
				synctest.Wait()
			}
			f.wait(run)
		})
	}
}

// Items may fail as many as are tolerated; one more, and nothing more of the task is started.
func TestForeachTolerance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ tolerate, want, run string }{
		{"", "failed failed cancelled cancelled cancelled", "task load: 1 of its 4 items failed"},
		{", tolerate_failures: 1", "failed failed success failed cancelled", "task load: 2 of its 4 items failed, and 1 are tolerated"},
		{", tolerate_failures: 50%", "success failed success failed success", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, map[string]string{"a.yaml": "dag: a\ntasks: {load: {run: x, foreach: {items: lists.range(4), max_concurrent: 1" + tt.tolerate + "}}}"})
			f.world.play(func(l scheduler.Launch) []scheduler.Report {
				return []scheduler.Report{{Outcome: scheduler.OutcomeExited, Exit: 1 - l.MapIndex%2}}
			})
			d := f.wait(f.trigger("a", "1", "").ID)
			if got := mappedStates(d, "load"); got != tt.want || d.Run.Reason != tt.run {
				t.Errorf("%q: got %s (%s), want %s (%s)", tt.tolerate, got, d.Run.Reason, tt.want, tt.run)
			}
		})
	}
}

// A list that is none fails its task, and says why; one without items skips it.
func TestForeachLists(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ items, output, want, reason string }{
		{"tasks.list.output", "[1, 2]", "success success success", ""},
		{"tasks.list.output", `{"b": 1, "a": 2}`, "success success success", ""},
		{"tasks.list.output", "[]", "skipped", "foreach has no items"},
		{"tasks.list.output", "7", "failed", "want a list or a map"},
		{"tasks.list.output", "", "failed", "it yields null, want a list or a map"},
		{"lists.range(tasks.list.output)", "100001", "failed", "want 0 to 100000"},
		{"tasks.list.output.more", "[1]", "failed", "foreach: evaluate"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, map[string]string{"a.yaml": "dag: a\ntasks: {list: {run: x}, load: {run: x, needs: list, foreach: '" + tt.items + "'}}"})
			f.world.play(func(l scheduler.Launch) []scheduler.Report {
				rep := scheduler.Report{Outcome: scheduler.OutcomeExited}
				if l.Task == "list" {
					rep.Output = []byte(tt.output)
				}
				return []scheduler.Report{rep}
			})
			d := f.wait(f.trigger("a", "1", "").ID)
			i := slices.IndexFunc(d.Tasks, func(k scheduler.TaskRun) bool { return k.Task == "load" })
			if got := mappedStates(d, "load"); got != tt.want || !strings.Contains(d.Tasks[i].Reason, tt.reason) {
				t.Errorf("%s of %s: got %s (%s), want %s (%s)", tt.items, tt.output, got, d.Tasks[i].Reason, tt.want, tt.reason)
			}
		})
	}
}

// A list is made in portions, and after a restart it goes on where it was; what was made runs meanwhile.
func TestForeachLongList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 3*maxRows + 7
		f := newFixture(t, map[string]string{"a.yaml": fmt.Sprintf("dag: a\ntasks: {load: {run: x, foreach: lists.range(%d)}, after: {run: x, needs: load}}", n)})
		commits, most := 0, 0
		f.store.Intercept = func(c *scheduler.Change, commit func() error) error {
			commits++
			most = max(most, len(c.Tasks))
			if commits == 3 {
				return scheduler.ErrConflict // as a restart: memory is thrown away
			}
			return commit()
		}
		d := f.wait(f.trigger("a", "1", "").ID)
		if len(d.Tasks) != n+2 || d.Run.State != scheduler.StateSuccess {
			t.Fatalf("the run has %d tasks and is %s: %s", len(d.Tasks), d.Run.State, d.Run.Reason)
		}
		if most > 2*maxRows {
			t.Errorf("a transaction wrote %d rows", most)
		}
		if len(f.world.doubled) > 0 {
			t.Errorf("launched twice: %v", f.world.doubled)
		}
	})
}

// A clear of one item executes that again and nothing else; of the whole, the list is made again, and what it does not have any more is removed.
func TestForeachClear(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\ntasks: {list: {run: x}, load: {run: x, needs: list, foreach: tasks.list.output}, after: {run: x, needs: load}}"})
		list, fails := "[1, 2, 3]", 1
		f.world.play(func(l scheduler.Launch) []scheduler.Report {
			rep := scheduler.Report{Outcome: scheduler.OutcomeExited}
			switch {
			case l.Task == "list":
				rep.Output = []byte(list)
			case l.Task == "load" && l.MapIndex == fails:
				rep.Exit = 1
			}
			return []scheduler.Report{rep}
		})
		run := f.trigger("a", "1", "").ID
		d := f.wait(run)
		if got := mappedStates(d, "load"); got != "failed success failed success" {
			t.Fatalf("got %s", got)
		}
		clear := func(c scheduler.Clear) *scheduler.Mended {
			m, err := f.e.Clear(t.Context(), run, c)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return m
		}
		fails = -1
		m := clear(scheduler.Clear{Failed: true, Tasks: []string{"load"}, Downstream: true})
		if len(m.Tasks) != 2 || m.Tasks[0].Task != "after" || m.Tasks[1].MapIndex != 1 {
			t.Errorf("cleared %+v", m.Tasks)
		}
		d = f.wait(run)
		if got := mappedStates(d, "load") + ", " + mappedStates(d, "after"); got != "success success success success, success" || d.Run.State != scheduler.StateSuccess {
			t.Fatalf("got %s; run %s", got, d.Run.State)
		}
		clear(scheduler.Clear{Tasks: []string{"load/2"}})
		if d = f.wait(run); d.Tasks[len(d.Tasks)-1].Try != 2 || d.Tasks[len(d.Tasks)-3].Try != 1 {
			t.Errorf("the third item has %d tries, the first %d", d.Tasks[len(d.Tasks)-1].Try, d.Tasks[len(d.Tasks)-3].Try)
		}
		list = "[7]"
		clear(scheduler.Clear{Tasks: []string{"list"}, Downstream: true})
		d = f.wait(run)
		if got := mappedStates(d, "load"); got != "success success removed removed" || d.Run.State != scheduler.StateSuccess {
			t.Fatalf("got %s; run %s", got, d.Run.State)
		}
		if first := d.Tasks[len(d.Tasks)-3]; string(first.Item.Value) != "7" || first.Try != 2 {
			t.Errorf("the first item is %s in try %d, want 7 in try 2", first.Item.Value, first.Try)
		}
		if _, err := f.e.Clear(t.Context(), run, scheduler.Clear{Tasks: []string{"load/2"}}); err == nil || !strings.Contains(err.Error(), "task load has 1 items") {
			t.Errorf("clear of an item that was removed: %v", err)
		}
	})
}
