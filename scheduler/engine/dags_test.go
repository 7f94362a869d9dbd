package engine

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/scheduler"
	"millrace/scheduler/spec"
	"millrace/trigger"
)

const oneDAG = "dag: one\non: [{batch: {}}]\ntasks: {a: {run: x}}\n"

func (f *fixture) head(id string) *scheduler.DAGHead {
	f.t.Helper()
	h, _, err := f.e.DAG(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return h
}

func (f *fixture) ruleNames() string {
	set, _ := f.e.Rules()
	var names []string
	for _, r := range set.Rules {
		names = append(names, r.Name())
	}
	return strings.Join(names, " ")
}

// A broken file keeps its last good version, whatever is broken in it.
func TestBrokenFileKeepsItsVersion(t *testing.T) {
	t.Parallel()
	two := oneDAG + "---\n" + strings.Replace(oneDAG, "dag: one", "dag: two", 1)
	tests := []struct {
		name, src string
		broken    []string // DAGs with an error
		rules     string
	}{
		{"one of two", strings.Replace(two, "{run: x}", "{rum: x}", 1), []string{"one"}, "one/batch two/batch"},
		{"not YAML", "dag: [\n", []string{"one", "two"}, "one/batch two/batch"},
		{"empty", "", []string{"one", "two"}, "one/batch two/batch"},
		{"one is gone and the other broken", "dag: two\ntasks: {a: {rum: x}}", []string{"two"}, "two/batch"},
		{"other executor", strings.Replace(two, "{run: x}", "{run: x, executor: mesos}", 1), []string{"one"}, "one/batch two/batch"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, map[string]string{"f.yaml": two})
				good := f.head("two").Version
				f.setDAGs(map[string]string{"f.yaml": tt.src})
				var broken []string
				heads, err := f.e.DAGs(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, h := range heads {
					if h.Error != "" {
						broken = append(broken, h.ID)
					}
				}
				if diff := cmp.Diff(tt.broken, broken); diff != "" {
					t.Errorf("broken (-want +got):\n%s", diff)
				}
				if got := f.ruleNames(); got != tt.rules || f.head("two").Version != good {
					t.Errorf("rules are %q, want %q", got, tt.rules)
				}
				// The same after a restart, and mended after a good file.
				f.stop()
				f.start()
				f.setDAGs(map[string]string{"f.yaml": tt.src})
				if got := f.ruleNames(); got != tt.rules {
					t.Errorf("after a restart rules are %q, want %q", got, tt.rules)
				}
				f.setDAGs(map[string]string{"f.yaml": two})
				if h := f.head("one"); h.Error != "" || h.Removed || f.ruleNames() != "one/batch two/batch" {
					t.Errorf("mended: got %+v", h)
				}
			})
		})
	}
}

func TestFileThatNeverWasGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"team/my file.yaml": "dag: ["})
		h, dag, err := f.e.DAG(t.Context(), "my_file")
		if err != nil || dag != nil || h.Error == "" || h.File != "team/my file.yaml" {
			t.Errorf("got %+v, %v, %v", h, dag, err)
		}
		if _, err := f.e.Trigger(t.Context(), "my_file", "", nil); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("trigger: got %v", err)
		}
		f.setDAGs(map[string]string{"team/my file.yaml": oneDAG})
		if heads, _ := f.e.DAGs(t.Context()); len(heads) != 1 || heads[0].ID != "one" {
			t.Errorf("mended: got %+v", heads)
		}
	})
}

func TestRemovedFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"one.yaml": oneDAG, "chain.yaml": chainDAG})
		f.world.play(runs)
		id := f.trigger("chain", "x", "").ID
		synctest.Wait()
		f.setDAGs(map[string]string{"one.yaml": oneDAG})
		if got := f.ruleNames(); got != "one/batch" || !f.head("chain").Removed {
			t.Errorf("rules are %q", got)
		}
		if _, err := f.e.Trigger(t.Context(), "chain", "", nil); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("trigger: got %v", err)
		}
		// Its run goes on, on the version that it was started with, also after a restart.
		f.stop()
		f.start()
		f.world.play(nil)
		f.world.tell(scheduler.Report{Attempt: f.world.launched()[0], Outcome: scheduler.OutcomeExited})
		if d := f.wait(id); d.Run.State != scheduler.StateSuccess {
			t.Errorf("got %s", states(d))
		}
		if err := f.e.SetDAGs(t.Context(), spec.Set{Partial: true}); err != nil {
			t.Fatal(err)
		}
		if f.head("one").Removed {
			t.Error("a directory that can not be read removes DAGs")
		}
	})
}

func TestTwoFilesWithOneDAG(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set := spec.Set{Files: []spec.File{
			spec.ReadFile("a.yaml", []byte(oneDAG)), spec.ReadFile("b.yaml", []byte(strings.Replace(oneDAG, "run: x", "run: y", 1))),
		}}
		f := newFixture(t, nil)
		if err := f.e.SetDAGs(t.Context(), set); err != nil {
			t.Fatal(err)
		}
		h, dag, err := f.e.DAG(t.Context(), "one")
		if err != nil || dag.Tasks[0].Shell != "x" || h.File != "a.yaml" || !strings.Contains(h.Error, `b.yaml: dag "one" stands in a.yaml as well`) {
			t.Errorf("got %+v, %v", h, err)
		}
	})
}

func TestBuiltinDAG(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		file := spec.ReadFile("demo.yaml", []byte(oneDAG))
		file.Builtin = true
		if err := f.e.SetDAGs(t.Context(), spec.Set{Files: []spec.File{file}, Partial: true}); err != nil {
			t.Fatal(err)
		}
		if h := f.head("one"); h.File != "" || h.Version == "" {
			t.Errorf("got %+v", h)
		}
	})
}

