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
	"syscall"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

// airflowVersion is what TestSoakAirflow installs from PyPI.
const airflowVersion = "3.1.3"

// airflowDAG is one task that runs the same program as millrace's.
const airflowDAG = `
from datetime import datetime
from airflow.sdk import DAG
from airflow.providers.standard.operators.bash import BashOperator

with DAG("one", start_date=datetime(2024, 1, 1), schedule=None, catchup=False, max_active_runs=10000, is_paused_upon_creation=False):
    BashOperator(task_id="a", bash_command="true")
`

// TestSoakAirflow asks Airflow (LocalExecutor, PostgreSQL) and millrace for the same number of runs of one task, one after the other on one machine, and
// prints how long each took from the first request to the end of the last run. MILLRACE_AIRFLOW names an environment of Python that has Airflow;
// without it one is made. MILLRACE_AIRFLOW_RUNS is the number of runs, default 1000.
func TestSoakAirflow(t *testing.T) {
	soak(t)
	n := 1000
	if text := os.Getenv("MILLRACE_AIRFLOW_RUNS"); text != "" {
		if _, err := fmt.Sscan(text, &n); err != nil {
			t.Fatal(err)
		}
	}
	program, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"one.yaml": "dag: one\ntasks: {a: {run: [" + program + "]}}\n"}))
	s.start()
	s.head("one", func(h scheduler.DAGHead) bool { return h.Version != "" })
	own := s.oneByOne("one", n)
	s.stop()
	s.endRunner()
	t.Logf("measured: millrace: %d runs of one task in %v", n, own.Round(time.Millisecond))

	a := startAirflow(t)
	theirs := a.oneByOne(n)
	t.Logf("measured: Airflow %s (LocalExecutor, PostgreSQL): %d runs of one task in %v: %.1f times as long", airflowVersion, n, theirs.Round(time.Millisecond),
		theirs.Seconds()/own.Seconds())
}

// airflow is an installation with its processes.
type airflow struct {
	t    *testing.T
	home string
	bin  string
	env  []string
	addr string
	jwt  string
}

func startAirflow(t *testing.T) *airflow {
	t.Helper()
	a := &airflow{t: t, home: t.TempDir(), addr: freeAddr(t), bin: os.Getenv("MILLRACE_AIRFLOW")}
	if a.bin == "" {
		a.bin = filepath.Join(a.home, "venv")
		a.run("python3", "-m", "venv", a.bin)
		a.run(filepath.Join(a.bin, "bin/pip"), "install", "-q", "apache-airflow[postgres]=="+airflowVersion)
	}
	write(t, filepath.Join(a.home, "dags/one.py"), airflowDAG)
	db := strings.Replace(schedulertest.Postgres(t), "postgres://", "postgresql+psycopg2://", 1)
	_, port, _ := strings.Cut(a.addr, ":")
	a.env = append(os.Environ(), "PATH="+filepath.Join(a.bin, "bin")+":"+os.Getenv("PATH"), "AIRFLOW_HOME="+a.home,
		"AIRFLOW__CORE__EXECUTOR=LocalExecutor", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="+db, "AIRFLOW__CORE__LOAD_EXAMPLES=False",
		"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS=True", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL=http://"+a.addr+"/execution/",
		"AIRFLOW__API_AUTH__JWT_SECRET=0123456789abcdef0123456789abcdef", "AIRFLOW__CORE__PARALLELISM=32", "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG=32",
		"AIRFLOW__SCHEDULER__MAX_DAGRUNS_TO_CREATE_PER_LOOP=100", "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE=100")
	a.run(filepath.Join(a.bin, "bin/airflow"), "db", "migrate")
	a.keep("api-server", "--host", "127.0.0.1", "--port", port)
	a.keep("scheduler")
	a.keep("dag-processor")
	a.await("its token", func() bool {
		var out struct {
			Token string `json:"access_token"`
		}
		ok := a.ask(http.MethodGet, "/auth/token", nil, &out)
		a.jwt = out.Token
		return ok && a.jwt != ""
	})
	a.await("its DAG", func() bool {
		var out struct {
			Paused bool `json:"is_paused"`
		}
		return a.ask(http.MethodGet, "/api/v2/dags/one", nil, &out) && !out.Paused
	})
	return a
}

// run runs a command to its end.
func (a *airflow) run(name string, args ...string) {
	a.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Dir = a.env, a.home
	if out, err := cmd.CombinedOutput(); err != nil {
		a.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// keep starts one of its processes, which ends with the test.
func (a *airflow) keep(args ...string) {
	a.t.Helper()
	cmd := exec.Command(filepath.Join(a.bin, "bin/airflow"), args...)
	cmd.Env, cmd.Dir, cmd.SysProcAttr = a.env, a.home, &syscall.SysProcAttr{Setpgid: true}
	var log lockedBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if a.t.Failed() {
			text := log.String()
			a.t.Logf("airflow %s said:\n%s", args[0], text[max(0, len(text)-4000):])
		}
	})
}

// await waits for what a cold start of Airflow takes.
func (a *airflow) await(what string, ok func() bool) {
	a.t.Helper()
	a.t.Logf("waiting until Airflow has %s", what)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			a.t.Fatalf("Airflow does not have %s", what)
		}
	}
}

func (a *airflow) ask(method, path string, body []byte, out any) bool {
	req, err := http.NewRequest(method, "http://"+a.addr+path, bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+a.jwt)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode/100 == 2 && json.Unmarshal(text, out) == nil
}

// oneByOne is that of a server of millrace.
func (a *airflow) oneByOne(n int) time.Duration {
	a.t.Helper()
	begin := time.Now()
	together(a.t, n, func(i int) error {
		body := fmt.Sprintf(`{"dag_run_id": "n%d", "logical_date": null}`, i)
		if !a.ask(http.MethodPost, "/api/v2/dags/one/dagRuns", []byte(body), new(any)) {
			return errors.New("the run was not taken")
		}
		return nil
	})
	type page struct {
		Total int `json:"total_entries"`
		Runs  []struct {
			End time.Time `json:"end_date"`
		} `json:"dag_runs"`
	}
	var last page
	a.await("ended all runs", func() bool {
		var out page
		return a.t.Failed() || a.ask(http.MethodGet, "/api/v2/dags/one/dagRuns?state=success&limit=1&order_by=-end_date", nil, &out) && out.Total >= n && func() bool { last = out; return true }()
	})
	if len(last.Runs) == 0 {
		a.t.Fatal("Airflow has no run that ended")
	}
	return last.Runs[0].End.Sub(begin)
}
