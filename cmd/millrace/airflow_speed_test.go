package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

// airflowDAG is one task that runs the same program as millrace's.
const airflowDAG = `
from datetime import datetime
from airflow.sdk import DAG
from airflow.providers.standard.operators.bash import BashOperator

with DAG("one", start_date=datetime(2024, 1, 1), schedule=None, catchup=False, max_active_runs=10000, is_paused_upon_creation=False):
    BashOperator(task_id="a", bash_command="true")
`

// TestSoakAirflow asks Airflow (LocalExecutor, PostgreSQL) and millrace for the same number of runs of one task, one after the other on one machine, and
// prints how long each took from the first request to the end of the last run. Airflow and all that it needs are those of testdata/airflow/server.txt;
// MILLRACE_AIRFLOW names another environment of Python that has it. MILLRACE_AIRFLOW_RUNS is the number of runs, default 1000.
func TestSoakAirflow(t *testing.T) {
	soak(t)
	n := 1000
	if text := os.Getenv("MILLRACE_AIRFLOW_RUNS"); text != "" {
		if _, err := fmt.Sscan(text, &n); err != nil {
			t.Fatal(err)
		}
	}
	findTool(t, "bash", "bash")
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"one.yaml": "dag: one\ntasks: {a: {run: [bash, -c, \"true\"]}}\n"}))
	s.start()
	s.head("one", func(h scheduler.DAGHead) bool { return h.Version != "" })
	own := s.oneByOne("one", n)
	s.stop()
	s.endRunner()
	t.Logf("measured: millrace: %d runs of one task in %v", n, own.Round(time.Millisecond))

	a := startAirflow(t)
	theirs := a.oneByOne(n)
	t.Logf("measured: Airflow %s (LocalExecutor, PostgreSQL): %d runs of one task in %v: %.1f times as long", a.version, n, theirs.Round(time.Millisecond),
		theirs.Seconds()/own.Seconds())
}

// airflow is an installation with its processes.
type airflow struct {
	t       *testing.T
	home    string
	bin     string
	version string
	env     []string
	addr    string
	jwt     string
	// ended gets the name of a process that ends; there is room for all.
	ended chan string
}

// airflowEnv is the directory of the programs of an environment that has Airflow.
func airflowEnv(t *testing.T) string {
	t.Helper()
	venv := os.Getenv("MILLRACE_AIRFLOW")
	if venv == "" {
		pins := filepath.Join(repoRoot(t), "cmd", "millrace", "testdata", "airflow", "server.txt")
		python := findTool(t, "python3-venv", "python3")
		venv = installed(t, "airflow-server", []string{pins}, func(dir string) [][]string {
			return [][]string{
				{python, "-m", "venv", dir},
				{dir + "/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", pins},
			}
		}, func(dir string) []string { return []string{dir + "/bin/python", "-c", "import airflow.sdk"} })
	}
	return filepath.Join(venv, "bin")
}

func startAirflow(t *testing.T) *airflow {
	t.Helper()
	a := &airflow{t: t, home: t.TempDir(), addr: freeAddr(t), bin: airflowEnv(t), ended: make(chan string, 3)}
	write(t, filepath.Join(a.home, "dags/one.py"), airflowDAG)
	db := strings.Replace(schedulertest.Postgres(t), "postgres://", "postgresql+psycopg2://", 1)
	_, port, _ := strings.Cut(a.addr, ":")
	settings := []string{ // that the environment may change
		"AIRFLOW__CORE__PARALLELISM=32", "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG=32",
		"AIRFLOW__SCHEDULER__MAX_DAGRUNS_TO_CREATE_PER_LOOP=100", "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE=100",
	}
	a.env = append(append(settings, os.Environ()...), "PATH="+a.bin+":"+os.Getenv("PATH"), "AIRFLOW_HOME="+a.home,
		"AIRFLOW__CORE__EXECUTOR=LocalExecutor", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="+db, "AIRFLOW__CORE__LOAD_EXAMPLES=False",
		"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS=True", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL=http://"+a.addr+"/execution/",
		"AIRFLOW__API_AUTH__JWT_SECRET=0123456789abcdef0123456789abcdef")
	lines := strings.Split(strings.TrimSpace(a.run("version")), "\n")
	a.version = lines[len(lines)-1] // after what it warns of
	a.run("db", "migrate")
	a.keep("api-server", "--host", "127.0.0.1", "--port", port)
	a.keep("scheduler")
	a.keep("dag-processor")
	a.await("its token", func() (bool, error) {
		var out struct {
			Token string `json:"access_token"`
		}
		err := a.ask(http.MethodGet, "/auth/token", nil, &out)
		a.jwt = out.Token
		return a.jwt != "", err
	})
	a.await("its DAG", func() (bool, error) {
		var out struct {
			Paused bool `json:"is_paused"`
		}
		err := a.ask(http.MethodGet, "/api/v2/dags/one", nil, &out)
		return !out.Paused, err
	})
	return a
}

