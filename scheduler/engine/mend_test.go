package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/scheduler"
)

// failing is the script of tasks that fail while they are in the list.
func failing(tasks ...string) func(scheduler.Launch) []scheduler.Report {
	return func(l scheduler.Launch) []scheduler.Report {
		exit := 0
		if slices.Contains(tasks, l.Task) {
			exit = 1
		}
		return []scheduler.Report{{Outcome: scheduler.OutcomeExited, Exit: exit, StartedAt: time.Now(), EndedAt: time.Now()}}
	}
}

func (f *fixture) clear(run string, c scheduler.Clear) *scheduler.Mended {
	f.t.Helper()
	m, err := f.e.Clear(f.t.Context(), run, c)
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

// A run that ended long ago, in another life of the engine, goes on with the version and the inputs that it has.
func TestClearAfterRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		f.world.play(failing("second"))
		in := f.intake(testBatch(1))
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		id := in.Firings[0].RunID()
		first := f.wait(id)
		if got := states(first); got != "failed first=success second=failed" {
			t.Fatalf("got %s", got)
		}
		f.stop()
		f.start()
		f.setDAGs(map[string]string{"chain.yaml": strings.ReplaceAll(chainDAG, "run: x", "run: other")})
		f.world.play(nil)

		dry := f.clear(id, scheduler.Clear{Failed: true, Downstream: true, DryRun: true})
		want := []scheduler.MendedTask{{Task: "second", MapIndex: scheduler.NoMap, State: scheduler.StateFailed, Try: 1}}
		if diff := cmp.Diff(want, dry.Tasks); diff != "" || !dry.DryRun || dry.Run.State != scheduler.StateFailed {
			t.Errorf("dry run: got %+v\n%s", dry, diff)
		}
		if again, err := f.store.Run(t.Context(), id); err != nil || cmp.Diff(first, again) != "" {
			t.Errorf("a dry run changed something: %v\n%s", err, cmp.Diff(first, again))
		}
		m := f.clear(id, scheduler.Clear{Failed: true, Downstream: true, By: "ann"})
		if diff := cmp.Diff(want, m.Tasks); diff != "" || m.Run.State.Terminal() {
			t.Errorf("clear: got %+v\n%s", m, diff)
		}
		d := f.wait(id)
		if got := states(d); got != "success first=success second=success" || d.Run.Version != first.Run.Version {
			t.Errorf("got %s of version %s, want that of before, %s", got, d.Run.Version, first.Run.Version)
		}
		launched := f.world.launched()
		if last := launched[len(launched)-1]; len(launched) != 3 || last != d.Tasks[1].AttemptID(2) {
			t.Errorf("launched %q, want a second try of the second task last", launched)
		}
		before, after := f.world.attempts[d.Tasks[1].AttemptID(1)].launch, f.world.attempts[d.Tasks[1].AttemptID(2)].launch
		if diff := cmp.Diff(string(before.Input), string(after.Input)); diff != "" || !slices.Equal(before.Argv, after.Argv) {
			t.Errorf("the second try has other inputs:\n%s", diff)
		}
		if !slices.ContainsFunc(d.Moves, func(m scheduler.Move) bool {
			return m.Task == "second" && m.From == scheduler.StateFailed && m.To == scheduler.StateNone && m.Reason == "cleared by ann"
		}) {
			t.Errorf("the audit trail does not tell who cleared: %+v", d.Moves)
		}
		synctest.Wait()
		if n := len(f.e.core.versions); n != 1 {
			t.Errorf("%d versions are in memory, want that of the head alone", n)
		}
	})
}

// A clear of a run whose attempts run kills them, and starts nothing of it before they have ended; a restart in between changes nothing.
func TestClearOfWhatRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		f.world.play(runs)
		f.world.set(func() {
			f.world.fault = func(call string) (error, bool) { return scheduler.ErrUnavailable, call != "kill" }
		})
		id := f.trigger("chain", "x", "").ID
		f.until(id, func(d *scheduler.RunDetail) bool { return d.Tasks[0].State == scheduler.StateRunning })
		if m := f.clear(id, scheduler.Clear{}); len(m.Tasks) != 1 || !m.Tasks[0].Kill {
			t.Errorf("got %+v", m)
		}
		synctest.Wait()
		f.stop() // before anything was killed
		f.world.set(func() { f.world.fault = nil })
		f.world.play(nil)
		f.start()
		d := f.wait(id)
		if got := states(d); got != "success first=success second=success" || d.Tasks[0].Try != 2 || d.Attempts[0].State != scheduler.StateCancelled {
			t.Errorf("got %s, %+v", got, d.Attempts)
		}
		if got := f.world.launched(); len(got) != 3 || len(f.world.kills) == 0 || f.world.kills[0] != got[0] {
			t.Errorf("launched %q, killed %q, want the first to be killed", got, f.world.kills)
		}
	})
}

// If the answer to the commit of a clear is lost, the clear is decided again, and does not take the tries that it has started already.
func TestClearIsNotRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		id := f.trigger("chain", "x", "").ID
		f.wait(id)
		f.world.play(runs)
		lost := false
		f.store.Intercept = func(c *scheduler.Change, commit func() error) error {
			err := commit()
			if len(c.Runs) > 0 && !lost {
				lost = true
				return scheduler.ErrUnavailable
			}
			return err
		}
		m := f.clear(id, scheduler.Clear{})
		synctest.Wait()
		d := f.until(id, func(d *scheduler.RunDetail) bool { return d.Tasks[0].State == scheduler.StateRunning })
		if !lost || d.Tasks[0].Try != 2 || d.Tasks[0].Kill != "" || len(m.Tasks) != 2 {
			t.Errorf("lost %v: got %+v and the answer %+v, want a second try that goes on", lost, d.Tasks, m)
		}
	})
}

func TestMarkRunAndTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		f.world.play(failing("first"))
		id := f.trigger("chain", "x", "").ID
		if got := states(f.wait(id)); got != "failed first=failed second=upstream_failed" {
			t.Fatalf("got %s", got)
		}
		mark := func(m scheduler.Mark) *scheduler.Mended {
			t.Helper()
			out, err := f.e.Mark(t.Context(), id, m)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		mark(scheduler.Mark{Task: "first", State: scheduler.StateSuccess, By: "ann"})
		d := f.wait(id)
		if got := states(d); got != "success first=success second=success" || d.Tasks[0].Try != 1 || d.Tasks[1].Try != 1 {
			t.Errorf("got %s, %+v", got, d.Tasks)
		}
		if m := mark(scheduler.Mark{State: scheduler.StateFailed}); m.Run.State != scheduler.StateFailed || m.Run.Reason != "marked failed by request" {
			t.Errorf("got %+v", m)
		}
		if m := mark(scheduler.Mark{State: scheduler.StateFailed}); len(m.Tasks) != 0 {
			t.Errorf("a second time: got %+v", m)
		}
		synctest.Wait()
		if n := len(f.e.core.runs); n != 0 {
			t.Errorf("%d runs are in memory", n)
		}
		// What runs is killed, and its result does not count.
		f.world.play(runs)
		id = f.trigger("chain", "y", "").ID
		f.until(id, func(d *scheduler.RunDetail) bool { return d.Tasks[0].State == scheduler.StateRunning })
		mark(scheduler.Mark{State: scheduler.StateSuccess})
		d = f.wait(id)
		if got := states(d); got != "success first=success second=success" || d.Attempts[0].State != scheduler.StateCancelled || len(d.Attempts) != 1 {
			t.Errorf("got %s, %+v", got, d.Attempts)
		}
	})
}

func TestMendRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		id := f.trigger("chain", "x", "").ID
		f.wait(id)
		clear := func(run string, tasks ...string) error {
			_, err := f.e.Clear(t.Context(), run, scheduler.Clear{Tasks: tasks})
			return err
		}
		mark := func(task string, to scheduler.State) error {
			_, err := f.e.Mark(t.Context(), id, scheduler.Mark{Task: task, State: to})
			return err
		}
		for _, tt := range []struct {
			name string
			err  error
			is   error
			text string
		}{
			{"no such run", clear("none"), scheduler.ErrNotFound, "none"},
			{"no such task", clear(id, "third"), scheduler.ErrNotFound, "it has first, second"},
			{"no such task to mark", mark("third", scheduler.StateFailed), scheduler.ErrNotFound, "third"},
			{"a state that is none", mark("", scheduler.StateRunning), scheduler.ErrInvalid, "want success or failed"},
			{"a run as skipped", mark("", scheduler.StateSkipped), scheduler.ErrInvalid, "skipped for a task"},
		} {
			if !errors.Is(tt.err, tt.is) || !strings.Contains(tt.err.Error(), tt.text) {
				t.Errorf("%s: got %v, want %v with %q", tt.name, tt.err, tt.is, tt.text)
			}
		}
		// An installation that does not have what the run needs says so, and starts nothing.
		f.stop()
		e, err := New(f.store, map[string]scheduler.Executor{"other": f.world}, Options{Env: []string{}, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		f.run(e)
		if err := clear(id); !errors.Is(err, scheduler.ErrInvalid) || !strings.Contains(err.Error(), `executor "local", which is not configured`) {
			t.Errorf("without its executor: got %v", err)
		}
		synctest.Wait()
		if n := len(f.e.core.versions); n != 1 {
			t.Errorf("%d versions are in memory, want that of the head alone", n)
		}
	})
}

// Runs that live again are counted as active as long as they are.
func TestMendedRunsAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.stop()
		reg := prometheus.NewRegistry()
		e, err := New(f.store, map[string]scheduler.Executor{"local": f.world}, Options{Env: []string{}, Seed: 1, Registerer: reg})
		if err != nil {
			t.Fatal(err)
		}
		f.run(e)
		f.setDAGs(map[string]string{"chain.yaml": chainDAG})
		active := func(want float64) {
			t.Helper()
			synctest.Wait()
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, family := range families {
				if got := family.GetMetric()[0].GetGauge().GetValue(); family.GetName() == "millrace_run_active" && got != want {
					t.Errorf("%v runs are active, want %v", got, want)
				}
			}
		}
		id := f.trigger("chain", "x", "").ID
		f.wait(id)
		active(0)
		f.world.play(runs)
		f.clear(id, scheduler.Clear{})
		active(1)
		if _, err := f.e.Mark(t.Context(), id, scheduler.Mark{State: scheduler.StateFailed}); err != nil {
			t.Fatal(err)
		}
		f.wait(id)
		active(0)
		if _, err := f.e.Mark(t.Context(), id, scheduler.Mark{State: scheduler.StateSuccess}); err != nil { // of one that has ended
			t.Fatal(err)
		}
		active(0)
	})
}
