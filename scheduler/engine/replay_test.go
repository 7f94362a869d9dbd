package engine

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/trigger"
)

const replayDAG = `
dag: load
on: [{id: clicks, batch: {source: web}, key: batch.source, coalesce: {max_batches: 2}}, {id: nightly, cron: "0 3 * * *"}, {id: hand, manual: true}]
params: {n: 3, old: x}
env: {RULE: "${{ trigger.rule }}", KEY: "${{ trigger.key }}", LANE: "${{ trigger.lane_key }}", N: "${{ params.n }}"}
tasks:
  first: {run: [prog, "${{ params.n }}"]}
  second: {run: x, needs: first}
`

func (f *fixture) replay(run string, how scheduler.Replay) *scheduler.Run {
	f.t.Helper()
	r, err := f.e.Replay(f.t.Context(), run, how)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// launchOf returns the launch of a task's first attempt.
func (f *fixture) launchOf(run, task string) scheduler.Launch {
	f.t.Helper()
	id := (&scheduler.TaskRun{Run: run, Task: task, MapIndex: scheduler.NoMap}).AttemptID(1)
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	a := f.world.attempts[id]
	if a == nil {
		f.t.Fatalf("attempt %s was not launched, but %v", id, f.world.order)
	}
	return a.launch
}

// A replay gets what the run got, field by field, though the file says something else now and the engine was restarted: the environment and the
// input of each task are the same but for what names the run.
func TestReplayIsTheSame(t *testing.T) {
	t.Parallel()
	for _, kind := range []trigger.Kind{trigger.KindBatch, trigger.KindCron, trigger.KindManual} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, map[string]string{"load.yaml": replayDAG})
				id := f.startAs(kind)
				original := f.wait(id)
				f.stop()
				f.start()
				f.setDAGs(map[string]string{"load.yaml": strings.NewReplacer("run: x", "run: other", "n: 3", "n: 4", "0 3 * *", "30 4 * *").Replace(replayDAG)})
				time.Sleep(time.Hour)

				r := f.replay(id, scheduler.Replay{})
				d := f.wait(r.ID)
				want := original.Run
				want.ID, want.Replay, want.ReplayOf, want.NoEmit = r.ID, 1, id, true
				want.CreatedAt, want.StartedAt, want.EndedAt, want.Rev = d.Run.CreatedAt, d.Run.StartedAt, d.Run.EndedAt, d.Run.Rev
				want.Trace = d.Run.Trace // that of the run, where its first batch has none
				if diff := cmp.Diff(want, d.Run); diff != "" {
					t.Errorf("the run differs (-want +got):\n%s", diff)
				}
				for _, task := range []string{"first", "second"} {
					f.sameLaunch(f.launchOf(id, task), f.launchOf(r.ID, task))
				}
				second := f.replay(id, scheduler.Replay{Emit: true})
				f.wait(second.ID)
				third := f.replay(second.ID, scheduler.Replay{}) // of a replay: of the original
				if second.Replay != 2 || third.Replay != 3 || third.ReplayOf != id || second.NoEmit {
					t.Errorf("got %+v and %+v", second, third)
				}
			})
		})
	}
}

// startAs starts a run of the kind, and returns its id.
func (f *fixture) startAs(kind trigger.Kind) string {
	f.t.Helper()
	if kind == trigger.KindManual {
		return f.trigger("load", "one", `{"n": 5}`).ID
	}
	set, _ := f.e.Rules()
	in := trigger.Intake{Gen: set.Gen}
	fire := trigger.Firing{Kind: kind, DAG: "load", Version: set.Rules[0].Version, At: time.Now()}
	if kind == trigger.KindBatch {
		b, more := testBatch(1), testBatch(2)
		fire.Rule, fire.Key, fire.LaneKey, fire.Closed = "clicks", "coal:web:"+b.ID, "web", "quiet"
		fire.Batches = append(fire.Batches, b, more)
		in.Arrivals = []trigger.Arrival{{Batch: b}, {Batch: more}}
	} else {
		due := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
		fire.Rule, fire.Key, fire.Due = "nightly", due.Format(time.RFC3339), due
	}
	in.Firings = []trigger.Firing{fire}
	if err := f.e.Start(f.t.Context(), in); err != nil {
		f.t.Fatal(err)
	}
	return fire.RunID()
}

