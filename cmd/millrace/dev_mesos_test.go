package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/scheduler"
)

// TestDevMesos: the double of a cluster in `millrace dev` runs tasks, and says what it is. When its process is killed, its tasks are lost, and made again on the
// next one, without anybody being asked.
func TestDevMesos(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	dir := dagDir(t, map[string]string{"wait.yaml": strings.ReplaceAll(`dag: wait
on: [{manual: true}]
tasks:
  wait:
    executor: mesos
    constraints: [[rack, cluster, r2]]
    run: |
      echo "$MILLRACE_TRY" >> '@DIR/tries'
      until [ -e '@DIR/go' ]; do sleep 0.05; done
---
dag: stubborn
on: [{manual: true}]
tasks:
  stubborn:
    executor: mesos
    timeout: {grace: 10m}
    run: |
      trap 'touch "@DIR/told"' TERM
      touch '@DIR/deaf'
      until [ -e '@DIR/go' ]; do sleep 0.05; done
`, "@DIR", work)})
	exists := func(name string) func() bool {
		return func() bool {
			_, err := os.Stat(filepath.Join(work, name))
			return err == nil
		}
	}
	s := newServer(t, "dev", "--dags", dir, "--executor", "mesos")
	s.start()
	if said := s.stderr.String(); !strings.Contains(said, "mesos    a double at 127.0.0.1:") || !strings.Contains(said, "not a cluster") {
		t.Errorf("it does not say that there is a double:\n%s", said)
	}
	var seen bytes.Buffer
	if s.dump(&seen, "/api/v1/status", "/"); strings.Count(seen.String(), "not a cluster") != 2 {
		t.Errorf("the status, in the API and for people, does not say that there is a double:\n%s", seen.String())
	}
	s.head("wait", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	var r, deaf scheduler.Run
	s.cliJSON(&r, "dags", "trigger", "wait")
	s.cliJSON(&deaf, "dags", "trigger", "stubborn")
	tries := func() int {
		text, err := os.ReadFile(filepath.Join(work, "tries"))
		if err != nil {
			return 0
		}
		return strings.Count(string(text), "\n")
	}
	s.waitFor("running the tasks", func() bool { return tries() == 1 && exists("deaf")() })
	s.cli("runs", "cancel", deaf.ID)
	s.waitFor("ending a task", exists("told")) // Now it is kept that it runs, which the next cluster does not know.
	s.kill()
	s.start()
	s.waitFor("running the task again", func() bool { return tries() == 2 })
	if strings.Contains(s.stderr.String(), "tasks of an earlier double are given up") {
		t.Log("the next double was taken for another cluster, and confirmed") // It is unless the answers took longer than the executor's patience with them.
	}
	write(t, filepath.Join(work, "go"), "")
	var d scheduler.RunDetail
	s.waitFor("at the end", func() bool {
		s.cliJSON(&d, "runs", "show", r.ID)
		return d.Run.State.Terminal()
	})
	s.waitFor("at the end of what was cancelled", func() bool { return s.runState(deaf.ID).Terminal() })
	if d.Run.State != scheduler.StateSuccess || d.Tasks[0].Lost != 1 {
		t.Errorf("got %+v, want it to have succeeded, and one try to be lost", d)
	}
}

// TestMesosStatus: how the executor is can be had in every format; a teardown wants to be meant.
func TestMesosStatus(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error", "--executor", "mesos")
	s.start()
	s.waitFor("subscribed", func() bool {
		text, code := s.cli("mesos", "status")
		return code == exitOK && strings.Contains(text, "subscribed since")
	})
	at := []string{"--server", "http://" + s.console, "--data-dir", s.dir}
	for _, format := range outputs {
		out, errs, code := millrace(t, t.TempDir(), nil, append([]string{"mesos", "status", "-o", format}, at...)...)
		if err := parses(format, out); code != exitOK || err != nil || out == "" {
			t.Errorf("-o %s: exit code %d, %v\n%s%s", format, code, err, out, errs)
		}
	}
	if _, errs, code := millrace(t, t.TempDir(), nil, append([]string{"mesos", "teardown"}, at...)...); code != exitUsage || !strings.Contains(errs, "--yes") {
		t.Errorf("teardown without --yes: exit code %d\n%s", code, errs)
	}
}

// TestDevExecutor: others than the two there are none.
func TestDevExecutor(t *testing.T) {
	t.Parallel()
	if _, errs, code := millrace(t, t.TempDir(), nil, "dev", "--executor", "kubernetes"); code != exitUsage || !strings.Contains(errs, `--executor is "kubernetes", want local or mesos`) {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}
