package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/trigger"
)

// end lets an attempt succeed, and what follows from it happen.
func (f *fixture) end(run, task string) {
	f.t.Helper()
	d, err := f.store.Run(f.t.Context(), run)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, t := range d.Tasks {
		if t.Task == task {
			f.world.tell(scheduler.Report{Attempt: t.AttemptID(t.Try), Outcome: scheduler.OutcomeExited})
		}
	}
	synctest.Wait()
}

// started returns the launched tasks, as trigger id and task, in order. names has the trigger ids of runs.
func (f *fixture) started(names map[string]string) []string {
	var out []string
	for _, id := range f.world.launched() {
		run, rest, _ := strings.Cut(id, ".")
		task, _, _ := strings.Cut(rest, ".")
		out = append(out, names[run]+" "+task)
	}
	return out
}

// begin triggers runs one after the other, and returns their ids and the names behind them.
func (f *fixture) begin(dag string, ids ...string) (runs []string, names map[string]string) {
	f.t.Helper()
	names = map[string]string{}
	for _, id := range ids {
		run := f.trigger(dag, id, "").ID
		runs, names[run] = append(runs, run), id
		time.Sleep(time.Millisecond) // so that their ages differ
	}
	synctest.Wait()
	return runs, names
}

func (f *fixture) state(run string) string {
	f.t.Helper()
	d, err := f.store.Run(f.t.Context(), run)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(d.Run.State)
}

// restart is a restart of the engine, whose executor goes on.
func (f *fixture) restart(files map[string]string) {
	f.t.Helper()
	f.stop()
	f.start()
	f.setDAGs(files)
	synctest.Wait()
}

func want(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Runs beyond the limit stay queued and take no slot, and start in the order in which they came, also across restarts.
func TestConcurrencyQueue(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart=", restart), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				files := map[string]string{"a.yaml": "dag: a\nconcurrency: 2\ntasks: {one: {run: x}, two: {run: x, needs: one}}"}
				f := newFixture(t, files)
				f.world.play(runs)
				ids, names := f.begin("a", "1", "2", "3", "4", "5")
				var order []string
				for i, id := range ids {
					if restart {
						f.restart(files)
					}
					under := 0
					for _, id := range ids {
						if f.state(id) == "running" {
							under++
						}
					}
					if most := min(2, len(ids)-i); under != most {
						t.Fatalf("%d runs are under way after %d ended, want %d", under, i, most)
					}
					f.end(id, "one")
					f.end(id, "two")
					if got := f.state(id); got != "success" {
						t.Fatalf("run %s is %s", names[id], got)
					}
				}
				for _, s := range f.started(names) {
					if strings.HasSuffix(s, " one") {
						order = append(order, s)
					}
				}
				want(t, order, []string{"1 one", "2 one", "3 one", "4 one", "5 one"})
				if n := len(f.world.doubled); n > 0 {
					t.Errorf("%d attempts were started twice", n)
				}
			})
		})
	}
}

// The wait for a place is not the wait for a slot, which timeout.queue bounds.
func TestConcurrencyAndQueueTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{
			"a.yaml": "dag: a\nconcurrency: 1\ntasks: {one: {run: x, timeout: {queue: 10m}}}", "b.yaml": "dag: b\ntasks: {one: {run: x}}",
		}
		f := newFixture(t, files)
		f.world.set(func() { f.world.slots = 2 })
		f.world.play(runs)
		ids, _ := f.begin("a", "1", "2")
		time.Sleep(time.Hour)
		f.restart(files)
		time.Sleep(time.Hour)
		want(t, f.state(ids[1]), "queued")
		f.begin("b", "1", "2") // the second of these is the next to get a slot
		f.world.set(func() { f.world.slots = 1 })
		f.end(ids[0], "one")
		began := time.Now()
		d := f.wait(ids[1])
		if took := time.Since(began); took != 10*time.Minute || !strings.Contains(d.Run.Reason, "timeout.queue") {
			t.Errorf("ended after %v: %s", took, d.Run.Reason)
		}
	})
}