// sameLaunch compares two launches, but for what names the run and the attempt.
func (f *fixture) sameLaunch(a, b scheduler.Launch) {
	f.t.Helper()
	names := []string{"MILLRACE_RUN_ID", "MILLRACE_IDEMPOTENCY_KEY", "TRACEPARENT"}
	env := func(l scheduler.Launch) []string {
		return slices.DeleteFunc(slices.Clone(l.Env), func(kv string) bool {
			name, _, _ := strings.Cut(kv, "=")
			return slices.Contains(names, name)
		})
	}
	if len(env(a)) != len(a.Env)-len(names) {
		f.t.Errorf("the environment lacks one of %v: %v", names, a.Env)
	}
	if diff := cmp.Diff(env(a), env(b)); diff != "" {
		f.t.Errorf("task %s: the environment differs:\n%s", a.Task, diff)
	}
	input := func(l scheduler.Launch) scheduler.Input {
		var in scheduler.Input
		if err := json.Unmarshal(l.Input, &in); err != nil {
			f.t.Fatal(err)
		}
		in.Run.ID, in.Run.ReplayOf, in.Run.CreatedAt = "", "", time.Time{}
		return in
	}
	if diff := cmp.Diff(input(a), input(b)); diff != "" {
		f.t.Errorf("task %s: the input differs:\n%s", a.Task, diff)
	}
	for _, l := range []*scheduler.Launch{&a, &b} {
		l.ID, l.Run, l.Env, l.Input = "", "", nil, nil
	}
	if diff := cmp.Diff(a, b); diff != "" {
		f.t.Errorf("task %s: the launch differs:\n%s", a.Task, diff)
	}
}

// By the latest version, a replay has that version's tasks, and its params: what is not declared any more is left out, what is new has its default.
func TestReplayByTheLatest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"load.yaml": replayDAG})
		id := f.startAs(trigger.KindManual)
		old := f.wait(id)
		f.setDAGs(map[string]string{"load.yaml": strings.NewReplacer("old: x", "new: y", "run: x", "run: other").Replace(replayDAG)})
		d := f.wait(f.replay(id, scheduler.Replay{Pin: scheduler.PinLatest}).ID)
		if got := string(d.Run.Params); got != `{"n":5,"new":"y"}` || d.Run.Version == old.Run.Version {
			t.Errorf("got params %s and version %s, of %s", got, d.Run.Version, old.Run.Version)
		}
		f.setDAGs(map[string]string{"load.yaml": strings.ReplaceAll(replayDAG, "n: 3", "n: text")})
		if _, err := f.e.Replay(t.Context(), id, scheduler.Replay{Pin: scheduler.PinLatest}); !errors.Is(err, scheduler.ErrInvalid) || !strings.Contains(err.Error(), `"n"`) {
			t.Errorf("params that do not fit: got %v", err)
		}
		f.setDAGs(map[string]string{})
		if _, err := f.e.Replay(t.Context(), id, scheduler.Replay{Pin: scheduler.PinLatest}); !errors.Is(err, scheduler.ErrInvalid) || !strings.Contains(err.Error(), "is gone") {
			t.Errorf("a DAG that is gone: got %v", err)
		}
		if got := f.wait(f.replay(id, scheduler.Replay{}).ID).Run; got.Replay != 2 || got.Version != old.Run.Version {
			t.Errorf("by its own version, after the file has gone: got %+v", got)
		}
	})
}

func TestReplayIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"load.yaml": replayDAG})
		f.world.play(runs)
		id := f.startAs(trigger.KindBatch)
		for _, tt := range []struct {
			run  string
			how  scheduler.Replay
			err  error
			want string
		}{
			{id, scheduler.Replay{}, scheduler.ErrInvalid, "is under way"},
			{"none", scheduler.Replay{}, scheduler.ErrNotFound, "none"},
		} {
			if _, err := f.e.Replay(t.Context(), tt.run, tt.how); !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got %v, want %v and %q", tt.run, err, tt.err, tt.want)
			}
		}
		if _, err := f.e.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		f.wait(id)
		if _, err := f.e.Replay(t.Context(), id, scheduler.Replay{Pin: "newest"}); !errors.Is(err, scheduler.ErrInvalid) || !strings.Contains(err.Error(), "want original or latest") {
			t.Errorf("another pin: got %v", err)
		}
		f.replay(id, scheduler.Replay{})
		if _, err := f.e.Replay(t.Context(), id, scheduler.Replay{}); !errors.Is(err, scheduler.ErrInvalid) {
			t.Errorf("while a replay is under way: got %v", err)
		}
		synctest.Wait()
		if n := len(f.e.core.versions); n != 1 {
			t.Errorf("%d versions are in memory, want one", n)
		}
	})
}

