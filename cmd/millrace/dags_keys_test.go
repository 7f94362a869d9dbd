package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"millrace/scheduler"
)

// keyCase runs a DAG with a key and without it. want is in what is seen of the run with the key, and not in what is seen without.
type keyCase struct {
	key           string
	with, without string
	args          []string
	want          string
}

// doc is a DAG with the given lines at the top and the task a.
func doc(lines, task string) string { return "dag: d\n" + lines + "\ntasks:\n  a: {" + task + "}\n" }

const (
	params = `run: "grep -o '\"params\":{[^}]*}' $MILLRACE_INPUT"`
	show   = `run: 'echo "X is ${X:-empty}"'`
	fails  = `run: "exit 3"`
	puts   = `run: "echo 1 > $MILLRACE_OUTPUT"`
)

// aBatch are the arguments that give the run a batch of three events of source web.
var aBatch = []string{"--batch", "rows.ndjson", "--source", "web"}

// keyCases are for keys whose effect one run shows. Other keys are about several runs, about time, or about a server: see keyTests in
// cmd/internal/layout.
var keyCases = []keyCase{
	{key: "dag", with: doc("", show), without: strings.Replace(doc("", show), "dag: d", "dag: e", 1), want: "dag=d"},
	{key: "env", with: doc("env: {X: one}", show), without: doc("", show), want: "X is one"},
	{key: "params", with: doc("params: {p: x}", params), without: doc("", params), want: `{"p":"x"}`},
	{key: "params.*", with: doc("params: {p: x, q: y}", params), without: doc("params: {p: x}", params), want: `"q":"y"`},
	{key: "params.*.default", with: doc("params: {p: {type: string, default: x}}", params), without: doc("params: {p: {type: string}}", params), want: `"p":"x"`},
	{key: "params.*.type", with: doc("params: {p: {type: number, default: 1}}", params), without: doc("params: {p: {default: 1}}", params),
		args: []string{"--param", "p=1.5"}, want: `"p":1.5`},
	{key: "params.*.required", with: doc("params: {p: {type: string, required: true}}", params), without: doc("params: {p: {type: string}}", params),
		want: `parameter "p" is required`},
	{key: "on", with: doc("on: [batch]", show), without: doc("", show), args: aBatch, want: "run=success"},
	{key: "on[].batch", with: doc("on: [{id: r, batch: {}}]", show), without: doc("on: [{id: r, manual: true}]", show), args: aBatch, want: "run=success"},
	{key: "on[].id", with: doc("on: [{id: r, batch: true}]", show), without: doc("on: [{batch: true}]", show), args: aBatch, want: "rule=r"},
	{key: "on[].batch.source", with: doc("on: [{batch: {source: app}}]", show), without: doc("on: [{batch: {}}]", show), args: aBatch, want: "filtered (source)"},
	{key: "on[].batch.tenant", with: doc("on: [{batch: {tenant: acme}}]", show), without: doc("on: [{batch: {}}]", show), args: aBatch, want: "filtered (source)"},
	{key: "on[].batch.types", with: doc("on: [{batch: {types: [identify]}}]", show), without: doc("on: [{batch: {}}]", show), args: aBatch, want: "filtered (types)"},
	{key: "on[].if", with: doc("on: [{batch: true, if: batch.events > 3}]", show), without: doc("on: [{batch: true}]", show), args: aBatch, want: "filtered (if)"},
	{key: "on[].key", with: doc("on: [{batch: true, key: batch.source, coalesce: {quiet: 1s}}]", show),
		without: doc("on: [{batch: true, coalesce: {quiet: 1s}}]", show), args: aBatch, want: "key=web"},
	{key: "on[].manual", with: doc("on: [{id: hand, manual: true}]", show), without: doc("", show), want: "rule=hand"},
	{key: "tasks", with: doc("", show), without: "dag: d\n", want: "a=success"},
	{key: "tasks.*", with: doc("", show) + "  b: {run: x}\n", without: doc("", show), want: "b=failed"},
	{key: "tasks.*.run", with: doc("", `run: [echo, one]`), without: doc("", `run: [echo]`), want: "a | one"},
	{key: "tasks.*.env", with: doc("", "env: {X: one}, "+show), without: doc("", show), want: "X is one"},
	{key: "tasks.*.needs", with: doc("", fails) + "  b: {needs: [a], run: echo b}\n", without: doc("", fails) + "  b: {run: echo b}\n", want: "b=upstream_failed"},
	{key: "tasks.*.when", with: doc("", "when: totals.events > 0, "+show), without: doc("", show), want: "a=skipped"},
	{key: "tasks.*.rule", with: doc("", fails) + "  b: {needs: [a], rule: all_done, run: echo b}\n", without: doc("", fails) + "  b: {needs: [a], run: echo b}\n",
		want: "b=success"},
	{key: "tasks.*.retry", with: doc("", "retry: 1, "+fails), without: doc("", fails), want: "a=failed after 2"},
	{key: "tasks.*.retry.limit", with: doc("", "retry: {limit: 2}, "+fails), without: doc("", "retry: {}, "+fails), want: "a=failed after 3"},
	{key: "tasks.*.retry.delay", with: doc("", "retry: {limit: 1, delay: 50ms}, "+fails), without: doc("", "retry: {limit: 1}, "+fails), want: "a waited"},
	{key: "tasks.*.retry.on_exit", with: doc("", "retry: {limit: 1, on_exit: [4]}, "+fails), without: doc("", "retry: {limit: 1}, "+fails), want: "a=failed after 1"},
	{key: "tasks.*.retry.never_on", with: doc("", "retry: {limit: 1, never_on: [3]}, "+fails), without: doc("", "retry: {limit: 1}, "+fails), want: "a=failed after 1"},
	{key: "tasks.*.timeout", with: doc("", `timeout: 100ms, run: [sleep, "20"]`), without: doc("", `run: [sleep, "20"]`), want: "a=failed"},
	{key: "tasks.*.timeout.run", with: doc("", `timeout: {run: 100ms}, run: [sleep, "20"]`), without: doc("", `timeout: {}, run: [sleep, "20"]`), want: "a=failed"},
	{key: "tasks.*.output", with: doc("", "output: {schema: {type: object}}, "+puts), without: doc("", puts), want: "a=failed"},
	{key: "tasks.*.output.schema", with: doc("", "output: {schema: {type: object}}, "+puts), without: doc("", "output: {}, "+puts), want: "a=failed"},
	{key: "tasks.*.executor", with: doc("", "executor: faraway, "+show), without: doc("", show), want: "runs on executor faraway"},
	{key: "defaults", with: doc("defaults: {retry: 1}", fails), without: doc("", fails), want: "a=failed after 2"},
	{key: "defaults.env", with: doc("defaults: {env: {X: one}}", show), without: doc("defaults: {}", show), want: "X is one"},
	{key: "defaults.executor", with: doc("defaults: {executor: faraway}", show), without: doc("defaults: {}", show), want: "runs on executor faraway"},
	{key: "defaults.retry", with: doc("defaults: {retry: 1}", fails), without: doc("defaults: {}", fails), want: "a=failed after 2"},
	{key: "defaults.retry.limit", with: doc("defaults: {retry: {limit: 1}}", fails), without: doc("defaults: {retry: {}}", fails), want: "a=failed after 2"},
	{key: "defaults.retry.delay", with: doc("defaults: {retry: {limit: 1, delay: 50ms}}", fails), without: doc("defaults: {retry: {limit: 1}}", fails),
		want: "a waited"},
	{key: "defaults.retry.on_exit", with: doc("defaults: {retry: {limit: 1, on_exit: [4]}}", fails), without: doc("defaults: {retry: {limit: 1}}", fails),
		want: "a=failed after 1"},
	{key: "defaults.retry.never_on", with: doc("defaults: {retry: {limit: 1, never_on: [3]}}", fails), without: doc("defaults: {retry: {limit: 1}}", fails),
		want: "a=failed after 1"},
	{key: "defaults.timeout", with: doc("defaults: {timeout: 100ms}", `run: [sleep, "20"]`), without: doc("", `run: [sleep, "20"]`), want: "a=failed"},
	{key: "defaults.timeout.run", with: doc("defaults: {timeout: {run: 100ms}}", `run: [sleep, "20"]`), without: doc("defaults: {timeout: {}}", `run: [sleep, "20"]`),
		want: "a=failed"},
}

