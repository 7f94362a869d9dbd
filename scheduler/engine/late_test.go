package engine

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
)

// A task that has no slot in time fails, and what comes after it goes on at once.
func TestQueueTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{
			"long.yaml": "dag: long\ntasks: {one: {run: x}}",
			"a.yaml":    "dag: a\ntasks: {one: {run: x, timeout: {queue: 10m}}, two: {run: x, needs: one, rule: all_done}}",
		})
		f.world.set(func() { f.world.slots = 1 })
		f.world.play(runs)
		long := f.trigger("long", "x", "").ID
		began := time.Now()
		id := f.trigger("a", "x", "").ID
		d := f.until(id, func(d *scheduler.RunDetail) bool { return d.Tasks[0].State.Terminal() })
		if got := states(d); got != "queued one=failed two=scheduled" || !strings.Contains(d.Tasks[0].Reason, "timeout.queue") {
			t.Errorf("got %s: %s", got, d.Tasks[0].Reason)
		}
		if took := time.Since(began); took != 10*time.Minute {
			t.Errorf("failed after %v, want 10m", took)
		}
		f.world.play(nil)
		f.world.tell(scheduler.Report{Attempt: f.world.launched()[0], Outcome: scheduler.OutcomeExited})
		f.wait(long)
		if got := states(f.wait(id)); got != "success one=failed two=success" {
			t.Errorf("got %s", got)
		}
	})
}

// A wait for a slot goes on over a restart, also while nobody was there, and ends when what happened meanwhile has been heard of. That of a run
// without a place in its group begins with the place.
func TestQueueTimeoutOverRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{
			"long.yaml": "dag: long\ntasks: {one: {run: x}}",
			"a.yaml":    "dag: a\nconcurrency: 1\ntasks: {one: {run: x, timeout: {queue: 10m}}}",
		}
		f := newFixture(t, files)
		f.world.set(func() { f.world.slots = 1 })
		f.world.play(runs)
		f.trigger("long", "x", "")
		began := time.Now()
		ids, _ := f.begin("a", "1", "2")
		time.Sleep(4 * time.Minute)
		f.restart(files)
		time.Sleep(4 * time.Minute)
		f.restart(files)
		f.wait(ids[0])
		if took := time.Since(began); took != 10*time.Minute {
			t.Errorf("the first failed after %v, want 10m", took)
		}
		began = time.Now() // the second has its place
		time.Sleep(time.Minute)
		f.stop()
		time.Sleep(time.Hour)
		f.start()
		f.setDAGs(files)
		f.wait(ids[1])
		if took := time.Since(began); took != 61*time.Minute+unheard {
			t.Errorf("the second failed after %v, want 1h1m10s", took)
		}
	})
}

// A slot that is free when the wait is over, because both happened while the machine stood still, is given to the task.
func TestASlotBeatsTheQueueTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{
			"long.yaml": "dag: long\ntasks: {one: {run: x}}", "a.yaml": "dag: a\ntasks: {one: {run: x, timeout: {queue: 10m}}}",
		})
		f.world.set(func() { f.world.slots = 1 })
		f.world.play(runs)
		f.trigger("long", "x", "")
		id := f.trigger("a", "x", "").ID
		synctest.Wait()
		first := f.world.launched()[0]
		f.stop()
		e := f.e
		time.Sleep(time.Hour)
		done := make(answer, 1)
		in := &reports{executor: "local", list: []scheduler.Report{{Attempt: first, Outcome: scheduler.OutcomeExited}}, done: done}
		if err := e.round(t.Context(), []input{in}); err != nil {
			t.Fatal(err)
		}
		d, err := f.store.Run(t.Context(), id)
		if err != nil || states(d) != "running one=launching" {
			t.Errorf("got %s, %v, want it launched", states(d), err)
		}
	})
}

// An attempt that is not reported to run in time is killed, fails as a timeout, and is tried again when its end is known.
func TestStartTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\ntasks: {one: {run: x, retry: 1, timeout: {start: 2m}}}"})
		f.world.play(func(l scheduler.Launch) []scheduler.Report {
			if l.Try == 1 {
				return nil // nothing is heard of it
			}
			return []scheduler.Report{{Outcome: scheduler.OutcomeRunning}}
		})
		began := time.Now()
		id := f.trigger("a", "x", "").ID
		d := f.until(id, func(d *scheduler.RunDetail) bool {
			return d.Tasks[0].Try == 2 && d.Tasks[0].State == scheduler.StateRunning
		})
		if took := time.Since(began); took != 2*time.Minute {
			t.Errorf("tried again after %v, want 2m", took)
		}
		if a := d.Attempts[0]; a.State != scheduler.StateFailed || a.Exit != scheduler.ExitTimeout || !strings.Contains(a.Reason, "timeout.start") {
			t.Errorf("first attempt: got %+v", a)
		}
		if got := fmt.Sprint(f.world.kills); got != fmt.Sprint(f.world.launched()[:1]) {
			t.Errorf("killed %v, want the first attempt alone", got)
		}
		time.Sleep(time.Hour) // the second try runs: its start is no matter any more
		f.world.tell(scheduler.Report{Attempt: f.world.launched()[1], Outcome: scheduler.OutcomeExited})
		if got := states(f.wait(id)); got != "success one=success" {
			t.Errorf("got %s", got)
		}
	})
}

// Timers of waits that ended well do not keep their runs.
func TestTimersOfWaitsKeepNoRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\ntasks: {one: {run: x, timeout: {queue: 1h, start: 1h}}}"})
		f.wait(f.trigger("a", "x", "").ID)
		f.stop()
		if len(f.e.core.timers) != 2 || len(f.e.core.runs) != 0 {
			t.Fatalf("got %d timers and %d runs, want two and none", len(f.e.core.timers), len(f.e.core.runs))
		}
		for _, tm := range f.e.core.timers {
			if tm.ref.run != nil {
				t.Errorf("a timer keeps run %s", tm.ref.run.Row.ID)
			}
		}
	})
}
