package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
	"millrace/trigger"
)

// parents are two DAGs, the first of which starts a run of the second.
func parents(sub, child string) map[string]string {
	return map[string]string{
		"up.yaml":   "dag: up\non: [{batch: {}}, {manual: true}]\nparams: {n: 3}\ntasks: {a: {run: x}, sub: {needs: a, " + sub + "}, z: {run: x, needs: sub}}",
		"down.yaml": "dag: down\nparams: {n: 1}\ntasks: " + child,
	}
}

// deferred waits until a task waits for a run, and returns that run's id.
func (f *fixture) deferred(run, task string) string {
	f.t.Helper()
	child := ""
	f.until(run, func(d *scheduler.RunDetail) bool {
		for _, t := range d.Tasks {
			if t.Task == task && t.State == scheduler.StateDeferred {
				child = t.External
			}
		}
		return child != ""
	})
	return child
}

// batchRun starts a run of the DAG up by a batch.
func (f *fixture) batchRun() string {
	f.t.Helper()
	in := f.intake(testBatch(1))
	in.Firings = slices.DeleteFunc(in.Firings, func(g trigger.Firing) bool { return g.DAG != "up" || g.Rule != "batch" })
	if err := f.e.Start(f.t.Context(), in); err != nil {
		f.t.Fatal(err)
	}
	return in.Firings[0].RunID()
}

// allRuns returns the ids of all runs.
func (f *fixture) allRuns() []string {
	f.t.Helper()
	list, _, err := f.store.Runs(f.t.Context(), scheduler.RunQuery{Limit: 1000})
	if err != nil {
		f.t.Fatal(err)
	}
	var ids []string
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return ids
}

// A task starts a run of another DAG, with its parameters and the batches of its own run, waits without a slot, and ends as that does.
func TestSubDAG(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := parents("dag: {id: down, params: {n: '${{ params.n }}'}}", "{one: {run: x}, two: {run: x, needs: one}}")
		f := newFixture(t, files)
		f.world.set(func() { f.world.slots = 1 })
		f.world.play(func(l scheduler.Launch) []scheduler.Report {
			if l.Task == "one" {
				return runs(l)
			}
			return []scheduler.Report{{Outcome: scheduler.OutcomeExited, Output: []byte(`{"rows":5}`)}}
		})
		id := f.batchRun()
		child := f.deferred(id, "sub")
		d := f.until(child, func(d *scheduler.RunDetail) bool { return d.Tasks[0].State == scheduler.StateRunning })
		if got := d.Run.Trigger; got.Kind != "dag" || got.Parent != id+"/sub" || len(got.Path) != 1 || got.Path[0] != "up" || got.Key != id+".sub.-1.1" {
			t.Errorf("trigger is %+v", got)
		}
		if string(d.Run.Params) != `{"n":3}` || len(d.Run.Batches) != 1 || d.Run.Events != 1 {
			t.Errorf("params are %s, batches %v", d.Run.Params, d.Run.Batches)
		}
		why, err := f.e.Explain(t.Context(), id)
		if err != nil || why.Why.Code != scheduler.CodeSubDAG || !strings.Contains(why.Why.Text, "waits for run "+child+" of dag down (running): 1 task under way") {
			t.Errorf("got %+v, %v", why, err)
		}
		f.stop()
		f.start() // nothing is started twice, and the wait goes on
		f.setDAGs(files)
		if again := f.deferred(id, "sub"); again != child {
			t.Errorf("after a restart it waits for %s, before for %s", again, child)
		}
		f.world.tell(scheduler.Report{Attempt: child + ".one.-1.1", Outcome: scheduler.OutcomeExited})
		d = f.wait(id)
		if got := states(d); got != "success a=success sub=success z=success" {
			t.Errorf("got %s", got)
		}
		if want := `{"run":"` + child + `","dag":"down","state":"success","outputs":{"two":{"rows":5}}}`; string(d.Tasks[1].Output) != want {
			t.Errorf("output is %s, want %s", d.Tasks[1].Output, want)
		}
		if n := len(f.allRuns()); n != 2 {
			t.Errorf("there are %d runs, want 2", n)
		}
	})
}

