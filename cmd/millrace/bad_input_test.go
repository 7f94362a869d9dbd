package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestValidateFindsBadInput: what can not work is found in the file, with its line and what to write instead.
func TestValidateFindsBadInput(t *testing.T) {
	t.Parallel()
	const head = "dag: bad\nparams: {p: {type: string, default: x}}\non: [{id: m, manual: true}]\n"
	for _, tt := range []struct {
		name, dag string
		code      int
		want      []string
	}{
		{"a cron that never fires", "dag: bad\non: [{id: c, cron: \"0 0 31 2 *\"}]\ntasks: {a: {run: [x]}}\n", exitFailed, []string{"bad.yaml:2:20: cron \"0 0 31 2 *\" never fires"}},
		{"an expression in a shell string", head + "tasks: {a: {run: \"echo ${{ params.p }}\"}}\n", exitFailed, []string{"bad.yaml:4:18: ${{ }} can not stand in a shell command", "put it into env"}},
		{"an expression after sh -c", head + "tasks: {a: {run: [sh, -c, \"echo ${{ params.p }}\"]}}\n", exitFailed, []string{"bad.yaml:4:"}},
		{"a join after a branch", head + "tasks:\n  a: {run: [x], when: params.p == \"a\"}\n  b: {run: [x], when: params.p != \"a\"}\n  j: {run: [x], needs: [a, b]}\n", exitOK,
			[]string{"bad.yaml:7:25: warning: task \"j\" joins after a branch: with the rule all_success", "none_failed_min_one_success", "[join-after-branch]"}},
		{"a circle", head + "tasks: {a: {run: [x], needs: b}, b: {run: [x], needs: a}}\n", exitFailed, []string{"bad.yaml:4:", "tasks need each other in a circle: b → a → b"}},
		{"an unknown task", head + "tasks: {load: {run: [x]}, b: {run: [x], needs: laod}}\n", exitFailed, []string{"bad.yaml:4:", `did you mean "load"?`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := dagDir(t, map[string]string{"bad.yaml": tt.dag})
			out, errs, code := millrace(t, dir, nil, "dags", "validate", filepath.Join(dir, "bad.yaml"))
			if code != tt.code {
				t.Errorf("got exit %d, want %d", code, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(out+errs, want) {
					t.Errorf("got\n%s%s\nwant %q in it", out, errs, want)
				}
			}
		})
	}
}
