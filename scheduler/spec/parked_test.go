package spec

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

// Tasks that take no slot have nothing of what defaults say of those that do.
func TestParked(t *testing.T) {
	t.Parallel()
	const src = `
dag: d
params: {n: 1}
priority: 3
defaults: {timeout: 5m, retry: 3, executor: far, pool: p, env: {A: b}}
tasks:
  ask: {approval: "Load ${{ params.n }}?"}
  full:
    needs: ask
    approval:
      message: Go on?
      by: [ops, ann]
      expires: 24h
      on_expire: skip
      on_reject: fail
      options: [all, some]
      params: {reason: {type: string, required: true}, rows: 10}
  plain: {approval: {message: m, by: ops, on_reject: skip, expires: 1h, on_expire: reject}}
  sub: {dag: other}
  more: {dag: {id: other, params: {n: "${{ params.n }}", l: [1]}, wait: false, inputs: none}, retry: 1, timeout: 2h}
  same: {dag: {id: other, wait: true, inputs: all}, timeout: {run: 1h}}
`
	want := []scheduler.Task{
		{ID: "ask", Kind: "approval", Approval: &scheduler.Approval{Message: "Load ${{ params.n }}?"}},
		{ID: "full", Kind: "approval", Needs: []string{"ask"}, Approval: &scheduler.Approval{
			Message: "Go on?", By: []string{"ops", "ann"}, Expires: 24 * time.Hour, OnExpire: "skip", OnReject: "fail", Options: []string{"all", "some"},
			Params: map[string]scheduler.Param{"reason": {Type: "string", Required: true}, "rows": {Type: "integer", Default: []byte("10")}},
		}},
		{ID: "plain", Kind: "approval", Approval: &scheduler.Approval{Message: "m", By: []string{"ops"}, Expires: time.Hour}},
		{ID: "sub", Kind: "dag", SubDAG: &scheduler.SubDAG{ID: "other"}},
		{ID: "more", Kind: "dag", Retry: scheduler.Retry{Limit: 1}, Timeout: scheduler.Timeout{Run: 2 * time.Hour}, SubDAG: &scheduler.SubDAG{
			ID: "other", NoWait: true, NoInputs: true, Params: map[string]json.RawMessage{"n": []byte(`"${{ params.n }}"`), "l": []byte("[1]")},
		}},
		{ID: "same", Kind: "dag", Timeout: scheduler.Timeout{Run: time.Hour}, SubDAG: &scheduler.SubDAG{ID: "other"}},
	}
	if diff := cmp.Diff(want, mustCompile(t, src)[0].Tasks); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
	if f := Lint("d.yaml", []byte("dag: d\non: [{batch: {source: a}}]\ntasks: {a: {approval: x}, b: {needs: a, dag: o}}")); len(f.Warnings) > 0 {
		t.Errorf("tasks that take no slot need neither retry nor timeout: %v", f.Warnings)
	}
}

func TestParkedFaults(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"approval: ''":                                 "approval has no message",
		"approval: {by: ops}":                          "approval has no message",
		"approval: {message: m, by: []}":               "by is empty",
		"approval: {message: m, by: [a, a]}":           `by has "a" twice`,
		"approval: {message: m, on_expire: approve}":   "on_expire without expires has no effect",
		"approval: {message: m, on_reject: retry}":     `on_reject "retry" is not known`,
		"approval: {message: '${{ tasks.b.state }}'}":  `there is no task "b"`,
		"{approval: m, timeout: 1h}":                   "write expires below approval",
		"{approval: m, retry: 1}":                      "task \"a\" has approval and retry",
		"{approval: m, run: x}":                        "task \"a\" has run and approval",
		"{approval: m, executor: x}":                   "no executor runs it",
		"{dag: o, cache: {key: x}}":                    "task \"a\" has dag and cache",
		"{dag: o, pool: p}":                            "task \"a\" has dag and pool",
		"{dag: o, timeout: {run: 1h, heartbeat: 1m}}":  "timeout.heartbeat has no meaning for it",
		"dag: {wait: true}":                            "dag names no DAG",
		"dag: d":                                       "starts a run of the DAG that it is in",
		"dag: {id: o, inputs: some}":                   `inputs "some" is not known`,
		"dag: {id: o, params: {x: '${{ params.n }}'}}": `parameter "n" is not declared`,
		"approval: {message: m, expires: 1h, on_expire: approve, options: [a, b]}":                             "nobody has chosen one",
		"approval: {message: m, expires: 1h, on_expire: approve, params: {x: {type: string, required: true}}}": "which is required",
	} {
		if !strings.HasPrefix(src, "{") {
			src = "{" + src + "}"
		}
		_, err := Compile("d.yaml", []byte("dag: d\ntasks: {a: "+src+"}"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", src, err, want)
		}
	}
}

// Only all files together tell whether a DAG exists, and whether some start each other in a circle.
func TestSubDAGs(t *testing.T) {
	t.Parallel()
	files := []File{
		ReadFile("one.yaml", []byte("dag: d\ntasks: {a: {dag: loda}, b: {run: x}, c: {dag: load}}\n---\ndag: load\ntasks: {a: {dag: third}}")),
		ReadFile("two.yaml", []byte("dag: third\ntasks: {a: {dag: load}, b: {dag: {id: fine, wait: false}}}\n---\ndag: fine\ntasks: {a: {run: x}}")),
	}
	var got []string
	for _, w := range SubDAGs(files) {
		got = append(got, w.String())
	}
	want := []string{
		`one.yaml: warning: task "a" starts a run of dag "loda", which none of the files has [no-such-dag] (did you mean "load"?)`,
		`one.yaml: warning: dags start runs of each other in a circle, and the task that closes it fails: load → third → load [dag-circle]`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