// A run that waits can be cancelled, and one that is cancelled while it waits is not started.
func TestConcurrencyCancelWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\nconcurrency: 1\ntasks: {one: {run: x}}"})
		f.world.play(runs)
		ids, names := f.begin("a", "1", "2", "3")
		if _, err := f.e.Cancel(t.Context(), ids[1]); err != nil {
			t.Fatal(err)
		}
		f.end(ids[0], "one")
		want(t, f.started(names), []string{"1 one", "3 one"})
		want(t, f.state(ids[1]), "cancelled")
		f.end(ids[2], "one")
		if n := len(f.e.core.groups); n != 0 {
			t.Errorf("%d groups are left without a run", n)
		}
	})
}

func TestConcurrencyWhenFull(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		when   string
		states []string // of the first run, and of the second, when that has come
		reason string   // of whichever did not get on
		at     int
	}{
		{"skip", []string{"running", "cancelled"}, "skipped: concurrency group a takes 1 run at a time, and ", 1},
		{"fail", []string{"running", "failed"}, "not started: concurrency group a takes 1 run at a time, and ", 1},
		{"cancel_running", []string{"cancelled", "running"}, "which came after it: concurrency group a takes 1 run at a time", 0},
	} {
		t.Run(tt.when, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, map[string]string{"a.yaml": "dag: a\nconcurrency: {when_full: " + tt.when + "}\ntasks: {one: {run: x, when: run.id != ''}, two: {run: x, needs: one}}"})
				f.world.play(runs)
				ids, names := f.begin("a", "1", "2")
				want(t, []string{f.state(ids[0]), f.state(ids[1])}, tt.states)
				d, err := f.store.Run(t.Context(), ids[tt.at])
				if err != nil || !strings.Contains(d.Run.Reason, tt.reason) {
					t.Errorf("reason is %q, %v, want %q", d.Run.Reason, err, tt.reason)
				}
				if other := ids[1-tt.at]; !strings.Contains(d.Run.Reason, other) {
					t.Errorf("reason %q does not name %s", d.Run.Reason, other)
				}
				if tt.when == "cancel_running" {
					want(t, f.started(names), []string{"1 one", "2 one"})
					return
				}
				f.end(ids[0], "one")
				f.end(ids[0], "two")
				again, _ := f.begin("a", "3")
				want(t, f.state(again[0]), "running")
			})
		})
	}
}

// The newest run gets the place: those before it are cancelled, also those that wait for a place themselves while another takes its time to end.
func TestConcurrencyCancelRunningSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{"a.yaml": "dag: a\nconcurrency: {when_full: cancel_running}\ntasks: {one: {run: x}}"}
		f := newFixture(t, files)
		f.world.play(runs)
		f.world.set(func() {
			f.world.fault = func(call string) (error, bool) { // the attempt does not end yet
				if call == "kill" {
					return errors.New("not now"), false
				}
				return nil, true
			}
		})
		ids, names := f.begin("a", "1", "2", "3")
		want(t, []string{f.state(ids[0]), f.state(ids[1]), f.state(ids[2])}, []string{"running", "cancelled", "queued"})
		f.restart(files)
		want(t, []string{f.state(ids[0]), f.state(ids[2])}, []string{"running", "queued"})
		f.world.set(func() { f.world.fault = nil })
		f.wait(ids[0])
		synctest.Wait()
		want(t, []string{f.state(ids[0]), f.state(ids[2])}, []string{"cancelled", "running"})
		want(t, f.started(names), []string{"1 one", "3 one"})
	})
}

// Each value of the group has its own limit.
func TestConcurrencyGroups(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{"a.yaml": "dag: a\non: [{batch: {}, key: batch.source}]\nconcurrency: {group: '${{ trigger.lane_key }}'}\ntasks: {one: {run: x}}"}
		f := newFixture(t, files)
		f.world.play(runs)
		names := map[string]string{}
		for i, lane := range []string{"x", "y", "x", "x", "y"} {
			in := f.intake(testBatch(i + 1))
			in.Firings[0].LaneKey = lane
			names[in.Firings[0].RunID()] = fmt.Sprint(lane, i)
			if err := f.e.Start(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		want(t, f.started(names), []string{"x0 one", "y1 one"})
		f.restart(files)
		for id, name := range names {
			if name == "x0" {
				f.end(id, "one")
			}
		}
		want(t, f.started(names), []string{"x0 one", "y1 one", "x2 one"})
	})
}

