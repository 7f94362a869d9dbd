package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"millrace/scheduler"
	"millrace/trigger"
)

// TestPause: what arrives while a DAG is paused is held, over a kill -9, and starts one run for each batch when the pause ends. A person can
// start a run meanwhile.
func TestPause(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{
		"count.yaml": countDAG, "hand.yaml": "dag: hand\non: [{manual: true}]\ntasks: {a: {run: [\"true\"]}}\n",
	}))
	s.env = append(s.env, "MILLRACE_BATCH__MAX_AGE=20ms")
	s.start()
	s.head("hand", func(h scheduler.DAGHead) bool { return h.Version != "" })
	acked := map[string]bool{}
	s.send(acked, "before", 3)
	s.drained()
	before := len(s.oneRunEach("count"))

	if text, code := s.cli("dags", "pause", "count", "hand"); code != exitOK || text != "dag count is paused\ndag hand is paused\n" {
		t.Fatalf("dags pause: exit %d, %q", code, text)
	}
	s.send(acked, "paused", 5)
	s.drained()
	held := s.held("count/every")
	s.kill()
	s.start()
	if h := s.head("count", func(scheduler.DAGHead) bool { return true }); !h.Paused {
		t.Error("the pause is gone after a restart")
	}
	if text, code := s.cli("dags", "ls"); code != exitOK || !strings.Contains(text, "paused") {
		t.Errorf("dags ls: exit %d\n%s", code, text)
	}
	s.send(acked, "restarted", 2)
	s.drained()
	if again := s.held("count/every"); again <= held {
		t.Errorf("%d batches are held after a restart and more events, want more than %d", again, held)
	}
	if n := len(s.runs("count")); n != before {
		t.Errorf("%d runs, want the %d from before the pause", n, before)
	}
	var byHand scheduler.Run
	s.cliJSON(&byHand, "dags", "trigger", "hand")
	s.waitFor("done with the run by hand", func() bool { return len(s.succeeded("hand")) == 1 })

	for range 2 { // the second changes nothing
		if text, code := s.cli("dags", "unpause", "count"); code != exitOK || text != "dag count is active\n" {
			t.Fatalf("dags unpause: exit %d, %q", code, text)
		}
	}
	s.oneRunEach("count") // and none twice
	if n := s.fates("count/every")[trigger.FateHeld]; n != 0 {
		t.Errorf("%d batches are still held", n)
	}
	if text := s.declined(exitNotFound, "dags", "pause", "none"); !strings.Contains(text, "'millrace dags ls' lists all") {
		t.Errorf("pause of a DAG that does not exist: %s", text)
	}
}

// held waits until all batches have a disposition for the rule and returns how many are held.
func (s *server) held(rule string) int {
	s.t.Helper()
	var fates map[trigger.Fate]int
	s.waitFor("aware of all batches", func() bool {
		fates = s.fates(rule)
		return int64(fates[trigger.FateHeld]+fates[trigger.FateRun]) == s.committed()
	})
	return fates[trigger.FateHeld]
}

// fates counts what became of all batches for a rule.
func (s *server) fates(rule string) map[trigger.Fate]int {
	s.t.Helper()
	out := map[trigger.Fate]int{}
	for _, b := range s.batches() {
		var d scheduler.BatchDetail
		s.cliJSON(&d, "batches", "show", b.ID)
		for _, x := range d.Dispositions {
			if x.Rule == rule {
				out[x.Fate]++
			}
		}
	}
	return out
}

// TestWait: the exit code of runs wait is how the run ended, also if the server was killed meanwhile.
func TestWait(t *testing.T) {
	t.Parallel()
	gate := filepath.Join(t.TempDir(), "gate")
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"gated.yaml": strings.ReplaceAll(gatedDAG, "@GATE", gate)}))
	s.start()
	s.head("gated", func(h scheduler.DAGHead) bool { return h.Version != "" })
	var good, bad scheduler.Run
	s.cliJSON(&good, "dags", "trigger", "gated", "--param", "exit=0")
	s.cliJSON(&bad, "dags", "trigger", "gated", "--param", "exit=3")
	if text := s.declined(exitTimedOut, "runs", "wait", good.ID, "--timeout", "2s"); !strings.Contains(text, "after 2s") {
		t.Errorf("timed out with the words %s", text)
	}
	s.declined(exitNotFound, "runs", "wait", "none")
	address, asked := s.proxy()
	codes := make(chan int, 1)
	go func() { // ends with the run
		codes <- run(t.Context(), []string{"runs", "wait", good.ID, "--data-dir", s.dir, "--server", address}, streams{out: io.Discard, err: io.Discard})
	}()
	<-asked
	<-asked // it has an answer, and asks for the end
	s.kill()
	s.start()
	write(t, gate, "")
	if code := <-codes; code != exitOK {
		t.Errorf("runs wait over a kill: exit %d, want %d", code, exitOK)
	}
	var d scheduler.RunDetail
	s.cliJSON(&d, "runs", "wait", good.ID)
	if d.Run.State != scheduler.StateSuccess || len(d.Tasks) != 1 {
		t.Errorf("runs wait -o json: %+v", d)
	}
	if text := s.declined(exitFailed, "runs", "wait", bad.ID); !strings.Contains(text, "ended as failed") {
		t.Errorf("failed with the words %s", text)
	}
	if text := s.declined(exitFailed, "dags", "trigger", "gated", "--param", "exit=3", "--wait"); !strings.Contains(text, "ended as failed") {
		t.Errorf("dags trigger --wait failed with the words %s", text)
	}
}