// command is one of Airflow's. Its script in bin names the place where it was installed, which is another one by now.
func (a *airflow) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(a.bin, "python"), append([]string{"-m", "airflow"}, args...)...)
	cmd.Env, cmd.Dir = a.env, a.home
	return cmd
}

// run runs a command to its end, and returns what it prints.
func (a *airflow) run(args ...string) string {
	a.t.Helper()
	cmd := a.command(args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		a.t.Fatalf("airflow %s: %v\n%s%s", strings.Join(args, " "), err, out, &errs)
	}
	return string(out)
}

// keep starts one of its processes, which ends with the test, and all that it has started with it: its workers are in groups of their own.
func (a *airflow) keep(args ...string) {
	a.t.Helper()
	cmd := a.command(args...)
	var log lockedBuffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &log, &log, 10*time.Second
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { // ends with the process, which the cleanup kills
		_ = cmd.Wait()
		a.ended <- args[0]
		close(gone)
	}()
	a.t.Cleanup(func() {
		killTree(cmd.Process.Pid)
		<-gone
		if a.t.Failed() {
			text := log.String()
			a.t.Logf("airflow %s said:\n%s", args[0], text[max(0, len(text)-4000):])
		}
	})
}

// killTree kills a process and all that it has started. They are stopped first, so that none of them starts another one meanwhile.
func killTree(pid int) {
	var tree []int
	for found := []int{pid}; len(found) > len(tree); found = family(pid) {
		tree = found
		for _, id := range tree {
			_ = syscall.Kill(id, syscall.SIGSTOP)
		}
	}
	for _, id := range tree {
		_ = syscall.Kill(id, syscall.SIGKILL)
	}
}

// family returns a process, those that it has started, and these, and so on.
func family(pid int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, _ := os.ReadFile(path) // it may be gone
		var id, parent int
		var state string
		_, rest, _ := strings.Cut(string(text), ") ")
		if _, err := fmt.Sscan(rest, &state, &parent); err != nil {
			continue
		}
		if _, err := fmt.Sscan(string(text), &id); err == nil {
			children[parent] = append(children[parent], id)
		}
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// await waits for what a cold start of Airflow, or many runs, take.
func (a *airflow) await(what string, ok func() (bool, error)) {
	a.t.Helper()
	a.t.Logf("waiting until Airflow has %s", what)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Minute); ; {
		done, err := ok()
		if done && err == nil {
			return
		}
		var failed *airflowError
		if time.Now().After(end) || errors.As(err, &failed) && failed.status == http.StatusInternalServerError {
			a.t.Fatalf("Airflow does not have %s: %v", what, err)
		}
		select {
		case name := <-a.ended:
			a.ended <- name // so that nobody waits for it again
			a.t.Fatalf("Airflow does not have %s: its %s has ended", what, name)
		case <-tick.C:
		}
	}
}

// airflowError is an answer that is no success.
type airflowError struct {
	status int
	text   []byte
}

func (e *airflowError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.text) }

func (a *airflow) ask(method, path string, body []byte, out any) error {
	req, err := http.NewRequest(method, "http://"+a.addr+path, bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+a.jwt)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return &airflowError{resp.StatusCode, text}
	}
	return json.Unmarshal(text, out)
}

// oneByOne is that of a server of millrace.
func (a *airflow) oneByOne(n int) time.Duration {
	a.t.Helper()
	begin := time.Now()
	var again atomic.Int64
	together(a.t, n, func(i int) error {
		body := fmt.Sprintf(`{"dag_run_id": "n%d", "logical_date": null}`, i)
		for {
			err := a.ask(http.MethodPost, "/api/v2/dags/one/dagRuns", []byte(body), new(any))
			var failed *airflowError
			switch {
			case !errors.As(err, &failed):
				return err
			case failed.status == http.StatusConflict: // an answer was lost, the run is there
				return nil
			case failed.status < 500 || again.Add(1) > int64(n): // 3 of 1,000 were seen to get a 500, "Database error"
				return err
			}
		}
	})
	if a.t.Failed() {
		a.t.FailNow()
	}
	a.t.Logf("measured: Airflow has taken %d requests after %v, %d of them asked again after a 500", n, time.Since(begin).Round(time.Millisecond), again.Load())
	var last struct {
		Total int `json:"total_entries"`
		Runs  []struct {
			End time.Time `json:"end_date"`
		} `json:"dag_runs"`
	}
	a.await("ended all runs", func() (bool, error) {
		err := a.ask(http.MethodGet, "/api/v2/dags/one/dagRuns?state=success&limit=1&order_by=-end_date", nil, &last)
		return last.Total >= n && len(last.Runs) > 0, err
	})
	return last.Runs[0].End.Sub(begin)
}
