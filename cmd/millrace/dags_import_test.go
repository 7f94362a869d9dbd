package main

import (
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
	if code != exitFailed || !strings.Contains(said, file+":20: watch: wait: operator airflow.sensors.filesystem.FileSensor") ||
		!strings.Contains(said, "1 DAG written") || !strings.Contains(said, "--partial") {
		t.Errorf("import: exit %d, want 1, and the sensor in its line:\n%s", code, said)
	}
	if _, err := os.Stat(filepath.Join(out, "watch.yaml")); err == nil {
		t.Error("a DAG that loses something was written without --partial")
	}
	if said, code := imported(t, file, "--out", out, "--partial"); code != exitFailed || !strings.Contains(said, "--force") {
		t.Errorf("import over a file: exit %d: %s", code, said)
	}
	if said, code := imported(t, file, "--out", out, "--partial", "--force"); code != exitOK || !strings.Contains(said, "2 DAGs written") {
		t.Errorf("import --partial: exit %d: %s", code, said)
	}
	if said, code := imported(t, filepath.Join(in, "none.yml")); code == exitOK || !strings.Contains(said, "none.yml") {
		t.Errorf("import of no file: exit %d: %s", code, said)
	}

	s.start()
	for _, dag := range []string{"greet", "watch"} {
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
	if _, code := s.cli("dags", "trigger", "watch", "--wait"); code != exitFailed {
		t.Errorf("watch: exit %d, want 1", code)
	}
	watched := s.runs("watch")
	if text, _ := s.cli("runs", "logs", watched[0].ID, "--task", "wait"); !strings.Contains(text, "was not imported") {
		t.Errorf("the task that was not imported says %q", text)
	}
}

// imported runs dags import and returns what it says to people.
func imported(t *testing.T, args ...string) (string, int) {
	t.Helper()
	var out, errs strings.Builder
	code := run(t.Context(), append([]string{"dags", "import"}, args...), streams{in: strings.NewReader(""), out: &out, err: &errs})
	return errs.String(), code
}
