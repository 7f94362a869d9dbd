package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
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
