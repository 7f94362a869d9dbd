package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/scheduler"
)

// waitingDAGs are DAGs whose tasks run until a file outside says that they may end; @DIR is replaced.
var waitingDAGs = map[string]string{
	// One run at a time; the second task waits for the first.
	"one.yaml": `
dag: one
concurrency: 1
tasks:
  first: {run: ["sh", "-c", "while [ ! -e @DIR/one ]; do sleep 0.05; done"]}
  second: {needs: first, run: ["true"]}
`,
	// The pool has three slots: two of these do not fit.
	"pooled.yaml": `
dag: pooled
tasks:
  copy: {pool: redshift, pool_slots: 2, run: ["sh", "-c", "while [ ! -e @DIR/pooled ]; do sleep 0.05; done"]}
`,
	"retried.yaml": `
dag: retried
tasks:
  flaky: {retry: {limit: 1, delay: 1h}, run: ["sh", "-c", "exit 7"]}
`,
	"many.yaml": `
dag: many
on: [{batch: {source: web}, coalesce: {max_wait: 1h, max_batches: 100}}]
tasks: {t: {run: ["true"]}}
`,
	"picky.yaml": `
dag: picky
on: [{batch: {source: web}, if: "batch.events > 1000000"}]
tasks: {t: {run: ["true"]}}
`,
	"stopped.yaml": `
dag: stopped
on: [{batch: {source: web}}]
tasks: {t: {run: ["true"]}}
`,
}

// waiting is a server with these DAGs.
type waiting struct {
	*server
	dir string
}

func newWaiting(t *testing.T) *waiting {
	t.Helper()
	w := &waiting{dir: t.TempDir()}
	files := map[string]string{}
	for name, text := range waitingDAGs {
		files[name] = strings.ReplaceAll(text, "@DIR", w.dir)
	}
	config := filepath.Join(t.TempDir(), "millrace.yaml")
	write(t, config, "dags: "+dagDir(t, files)+`
executors: {local: {slots: 3}}
pools: {redshift: 3}
batch: {max_age: 100ms}
sources: {web: {kind: clickstream, write_keys: [dev]}}
`)
	w.server = newServer(t, "serve", "--config", config, "--log-level", "error")
	t.Cleanup(func() { // whatever happened, tasks come to an end
		w.release("one")
		w.release("pooled")
	})
	w.start()
	for name := range waitingDAGs {
		w.head(strings.TrimSuffix(name, ".yaml"), func(h scheduler.DAGHead) bool { return h.Version != "" })
	}
	return w
}

// release lets the tasks of a DAG end.
func (w *waiting) release(dag string) { _ = os.WriteFile(filepath.Join(w.dir, dag), nil, 0o644) }

func (w *waiting) trigger(dag, id string) string {
	w.t.Helper()
	var r scheduler.Run
	w.cliJSON(&r, "dags", "trigger", dag, "--id", id)
	return r.ID
}

// why waits until a task says a code, and returns what it says.
func (w *waiting) why(task string, code scheduler.Code) scheduler.Why {
	w.t.Helper()
	var got scheduler.TaskWhy
	w.waitFor("explaining "+task+" as "+string(code), func() bool {
		w.cliJSON(&got, "explain", "task", task)
		return got.Why.Code == code
	})
	return got.Why
}

func (w *waiting) runWhy(run string) (why scheduler.RunWhy) {
	w.t.Helper()
	w.cliJSON(&why, "explain", "run", run)
	return why
}

// says requires that a sentence has some words.
func (w *waiting) says(text string, words ...string) {
	w.t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			w.t.Errorf("%q does not say %q", text, word)
		}
	}
}

