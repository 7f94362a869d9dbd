package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// warnings returns "code task" for each warning, and wants the file to be good.
func warnings(t *testing.T, src string) []string {
	t.Helper()
	f := ReadFile("f.yaml", []byte(src))
	if len(f.Faults) > 0 || len(f.DAGs) != 1 {
		t.Fatalf("got %d DAGs and %v, want one", len(f.DAGs), f.Faults)
	}
	var out []string
	for i := range f.Warnings {
		w := &f.Warnings[i]
		_, rest, _ := strings.Cut(w.Msg, `task "`)
		task, _, _ := strings.Cut(rest, `"`)
		out = append(out, w.Code+" "+task)
	}
	return out
}

func TestJoinAfterBranch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, tasks string
		want        []string
	}{
		{"no branch", "{a: {run: x}, b: {run: x}, j: {run: x, needs: [a, b]}}", nil},
		{"a branch that ends", "{a: {run: x}, b: {run: x, needs: a, when: 'true'}, c: {run: x, needs: b}}", nil},
		{"either or", "{a: {run: x, when: 'true'}, b: {run: x, when: 'false'}, j: {run: x, needs: [a, b]}}", []string{"join-after-branch j"}},
		{"one parent may be skipped", "{a: {run: x}, b: {run: x, when: 'true'}, j: {run: x, needs: [a, b]}}", []string{"join-after-branch j"}},
		{"spelt out", "{a: {run: x}, b: {run: x, when: 'true'}, j: {run: x, needs: [a, b], rule: all_success}}", []string{"join-after-branch j"}},
		{"the skip comes from far", "{a: {run: x}, b: {run: x, when: 'true'}, c: {run: x, needs: b}, j: {run: x, needs: [a, c]}}", []string{"join-after-branch j"}},
		{
			"within one branch",
			"{a: {run: x, when: 'true'}, b: {run: x, needs: a}, c: {run: x, needs: a}, j: {run: x, needs: [b, c]}}", nil,
		},
		{"the branch and its start", "{a: {run: x, when: 'true'}, b: {run: x, needs: a}, j: {run: x, needs: [a, b]}}", nil},
		{
			"after a join that was warned of", "{a: {run: x}, b: {run: x, when: 'true'}, j: {run: x, needs: [a, b]}, k: {run: x, needs: [j, b]}}",
			[]string{"join-after-branch j"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, warnings(t, "dag: d\ntasks: "+tt.tasks+"\n")); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFailureHidden(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, tasks string
		want        []string
	}{
		{"a task that cleans up", "{a: {run: x}, b: {run: x, needs: a, rule: all_done}}", []string{"failure-hidden b"}},
		{"and a leaf beside it", "{a: {run: x}, b: {run: x, needs: a, rule: all_done}, c: {run: x, needs: a}}", nil},
		{"asked for", "{a: {run: x}, b: {run: x, needs: a, rule: one_failed}}", nil},
		{"once for all", "{a: {run: x}, b: {run: x}, c: {run: x, needs: [a, b], rule: all_done}, d: {run: x, needs: [a, b], rule: always}}", []string{"failure-hidden c"}},
		{"the one before passes it on", "{a: {run: x}, b: {run: x, needs: a}, c: {run: x, needs: b, rule: all_done}}", []string{"failure-hidden c"}},
		{"a rule of a task that joins nothing", "{a: {run: x, rule: all_done}}", []string{"rule-without-needs a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, warnings(t, "dag: d\ntasks: "+tt.tasks+"\n")); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// An expression may name a task only if that has ended for sure.
func TestExpressionsOfTasksThatDoNotWait(t *testing.T) {
	t.Parallel()
	for tasks, want := range map[string]string{
		"{a: {run: x}, b: {run: x, needs: a, rule: one_done, when: tasks.a.exit == 0}}":                                          "",
		"{a: {run: x}, b: {run: x, needs: a, rule: all_done, when: tasks.a.exit == 0}}":                                          "",
		"{a: {run: x}, b: {run: x, needs: a, rule: always, when: tasks.a.exit == 0}}":                                            `task "a" need not have ended when task "b" starts`,
		"{a: {run: x}, b: {run: x}, c: {run: x, needs: [a, b], rule: one_success, when: tasks.a.exit == 0}}":                     `task "a" need not have ended when task "c" starts`,
		"{a: {run: x}, b: {run: x}, c: {run: x, needs: [a, b], rule: one_done}, d: {run: x, needs: c, when: tasks.a.exit == 0}}": `task "a" need not have ended when task "d" starts`,
		"{a: {run: x}, b: {run: x, needs: a, rule: always, env: {A: '${{ tasks.a.exit }}'}}}":                                    `env A of task "b" names task "a", which need not have ended when that starts`,
	} {
		_, err := Compile("f.yaml", []byte("dag: d\ntasks: "+tasks+"\n"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", tasks, err, want)
		}
	}
}

func TestWarningIsShownWithItsPlace(t *testing.T) {
	t.Parallel()
	src := "dag: d\ntasks:\n  a: {run: x}\n  b: {run: x, when: 'true'}\n  j: {run: x, needs: [a, b]}\n"
	f := ReadFile("f.yaml", []byte(src))
	if len(f.Warnings) != 1 {
		t.Fatalf("got %v, want one warning", f.Warnings)
	}
	want := `f.yaml:5:26: warning: task "j" joins after a branch: with the rule all_success it is skipped whenever "b" is, also if "a" succeeded [join-after-branch]
    5 |   j: {run: x, needs: [a, b]}
      |                          ^
write "rule: none_failed_min_one_success" to run it if any of its parents did and none failed`
	if diff := cmp.Diff(want, f.Warnings[0].Detail()); diff != "" {
		t.Errorf("detail (-want +got):\n%s", diff)
	}
	if bad := ReadFile("f.yaml", []byte(src+"  k: {rum: x}\n")); len(bad.Warnings) > 0 || len(bad.Faults) == 0 {
		t.Errorf("a DAG with a fault: got %v, want the faults alone", bad.Warnings)
	}
}
