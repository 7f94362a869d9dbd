//go:build linux

package dockerexec_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/dockerexec"
)

func serveSocket(t *testing.T, path string, h http.Handler) {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: patience}
	go func() { _ = s.Serve(ln) }() // ends with Close
	t.Cleanup(func() { _ = s.Close() })
}

// at has one request fail, the first of an operation.
func at(op string, f fault) func(string, int) fault {
	return func(o string, n int) fault {
		if o == op && n == 0 {
			return f
		}
		return sound
	}
}

// TestFaults: whatever becomes of one request, an attempt is started once at most, ends in a report, and leaves no container behind.
func TestFaults(t *testing.T) {
	t.Parallel()
	exited, lost, never := scheduler.OutcomeExited, scheduler.OutcomeLost, scheduler.OutcomeRefused
	for _, tt := range []struct {
		op                                string
		unheard, unsaid, broken, rejected scheduler.Outcome
	}{
		{"POST containers/create", exited, exited, lost, never},
		{"PUT containers/archive", exited, exited, lost, lost},
		{"POST containers/start", lost, exited, lost, never},
		{"GET containers/json", exited, exited, exited, exited},
		{"GET containers/logs", exited, exited, exited, exited},
		{"GET containers/archive", exited, exited, exited, exited},
		{"DELETE containers", exited, exited, exited, exited},
		{"GET events/events", exited, exited, exited, exited},
	} {
		for f, want := range map[fault]scheduler.Outcome{unheard: tt.unheard, unsaid: tt.unsaid, broken: tt.broken, refused: tt.rejected} {
			t.Run(tt.op+" "+string('0'+rune(f)), func(t *testing.T) {
				t.Parallel()
				b := newBench(t, dockerexec.Options{Poll: 50 * time.Millisecond})
				b.faults(at(tt.op, f))
				l := b.shell("try", `echo x >> "$WORK/count"; echo said; cat "$MILLRACE_INPUT" > "$MILLRACE_OUTPUT"`)
				b.launch(l)
				r := b.report(l.ID, "")
				if r.Outcome != want {
					t.Errorf("got %+v, want %s", r, want)
				}
				count, _ := os.ReadFile(filepath.Join(b.work, "count"))
				if n := b.started(l.ID); n > 1 || len(count) > 2 || (want == exited) != (string(count) == "x\n") {
					t.Errorf("started %d times, and the command %q; want once if it has exited, else not at all", n, count)
				}
				if want == exited && (b.log(l.ID) != "said\n" || string(r.Output) != "{}") {
					t.Errorf("got log %q, output %q (%s)", b.log(l.ID), r.Output, r.OutputError)
				}
				b.eventually("the container is removed", func() bool { return b.boxes() == 0 })
			})
		}
	}
}

// TestRestart: millrace ends behind each request on the way of an attempt. The next one brings it to an end, and starts nothing twice.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		op   string
		want scheduler.Outcome
	}{
		{"POST containers/create", scheduler.OutcomeLost}, {"PUT containers/archive", scheduler.OutcomeLost}, {"POST containers/start", scheduler.OutcomeExited},
		{"GET containers/logs", scheduler.OutcomeExited}, {"DELETE containers", scheduler.OutcomeExited},
	} {
		for _, f := range []fault{unheard, unsaid} {
			t.Run(tt.op+" "+string('0'+rune(f)), func(t *testing.T) {
				t.Parallel()
				b := newBench(t, dockerexec.Options{Poll: 50 * time.Millisecond})
				hit := make(chan struct{}, 1000)
				b.faults(func(op string, n int) fault {
					if op != tt.op {
						return sound
					}
					hit <- struct{}{}
					if n == 0 {
						return f
					}
					return unheard // until the end of this millrace
				})
				l := b.shell("try", `echo x >> "$WORK/count"`)
				b.launch(l)
				select {
				case <-hit:
				case <-time.After(patience):
					t.Fatal("no such request")
				}
				b.end()
				b.faults(nil)
				b.begin()
				if err := b.ex.Reconcile(t.Context(), []string{l.ID}); err != nil {
					t.Fatal(err)
				}
				b.launch(l) // The engine does not know whether the first one arrived.
				want := tt.want
				if tt.op == "POST containers/start" && f == unheard {
					want = scheduler.OutcomeLost
				}
				r := b.report(l.ID, "")
				count, _ := os.ReadFile(filepath.Join(b.work, "count"))
				if r.Outcome != want || len(count) > 2 || (want == scheduler.OutcomeExited) != (string(count) == "x\n") {
					t.Errorf("got %+v, and the command ran as %q; want %s", r, count, want)
				}
				b.eventually("the container is removed", func() bool { return b.boxes() == 0 })
			})
		}
	}
}

// gate is a pipe on which a command waits.
func (b *bench) gate() (open func()) {
	b.Helper()
	path := filepath.Join(b.work, "gate")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		b.Fatal(err)
	}
	return func() {
		b.Helper()
		if err := os.WriteFile(path, []byte("go\n"), 0); err != nil {
			b.Fatal(err)
		}
	}
}