// gatedDAG is a task that waits for a file, and exits as it is told. @GATE is replaced.
const gatedDAG = `dag: gated
on: [{manual: true}]
params: {exit: 0}
tasks:
  wait:
    env: {CODE: "${{ params.exit }}"}
    run: while [ ! -e "@GATE" ]; do sleep 0.05; done; exit "$CODE"
`

// proxy stands before the console and tells of each request. One that can not be answered is cut.
func (s *server) proxy() (address string, asked <-chan string) {
	s.t.Helper()
	paths := make(chan string, 1000)
	target := &url.URL{Scheme: "http", Host: s.console}
	p := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths <- r.URL.Path
		p.ServeHTTP(w, r)
	}))
	s.t.Cleanup(srv.Close)
	return srv.URL, paths
}

// TestRetryOverKills: a run that failed goes on after runs retry, though the server is killed between the clear and the end, and then while a
// task runs that a second clear has to kill first. Each attempt was executed once, none while a parent had not ended, and the trail has it all.
func TestRetryOverKills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"steps.yaml": strings.ReplaceAll(stepsDAG, "@DIR", dir)}))
	s.start()
	s.head("steps", func(h scheduler.DAGHead) bool { return h.Version != "" })
	var r scheduler.Run
	s.cliJSON(&r, "dags", "trigger", "steps")
	s.declined(exitFailed, "runs", "wait", r.ID)
	s.trace(dir, "first.1 second.1")

	if text, code := s.cli("runs", "retry", r.ID, "--dry-run"); code != exitOK || !strings.Contains(text, "2 tasks of run "+r.ID+" would be cleared") {
		t.Errorf("retry --dry-run: exit %d\n%s", code, text)
	}
	write(t, filepath.Join(dir, "mended"), "")
	if text, code := s.cli("runs", "retry", r.ID); code != exitOK || !strings.Contains(text, "millrace runs wait "+r.ID) {
		t.Errorf("retry: exit %d\n%s", code, text)
	}
	s.kill() // what was cleared is queued, or launched, or runs
	s.start()
	executions := func(n int) func() bool {
		return func() bool { return strings.Count(s.said(dir), "second.") == n }
	}
	s.waitFor("running the second task again", executions(2))
	var m scheduler.Mended
	s.cliJSON(&m, "runs", "clear", r.ID, "--task", "second")
	if len(m.Tasks) != 1 || !m.Tasks[0].Kill {
		t.Errorf("clear of a running task: %+v", m)
	}
	s.kill() // before or after it was killed
	s.start()
	s.waitFor("running the second task a third time", executions(3))
	write(t, filepath.Join(dir, "gate"), "")
	if _, code := s.cli("runs", "wait", r.ID); code != exitOK {
		t.Errorf("runs wait: exit %d", code)
	}
	var d scheduler.RunDetail
	s.cliJSON(&d, "runs", "show", r.ID)
	s.executed(dir, d.Attempts, "first second second second third")
	var cleared []string
	for _, move := range d.Moves {
		if move.To == scheduler.StateNone {
			cleared = append(cleared, move.Task)
			if !strings.HasPrefix(move.Reason, "cleared by ") || !strings.Contains(move.Reason, "@") {
				t.Errorf("the audit trail does not tell who cleared: %+v", move)
			}
		}
	}
	if got := strings.Join(cleared, " "); got != "second third second" {
		t.Errorf("cleared %q, want second and third, then second", got)
	}
}

// stepsDAG says in files of @DIR which attempts were executed. The second task fails until it is mended, and then waits for a gate.
const stepsDAG = `dag: steps
on: [{manual: true}]
env: {DIR: "@DIR"}
tasks:
  first:
    run: echo >> "$DIR/first.$MILLRACE_TRY"
  second:
    needs: first
    timeout: {grace: 1s}
    run: |
      echo >> "$DIR/second.$MILLRACE_TRY"
      [ -e "$DIR/mended" ] || exit 1
      while [ ! -e "$DIR/gate" ]; do sleep 0.05; done
  third:
    needs: second
    run: |
      [ -e "$DIR/gate" ] || exit 1
      echo >> "$DIR/third.$MILLRACE_TRY"
`