// What becomes of the run is what becomes of the task.
func TestSubDAGOutcomes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ sub, child, more, want, reason string }{
		"failed":            {"dag: down", "{one: {run: x, timeout: 1h}}", "", "failed a=success sub=failed z=upstream_failed", "ended: failed: task one: exit code 3"},
		"tried again":       {"dag: down, retry: 1", "{one: {run: x}}", "", "failed a=success sub=failed z=upstream_failed", "all 1 retries are used up"},
		"skipped":           {"dag: down", "{one: {run: x, when: 'false'}}", "", "success a=success sub=success z=success", ""},
		"not waited for":    {"dag: {id: down, wait: false}", "{one: {run: x}}", "", "success a=success sub=success z=success", ""},
		"no such dag":       {"dag: dwon", "{one: {run: x}}", "", "failed a=success sub=failed z=upstream_failed", `dag dwon does not exist: did you mean "down"?`},
		"bad parameter":     {"dag: {id: down, params: {n: x}}", "{one: {run: x}}", "", "failed a=success sub=failed z=upstream_failed", `dag down: parameter "n"`},
		"unknown parameter": {"dag: {id: down, params: {m: 1}}", "{one: {run: x}}", "", "failed a=success sub=failed z=upstream_failed", `did you mean "n"?`},
		"circle":            {"dag: down", "{one: {dag: up}}", "", "failed a=success sub=failed z=upstream_failed", "dag up is started by a run of itself: up → down → up"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, parents(tt.sub, tt.child))
				f.world.play(func(l scheduler.Launch) []scheduler.Report {
					rep := scheduler.Report{Outcome: scheduler.OutcomeExited}
					if l.Task == "one" {
						rep.Exit = 3
					}
					return []scheduler.Report{rep}
				})
				id := f.trigger("up", "x", "").ID
				d := f.wait(id)
				if got := states(d); got != tt.want || !strings.Contains(d.Tasks[1].Reason, tt.reason) {
					t.Errorf("got %s: %s", got, d.Tasks[1].Reason)
				}
				if name == "tried again" && (d.Tasks[1].Try != 2 || len(f.allRuns()) != 3) {
					t.Errorf("got %d tries and %d runs", d.Tasks[1].Try, len(f.allRuns()))
				}
				for _, run := range f.allRuns() { // also one that is not waited for ends
					f.wait(run)
				}
			})
		})
	}
}

// Whoever ends the task ends its run first: a cancel, a clear, a mark, a timeout.
func TestSubDAGEndsWithItsTask(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sub  string
		do   func(f *fixture, id string) error
		want string
	}{
		"cancel": {"dag: down", func(f *fixture, id string) error {
			_, err := f.e.Cancel(f.t.Context(), id)
			return err
		}, "cancelled a=success sub=cancelled z=cancelled"},
		"mark": {"dag: down", func(f *fixture, id string) error {
			_, err := f.e.Mark(f.t.Context(), id, scheduler.Mark{Task: "sub", State: scheduler.StateSuccess, By: "ann"})
			return err
		}, "success a=success sub=success z=success"},
		"clear": {"dag: down", func(f *fixture, id string) error {
			f.world.play(nil) // the next one goes well
			_, err := f.e.Clear(f.t.Context(), id, scheduler.Clear{Tasks: []string{"sub"}})
			return err
		}, "success a=success sub=success z=success"},
		"timeout": {"dag: down, timeout: 10m", func(*fixture, string) error { return nil }, "failed a=success sub=failed z=upstream_failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, parents(tt.sub, "{one: {run: x}}"))
				f.world.play(func(l scheduler.Launch) []scheduler.Report {
					if l.Task == "one" {
						return runs(l)
					}
					return []scheduler.Report{{Outcome: scheduler.OutcomeExited}}
				})
				id := f.trigger("up", "x", "").ID
				child := f.deferred(id, "sub")
				synctest.Wait() // Its task is under way, and keeps to the script.
				began := time.Now()
				if err := tt.do(f, id); err != nil {
					t.Fatal(err)
				}
				first := f.wait(child)
				if first.Run.State != scheduler.StateCancelled || !strings.Contains(first.Run.Reason, "task "+id+"/sub, which started it, was asked to end") {
					t.Errorf("the run is %s: %s", first.Run.State, first.Run.Reason)
				}
				d := f.wait(id)
				if got := states(d); got != tt.want {
					t.Errorf("got %s: %s", got, d.Tasks[1].Reason)
				}
				if took := time.Since(began); name == "timeout" && took != 10*time.Minute {
					t.Errorf("took %v", took)
				}
				if name == "clear" && (d.Tasks[1].External == child || d.Tasks[1].Try != 2) {
					t.Errorf("the task is %+v, want a run of its own for the second try", d.Tasks[1])
				}
			})
		})
	}
}

