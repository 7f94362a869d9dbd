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
)

// told returns the outbox, oldest first: notifier, event, and task or state of the run.
func (f *fixture) told() []string {
	f.t.Helper()
	var out []string
	for _, n := range f.notices() {
		b := bodyOf(f.t, &n)
		what := string(b.State)
		if b.Task != nil {
			what = b.Task.Task
		}
		out = append(out, fmt.Sprintf("%s %s %s", n.Notifier, n.Event, what))
	}
	return out
}

func (f *fixture) notices() []scheduler.Notice {
	f.t.Helper()
	list, _, err := f.store.Notices(f.t.Context(), scheduler.NoticeQuery{Limit: 1000})
	if err != nil {
		f.t.Fatal(err)
	}
	slices.Reverse(list)
	return list
}

func bodyOf(t testing.TB, n *scheduler.Notice) scheduler.NoticeBody {
	t.Helper()
	var b scheduler.NoticeBody
	if err := json.Unmarshal(n.Body, &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// exits is the script of attempts that end with these codes, one after the other, and then with 0.
func exits(codes ...int) func(scheduler.Launch) []scheduler.Report {
	return func(l scheduler.Launch) []scheduler.Report {
		code := 0
		if l.Try <= len(codes) {
			code = codes[l.Try-1]
		}
		return []scheduler.Report{{Outcome: scheduler.OutcomeExited, Exit: code}}
	}
}

// Who is told of what becomes of a run, and of nothing else.
func TestNotices(t *testing.T) {
	t.Parallel()
	const all = "on_event: {success: [s], failure: [f, g], cancelled: [c], retry: [r]}\n"
	for _, tt := range []struct {
		name, dag string
		script    func(scheduler.Launch) []scheduler.Report
		cancel    bool
		want      []string
	}{
		{name: "nobody", script: exits(1)},
		{name: "success", dag: all, want: []string{"s success success"}},
		{name: "failure", dag: all, script: exits(64), want: []string{"f failure failed", "g failure failed"}},
		{name: "retry", dag: all, script: exits(1), want: []string{"r retry one", "s success success"}},
		{name: "cancelled", dag: all, script: runs, cancel: true, want: []string{"c cancelled cancelled"}},
		{name: "what is not named", dag: "on_event: {success: [], failure: [f]}\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, map[string]string{"a.yaml": "dag: a\nowner: ann\n" + tt.dag + "tasks: {one: {run: x, retry: 1}}"})
				f.world.play(tt.script)
				id := f.trigger("a", "x", "").ID
				synctest.Wait()
				if tt.cancel {
					if _, err := f.e.Cancel(t.Context(), id); err != nil {
						t.Fatal(err)
					}
				}
				f.wait(id)
				want(t, f.told(), tt.want)
			})
		})
	}
}

func TestNoticesOfTasks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const on = "on_event: {success: [s], failure: [f], cancelled: [c], retry: [r], skipped: [k]}"
		f := newFixture(t, map[string]string{"a.yaml": `
dag: a
on_event: {retry: [r, top]}
tasks:
  good: {run: x, ` + on + `}
  again: {run: x, retry: 1, needs: good, ` + on + `}
  bad: {run: x, needs: again, ` + on + `}
  not: {run: x, needs: again, when: 'false', ` + on + `}
  after: {run: x, needs: bad, ` + on + `}
  ends: {run: x, needs: bad, rule: always, ` + on + `}
`})
		f.world.play(func(l scheduler.Launch) []scheduler.Report {
			switch {
			case l.Task == "again" && l.Try == 1, l.Task == "bad":
				return exits(1, 1)(l)
			case l.Task == "ends":
				return runs(l)
			}
			return exits()(l)
		})
		id := f.trigger("a", "x", "").ID
		synctest.Wait()
		if _, err := f.e.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		f.wait(id)
		want(t, f.told(), []string{
			"s success good", "r retry again", "top retry again", "s success again", "k skipped not", "f failure bad", "c cancelled ends",
		})
	})
}

// A notice says what a person needs, and no more than fits into a message.
func TestNoticeBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := "dag: a\nowner: ann\non: [{batch: {}}]\non_event: {failure: [f]}\ntasks:\n"
		for i := range scheduler.MaxNoticeTasks + 3 {
			src += fmt.Sprintf("  t%02d: {run: x}\n", i)
		}
		f := newFixture(t, map[string]string{"a.yaml": src})
		f.world.set(func() { f.world.slots = 100 })
		f.world.play(func(scheduler.Launch) []scheduler.Report {
			return []scheduler.Report{{Outcome: scheduler.OutcomeExited, Exit: 3, Reason: strings.Repeat("long ", 1000)}}
		})
		in := f.intake(testBatch(1))
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		run := f.wait(in.Firings[0].RunID()).Run
		n := f.notices()[0]
		b := bodyOf(t, &n)
		if b.Event != "failure" || b.DAG != "a" || b.Owner != "ann" || b.Run != run.ID || b.State != scheduler.StateFailed || !b.EndedAt.Equal(run.EndedAt) ||
			b.Batches != 1 || b.Events != 1 || b.URL != "runs/"+run.ID || !strings.HasPrefix(b.Reason, "task t00: exit code 3") {
			t.Errorf("got %+v", b)
		}
		if len(b.Failed) != scheduler.MaxNoticeTasks || b.FailedTasks != scheduler.MaxNoticeTasks+3 || b.Failed[0].Log != "runs/"+run.ID+"#log-t00.-1" || b.Failed[0].Exit != 3 {
			t.Errorf("got %d of %d failed tasks, the first %+v", len(b.Failed), b.FailedTasks, b.Failed[0])
		}
		if len(n.Body) > 20_000 {
			t.Errorf("the body has %d bytes", len(n.Body))
		}
	})
}

// A run that a person marks, or has executed again, is told of each time that it ends.
func TestNoticesOfMendedRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\non_event: {failure: [f], success: [s]}\ntasks: {one: {run: x}}"})
		f.world.play(exits(1, 1))
		id := f.trigger("a", "x", "").ID
		f.wait(id)
		if _, err := f.e.Clear(t.Context(), id, scheduler.Clear{By: "ann"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := f.e.Mark(t.Context(), id, scheduler.Mark{State: scheduler.StateSuccess, By: "ann"}); err != nil {
			t.Fatal(err)
		}
		want(t, f.told(), []string{"f failure failed", "f failure failed", "s success success"})
		seen := map[string]bool{}
		for _, n := range f.notices() {
			if seen[n.ID] {
				t.Errorf("two notices have the id %s", n.ID)
			}
			seen[n.ID] = true
		}
	})
}

// Those who send are told after the commit, and only if there is something.
func TestNoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.stop()
		calls := 0
		e, err := New(f.store, map[string]scheduler.Executor{"local": f.world}, Options{Env: []string{}, Noticed: func() { calls++ }})
		if err != nil {
			t.Fatal(err)
		}
		f.run(e)
		f.setDAGs(map[string]string{"a.yaml": "dag: a\non_event: {failure: [f]}\ntasks: {one: {run: x}}"})
		f.wait(f.trigger("a", "good", "").ID)
		synctest.Wait()
		if calls != 0 {
			t.Errorf("told %d times of nothing", calls)
		}
		f.world.play(exits(1))
		f.wait(f.trigger("a", "bad", "").ID)
		synctest.Wait()
		if calls != 1 || len(f.notices()) != 1 {
			t.Errorf("told %d times of %d notices, want once of one", calls, len(f.notices()))
		}
		f.stop()
		time.Sleep(time.Minute)
	})
}
