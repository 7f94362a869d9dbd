package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

// around is what surrounds a task in the compiled form.
type around struct{ Part, Needs, Setups string }

func TestParts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, src string
		want      map[string]around
	}{
		{"a pair covers all", "setup: {c: {run: x}}\nteardown: {c: {run: x}}\ntasks: {a: {run: x}, b: {run: x, needs: a}}", map[string]around{
			"c_setup": {Part: "setup"}, "a": {Setups: "c_setup"}, "b": {Needs: "a", Setups: "c_setup"},
			"c_teardown": {Part: "teardown", Needs: "a b", Setups: "c_setup"},
		}},
		{"a pair for some", "setup: {c: {run: x, for: b}}\nteardown: {c: {run: x}}\ntasks: {a: {run: x}, b: {run: x}}", map[string]around{
			"c_setup": {Part: "setup"}, "a": {}, "b": {Setups: "c_setup"}, "c_teardown": {Part: "teardown", Needs: "b", Setups: "c_setup"},
		}},
		{"a setup that needs a task does not cover it", "setup: {c: {run: x, needs: a}}\ntasks: {a: {run: x}, b: {run: x}}", map[string]around{
			"c_setup": {Part: "setup", Needs: "a"}, "a": {}, "b": {Setups: "c_setup"},
		}},
		{"a teardown alone", "teardown: {c: {run: x}, d: {run: x, for: a}}\ntasks: {a: {run: x}, b: {run: x}}", map[string]around{
			"a": {}, "b": {}, "c_teardown": {Part: "teardown", Needs: "a b"}, "d_teardown": {Part: "teardown", Needs: "a"},
		}},
		{"one within another", "setup: {o: {run: x, for: a}, i: {run: x, needs: o, for: b}}\nteardown: {o: {run: x}, i: {run: x}}\ntasks: {a: {run: x}, b: {run: x}}",
			map[string]around{
				"o_setup": {Part: "setup"}, "i_setup": {Part: "setup", Setups: "o_setup"}, "a": {Setups: "o_setup"}, "b": {Setups: "i_setup o_setup"},
				"i_teardown": {Part: "teardown", Needs: "b", Setups: "i_setup"},
				"o_teardown": {Part: "teardown", Needs: "i_setup a b i_teardown", Setups: "o_setup"},
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dags, err := Compile("f.yaml", []byte("dag: d\n"+tt.src+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]around{}
			for _, task := range dags[0].Tasks {
				got[task.ID] = around{task.Part, strings.Join(task.Needs, " "), strings.Join(task.Setups, " ")}
				if down := task.Part == scheduler.PartTeardown; down != (task.Rule == scheduler.JoinAllDone) {
					t.Errorf("task %s has the rule %q", task.ID, task.Rule)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestPartFaults(t *testing.T) {
	t.Parallel()
	const tasks = "\ntasks: {a: {run: x}, b: {run: x, needs: a}}"
	for _, tt := range []struct{ src, want string }{
		{"setup: {c: {run: x, for: d}}" + tasks, `setup "c" is for "d", which is neither a task nor a group`},
		{"setup: {c: {run: x, for: []}}" + tasks, `setup "c" is for no task`},
		{"setup: {c: {}}" + tasks, `setup "c" has no run`},
		{"setup: {c: {run: x, rule: all_done}}" + tasks, `unknown key "rule" in setup "c" (rule is a key of a task)`},
		{"teardown: {c: {run: x, needs: a}}" + tasks, `unknown key "needs" in teardown "c" (needs is a key of a group and of a task and of a setup)`},
		{"setup: {c: {run: x, fail_run: true}}" + tasks, `(fail_run is a key of a teardown)`},
		{"setup: {a: {run: x}}" + tasks, `setup "a" has the name of a task`},
		{"setup: {c: {run: x}}\ntasks: {c_setup: {run: x}}", `task "c_setup" has the id that setup "c" gets`},
		{"setup: {" + strings.Repeat("c", 60) + ": {run: x}}" + tasks, "take a shorter name"},
		{"setup: {c: {run: x}}\nteardown: {c: {run: x, for: a}}" + tasks, `teardown "c" covers what its setup does: for stands in setup.c`},
		{"setup: {c: {run: x}}\ntasks: {a: {run: x, needs: c}}", `task "a" needs setup "c": what a setup covers comes after it anyway`},
		{"teardown: {c: {run: x}}\ntasks: {a: {run: x, needs: c_teardown}}", `task "a" needs teardown "c": nothing can come after a teardown`},
		{"setup: {c: {run: x, needs: b, for: a}}" + tasks, "tasks need each other in a circle"},
		{"setup: {c: {run: x, needs: d}, d: {run: x, needs: c}}" + tasks, "tasks need each other in a circle"},
		{"setup: {c: {run: x}}\ntasks: {a: {run: x, env: {A: '${{ tasks.c.output.x }}'}}}", `there is no task "c" (the setup's task is tasks.c_setup)`},
		{"setup: {c: {run: x, for: b}}\ntasks: {a: {run: x, when: tasks.c_setup.exit == 0}, b: {run: x}}", `task "c_setup" does not come before task "a"`},
	} {
		if _, err := Compile("f.yaml", []byte("dag: d\n"+tt.src+"\n")); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.src, err, tt.want)
		}
	}
}

// A teardown hides no failure, and what a setup yields can be used whatever the rule of a task is.
func TestPartsAndWarnings(t *testing.T) {
	t.Parallel()
	src := "dag: d\nsetup: {c: {run: x}}\nteardown: {c: {run: x}}\n" +
		"tasks: {a: {run: x}, b: {run: x}, any: {run: [x, '${{ tasks.c_setup.output.x }}'], rule: one_success, needs: [a, b]}}\n"
	f := ReadFile("f.yaml", []byte(src))
	if len(f.Faults)+len(f.Warnings) > 0 {
		t.Errorf("got %v and %v", f.Faults, f.Warnings)
	}
}