// TestExplain walks through what a run and a task can wait for, with the built binary: each says why, with a code, and names what it waits for.
// A restart changes none of it.
func TestExplain(t *testing.T) {
	t.Parallel()
	w := newWaiting(t)
	one, two, three := w.trigger("one", "1"), w.trigger("one", "2"), w.trigger("one", "3")
	for range 2 { // before and after a restart
		w.why(one+"/first", scheduler.CodeRunning)
		parents := w.why(one+"/second", scheduler.CodeParents)
		w.says(parents.Text, "waits for the end of first (running)")
		if len(parents.On) != 1 || parents.On[0] != one+"/first" {
			t.Errorf("the second task waits for %v, want the first", parents.On)
		}
		held := w.why(two+"/first", scheduler.CodeConcurrency)
		w.says(held.Text, "concurrency group one takes 1 run at a time", one+" is under way")
		third := w.runWhy(three)
		if third.State != scheduler.StateQueued || third.Why.Code != scheduler.CodeConcurrency || third.Why.Ahead != 1 {
			t.Errorf("the third run: got %+v, want it queued behind one", third)
		}
		w.kill()
		w.start()
	}

	a, b := w.trigger("pooled", "a"), w.trigger("pooled", "b")
	w.why(a+"/copy", scheduler.CodeRunning)
	pool := w.why(b+"/copy", scheduler.CodePool)
	w.says(pool.Text, "waits for 2 slots of pool redshift, of which 2 of 3 are taken by "+a+"/copy")
	if pool.Used != 2 || pool.Slots != 3 || pool.Want != 2 || len(pool.On) != 1 || pool.On[0] != a+"/copy" {
		t.Errorf("got %+v", pool)
	}
	w.says(first(w.server, "pools", "ls"), "redshift", "pool", a+"/copy (2)", "local", "executor", one+"/first")

	flaky := w.trigger("retried", "1")
	retry := w.why(flaky+"/flaky", scheduler.CodeRetryAt)
	w.says(retry.Text, "for try 2", "exit code 7")
	if retry.Until.IsZero() {
		t.Error("nobody says when the next try is")
	}
	w.says(first(w.server, "runs", "show", b), "waits for 2 slots of pool redshift")

	// A smaller configuration of the same pool says so, a larger one starts what waits.
	config, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	w.reload(strings.Replace(string(config), "redshift: 3", "redshift: 4", 1))
	w.why(b+"/copy", scheduler.CodeRunning)
	slots := w.why(w.trigger("pooled", "c")+"/copy", scheduler.CodeSlots)
	w.says(slots.Text, "of executor local, of which 3 of 3 are taken by")

	w.release("one")
	w.release("pooled")
	for _, run := range []string{one, two, three, a, b} {
		w.waitFor("done with "+run, func() bool { return w.runWhy(run).State == scheduler.StateSuccess })
	}
	w.says(w.runWhy(one).Why.Text, "ended: success")
}

// first returns what a command prints.
func first(s *server, args ...string) string {
	s.t.Helper()
	out, code := s.cli(args...)
	if code != exitOK {
		s.t.Errorf("millrace %s: exit %d", strings.Join(args, " "), code)
	}
	return out
}

// TestExplainBatches: a batch says what became of it for each rule.
func TestExplainBatches(t *testing.T) {
	t.Parallel()
	w := newWaiting(t)
	if _, code := w.cli("dags", "pause", "stopped"); code != exitOK {
		t.Fatal("pause failed")
	}
	if status, _, err := w.track("b-1"); err != nil || status != 200 {
		t.Fatalf("status %d, %v", status, err)
	}
	var batch string
	w.waitFor("aware of the batch", func() bool {
		batch = strings.TrimSpace(first(w.server, "batches", "ls", "-o", "name"))
		return batch != ""
	})
	var got scheduler.BatchWhy
	w.cliJSON(&got, "explain", "batch", batch)
	want := map[string]struct {
		code scheduler.Code
		text string
	}{
		"many/batch":    {scheduler.CodeCoalescing, "or 1h0m0s after its first batch"},
		"picky/batch":   {scheduler.CodeFiltered, "if was false: batch.events > 1000000"},
		"stopped/batch": {scheduler.CodePaused, "millrace dags unpause stopped"},
	}
	for _, r := range got.Rules {
		if r.Why.Code != want[r.Rule].code {
			t.Errorf("%s: got %+v, want %s", r.Rule, r.Why, want[r.Rule].code)
		}
		w.says(r.Why.Text, want[r.Rule].text)
		delete(want, r.Rule)
	}
	for rule := range want {
		t.Errorf("nothing is said about %s", rule)
	}
	w.says(got.Text, "of 3 rules", "coalesced for 1", "held for 1", "filtered for 1")
}

// TestUnknownPool: a DAG that names a pool which is not there says so, and which there are; SIGHUP with the pool puts it into force.
func TestUnknownPool(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "millrace.yaml")
	dags := dagDir(t, map[string]string{"a.yaml": "dag: a\ntasks: {t: {run: [\"true\"], pool: big}}\n"})
	text := "dags: " + dags + "\npools: {small: 2}\n"
	write(t, config, text)
	s := newServer(t, "serve", "--config", config, "--log-level", "error")
	s.start()
	h := s.head("a", func(h scheduler.DAGHead) bool { return h.Error != "" })
	if want := `task "t" needs pool "big", which the configuration does not have (there is small): add it to pools`; !strings.Contains(h.Error, want) {
		t.Errorf("got %q, want %q", h.Error, want)
	}
	s.reload(strings.Replace(text, "small: 2", "small: 2, big: 1", 1))
	s.head("a", func(h scheduler.DAGHead) bool { return h.Error == "" && h.Version != "" })
}
