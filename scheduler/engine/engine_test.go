package engine

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/trigger"
)

const chainDAG = `
dag: chain
on: [{batch: {source: web}}]
params: {n: 3}
tasks:
  first: {run: [prog, "${{ params.n }}"]}
  second: {run: x, needs: first}
`

func TestBatchToRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		b := testBatch(1)
		in := f.intake(b)
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		d := f.wait(in.Firings[0].RunID())
		if got := states(d); got != "success first=success second=success" {
			t.Errorf("got %s", got)
		}
		if len(d.Attempts) != 2 || len(d.Batches) != 1 || d.Run.Trigger.Key != b.ID || string(d.Run.Params) != `{"n":3}` {
			t.Errorf("got %+v", d)
		}
		first := f.world.attempts[f.world.launched()[0]].launch
		if diff := cmp.Diff([]string{"prog", "3"}, first.Argv); diff != "" {
			t.Errorf("argv (-want +got):\n%s", diff)
		}
		var doc scheduler.Input
		if err := json.Unmarshal(first.Input, &doc); err != nil || doc.Task != "first" || len(doc.Batches) != 1 {
			t.Errorf("input is %s", first.Input)
		}
		detail, err := f.store.Batch(t.Context(), b.ID)
		if err != nil || len(detail.Dispositions) != 1 || detail.Dispositions[0].Run != d.Run.ID {
			t.Errorf("got %+v, %v", detail, err)
		}
	})
}

// The run, its tasks and the intent to launch the first one are one transaction.
func TestRunAndFirstLaunchAreOneTransaction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		var seen []*scheduler.Change
		f.store.Intercept = func(c *scheduler.Change, commit func() error) error {
			if len(c.NewRuns) > 0 {
				seen = append(seen, c)
			}
			return commit()
		}
		in := f.intake(testBatch(1))
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if len(seen) != 1 || len(seen[0].Arrivals) != 1 || seen[0].NewRuns[0].Tasks[0].State != scheduler.StateLaunching ||
			len(seen[0].Attempts) != 1 || len(seen[0].Cursors) != 1 {
			t.Errorf("got %+v", seen)
		}
	})
}

// A firing that was decided twice is one run, also when that ended long ago and the engine was restarted in between.
func TestFiringTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{"chain.yaml": chainDAG}
		f := newFixture(t, files)
		in := f.intake(testBatch(1))
		for range 2 {
			if err := f.e.Start(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
		f.wait(in.Firings[0].RunID())
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		f.stop()
		f.start()
		f.setDAGs(files)
		set, _ := f.e.Rules()
		in.Gen = set.Gen
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(f.world.launched()); n != 2 {
			t.Errorf("%d attempts were launched, want 2", n)
		}
	})
}

func TestStaleAndEarlyIntakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		synctest.Wait()
		if err := f.e.Start(t.Context(), f.intake()); !errors.Is(err, trigger.ErrUnavailable) {
			t.Errorf("before the DAG files: got %v", err)
		}
		f.setDAGs(map[string]string{"chain.yaml": chainDAG})
		in := f.intake(testBatch(1))
		_, changed := f.e.Rules()
		f.setDAGs(map[string]string{"chain.yaml": strings.Replace(chainDAG, "n: 3", "n: 4", 1)})
		select {
		case <-changed:
		default:
			t.Error("the rules changed and nobody was told")
		}
		if err := f.e.Start(t.Context(), in); !errors.Is(err, trigger.ErrStale) {
			t.Errorf("old rules: got %v", err)
		}
		if _, err := f.store.Batch(t.Context(), in.Arrivals[0].Batch.ID); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("a stale intake left its batch: %v", err)
		}
		f.setDAGs(map[string]string{"chain.yaml": strings.Replace(chainDAG, "n: 3", "n: 4", 1)})
		in = f.intake(testBatch(1))
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Errorf("the same files again made the rules stale: %v", err)
		}
	})
}

func TestRetriesComeInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\ntasks: {one: {run: x, retry: {limit: 2, delay: 10s, backoff: 2}}}"})
		f.world.play(func(l scheduler.Launch) []scheduler.Report {
			exit := 1
			if l.Try == 3 {
				exit = 0
			}
			return []scheduler.Report{{Outcome: scheduler.OutcomeExited, Exit: exit, EndedAt: time.Now()}}
		})
		began := time.Now()
		d := f.wait(f.trigger("a", "x", "").ID)
		if got := states(d); got != "success one=success" || d.Tasks[0].Try != 3 || len(d.Attempts) != 3 {
			t.Errorf("got %s after %d tries", got, d.Tasks[0].Try)
		}
		if took := time.Since(began); took < 30*time.Second || took > 31*time.Second {
			t.Errorf("took %v, want 10 s + 20 s", took)
		}
	})
}

func TestSlotsBoundWhatRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\ntasks: {one: {run: x}}"})
		f.world.set(func() { f.world.slots = 3 })
		f.world.play(runs)
		for i := range 10 {
			f.trigger("a", string(rune('a'+i)), "")
		}
		synctest.Wait()
		for done := 0; done < 10; done++ {
			list := f.world.launched()
			if want := min(10, 3+done); len(list) != want {
				t.Fatalf("%d attempts were launched after %d ended, want %d", len(list), done, want)
			}
			f.world.tell(scheduler.Report{Attempt: list[done], Outcome: scheduler.OutcomeExited})
			synctest.Wait()
		}
	})
}

func TestDAGsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\ntasks: {one: {run: x}}", "b.yaml": "dag: b\ntasks: {one: {run: x}}"})
		f.world.set(func() { f.world.slots = 1 })
		f.world.play(runs)
		for i := range 20 {
			f.trigger("a", string(rune('a'+i)), "")
		}
		late := f.trigger("b", "late", "").ID
		synctest.Wait()
		for i := range 2 {
			f.world.tell(scheduler.Report{Attempt: f.world.launched()[i], Outcome: scheduler.OutcomeExited})
			synctest.Wait()
		}
		if list := f.world.launched(); !strings.HasPrefix(list[len(list)-1], late) && !strings.HasPrefix(list[1], late) {
			t.Errorf("a DAG with one task waits for twenty of another: %v", list)
		}
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		f.world.play(runs)
		id := f.trigger("chain", "x", "").ID
		synctest.Wait()
		run, err := f.e.Cancel(t.Context(), id)
		if err != nil || run.State != scheduler.StateRunning {
			t.Fatalf("got %+v, %v", run, err)
		}
		d := f.wait(id)
		if got := states(d); got != "cancelled first=cancelled second=cancelled" {
			t.Errorf("got %s", got)
		}
		if run, err := f.e.Cancel(t.Context(), id); err != nil || run.State != scheduler.StateCancelled {
			t.Errorf("again: got %+v, %v", run, err)
		}
		if _, err := f.e.Cancel(t.Context(), "nothing"); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	})
}

func TestTrigger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		one := f.trigger("chain", "x", `{"n": 5}`)
		if string(one.Params) != `{"n":5}` || one.Trigger.Kind != trigger.KindManual {
			t.Errorf("got %+v", one)
		}
		f.wait(one.ID)
		if again := f.trigger("chain", "x", `{"n": 5}`); again.ID != one.ID || again.State != scheduler.StateSuccess {
			t.Errorf("a repeated request: got %+v", again)
		}
		if a, b := f.trigger("chain", "", ""), f.trigger("chain", "", ""); a.ID == b.ID {
			t.Error("two requests without an id are one run")
		}
		for params, want := range map[string]error{`{"m": 1}`: scheduler.ErrInvalid, `{"n": "x"}`: scheduler.ErrInvalid, `[]`: scheduler.ErrInvalid} {
			if _, err := f.e.Trigger(t.Context(), "chain", "", []byte(params)); !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", params, err, want)
			}
		}
		if _, err := f.e.Trigger(t.Context(), "nothing", "", nil); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	})
}

