package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

func TestGroups(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, src string
		want      map[string]string // what each task needs
	}{
		{"the last tasks of a group stand for it", "tasks: {a: {run: x, group: g}, b: {run: x, needs: a, group: g}, c: {run: x, needs: a, group: g}, d: {run: x, needs: g}}",
			map[string]string{"a": "", "b": "a", "c": "a", "d": "b c"}},
		{"its first tasks need what it does", "groups: {g: {needs: z}}\ntasks: {z: {run: x}, a: {run: x, group: g}, b: {run: x, needs: a, group: g}, c: {run: x, needs: z, group: g}}",
			map[string]string{"z": "", "a": "z", "b": "a", "c": "z"}},
		{"a group after a group", "groups: {h: {needs: g}}\ntasks: {d: {run: x, needs: [h, a]}, a: {run: x, group: g}, b: {run: x, group: g}, c: {run: x, group: h}}",
			map[string]string{"a": "", "b": "", "c": "a b", "d": "c a"}},
		{"within a pair", "setup: {s: {run: x, for: g}}\nteardown: {s: {run: x}}\ntasks: {a: {run: x, group: g}, b: {run: x, group: g}, c: {run: x, needs: g}}",
			map[string]string{"s_setup": "", "a": "s_setup", "b": "s_setup", "c": "a b", "s_teardown": "s_setup a b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dags, err := Compile("f.yaml", []byte("dag: d\n"+tt.src+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, task := range dags[0].Tasks {
				got[task.ID] = strings.Join(append(task.Setups, task.Needs...), " ")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	dags, err := Compile("f.yaml", []byte("dag: d\ngroups: {h: {description: the rest}}\ntasks: {a: {run: x, group: g}, b: {run: x, group: h}, c: {run: x}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]scheduler.Group{{ID: "h", Description: "the rest"}, {ID: "g"}}, dags[0].Groups); diff != "" {
		t.Errorf("groups, -want +got:\n%s", diff)
	}
	for i, want := range []string{"g", "h", ""} {
		if got := dags[0].Tasks[i].Group; got != want {
			t.Errorf("task %s is in group %q, want %q", dags[0].Tasks[i].ID, got, want)
		}
	}
}

func TestGroupFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ src, want string }{
		{"tasks: {a: {run: x, group: g}, b: {run: x, needs: gg}}", `task "b" needs "gg", which does not exist (did you mean "g"?)`},
		{"tasks: {a: {run: x, group: g}, b: {run: x, group: g, needs: g}}", `task "b" needs group "g", which it is in`},
		{"groups: {g: {}}\ntasks: {a: {run: x}}", `group "g" has no task`},
		{"groups: {g: {needs: [none]}}\ntasks: {a: {run: x, group: g}}", `task "a" needs "none", which does not exist`},
		{"groups: {g: {needs: [b]}}\ntasks: {a: {run: x, group: g}, b: {run: x, needs: g}}", "tasks need each other in a circle"},
		{"groups: {g: {needs: h}, h: {needs: g}}\ntasks: {a: {run: x, group: g}, b: {run: x, group: h}}", "tasks need each other in a circle"},
		{"tasks: {a: {run: x, group: b}, b: {run: x}}", `group "b" has the name of task "b"`},
		{"setup: {s: {run: x}}\ntasks: {a: {run: x, group: s}}", `group "s" has the name of setup "s"`},
		{"groups: {g: {need: a}}\ntasks: {a: {run: x, group: g}}", `unknown key "need" in group "g" (did you mean "needs"?)`},
		{"tasks: {a: {run: x, group: 'g g'}}", `group: id "g g" must start with`},
		{"tasks: {a: {run: x, group: g}, b: {run: x, needs: [a, a, g]}}", `task "b" needs "a" twice`},
		{"setup: {s: {run: x, group: g}}\ntasks: {a: {run: x}}", `unknown key "group" in setup "s"`},
	} {
		if _, err := Compile("f.yaml", []byte("dag: d\n"+tt.src+"\n")); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.src, err, tt.want)
		}
	}
}
