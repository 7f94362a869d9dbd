package sandbox_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/batcher/memstore"
	"millrace/scheduler"
	"millrace/scheduler/mesosexec/sandbox"
)

// TestKilled takes what is on the disk at any moment, as a process that is killed leaves it, and goes on with that: the log is the same.
func TestKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const parts, lines = 10, 400
	command, want := "i=0; ", ""
	var gates []string
	for n := range parts {
		gates = append(gates, w.gate(fmt.Sprint("gate", n)))
		command += fmt.Sprintf("while [ $i -lt %d ]; do echo line $i of %s; i=$((i+1)); done; read x < %s; ", lines*(n+1), secret, gates[n])
	}
	task := w.launch("r1.a.-1.1", command+"printf "+secret[:9])
	task.Secrets = []string{secret}
	k := w.keeper(quick)
	k.Follow(task)
	var left []string
	leave := func() {
		left = append(left, filepath.Join(t.TempDir(), "spool"))
		snapshot(t, w.dir, left[len(left)-1], len(left)%2 == 0)
	}
	for n, gate := range gates {
		for i := range lines {
			want += fmt.Sprintf("line %d of ***\n", n*lines+i)
		}
		k.shows(task.Attempt, want)
		leave()
		w.open(gate)
		waitFor(t, "some more", func() bool { return n == parts-1 || len(k.log(task.Attempt, 0)) > len(want) })
		leave()
		leave()
	}
	w.ended(task.Attempt)
	want += secret[:9]
	left = append(left, w.dir)
	for i, dir := range left {
		next := w.keeperAt(dir, memstore.New(memstore.Options{}), quick)
		if i%3 == 0 {
			next.Follow(task)
		}
		if res := next.finish(task); res.Missing != "" || next.log(task.Attempt, 0) != want {
			t.Errorf("left %d: got %d bytes, want %d, %+v", i, len(next.log(task.Attempt, 0)), len(want), res)
		}
		if dir == w.dir {
			break
		}
		clean(t, dir, secret)
	}
	t.Logf("left %d times", len(left)-1)
}

// snapshot copies the files of a spool, one after the other, while they are written.
func snapshot(t *testing.T, from, to string, stateFirst bool) {
	t.Helper()
	names := []string{"a.-1.1.log", "a.-1.1.json"}
	if stateFirst {
		names[0], names[1] = names[1], names[0]
	}
	if err := os.MkdirAll(filepath.Join(to, "r1"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(from, "r1", name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, "r1", name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiskAway: while the spool can not be written nothing is said to be done, and nothing is lost afterwards.
func TestDiskAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.gate("first"), w.gate("second")
	task := w.launch("r1.a.-1.1", "echo one; read x < "+first+"; echo two; read x < "+second+"; echo three; echo 3 > millrace-output")
	k := w.keeper(quick)
	k.Follow(task)
	k.shows(task.Attempt, "one\n")
	spool := filepath.Join(w.dir, "r1", "a.-1.1.log")
	away := func() {
		if err := errors.Join(os.RemoveAll(spool), os.Mkdir(spool, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	away()
	w.open(first)
	waitFor(t, "the task to go on", func() bool {
		text, err := os.ReadFile(filepath.Join(w.place(task.Attempt), "stdout"))
		return err == nil && string(text) == "one\ntwo\n"
	})
	if err := os.Remove(spool); err != nil {
		t.Fatal(err)
	}
	k.shows(task.Attempt, "one\ntwo\n")
	w.open(second)
	w.ended(task.Attempt)
	away()
	if _, err := k.Finish(t.Context(), task); !errors.Is(err, scheduler.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if err := os.Remove(spool); err != nil {
		t.Fatal(err)
	}
	var res sandbox.Result
	waitFor(t, "what was collected to be collected again", func() bool {
		var err error
		res, err = k.Finish(t.Context(), task)
		return err == nil
	})
	if res.Missing != "" || string(res.Output) != "3\n" || k.log(task.Attempt, 0) != "one\ntwo\nthree\n" {
		t.Errorf("got %+v, %q", res, k.log(task.Attempt, 0))
	}
}

// TestGiveUpAfterRestart: what a process had collected is archived by the next one, although the agent is gone.
func TestGiveUpAfterRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gate := w.gate("gate")
	task := w.launch("r1.a.-1.1", "echo one; printf '"+secret[:5]+"'; read x < "+gate)
	task.Secrets = []string{secret}
	k := w.keeper(quick)
	k.Follow(task)
	k.shows(task.Attempt, "one\n")
	k.stop()
	if err := w.sim.KillAgent(0); err != nil {
		t.Fatal(err)
	}
	w.open(gate)
	k = w.keeper(quick)
	k.Follow(task)
	res, err := k.GiveUp(t.Context(), task, "the agent that "+secret+" was on is gone")
	if err != nil || !strings.Contains(res.Missing, "*** was on is gone") || strings.Contains(res.Missing+res.OutputError, secret) {
		t.Errorf("got %+v, %v", res, err)
	}
	if got := k.log(task.Attempt, 0); got != "one\nmillrace: "+res.Missing+"\n" {
		t.Errorf("got %q", got)
	}
	again, err := k.GiveUp(t.Context(), task, "something else")
	if err != nil || again.Missing != res.Missing || again.Log != res.Log {
		t.Errorf("again: got %+v, %v, want %+v", again, err, res)
	}
	k.Follow(task) // An update that comes late is no harm.
	if got := k.finish(task); got.Log != res.Log {
		t.Errorf("got %+v, want %+v", got, res)
	}
}

// TestStoreAway: a log waits for the object store, and what was read of the sandbox is not read again.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.launch("r1.a.-1.1", "echo one; echo 1 > millrace-output")
	w.ended(task.Attempt)
	opt := quick
	opt.RequestTimeout = time.Minute
	down := w.objects.View(func(memstore.Op, string) memstore.Fault { return memstore.Drop })
	k, err := sandbox.New(w.dir, down, opt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Finish(t.Context(), task); !errors.Is(err, scheduler.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if err := w.sim.KillAgent(0); err != nil {
		t.Fatal(err)
	}
	if res := w.keeper(opt).finish(task); res.Missing != "" || string(res.Output) != "1\n" || w.archived(task.Attempt) != "one\n" {
		t.Errorf("got %+v, %q", res, w.archived(task.Attempt))
	}
}