// A request whose commit succeeded while the word of it was lost is one replay.
func TestReplayOnceThoughTheAnswerIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"load.yaml": replayDAG})
		id := f.startAs(trigger.KindBatch)
		f.wait(id)
		synctest.Wait()
		lost := errors.New("nobody knows")
		f.store.Intercept = func(c *scheduler.Change, commit func() error) error {
			err := commit()
			if len(c.NewRuns) > 0 && lost != nil {
				err, lost = scheduler.ErrConflict, nil
			}
			return err
		}
		r := f.replay(id, scheduler.Replay{})
		f.wait(r.ID)
		replays, _, err := f.store.Runs(t.Context(), scheduler.RunQuery{ReplayOf: id})
		if err != nil || len(replays) != 1 || replays[0].ID != r.ID {
			t.Errorf("got %+v, %v, want %s alone", replays, err, r.ID)
		}
	})
}

// Where slots are short, live runs go before replays, whatever their priority and age are.
func TestClasses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{
			"load.yaml": replayDAG + "priority: 900\n", "other.yaml": "dag: other\non: [{manual: true}]\ntasks: {a: {run: x}}\n",
		})
		id := f.startAs(trigger.KindManual)
		f.wait(id)
		f.world.play(runs)
		f.world.set(func() { f.world.slots = 1 })
		f.trigger("other", "holds", "")
		synctest.Wait()
		again := f.replay(id, scheduler.Replay{})
		live := f.trigger("other", "waits", "")
		synctest.Wait()
		why, err := f.e.Explain(t.Context(), again.ID)
		if err != nil || why.Tasks[0].Why.Code != scheduler.CodeSlots || !strings.Contains(why.Tasks[0].Why.Text, "live runs go before replays") {
			t.Errorf("got %+v, %v", why, err)
		}
		f.world.play(nil)
		f.world.tell(scheduler.Report{Attempt: f.world.launched()[2], Outcome: scheduler.OutcomeExited, EndedAt: time.Now()})
		f.wait(again.ID)
		launched := f.world.launched()
		if got := launched[3:5]; !strings.HasPrefix(got[0], live.ID) || !strings.HasPrefix(got[1], again.ID) {
			t.Errorf("launched %v, want run %s before %s", got, live.ID, again.ID)
		}
	})
}

// A replay neither displaces a live run from its concurrency group nor is lost for it: it waits behind those that come by themselves.
func TestReplayInAFullGroup(t *testing.T) {
	t.Parallel()
	for _, whenFull := range []string{"queue", "skip", "cancel_running", "fail"} {
		t.Run(whenFull, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, map[string]string{"load.yaml": replayDAG + "concurrency: {when_full: " + whenFull + "}\n"})
				id := f.startAs(trigger.KindBatch)
				f.wait(id)
				f.world.play(runs)
				first := f.trigger("load", "holds", "")
				again := f.replay(id, scheduler.Replay{})
				synctest.Wait()
				d, err := f.store.Run(t.Context(), again.ID)
				if err != nil || d.Run.State != scheduler.StateQueued {
					t.Errorf("got %+v, %v, want it to wait", d, err)
				}
				if whenFull == "queue" {
					f.trigger("load", "live", "")
					f.stop()
					f.start() // the order is found again
					if why, err := f.e.Explain(t.Context(), again.ID); err != nil || why.Why.Ahead != 1 {
						t.Errorf("got %+v, %v, want one before it", why, err)
					}
				}
				if d, err := f.store.Run(t.Context(), first.ID); err != nil || d.Run.State != scheduler.StateRunning {
					t.Errorf("the live run: got %+v, %v, want it to go on", d, err)
				}
			})
		})
	}
}
