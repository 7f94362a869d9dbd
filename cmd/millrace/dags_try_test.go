package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"millrace/scheduler"
)

// tried is a DAG that shows what a task of a test gets: rows, params, upstream, a retry.
const tried = `
dag: load
params: {greeting: hello}
on:
  - {id: tracks, batch: {source: web, types: [track]}, if: batch.events >= 2}
tasks:
  check:
    env: {GREETING: "${{ params.greeting }}"}
    retry: {limit: 1}
    run: |
      echo "$GREETING, try $MILLRACE_TRY of $MILLRACE_EVENT_COUNT events"
      test "$MILLRACE_TRY" = 2 || exit 3
      echo '{"rows": 2}' > "$MILLRACE_OUTPUT"
  load:
    needs: [check]
    when: tasks.check.output.rows == batch.events
    run: |
      file=$(sed -n 's,.*"uri":"file://\([^"]*\)".*,\1,p' "$MILLRACE_INPUT")
      gzip -dc "$file"
      printf 'no line end'
  other:
    run: echo other
    executor: faraway
`

// tryIn runs `dags test` with a temporary directory of its own, which must be empty afterwards.
func tryIn(t *testing.T, dir string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	tmp := t.TempDir()
	stdout, stderr, code = millrace(t, dir, []string{"TMPDIR=" + tmp, "MILLRACE_SERVER=http://127.0.0.1:1"}, append([]string{"dags", "test"}, args...)...)
	nothingIn(t, tmp)
	return stdout, stderr, code
}

// nothingIn: no file is left in a temporary directory, and no process that was started for one.
func nothingIn(t *testing.T, tmp string) {
	t.Helper()
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	s := &server{t: t, dir: tmp}
	if pids := s.runners(); len(pids) > 0 {
		t.Errorf("processes left behind: %v", pids)
	}
}

func TestDAGsTest(t *testing.T) {
	t.Parallel()
	dir := dagDir(t, map[string]string{
		"load.yaml": tried,
		"two.ndjson": `{"type":"track","userId":"1","event":"Paid","_mr":{"s":"abc","p":0,"o":7}}` + "\n\n" +
			`{"type":"page","userId":"2"}` + "\n",
		"one.ndjson":  `{"type":"track"}` + "\n",
		"page.ndjson": `{"type":"page"}` + "\n" + `{"type":"page"}` + "\n",
		"bad.ndjson":  `{"type":"track"}` + "\n[1]\n",
	})
	out, errs, code := tryIn(t, dir, "load.yaml", "--batch", "two.ndjson", "--param", "greeting=hi")
	for _, want := range []string{
		"check = running\n", "check | hi, try 1 of 2 events\n", "check = up_for_retry: exit code 3\n", "check | hi, try 2 of 2 events\ncheck = success, try 2\n",
		`load  | {"type":"page","userId":"2","_mr":{"s":"`, `"o":1}}` + "\nload  | no line end\nload  = success\n", "other | other\n", "\nrun of load: success in ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if code != exitOK || strings.Count(out, `"_mr"`) != 2 || !strings.Contains(errs, "task other runs on executor faraway; here it runs on this machine") {
		t.Errorf("exit %d, %s, got\n%s", code, errs, out)
	}
	for name, want := range map[string]struct {
		args []string
		code int
		text string
	}{
		"the rule's condition is false": {[]string{"--batch", "one.ndjson"}, exitFailed, "rule tracks: filtered (if)"},
		"the rule wants other types":    {[]string{"--batch", "page.ndjson"}, exitFailed, "rule tracks: filtered (types)"},
		"the rule wants another source": {[]string{"--batch", "two.ndjson", "--source", "app"}, exitFailed, "rule tracks: filtered (source)"},
		"a row is not an object":        {[]string{"--batch", "bad.ndjson"}, exitFailed, "bad.ndjson:2: a row must be a JSON object"},
		"no such parameter":             {[]string{"--param", "greting=x"}, exitUsage, `did you mean "greeting"?`},
		"no such task":                  {[]string{"--task", "chek"}, exitUsage, `did you mean "check"?`},
		"no server to ask":              {[]string{"--source", "web"}, exitUnreachable, "Is it running?"},
	} {
		out, errs, code := tryIn(t, dir, append([]string{"load.yaml"}, want.args...)...)
		if code != want.code || !strings.Contains(errs, want.text) || out != "" {
			t.Errorf("%s: exit %d, want %d and %q; got %s%s", name, code, want.code, want.text, errs, out)
		}
	}
}