// A version that a newer binary wrote starts nothing, stops nobody, and is replaced by what the file says.
func TestVersionThatIsNotUnderstood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.stop()
		chg := &scheduler.Change{
			Versions: []scheduler.DAGVersion{{Version: "new", DAG: "one", Canonical: []byte(`{"v":9,"id":"one"}`)}},
			Heads:    []scheduler.DAGHead{{ID: "one", Version: "new", File: "one.yaml"}},
		}
		if err := f.store.Apply(t.Context(), chg); err != nil {
			t.Fatal(err)
		}
		f.start()
		synctest.Wait()
		if h := f.head("one"); !strings.Contains(h.Error, "this binary knows form 1") || f.ruleNames() != "" {
			t.Errorf("got %+v with rules %q", h, f.ruleNames())
		}
		f.setDAGs(map[string]string{"one.yaml": oneDAG})
		if h := f.head("one"); h.Error != "" || f.ruleNames() != "one/batch" {
			t.Errorf("read again: got %+v", h)
		}
		f.wait(f.trigger("one", "x", "").ID)
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	bad := Options{UnreachableGrace: -1, MaxGroup: -1, Env: []string{"x"}}
	err := bad.Validate()
	for _, want := range []string{"unreachable grace", "max group", `env "x"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := New(nil, nil, Options{}); err == nil {
		t.Error("an engine without executors is made")
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"chain.yaml": chainDAG})
		f.world.play(runs)
		id := f.trigger("chain", "x", "").ID
		synctest.Wait()
		one, stopOne := f.e.Watch(id)
		all, stopAll := f.e.Watch("")
		other, stopOther := f.e.Watch("other")
		f.world.tell(scheduler.Report{Attempt: f.world.launched()[0], Outcome: scheduler.OutcomeExited})
		<-one
		<-all
		select {
		case <-other:
			t.Error("a run that did not change is announced")
		default:
		}
		for _, stop := range []func(){stopOne, stopAll, stopOther, stopOther} {
			stop()
		}
		if n := len(f.e.watch.runs); n != 0 {
			t.Errorf("%d watchers are left", n)
		}
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		f := newFixture(t, nil)
		f.stop()
		e, err := New(f.store, map[string]scheduler.Executor{"local": f.world}, Options{Registerer: reg})
		if err != nil {
			t.Fatal(err)
		}
		f.run(e)
		f.setDAGs(map[string]string{"chain.yaml": chainDAG, "bad.yaml": "dag: ["})
		in := f.intake(testBatch(1))
		if err := f.e.Start(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		f.wait(in.Firings[0].RunID())
		synctest.Wait()
		want := map[string]float64{
			"millrace_run_total": 1, "millrace_run_active": 0, "millrace_task_total": 2, "millrace_event_to_run_seconds": 1,
			"millrace_run_duration_seconds": 1, "millrace_task_running": 0, "millrace_scheduler_dag_parse_errors": 1,
			"millrace_run_schedule_delay_seconds": 1, "millrace_scheduler_queue_depth": 0,
		}
		got := map[string]float64{}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, fam := range families {
			if _, ok := want[fam.GetName()]; !ok {
				continue
			}
			got[fam.GetName()] = 0
			for _, m := range fam.GetMetric() {
				got[fam.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("metrics (-want +got):\n%s", diff)
		}
	})
}

// Tasks see five variables of the server, and nothing else of its environment.
func TestInheritedEnvironment(t *testing.T) {
	t.Setenv("MILLRACE_SECRET", "x")
	t.Setenv("LANG", "C")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	for _, kv := range (Options{}).withDefaults().Env {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.Contains(" PATH HOME LANG TZ TMPDIR ", " "+name+" ") {
			t.Errorf("%s reaches tasks", name)
		}
	}
}

// A pause is in the rules, in the store, and outlives restarts, edits of the file, and its removal.
func TestPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"one.yaml": oneDAG})
		before := f.intake(testBatch(1))
		_, changed := f.e.Rules()
		head, err := f.e.Pause(t.Context(), "one", true)
		if err != nil || !head.Paused {
			t.Fatalf("got %+v, %v", head, err)
		}
		select {
		case <-changed:
		default:
			t.Error("the rules changed and nobody was told")
		}
		if err := f.e.Start(t.Context(), before); !errors.Is(err, trigger.ErrStale) {
			t.Errorf("what was decided before the pause: got %v, want %v", err, trigger.ErrStale)
		}
		gen := f.paused(true)
		if _, err := f.e.Pause(t.Context(), "one", true); err != nil || f.paused(true) != gen {
			t.Errorf("a second pause changed the rules, or failed: %v", err)
		}
		f.stop()
		f.start()
		edited := map[string]string{"one.yaml": strings.Replace(oneDAG, "run: x", "run: y", 1)}
		f.setDAGs(edited)
		f.paused(true)
		f.setDAGs(map[string]string{})
		if _, err := f.e.Pause(t.Context(), "one", false); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("a DAG without a file: got %v", err)
		}
		f.setDAGs(edited)
		f.paused(true)
		if d := f.wait(f.trigger("one", "x", "").ID); d.Run.State != scheduler.StateSuccess {
			t.Errorf("a run by hand: got %s", states(d))
		}
		if _, err := f.e.Pause(t.Context(), "one", false); err != nil {
			t.Fatal(err)
		}
		f.paused(false)
		if _, err := f.e.Pause(t.Context(), "none", true); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("no such DAG: got %v", err)
		}
	})
}

// paused requires that head and rules of DAG one are paused, or not, and returns the generation of the rules.
func (f *fixture) paused(want bool) int64 {
	f.t.Helper()
	set, _ := f.e.Rules()
	if f.head("one").Paused != want || len(set.Rules) != 1 || set.Rules[0].Paused != want {
		f.t.Errorf("head %+v, rules %+v, want paused %v", f.head("one"), set.Rules, want)
	}
	return set.Gen
}