// The runs of one transaction start in the order of their batches, also after a restart, when nothing but rows is left.
func TestConcurrencyOrderOfOneTransaction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{"a.yaml": "dag: a\non: [{batch: {}}]\nconcurrency: 1\ntasks: {one: {run: x}}"}
		f := newFixture(t, files)
		f.world.play(runs)
		var in trigger.Intake
		names := map[string]string{}
		for i := range 6 {
			one := f.intake(testBatch(i + 1))
			names[one.Firings[0].RunID()] = fmt.Sprint(i)
			in.Gen, in.Arrivals, in.Firings = one.Gen, append(in.Arrivals, one.Arrivals...), append(in.Firings, one.Firings...)
		}
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		for range 6 {
			f.restart(files)
			launched := f.world.launched()
			run, _, _ := strings.Cut(launched[len(launched)-1], ".")
			f.end(run, "one")
		}
		want(t, f.started(names), []string{"0 one", "1 one", "2 one", "3 one", "4 one", "5 one"})
	})
}

// A changed limit counts for the runs that wait, though their version has another.
func TestConcurrencyChangedLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const src = "dag: a\nconcurrency: 1\ntasks: {one: {run: x}}"
		f := newFixture(t, map[string]string{"a.yaml": src})
		f.world.play(runs)
		_, names := f.begin("a", "1", "2", "3", "4")
		f.setDAGs(map[string]string{"a.yaml": strings.Replace(src, "concurrency: 1", "concurrency: 3", 1)})
		synctest.Wait()
		want(t, f.started(names), []string{"1 one", "2 one", "3 one"})
		f.setDAGs(map[string]string{"a.yaml": strings.Replace(src, "concurrency: 1", "", 1)})
		synctest.Wait()
		want(t, f.started(names), []string{"1 one", "2 one", "3 one", "4 one"})
	})
}

// A group whose expression has no value fails the run with the reason.
func TestConcurrencyGroupWithoutValue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\nconcurrency: {group: '${{ batch.source }}'}\ntasks: {one: {run: x}}"})
		d := f.wait(f.trigger("a", "1", "").ID)
		if d.Run.State != scheduler.StateFailed || !strings.Contains(d.Run.Reason, "concurrency.group: ") || !strings.Contains(d.Run.Reason, "has no batch") {
			t.Errorf("got %s, %q", d.Run.State, d.Run.Reason)
		}
	})
}

const poolDAG = `dag: a
tasks:
  big: {run: x, pool: db, pool_slots: 2}
  small: {run: x, pool: db}
  free: {run: x}
`

// newPoolFixture gives the engine its pools before the DAGs.
func newPoolFixture(t *testing.T, pools map[string]int, files map[string]string) *fixture {
	t.Helper()
	f := newFixture(t, nil)
	if err := f.e.SetPools(t.Context(), pools); err != nil {
		t.Fatal(err)
	}
	f.setDAGs(files)
	f.world.play(runs)
	return f
}

// A pool's slots are never exceeded, its order is strict, and what waits for it holds up nobody else.
func TestPools(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newPoolFixture(t, map[string]int{"db": 3}, map[string]string{"a.yaml": poolDAG})
		ids, names := f.begin("a", "1", "2")
		want(t, f.started(names), []string{"1 big", "1 free", "1 small", "2 free"})
		f.end(ids[0], "small") // one slot is free, and the next one needs two
		want(t, len(f.started(names)), 4)
		f.end(ids[0], "big")
		want(t, f.started(names)[4:], []string{"2 big", "2 small"})
		p := f.e.core.pools["db"]
		if p.used != 3 || len(p.held) != 2 {
			t.Errorf("%d slots are used by %d attempts, want 3 by 2", p.used, len(p.held))
		}
	})
}