// TestDAGKeys runs each DAG of keyCases by `dags test`, with the key and without it.
func TestDAGKeys(t *testing.T) {
	t.Parallel()
	for _, c := range keyCases {
		t.Run(c.key, func(t *testing.T) {
			t.Parallel()
			with, without := seenOf(t, c.with, c.args), seenOf(t, c.without, c.args)
			if !strings.Contains(with, c.want) || strings.Contains(without, c.want) {
				t.Errorf("%q is to be seen with %s alone\n--- with:\n%s\n--- without:\n%s", c.want, c.key, with, without)
			}
		})
	}
}

// seenOf is what is seen of a run: its facts, those of its tasks, what they said and what the command said.
func seenOf(t *testing.T, dag string, args []string) string {
	t.Helper()
	dir := dagDir(t, map[string]string{"d.yaml": dag, "rows.ndjson": strings.Repeat(`{"type":"track"}`+"\n", 3)})
	out, errs, _ := millrace(t, dir, nil, append([]string{"dags", "test", filepath.Join(dir, "d.yaml"), "-o", "json"}, args...)...)
	if out == "" {
		return errs
	}
	var d scheduler.RunDetail
	decode(t, out, &d)
	lines := []string{fmt.Sprintf("run=%s dag=%s rule=%s key=%s", d.Run.State, d.Run.DAG, d.Run.Trigger.Rule, d.Run.Trigger.LaneKey)}
	for _, task := range d.Tasks {
		lines = append(lines, fmt.Sprintf("%s=%s after %d", task.Task, task.State, task.Try))
	}
	slices.Sort(lines[1:])
	for i, m := range d.Moves { // without a wait, the next try is decided in the step that ends the one before
		if from := slices.IndexFunc(d.Moves[:i], func(o scheduler.Move) bool { return o.Task == m.Task && o.To == scheduler.StateUpForRetry }); from >= 0 &&
			m.To == scheduler.StateScheduled && m.At.After(d.Moves[from].At) {
			lines = append(lines, m.Task+" waited")
		}
	}
	return strings.Join(append(lines, errs), "\n")
}