// Whatever runs while the engine is away is found again; what was never started is tried again.
func TestRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := map[string]string{"chain.yaml": chainDAG}
		f := newFixture(t, files)
		f.world.play(runs)
		running, never := f.trigger("chain", "running", "").ID, ""
		synctest.Wait()
		f.world.set(func() { f.world.fault = func(string) (error, bool) { return scheduler.ErrUnavailable, false } })
		never = f.trigger("chain", "never", "").ID
		synctest.Wait()
		f.stop()

		f.world.set(func() { f.world.fault, f.world.script = nil, nil })
		f.world.tell(scheduler.Report{Attempt: f.world.launched()[0], Outcome: scheduler.OutcomeExited})
		f.start()
		f.setDAGs(files)
		if d := f.wait(running); d.Tasks[0].Try != 1 || d.Run.State != scheduler.StateSuccess {
			t.Errorf("got %s with %d tries", states(d), d.Tasks[0].Try)
		}
		if d := f.wait(never); d.Tasks[0].Lost != 1 || d.Run.State != scheduler.StateSuccess {
			t.Errorf("got %s with %d lost", states(d), d.Tasks[0].Lost)
		}
		if len(f.world.doubled) > 0 {
			t.Errorf("launched twice: %v", f.world.doubled)
		}
	})
}

// unreachableFirst is a script in which the first try of a task is lost sight of, and the others end well.
func unreachableFirst(l scheduler.Launch) []scheduler.Report {
	if l.Try > 1 {
		return []scheduler.Report{{Outcome: scheduler.OutcomeExited}}
	}
	return []scheduler.Report{{Outcome: scheduler.OutcomeRunning}, {Outcome: scheduler.OutcomeUnreachable}}
}

func TestUnreachableIsFenced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\ntasks: {one: {run: x}}"})
		f.world.play(unreachableFirst)
		began := time.Now()
		d := f.wait(f.trigger("a", "x", "").ID)
		if took := time.Since(began); took < 5*time.Minute || d.Tasks[0].Lost != 1 || d.Run.State != scheduler.StateSuccess {
			t.Errorf("got %s with %d lost after %v", states(d), d.Tasks[0].Lost, took)
		}
		// The fenced attempt comes back: it is ended, and changes nothing.
		f.world.mu.Lock()
		f.world.kills = nil
		f.world.mu.Unlock()
		old := f.world.launched()[0]
		f.world.tell(scheduler.Report{Attempt: old, Outcome: scheduler.OutcomeRunning})
		synctest.Wait()
		f.world.mu.Lock()
		defer f.world.mu.Unlock()
		if diff := cmp.Diff([]string{old}, f.world.kills); diff != "" {
			t.Errorf("kills (-want +got):\n%s", diff)
		}
	})
}

// A task that would rather run twice than wait is tried again at once, while the old attempt may still run.
func TestUnreachableIsFencedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\ntasks: {one: {run: x, at_least_once_fast: true}}"})
		f.world.play(unreachableFirst)
		began := time.Now()
		d := f.wait(f.trigger("a", "x", "").ID)
		if took := time.Since(began); took > time.Minute || d.Tasks[0].Lost != 1 || d.Run.State != scheduler.StateSuccess {
			t.Errorf("got %s with %d lost after %v", states(d), d.Tasks[0].Lost, took)
		}
	})
}

// A task whose expressions have no value fails with the reason, and takes no slot.
func TestTaskThatCanNotBeStarted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\ntasks: {one: {run: [x, \"${{ batch.id }}\"]}, two: {run: x, needs: one}}"})
		d := f.wait(f.trigger("a", "x", "").ID)
		if got := states(d); got != "failed one=failed two=upstream_failed" || !strings.Contains(d.Tasks[0].Reason, "this run has no batch") {
			t.Errorf("got %s, %q", got, d.Tasks[0].Reason)
		}
	})
}

func TestStoppedEngineAnswers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
	in := f.intake(testBatch(1))
	f.stop()
	if err := f.e.Start(context.Background(), in); !errors.Is(err, trigger.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := f.e.Trigger(context.Background(), "chain", "", nil); !errors.Is(err, scheduler.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