// After a restart the slots are those of the tasks that run, and a pool that has shrunk takes nothing more until there is room.
func TestPoolsRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{"a.yaml": "dag: a\ntasks: {one: {run: x, pool: db}}"}
		f := newPoolFixture(t, map[string]int{"db": 3}, files)
		ids, names := f.begin("a", "1", "2", "3", "4")
		f.stop()
		f.start()
		if err := f.e.SetPools(t.Context(), map[string]int{"db": 2}); err != nil {
			t.Fatal(err)
		}
		f.setDAGs(files)
		synctest.Wait()
		f.end(ids[0], "one")
		want(t, len(f.started(names)), 3)
		f.end(ids[1], "one")
		want(t, f.started(names), []string{"1 one", "2 one", "3 one", "4 one"})
		// A pool that grows starts what waits.
		f.begin("a", "5", "6")
		want(t, len(f.world.launched()), 4)
		if err := f.e.SetPools(t.Context(), map[string]int{"db": 9}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		want(t, len(f.world.launched()), 6)
	})
}

// A DAG that names a pool which is not there, or too small, is not put into force, and the fault says what there is.
func TestPoolFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newPoolFixture(t, map[string]int{"db": 3, "gpu": 1}, map[string]string{
			"a.yaml": "dag: a\ntasks: {one: {run: x, pool: redshift}}", "b.yaml": "dag: b\ntasks: {one: {run: x, pool: db, pool_slots: 4}}",
			"c.yaml": "dag: c\ntasks: {one: {run: x, pool: gpu}}",
		})
		heads, err := f.e.DAGs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, h := range heads {
			got[h.ID] = h.Error
		}
		want(t, got, map[string]string{
			"a": `a.yaml: task "one" needs pool "redshift", which the configuration does not have (there is db, gpu): add it to pools`,
			"b": `b.yaml: task "one" needs 4 slots of pool "db", which has 3`,
			"c": "",
		})
	})
}

// Higher priorities go first, whatever came before; then DAGs take turns; then age counts.
func TestPriority(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newPoolFixture(t, map[string]int{"db": 1}, map[string]string{
			"a.yaml": "dag: a\ntasks: {one: {run: x}}",
			"b.yaml": "dag: b\ntasks: {one: {run: x}}",
			"h.yaml": "dag: h\npriority: 5\ntasks: {one: {run: x}, low: {run: x, priority: -1}, db: {run: x, pool: db, priority: 9}}",
		})
		f.world.set(func() { f.world.slots = 1 })
		names := map[string]string{}
		for _, r := range []struct{ dag, id string }{{"a", "a0"}, {"a", "a1"}, {"a", "a2"}, {"b", "b1"}, {"b", "b2"}, {"h", "h"}} {
			_, more := f.begin(r.dag, r.id)
			for id, name := range more {
				names[id] = name
			}
		}
		for len(f.started(names)) < 8 {
			last := f.world.launched()[len(f.started(names))-1]
			f.world.tell(scheduler.Report{Attempt: last, Outcome: scheduler.OutcomeExited})
			synctest.Wait()
		}
		want(t, f.started(names), []string{"a0 one", "h db", "h one", "a1 one", "b1 one", "a2 one", "b2 one", "h low"})
	})
}

// What can not be started makes room for what waits behind it, at once.
func TestRefusedMakesRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\non: [{batch: {}}]\nconcurrency: 1\ntasks: {one: {run: [x, \"${{ batch.types['t'] }}\"]}}"})
		f.world.play(runs)
		var in trigger.Intake
		for i := range 3 { // the first two have no such type
			b := testBatch(i + 1)
			if i == 2 {
				b.Types = map[string]int64{"t": 1}
			}
			one := f.intake(b)
			in.Gen, in.Arrivals, in.Firings = one.Gen, append(in.Arrivals, one.Arrivals...), append(in.Firings, one.Firings...)
		}
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var got []string
		for _, firing := range in.Firings {
			got = append(got, f.state(firing.RunID()))
		}
		want(t, got, []string{"failed", "failed", "running"})
		if n := len(f.world.launched()); n != 1 || !slices.Contains(got, "running") {
			t.Errorf("%d attempts were launched, want 1", n)
		}
	})
}
