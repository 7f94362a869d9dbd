package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/scheduler"
)

// outputsDAG: make puts out 5 MiB and says so, then take reads them; check puts out what its schema does not take; once is taken from the cache.
const outputsDAG = `dag: outputs
tasks:
  make:
    run: |
      (printf '{"rows": "'; head -c 5242880 /dev/zero | tr '\0' x; printf '"}') > $MILLRACE_OUTPUT
      until [ -e '@DIR/go' ]; do sleep 0.02; done
  take:
    needs: make
    run: |
      path=$(sed 's/.*"path":"\([^"]*\)".*/\1/' $MILLRACE_INPUT)
      echo "$(wc -c < $path)" | tee -a '@DIR/taken'
      echo "$(wc -c < $path)" > $MILLRACE_OUTPUT
  check: {run: "echo '{\"n\": \"x\"}' > $MILLRACE_OUTPUT", output: {schema: schemas/n.json}}
---
dag: once
params: {day: {type: string, default: mon}}
tasks:
  count: {run: "echo one >> '@DIR/counted'; echo 42 > $MILLRACE_OUTPUT", cache: {key: params.day}}
  show: {needs: count, run: [echo, "the count is ${{ tasks.count.output }}"]}
`

// TestLargeOutputs: a large output goes through the object store from one task to the next, also if millrace is killed in between; a schema and a
// cache do what they say.
func TestLargeOutputs(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	dir := dagDir(t, map[string]string{"outputs.yaml": strings.ReplaceAll(outputsDAG, "@DIR", work)})
	write(t, filepath.Join(dir, "schemas", "n.json"), `{"type": "object", "properties": {"n": {"type": "integer"}}}`)
	s := newServer(t, "dev", "--log-level", "error", "--dags", dir)
	s.start()
	s.head("outputs", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	var r scheduler.Run
	s.cliJSON(&r, "dags", "trigger", "outputs")
	var d scheduler.RunDetail
	task := func(i int) scheduler.TaskRun {
		s.cliJSON(&d, "runs", "show", r.ID)
		return d.Tasks[i]
	}
	s.waitFor("writing its output", func() bool { return task(0).State == scheduler.StateRunning })
	s.kill()
	write(t, filepath.Join(work, "go"), "") // it ends while nobody takes its output
	s.start()
	s.waitFor("at the end", func() bool { task(0); return d.Run.State.Terminal() })
	made, took, checked := d.Tasks[0], d.Tasks[1], d.Tasks[2]
	const bytes = 5242880 + len(`{"rows": ""}`)
	if made.OutputRef == nil || made.OutputRef.Bytes != int64(bytes) || len(made.Output) > 0 || made.Try != 1 || string(took.Output) != "5242892" {
		t.Errorf("got %+v, and the next task found %s", made, took.Output)
	}
	if got := lines(t, filepath.Join(work, "taken")); len(got) != 1 {
		t.Errorf("the next task was executed %d times: %q", len(got), got)
	}
	if out, code := s.cli("tasks", "output", r.ID, "make"); code != 0 || len(out) != bytes || !strings.HasPrefix(out, `{"rows": "xxx`) {
		t.Errorf("tasks output printed %d bytes, exit code %d", len(out), code)
	}
	if out, code := s.cli("tasks", "output", r.ID, "take"); code != 0 || strings.TrimSpace(out) != "5242892" {
		t.Errorf("tasks output of a small one: got %q, exit code %d", out, code)
	}
	if checked.State != scheduler.StateFailed || !strings.Contains(checked.Reason, "it does not fit output.schema: at /n: got string, want integer") {
		t.Errorf("the schema: got %s, %q", checked.State, checked.Reason)
	}

	first, _, _ := s.finish("once")
	second, tasks, logs := s.finish("once")
	if c := tasks["count"]; len(lines(t, filepath.Join(work, "counted"))) != 1 || c.Try != 0 || c.State != scheduler.StateSuccess || !strings.Contains(logs, "the count is 42") {
		t.Errorf("the cache: got %+v, and %s", c, logs)
	}
	if why, _ := s.cli("explain", "task", second.Run.ID+"/count"); !strings.Contains(why, "cached from run "+first.Run.ID+", try 1") {
		t.Errorf("explain said %s", why)
	}
	if _, code := s.cli("runs", "clear", second.Run.ID, "--task", "count"); code != 0 {
		t.Errorf("clear: exit code %d", code)
	}
	s.waitFor("executed after the clear", func() bool { return len(lines(t, filepath.Join(work, "counted"))) == 2 })
}

// lines returns those of a file.
func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}
