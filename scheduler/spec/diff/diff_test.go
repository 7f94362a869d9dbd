package diff_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/spec"
	"millrace/scheduler/spec/diff"
)

func compiled(t *testing.T, src string) *scheduler.DAG {
	t.Helper()
	dags, err := spec.Compile("f.yaml", []byte(src))
	if err != nil || len(dags) != 1 {
		t.Fatal(err)
	}
	return &dags[0]
}

const base = `
dag: load
tags: [a, b]
params: {day: today}
on: [{id: clicks, batch: {source: web}, if: batch.events > 1, coalesce: {quiet: 5s}}, {cron: "0 1 * * *"}]
env: {REGION: eu}
tasks:
  check: {run: [check, --all]}
  load: {needs: [check], run: ./load.sh, retry: {limit: 3, delay: 1m}, timeout: 1h}
  old: {run: x}
`

func TestDAGs(t *testing.T) {
	t.Parallel()
	now := compiled(t, `
dag: load
owner: data
tags: [a]
params: {day: today, limit: 100}
on: [{id: clicks, batch: {source: web}, if: batch.events > 2, coalesce: {quiet: 7s}}, {id: hand, manual: true}]
env: {LEVEL: debug}
tasks:
  load: {needs: [check], run: ./load.sh, retry: {limit: 5, delay: 2m}, timeout: {run: 1h, grace: 5s}}
  check: {run: [check, --all, "a b"]}
  new: {needs: [load], run: y}
`)
	want := []diff.Field{
		{Path: "owner", New: "data"},
		{Path: "tags", Old: "a, b", New: "a"},
		{Path: "params.limit", New: "type: integer; default: 100"},
		{Path: "on.clicks.if", Old: "batch.events > 1", New: "batch.events > 2"},
		{Path: "on.clicks.coalesce.quiet", Old: "5s", New: "7s"},
		{Path: "on.cron", Old: "kind: cron; cron: 0 1 * * *"},
		{Path: "on.hand", New: "kind: manual"},
		{Path: "env.LEVEL", New: "debug"},
		{Path: "env.REGION", Old: "eu"},
		{Path: "tasks.check.run", Old: "check, --all", New: `["check","--all","a b"]`},
		{Path: "tasks.load.retry.limit", Old: "3", New: "5"},
		{Path: "tasks.load.retry.delay", Old: "1m0s", New: "2m0s"},
		{Path: "tasks.load.timeout.grace", New: "5s"},
		{Path: "tasks.old", Old: "kind: command; shell: x; infra_retry: 3"},
		{Path: "tasks.new", New: "needs: load; kind: command; shell: y; infra_retry: 3"},
		{Path: "tasks (order)", Old: "check, load", New: "load, check"},
	}
	if diff := cmp.Diff(want, diff.DAGs(compiled(t, base), now)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestVersions: there is a difference exactly if the versions differ.
func TestVersions(t *testing.T) {
	t.Parallel()
	version := func(d *scheduler.DAG) string {
		raw, err := d.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		return scheduler.VersionOf(raw)
	}
	docs := []string{
		base, "{dag: load, tasks: {a: {run: x}}}", "{dag: load, tasks: {a: {run: [x]}}}", "{dag: load, tasks: {a: {run: x, env: {A: ''}}}}",
		"{dag: load, tasks: {a: {run: x, env: {A: 1}}}}", "{dag: load, on: batch, tasks: {a: {run: x}}}",
		"{dag: load, on: [{batch: true, coalesce: {max_batches: 2}}], tasks: {a: {run: x}}}", "{dag: load, params: {a: ''}, tasks: {a: {run: x}}}",
		"{dag: load, tasks: {b: {run: x}, a: {run: x}}}", "{dag: load, tasks: {a: {run: x}, b: {run: x}}}",
		"{dag: load, tasks: {a: {run: x, infra_retry: 0}}}", "{dag: load, params: {a: {type: string}}, tasks: {a: {run: x}}}",
	}
	for _, x := range docs {
		for _, y := range docs {
			a, b := compiled(t, x), compiled(t, y)
			if got := len(diff.DAGs(a, b)) > 0; got != (version(a) != version(b)) {
				t.Errorf("%s and %s: a difference is %v, versions are %s and %s", x, y, got, version(a), version(b))
			}
		}
	}
}