// said lists the attempts that have said in files of a directory that they were executed, with how often if it was not once.
func (s *server) said(dir string) string {
	s.t.Helper()
	var out []string
	files, _ := filepath.Glob(filepath.Join(dir, "*.[0-9]*"))
	for _, path := range files { // sorted
		name := filepath.Base(path)
		if text, err := os.ReadFile(path); err != nil || len(text) > 1 {
			name += fmt.Sprintf(" (%d times, %v)", len(text), err)
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

func (s *server) trace(dir, want string) {
	s.t.Helper()
	if got := s.said(dir); got != want {
		s.t.Errorf("executed %q, want %q", got, want)
	}
}

// executed requires that the attempts that were executed are those of the tasks, in this order, each once. There may be more: one that is decided
// on and does not reach the executor before the server is killed is lost without having been started, and its task has another.
func (s *server) executed(dir string, attempts []scheduler.Attempt, tasks string) {
	s.t.Helper()
	var names, of []string
	for _, a := range attempts {
		switch {
		case !a.StartedAt.IsZero():
			names, of = append(names, fmt.Sprintf("%s.%d", a.Task, a.Try)), append(of, a.Task)
		case !strings.Contains(a.Reason, "does not know this attempt"):
			s.t.Errorf("attempt %s was not started, and did not miss the executor: %+v", a.ID, a)
		}
	}
	if got := strings.Join(of, " "); got != tasks {
		s.t.Errorf("the store has executions of %q, want %q", got, tasks)
	}
	slices.Sort(names)
	s.trace(dir, strings.Join(names, " "))
}

// TestMark: what a person says of a task or a run counts, whatever it does; what runs is killed.
func TestMark(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"steps.yaml": strings.ReplaceAll(stepsDAG, "@DIR", dir)}))
	s.start()
	s.head("steps", func(h scheduler.DAGHead) bool { return h.Version != "" })
	var r scheduler.Run
	s.cliJSON(&r, "dags", "trigger", "steps")
	s.declined(exitFailed, "runs", "wait", r.ID)
	write(t, filepath.Join(dir, "gate"), "")
	var m scheduler.Mended
	s.cliJSON(&m, "runs", "mark", r.ID, "success", "--task", "second")
	if _, code := s.cli("runs", "wait", r.ID); code != exitOK {
		t.Errorf("runs wait after a mark: exit %d", code)
	}
	s.trace(dir, "first.1 second.1 third.1")
	if text, code := s.cli("runs", "mark", r.ID, "failed"); code != exitOK || !strings.Contains(text, "run "+r.ID+" is failed") {
		t.Errorf("runs mark: exit %d\n%s", code, text)
	}
	s.declined(exitFailed, "runs", "wait", r.ID)

	remove(t, filepath.Join(dir, "gate"))
	write(t, filepath.Join(dir, "mended"), "")
	s.cliJSON(&m, "runs", "clear", r.ID, "--task", "second", "--downstream")
	s.waitFor("running the second task", func() bool { return strings.Contains(s.said(dir), "second.2") })
	s.cliJSON(&m, "runs", "mark", r.ID, "success")
	if _, code := s.cli("runs", "wait", r.ID); code != exitOK {
		t.Errorf("runs wait after a running run was marked: exit %d", code)
	}
	var tasks []scheduler.TaskRun
	s.cliJSON(&tasks, "tasks", "ls", r.ID)
	if len(tasks) != 3 || tasks[1].State != scheduler.StateSuccess || tasks[1].Try != 2 || !strings.HasPrefix(tasks[1].Reason, "marked success by ") {
		t.Errorf("tasks ls: %+v", tasks)
	}
	s.trace(dir, "first.1 second.1 second.2 third.1")
	for _, tt := range []struct {
		code int
		args []string
		want string
	}{
		{exitUsage, []string{"runs", "mark", r.ID, "succes"}, `did you mean "success"?`},
		{exitUsage, []string{"runs", "mark", r.ID, "skipped"}, "skipped with --task"},
		{exitNotFound, []string{"runs", "clear", r.ID, "--task", "forth"}, "it has first, second, third"},
		{exitNotFound, []string{"runs", "retry", "none"}, "none"},
	} {
		if text := s.declined(tt.code, tt.args...); !strings.Contains(text, tt.want) {
			t.Errorf("%v: got %s, want %q", tt.args, text, tt.want)
		}
	}
}