// TestSecretsOverRestart: the next millrace finds the secrets in the environment of the container; those that are not there it can not know, and keeps nothing.
func TestSecretsOverRestart(t *testing.T) {
	t.Parallel()
	for _, placed := range []bool{true, false} {
		b := newBench(t, dockerexec.Options{})
		open := b.gate()
		const secret = "correct-horse-battery"
		if err := os.WriteFile(filepath.Join(b.work, "secret"), []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		l := b.shell("secret", `cat "$WORK/secret"; echo; printf 'begun: correct-h'; read -r line < "$WORK/gate"; echo orse-battery; echo '"'"$(cat "$WORK/secret")"'"' > "$MILLRACE_OUTPUT"`)
		if l.Secrets = []string{secret}; placed {
			l.Env = append(l.Env, "URL=https://me:"+secret+"@host")
		}
		b.launch(l)
		b.report(l.ID, scheduler.OutcomeRunning)
		b.eventually("the first line is in the log", func() bool {
			text, err := os.ReadFile(b.report(l.ID, scheduler.OutcomeRunning).Log)
			return err == nil && strings.Contains(string(text), "***\nbegun: ")
		})
		b.end()
		b.begin()
		open()
		r := b.report(l.ID, "")
		log := b.log(l.ID)
		if strings.Contains(log+string(r.Output)+r.Reason, "horse") {
			t.Errorf("placed %v: the secret is in log %q or report %+v", placed, log, r)
		}
		if placed && (log != "***\nbegun: ***\n" || string(r.Output) != `"***"` && string(r.Output) != "\"***\"\n") {
			t.Errorf("got log %q, output %q", log, r.Output)
		}
		if !placed && (!strings.Contains(log, "can not be found again") || !strings.Contains(r.OutputError, "can not be found again")) {
			t.Errorf("got log %q, %+v", log, r)
		}
	}
}

// TestRestored: the records are those of a backup, the containers are not. What runs is adopted; what nobody has claimed is lost for good.
func TestRestored(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{})
	open := b.gate()
	l := b.shell("old", `read -r line < "$WORK/gate"; exit 5`)
	b.launch(l)
	b.report(l.ID, scheduler.OutcomeRunning)
	b.end()
	for _, name := range []string{"state.db", "state.db-wal", "state.db-shm"} {
		if s, found := stores.LoadAndDelete(b.dir); found {
			_ = s.(interface{ Close() error }).Close() // so that it writes nothing any more
		}
		if err := os.Remove(filepath.Join(b.dir, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	b.mu.Lock()
	b.reports = nil
	b.mu.Unlock()
	b.begin()
	if err := b.ex.Reconcile(t.Context(), []string{l.ID, "r1.other.-1.1"}); err != nil {
		t.Fatal(err)
	}
	b.report(l.ID, scheduler.OutcomeRunning)
	open()
	if r := b.report(l.ID, ""); r.Outcome != scheduler.OutcomeExited || r.Exit != 5 {
		t.Errorf("got %+v, want exit code 5", r)
	}
	if r := b.report("r1.other.-1.1", ""); r.Outcome != scheduler.OutcomeLost {
		t.Errorf("got %+v, want lost", r)
	}
}

// TestRemovedByOthers: somebody removes the container.
func TestRemovedByOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{})
	l := b.shell("gone", "exec sleep 1000")
	b.launch(l)
	b.report(l.ID, scheduler.OutcomeRunning)
	name := locked(b, func(e *engine) string { return e.created[0].Name })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, b.URL+"/containers/"+name+"?force=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if r := b.report(l.ID, ""); r.Outcome != scheduler.OutcomeLost || !strings.Contains(r.Reason, "somebody has removed") {
		t.Errorf("got %+v, want lost", r)
	}
}

// TestEngineAway: an engine that is away makes Reconcile fail, and nothing is lost by it.
func TestEngineAway(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{})
	b.faults(func(string, int) fault { return unheard })
	if err := b.ex.Reconcile(t.Context(), []string{"r1.unknown.-1.1"}); err == nil {
		t.Error("reconcile knows what becomes of an attempt without its engine")
	}
	l := b.shell("later", "exit 3")
	b.launch(l)
	b.eventually("the engine was asked", func() bool { return locked(b, func(e *engine) int { return e.seen["POST containers/create"] }) > 1 })
	b.faults(nil)
	if r := b.report(l.ID, ""); r.Exit != 3 || b.started(l.ID) != 1 {
		t.Errorf("got %+v after %d starts, want exit code 3 after one", r, b.started(l.ID))
	}
}

// TestKillOverRestart: a kill that was accepted is carried out by the next millrace.
func TestKillOverRestart(t *testing.T) {
	t.Parallel()
	b := newBench(t, dockerexec.Options{})
	l := b.shell("term", `trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done`)
	b.launch(l)
	log := b.report(l.ID, scheduler.OutcomeRunning).Log
	b.eventually("it is up", func() bool { text, _ := os.ReadFile(log); return len(text) > 0 })
	b.faults(func(op string, _ int) fault {
		if op == "POST containers/kill" {
			return unheard
		}
		return sound
	})
	if err := b.ex.Kill(t.Context(), l.ID, patience); err != nil {
		t.Fatal(err)
	}
	b.end()
	b.faults(nil)
	b.begin()
	if r := b.report(l.ID, ""); r.Exit != 7 || r.Reason != "killed on request" {
		t.Errorf("got %+v, want the task's own exit code 7", r)
	}
}
