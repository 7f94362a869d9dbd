package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/scheduler"
)

// labDAG has a task that runs until it is killed, and a teardown that ends when its file is there.
const labDAG = `dag: lab
params: {gate: none}
env: {GATE: "${{ params.gate }}"}
setup: {lab: {run: "echo is up"}}
teardown: {lab: {run: "echo once >> '@DIR/downs'; until [ -e '@DIR/'$GATE ]; do sleep 0.02; done; echo is down"}}
tasks:
  work: {run: "sleep 1000"}
  report: {run: ["true"], needs: work, rule: all_done}
`

// TestSetupAndTeardown: a run that is cancelled ends with its teardown, also if the server is killed while that runs; a second cancel ends it, too.
func TestSetupAndTeardown(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"lab.yaml": strings.ReplaceAll(labDAG, "@DIR", work)}))
	s.start()
	s.head("lab", func(h scheduler.DAGHead) bool { return h.Version != "" })
	state := func(run, task string) scheduler.State {
		t.Helper()
		var d scheduler.RunDetail
		s.cliJSON(&d, "runs", "show", run)
		for _, row := range d.Tasks {
			if row.Task == task {
				return row.State
			}
		}
		return d.Run.State
	}
	begin := func(gate string) string {
		t.Helper()
		var r scheduler.Run
		s.cliJSON(&r, "dags", "trigger", "lab", "--param", "gate="+gate)
		s.waitFor("at work", func() bool { return state(r.ID, "work") == scheduler.StateRunning })
		return r.ID
	}

	id := begin("go")
	text, code := s.cli("runs", "cancel", id)
	for _, want := range []string{"run " + id + " is running: cancelled by request, ", "for what takes down what was set up: lab_teardown (", "; a further cancel skips that\n"} {
		if code != exitOK || !strings.Contains(text, want) {
			t.Errorf("runs cancel: exit %d, got %q, want %q", code, text, want)
		}
	}
	s.waitFor("taking down", func() bool { return state(id, "lab_teardown") == scheduler.StateRunning })
	if text, _ := s.cli("explain", "run", id); !strings.Contains(text, "cancelled by request, and waits for what takes down what was set up: lab_teardown (running)") {
		t.Errorf("explain run: %s", text)
	}
	s.kill()
	s.start()
	write(t, filepath.Join(work, "go"), "")
	s.waitFor("done", func() bool { return state(id, "").Terminal() })
	for task, want := range map[string]scheduler.State{
		"": scheduler.StateCancelled, "lab_setup": scheduler.StateSuccess, "work": scheduler.StateCancelled, "report": scheduler.StateCancelled,
		"lab_teardown": scheduler.StateSuccess,
	} {
		if got := state(id, task); got != want {
			t.Errorf("task %q is %s, want %s", task, got, want)
		}
	}
	if text, _ := s.cli("runs", "logs", id, "--task", "lab_teardown"); !strings.Contains(text, "is down") {
		t.Errorf("the log of the teardown: %s", text)
	}
	if downs, err := os.ReadFile(filepath.Join(work, "downs")); err != nil || string(downs) != "once\n" {
		t.Errorf("the teardown ran %q, %v, want once", downs, err)
	}

	id = begin("never")
	for range 2 {
		if text, code := s.cli("runs", "cancel", id); code != exitOK {
			t.Fatalf("runs cancel: exit %d, %s", code, text)
		}
	}
	s.waitFor("done", func() bool { return state(id, "").Terminal() })
	if got := state(id, "lab_teardown"); got != scheduler.StateCancelled {
		t.Errorf("the teardown is %s after the second cancel", got)
	}
}

// TestSetupPage: the example of docs/setup.md does what the page says, by itself and if only one task of it is tried.
func TestSetupPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/setup.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	src, _, _ := strings.Cut(rest, "```")
	dir := dagDir(t, map[string]string{"rollup.yaml": src})
	for _, task := range []string{"", "load"} {
		out, errs, code := tryIn(t, dir, "rollup.yaml", "--task", task)
		if want := map[string]int{"": exitFailed, "load": exitOK}[task]; code != want {
			t.Errorf("--task %q: exit %d, want %d: %s", task, code, want, errs)
		}
		for _, want := range []string{"cluster_setup = success", "load | load at 127.0.0.1:9000", "cluster_teardown | the cluster is gone"} {
			if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
				t.Errorf("--task %q: got %s, want %q", task, out, want)
			}
		}
	}
}

const groupsDAG = `dag: day
groups: {extract: {description: from all shops}}
tasks:
  one: {run: ["true"], group: extract}
  two: {run: ["true"], group: extract}
  load: {run: ["true"], needs: extract}
`

// TestGroups: what needs a group waits for it; people see which task is in which, and clear a group as a whole.
func TestGroups(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"day.yaml": groupsDAG}))
	s.start()
	s.head("day", func(h scheduler.DAGHead) bool { return h.Version != "" })
	var r scheduler.Run
	s.cliJSON(&r, "dags", "trigger", "day")
	s.waitFor("done", func() bool { return len(s.succeeded("day")) == 1 })
	var d scheduler.RunDetail
	s.cliJSON(&d, "runs", "show", r.ID)
	for _, task := range d.Tasks {
		if want := map[string]string{"one": "extract", "two": "extract", "load": ""}[task.Task]; task.Group != want {
			t.Errorf("task %s is in group %q, want %q", task.Task, task.Group, want)
		}
	}
	if first, last := d.Tasks[0].EndedAt, d.Tasks[2].StartedAt; last.Before(first) {
		t.Errorf("the task after the group started at %v, and one of it ended at %v", last, first)
	}
	if text, code := s.cli("runs", "show", r.ID); code != exitOK || !strings.Contains(text, "TASK  GROUP    STATE") || !strings.Contains(text, "two   extract  success") {
		t.Errorf("runs show: exit %d\n%s", code, text)
	}
	if text, code := s.cli("dags", "graph", "day", "--format", "mermaid"); code != exitOK || !strings.Contains(text, `subgraph g0 ["extract: from all shops"]`) {
		t.Errorf("dags graph: exit %d\n%s", code, text)
	}
	var m scheduler.Mended
	s.cliJSON(&m, "runs", "clear", r.ID, "--group", "extract", "--dry-run")
	if len(m.Tasks) != 2 || m.Tasks[0].Task != "one" || m.Tasks[1].Task != "two" {
		t.Errorf("runs clear --group: %+v", m.Tasks)
	}
	if text := s.declined(exitNotFound, "runs", "clear", r.ID, "--group", "none"); !strings.Contains(text, `find group "none"`) {
		t.Errorf("a group that there is not: %s", text)
	}
}