// Without the inputs of its run; and a group that is full and skips what comes skips the task.
func TestSubDAGWithoutInputs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := parents("dag: {id: down, inputs: none}", "{one: {run: x}}")
		files["down.yaml"] += "\nconcurrency: {when_full: skip}"
		f := newFixture(t, files)
		d := f.wait(f.batchRun())
		var out struct{ Run string }
		if err := json.Unmarshal(d.Tasks[1].Output, &out); err != nil {
			t.Fatal(err)
		}
		if c := f.wait(out.Run); len(c.Run.Batches) != 0 || c.Run.State != scheduler.StateSuccess {
			t.Errorf("the run has %v", c.Run.Batches)
		}
		f.world.play(func(l scheduler.Launch) []scheduler.Report {
			if l.Task == "one" {
				return runs(l)
			}
			return []scheduler.Report{{Outcome: scheduler.OutcomeExited}}
		})
		busy := f.trigger("down", "busy", "").ID
		d = f.wait(f.trigger("up", "y", "").ID)
		if got := states(d); got != "success a=success sub=skipped z=skipped" || !strings.Contains(d.Tasks[1].Reason, "takes 1 run at a time, and "+busy) {
			t.Errorf("got %s: %s", got, d.Tasks[1].Reason)
		}
	})
}

// A replay starts no run of another DAG unless that is asked for.
func TestSubDAGOfReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, parents("dag: down", "{one: {run: x}}"))
		id := f.batchRun()
		f.wait(id)
		for _, emit := range []bool{false, true} {
			again, err := f.e.Replay(t.Context(), id, scheduler.Replay{Emit: emit})
			if err != nil {
				t.Fatal(err)
			}
			want := map[bool]string{false: "success a=success sub=skipped z=skipped", true: "success a=success sub=success z=success"}[emit]
			if again.Class() != scheduler.ClassReplay {
				t.Fatalf("a replay has the class %v", again.Class())
			}
			if d := f.wait(again.ID); emit && f.wait(d.Tasks[1].External).Run.Class() != scheduler.ClassReplay {
				t.Error("what a replay starts does not wait behind live runs")
			}
			if d := f.wait(again.ID); states(d) != want || !emit && !strings.Contains(d.Tasks[1].Reason, "starts no runs of other DAGs") {
				t.Errorf("emit %v: got %s: %s", emit, states(d), d.Tasks[1].Reason)
			}
		}
		if n := len(f.allRuns()); n != 5 {
			t.Errorf("there are %d runs, want 5: two, a replay without another run, one with it", n)
		}
	})
}

// A chain of DAGs that start each other has an end, also if none comes twice.
func TestSubDAGDepth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{"d10.yaml": "dag: d10\ntasks: {x: {run: x}}"}
		for i := range 10 {
			files[fmt.Sprintf("d%d.yaml", i)] = fmt.Sprintf("dag: d%d\ntasks: {x: {dag: d%d}}", i, i+1)
		}
		f := newFixture(t, files)
		if d := f.wait(f.trigger("d2", "x", "").ID); d.Run.State != scheduler.StateSuccess {
			t.Errorf("nine DAGs: got %s: %s", d.Run.State, d.Run.Reason)
		}
		if d := f.wait(f.trigger("d0", "x", "").ID); d.Run.State != scheduler.StateFailed || !strings.Contains(d.Run.Reason, "8 runs have led to this one") {
			t.Errorf("eleven DAGs: got %s: %s", d.Run.State, d.Run.Reason)
		}
	})
}

// A mapped task starts a run for each item, and asks about each; its cancel reaches all of them.
func TestSubDAGMapped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{
			"up.yaml": "dag: up\ntasks: {each: {foreach: lists.range(3), dag: {id: down, params: {n: '${{ item }}'}}}," +
				" ask: {foreach: lists.range(2), approval: 'Item ${{ item }}?'}}",
			"down.yaml": "dag: down\nparams: {n: 9}\ntasks: {q: {approval: 'For ${{ params.n }}?'}}",
		})
		id := f.trigger("up", "x", "").ID
		synctest.Wait()
		list, err := f.e.Questions(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, q := range list {
			got = append(got, q.Message)
		}
		slices.Sort(got)
		if want := "For 0?,For 1?,For 2?,Item 0?,Item 1?"; strings.Join(got, ",") != want {
			t.Errorf("got %v, want %s", got, want)
		}
		for i := range 2 {
			if _, err := f.e.Decide(t.Context(), id, "ask", i, scheduler.Decision{Decision: "approve"}); err != nil {
				t.Error(err)
			}
		}
		f.stop()
		f.start()
		if _, err := f.e.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		d := f.wait(id)
		for _, run := range f.allRuns() {
			if c := f.wait(run); c.Run.State != scheduler.StateCancelled {
				t.Errorf("run %s of dag %s is %s", run, c.Run.DAG, c.Run.State)
			}
		}
		if n := len(f.allRuns()); n != 4 {
			t.Errorf("there are %d runs, want 4: %s", n, states(d))
		}
	})
}
