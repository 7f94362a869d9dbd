package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/scheduler"
)

// importDAG is for dag-factory: its tasks run wherever there are bash and python3.
const importDAG = `default:
  default_args: {owner: ops, retries: 1, retry_delay: 0}
greet:
  description: says hello
  params: {who: world}
  tasks:
    hello:
      operator: airflow.operators.bash.BashOperator
      bash_command: echo "hello {{ params.who }}"; [[ a == a ]]
    join:
      operator: airflow.operators.python.PythonOperator
      python_callable: os.path.join
      op_args: [a, b]
      dependencies: [hello]
    end:
      operator: airflow.operators.empty.EmptyOperator
      dependencies: [join]
spread:
  params: {who: all}
  tasks:
    each: # before the task whose output it is mapped over
      operator: airflow.operators.python.PythonOperator
      python_callable: os.path.join
      expand: {op_args: request.output}
      dependencies: [request]
    request:
      operator: airflow.operators.python.PythonOperator
      python_callable: json.loads
      op_args: ['[["a", "b"], ["c", "d"]]']
    dump:
      decorator: airflow.sdk.definitions.decorators.task
      python_callable: json.dumps
      obj: +request
    names:
      operator: airflow.operators.bash.BashOperator
      partial: {bash_command: 'echo "I am $NAME"'}
      expand: {env: [{NAME: x y}, {NAME: z}]}
    commands:
      operator: airflow.operators.bash.BashOperator
      expand: {bash_command: ['echo "one two"', "exit 99"]}
    start:
      operator: airflow.providers.standard.operators.trigger_dagrun.TriggerDagRunOperator
      trigger_dag_id: greet
      conf: {who: "{{ params.who }}"}
      wait_for_completion: true
watch:
  tasks:
    wait: {operator: airflow.sensors.filesystem.FileSensor, filepath: /x}
    after: {operator: airflow.operators.bash.BashOperator, bash_command: "true", dependencies: [wait]}
`

// TestImport imports DAGs of Airflow's, as the command line does, and runs them.
func TestImport(t *testing.T) {
	t.Parallel()
	findTool(t, "bash", "bash")
	findTool(t, "python3", "python3")
	in, out := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "dags")
	if err := os.Mkdir(in, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(in, "greet.yml")
	write(t, file, importDAG)
	write(t, filepath.Join(in, "defaults.yml"), "tags: [imported]\n")
	s := newServer(t, "dev", "--log-level", "error", "--dags", out)

	said, code := imported(t, file, "--out", out)
	if code != exitFailed || !strings.Contains(said, file+":48: watch: wait: operator airflow.sensors.filesystem.FileSensor") ||
		!strings.Contains(said, "2 DAGs written") || !strings.Contains(said, "--partial") {
		t.Errorf("import: exit %d, want 1, and the sensor in its line:\n%s", code, said)
	}
	if _, err := os.Stat(filepath.Join(out, "watch.yaml")); err == nil {
		t.Error("a DAG that loses something was written without --partial")
	}
	if said, code := imported(t, file, "--out", out, "--partial"); code != exitFailed || !strings.Contains(said, "--force") {
		t.Errorf("import over a file: exit %d: %s", code, said)
	}
	if said, code := imported(t, file, "--out", out, "--partial", "--force"); code != exitOK || !strings.Contains(said, "3 DAGs written") {
		t.Errorf("import --partial: exit %d: %s", code, said)
	}
	if said, code := imported(t, filepath.Join(in, "none.yml")); code == exitOK || !strings.Contains(said, "none.yml") {
		t.Errorf("import of no file: exit %d: %s", code, said)
	}

	s.start()
	for _, dag := range []string{"greet", "spread", "watch"} {
		s.head(dag, func(h scheduler.DAGHead) bool { return h.Version != "" })
	}
	var d scheduler.RunDetail
	s.cliJSON(&d, "dags", "trigger", "greet", "--param", "who=the whole world", "--wait")
	if d.Run.State != scheduler.StateSuccess || string(d.Tasks[1].Output) != `"a/b"` {
		t.Errorf("greet: got %s, output %s, want success and a/b", d.Run.State, d.Tasks[1].Output)
	}
	if text, _ := s.cli("runs", "logs", d.Run.ID, "--task", "hello"); text != "hello the whole world\n" {
		t.Errorf("hello says %q", text)
	}
	s.checkSpread()
	if _, code := s.cli("dags", "trigger", "watch", "--wait"); code != exitFailed {
		t.Errorf("watch: exit %d, want 1", code)
	}
	watched := s.runs("watch")
	if text, _ := s.cli("runs", "logs", watched[0].ID, "--task", "wait"); !strings.Contains(text, "was not imported") {
		t.Errorf("the task that was not imported says %q", text)
	}
}

// checkSpread runs the DAG with mapped tasks and one that starts a run.
func (s *server) checkSpread() {
	t := s.t
	var d scheduler.RunDetail
	s.cliJSON(&d, "dags", "trigger", "spread", "--param", "who=you", "--wait")
	outputs := map[string]string{}
	for _, task := range d.Tasks {
		var text bytes.Buffer
		_ = json.Compact(&text, task.Output) // one that put out nothing has none
		outputs[task.Task] = text.String()
	}
	if d.Run.State != scheduler.StateSuccess || outputs["each"] != `["a/b","c/d"]` || outputs["dump"] != `"[[\"a\", \"b\"], [\"c\", \"d\"]]"` {
		t.Errorf("spread: got %s (%s), outputs %v", d.Run.State, d.Run.Reason, outputs)
	}
	for _, want := range []struct{ task, index, text string }{{"names", "0", "I am x y\n"}, {"names", "1", "I am z\n"}, {"commands", "0", "one two\n"}} {
		if text, _ := s.cli("runs", "logs", d.Run.ID, "--task", want.task, "--map-index", want.index); text != want.text {
			t.Errorf("%s/%s says %q, want %q", want.task, want.index, text, want.text)
		}
	}
	var items []scheduler.TaskRun
	if s.cliJSON(&items, "tasks", "ls", d.Run.ID, "--task", "commands"); len(items) != 2 || items[1].State != scheduler.StateSkipped {
		t.Errorf("commands: got %+v, want the second one skipped", items)
	}
	var started struct{ Run string }
	if err := json.Unmarshal([]byte(outputs["start"]), &started); err != nil {
		t.Fatal(err)
	}
	if text, _ := s.cli("runs", "logs", started.Run, "--task", "hello"); text != "hello you\n" {
		t.Errorf("the run that was started says %q", text)
	}
}

// imported runs dags import and returns what it says to people.
func imported(t *testing.T, args ...string) (string, int) {
	t.Helper()
	var out, errs strings.Builder
	code := run(t.Context(), append([]string{"dags", "import"}, args...), streams{in: strings.NewReader(""), out: &out, err: &errs})
	return errs.String(), code
}