// TestDAGsTestOne runs a part of a DAG by hand; a run that fails makes the exit code 1, and machines get it as JSON.
func TestDAGsTestOne(t *testing.T) {
	t.Parallel()
	dir := dagDir(t, map[string]string{"f.yaml": `
dag: f
tasks:
  a: {run: "echo '[1]' > $MILLRACE_OUTPUT"}
  b: {needs: [a], run: "cat $MILLRACE_INPUT; exit 3"}
  c: {needs: [b], run: "true"}
  d: {run: "true"}
`})
	if out, _, code := tryIn(t, dir, "f.yaml", "--task", "a"); code != exitOK || strings.Contains(out, "d ") {
		t.Errorf("exit %d, got\n%s", code, out)
	}
	out, errs, code := tryIn(t, dir, "f.yaml", "-o", "json")
	var d scheduler.RunDetail
	decode(t, out, &d)
	states := map[string]scheduler.State{}
	for _, task := range d.Tasks {
		states[task.Task] = task.State
	}
	if code != exitFailed || d.Run.State != scheduler.StateFailed || states["b"] != scheduler.StateFailed ||
		states["c"] != scheduler.StateUpstreamFailed || states["d"] != scheduler.StateSuccess || !strings.Contains(errs, `"upstream":{"a":[1]}`) {
		t.Errorf("exit %d, got %v and\n%s", code, states, errs)
	}
}

// TestDAGsTestInterrupted: who interrupts the test gets tasks that end, by SIGTERM, and nothing left.
func TestDAGsTestInterrupted(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	dir := dagDir(t, map[string]string{"f.yaml": `
dag: f
tasks:
  a: {run: "trap 'echo told to end; exit 7' TERM; sleep 1000 & echo started; wait", timeout: {grace: 5m}}
`})
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "dags", "test", filepath.Join(dir, "f.yaml"))
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	out := &lockedBuffer{}
	cmd.Stdout = out
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	(&server{t: t, stderr: out}).waitFor("started", func() bool { return strings.Contains(out.String(), "a | started") })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted || !strings.Contains(out.String(), "a | told to end") ||
		!strings.Contains(out.String(), "run of f: cancelled") {
		t.Errorf("got %v, %s, and\n%s", err, &stderr, out)
	}
	nothingIn(t, tmp)
}

// TestDAGsTestOnRealBatch: a batch of a server can be fetched and its run repeated here.
func TestDAGsTestOnRealBatch(t *testing.T) {
	t.Parallel()
	dir := dagDir(t, map[string]string{"f.yaml": "dag: f\non: [{batch: {source: web}}]\ntasks: {a: {run: 'echo $MILLRACE_EVENT_COUNT events'}}\n"})
	s := newServer(t, "dev", "--dags", dir)
	s.start()
	s.send(map[string]bool{}, "real", 1)
	var batches []struct {
		ID string `json:"id"`
	}
	s.waitFor("with a batch", func() bool { s.cliJSON(&batches, "batches", "ls", "--source", "web"); return len(batches) == 1 })
	for _, args := range [][]string{{"--source", "web"}, {"--batch", batches[0].ID}} {
		out, errs, code := tryIn(t, dir, append([]string{"f.yaml", "--server", "http://" + s.console, "--data-dir", s.dir}, args...)...)
		if code != exitOK || !strings.Contains(out, "a | 1 events") || !strings.Contains(errs, "batch "+batches[0].ID+" of web: 1 event") {
			t.Errorf("%v: exit %d, got %s%s", args, code, out, errs)
		}
	}
}

// TestDAGsTestPool: what an installation has to say of pools does not keep a DAG from being tried.
func TestDAGsTestPool(t *testing.T) {
	t.Parallel()
	dir := dagDir(t, map[string]string{"f.yaml": "dag: f\ntasks: {a: {run: echo done, pool: warehouse, pool_slots: 3}}\n"})
	if out, errs, code := tryIn(t, dir, "f.yaml"); code != exitOK || !strings.Contains(out, "a | done") {
		t.Errorf("exit %d, got %s%s", code, out, errs)
	}
}
