package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"millrace/scheduler"
)

// timeoutsDAG has a task that holds the only slot until its file is there, one for which that is too long, one that beats once, and one for which its
// start is too late.
const timeoutsDAG = `dag: holds
tasks: {one: {run: "until [ -e '@DIR/go' ]; do sleep 0.02; done"}}
---
dag: queues
tasks: {one: {run: ["true"], retry: 1, timeout: {queue: 200ms}}}
---
dag: hangs
tasks: {one: {run: "date > $MILLRACE_HEARTBEAT; sleep 1000", timeout: {heartbeat: 1s}}}
---
dag: starts
tasks: {one: {run: "sleep 1000", timeout: {start: 200ms}}}
`

// TestTimeouts: a task that gets no slot in time fails, each wait counting as a try; so does one that does not beat any more, and one that is not
// started in time, here because the process that starts tasks stands still; it is not left running.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	dir := dagDir(t, map[string]string{"timeouts.yaml": strings.ReplaceAll(timeoutsDAG, "@DIR", work)})
	s := newServer(t, "dev", "--log-level", "error", "--dags", dir)
	s.env = append(s.env, "MILLRACE_EXECUTORS__LOCAL__SLOTS=1")
	s.start()
	start := func(dag string) string {
		t.Helper()
		s.head(dag, func(h scheduler.DAGHead) bool { return h.Version != "" })
		var r scheduler.Run
		s.cliJSON(&r, "dags", "trigger", dag)
		return r.ID
	}
	task := func(run string) (d scheduler.RunDetail) {
		t.Helper()
		s.cliJSON(&d, "runs", "show", run)
		return d
	}
	holder := start("holds")
	s.waitFor("holding the slot", func() bool { return task(holder).Tasks[0].State == scheduler.StateRunning })
	queued := start("queues")
	s.waitFor("rid of the task without a slot", func() bool { return task(queued).Run.State.Terminal() })
	d := task(queued)
	if one := d.Tasks[0]; d.Run.State != scheduler.StateFailed || one.Try != 2 || one.Exit != scheduler.ExitTimeout || !strings.Contains(d.Run.Reason, "had no slot for 200ms (timeout.queue)") {
		t.Errorf("the task without a slot: got %+v of run %+v", one, d.Run)
	}
	write(t, filepath.Join(work, "go"), "")
	s.waitFor("free", func() bool { return task(holder).Run.State == scheduler.StateSuccess })

	hung := start("hangs")
	s.waitFor("rid of the task that hangs", func() bool { return task(hung).Run.State.Terminal() })
	if d := task(hung); d.Run.State != scheduler.StateFailed || !strings.Contains(d.Run.Reason, "no heartbeat for 1s (timeout.heartbeat)") {
		t.Errorf("the task that hangs: got %+v of run %+v", d.Tasks[0], d.Run)
	}

	runners := s.runners()
	if len(runners) != 1 {
		t.Fatalf("got %d runners, want one", len(runners))
	}
	if err := syscall.Kill(runners[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	unstarted := start("starts")
	s.waitFor("out of patience with the start", func() bool { return task(unstarted).Tasks[0].Kill != "" })
	if err := syscall.Kill(runners[0], syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.waitFor("rid of the task that did not start", func() bool { return task(unstarted).Run.State.Terminal() })
	if d := task(unstarted); d.Run.State != scheduler.StateFailed || !strings.Contains(d.Run.Reason, "did not start within 200ms (timeout.start)") {
		t.Errorf("the task that did not start: got %+v of run %+v", d.Tasks[0], d.Run)
	}
}