// TestDAGKeysForPeople: these keys change nothing of what a run does. They are in the version that it pins, which a server shows.
func TestDAGKeysForPeople(t *testing.T) {
	t.Parallel()
	lines := map[string]string{
		"description": "description: what it is for", "owner": "owner: data", "tags": "tags: [hourly]",
		"params.*.description": "params: {p: {type: string, description: the day}}", "params.*.title": "params: {p: {type: string, title: Day}}",
	}
	files := map[string]string{"none.yaml": strings.Replace(doc("params: {p: {type: string}}", show), "dag: d", "dag: none", 1)}
	n := 0
	for key, line := range lines {
		n++
		files[fmt.Sprintf("k%d.yaml", n)] = strings.Replace(doc(line, show), "dag: d", fmt.Sprintf("dag: k%d", n), 1)
		lines[key] = fmt.Sprintf("k%d", n)
	}
	s := newServer(t, "dev", "--dags", dagDir(t, files))
	s.start()
	for key, dag := range lines {
		s.waitFor("with "+dag, func() bool { _, code := s.cli("dags", "show", dag); return code == exitOK })
		var with, without dagDetail
		s.cliJSON(&with, "dags", "show", dag)
		s.cliJSON(&without, "dags", "show", "none")
		text := map[string]func(d *scheduler.DAG) string{
			"description": func(d *scheduler.DAG) string { return d.Description }, "owner": func(d *scheduler.DAG) string { return d.Owner },
			"tags":                 func(d *scheduler.DAG) string { return strings.Join(d.Tags, " ") },
			"params.*.description": func(d *scheduler.DAG) string { return d.Params["p"].Description },
			"params.*.title":       func(d *scheduler.DAG) string { return d.Params["p"].Title },
		}[key]
		if text(with.Spec) == "" || text(without.Spec) != "" {
			t.Errorf("%s: shown are %q and %q", key, text(with.Spec), text(without.Spec))
		}
		var run scheduler.RunDetail
		if s.cliJSON(&run, "dags", "trigger", dag, "--wait"); run.Run.Version != with.Version {
			t.Errorf("%s: the run pins %s, want %s", key, run.Run.Version, with.Version)
		}
	}
}
