package sandbox_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"millrace/batcher/memstore"
	"millrace/scheduler"
	"millrace/scheduler/mesosexec/sandbox"
)

// TestFollow: a log is there while its task runs, from any offset, afterwards, and when only the archive is left.
func TestFollow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper(quick)
	first, second := w.gate("first"), w.gate("second")
	task := w.launch("r1.a.-1.1", "echo one; read x < "+first+"; echo two; read x < "+second+"; printf three")
	if _, err := k.Log(t.Context(), task.Attempt, 0); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("before: got %v, want ErrNotFound", err)
	}
	k.Follow(task)
	k.Follow(task)
	k.shows(task.Attempt, "one\n")
	w.open(first)
	k.shows(task.Attempt, "one\ntwo\n")
	if got := k.log(task.Attempt, 2); got != "e\ntwo\n" {
		t.Errorf("from 2: got %q", got)
	}
	w.open(second)
	w.ended(task.Attempt)
	res := k.finish(task)
	if res.Missing != "" || res.Log == "" || res.Output != nil || res.OutputRef != nil || res.OutputError != "" || res.Refused != "" {
		t.Errorf("got %+v", res)
	}
	for range 2 {
		for offset, want := range map[int64]string{0: "one\ntwo\nthree", 8: "three", 1000: "", -1: "one\ntwo\nthree"} {
			if got := k.log(task.Attempt, offset); got != want {
				t.Errorf("from %d: got %q, want %q", offset, got, want)
			}
		}
		w.forgetSpools() // Then it comes from the archive.
	}
}

// TestWiped: an agent that deletes a sandbox as soon as the last update is acknowledged takes nothing with it.
func TestWiped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sim.WipeSandboxes(true)
	k := w.keeper(quick)
	task := w.launch("r1.a.-1.1", `echo hello; echo '{"n":1}' > millrace-output`)
	s := w.ended(task.Attempt) // Nobody has followed it.
	place := w.place(task.Attempt)
	res := k.finish(task)
	if err := w.acknowledge(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the sandbox to go", func() bool { _, err := os.Stat(place); return os.IsNotExist(err) })
	if got := k.log(task.Attempt, 0); got != "hello\n" || string(res.Output) != "{\"n\":1}\n" || res.Missing != "" {
		t.Errorf("got %q, %+v", got, res)
	}
	again := k.finish(task)
	if again.Log != res.Log || string(again.Output) != string(res.Output) {
		t.Errorf("again: got %+v, want %+v", again, res)
	}

	// Who acknowledges first has lost it, and is told so.
	task = w.launch("r1.b.-1.1", `echo hello; echo '{"n":1}' > millrace-output`)
	s = w.ended(task.Attempt)
	place = w.place(task.Attempt)
	if err := w.acknowledge(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the sandbox to go", func() bool { _, err := os.Stat(place); return os.IsNotExist(err) })
	res = k.finish(task)
	if !strings.Contains(res.Missing, "does not have the sandbox") || !strings.Contains(res.OutputError, "does not have the sandbox") || res.Output != nil {
		t.Errorf("got %+v", res)
	}
	if got := k.log(task.Attempt, 0); got != "millrace: "+res.Missing+"\n" {
		t.Errorf("got %q", got)
	}
}

// TestAgentAway: Finish says that it is to be called again while the agent is away, and goes on when it is back. Giving up keeps what there is.
func TestAgentAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper(quick)
	gate, other := w.gate("gate"), w.gate("other")
	command := func(gate string) string { return "echo one; read x < " + gate + "; echo two; echo 2 > millrace-output" }
	back, lost := w.launch("r1.back.-1.1", command(gate)), w.launch("r1.lost.-1.1", command(other))
	for _, task := range []sandbox.Task{back, lost} {
		k.Follow(task)
		k.shows(task.Attempt, "one\n")
	}
	if err := w.sim.KillAgent(0); err != nil {
		t.Fatal(err)
	}
	w.open(gate)
	w.open(other)
	for _, task := range []sandbox.Task{back, lost} {
		if _, err := k.Finish(t.Context(), task); !errors.Is(err, scheduler.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	}
	res, err := k.GiveUp(t.Context(), lost, "it burns")
	if err != nil || !strings.Contains(res.Missing, "it burns") || !strings.Contains(res.OutputError, "it burns") {
		t.Errorf("got %+v, %v", res, err)
	}
	want := "one\nmillrace: " + res.Missing + "\n"
	if got := k.log(lost.Attempt, 0); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := w.sim.StartAgent(0); err != nil {
		t.Fatal(err)
	}
	w.ended(back.Attempt)
	w.ended(lost.Attempt)
	if res := k.finish(back); res.Missing != "" || string(res.Output) != "2\n" || k.log(back.Attempt, 0) != "one\ntwo\n" {
		t.Errorf("got %+v, %q", res, k.log(back.Attempt, 0))
	}
	w.forgetSpools() // What is archived stays as it is.
	if again := k.finish(lost); again.Missing != res.Missing || again.Log != res.Log || k.log(lost.Attempt, 0) != want && w.archived(lost.Attempt) != want {
		t.Errorf("got %+v, want %+v", again, res)
	}
}

// archived is a log as the archive has it.
func (w *world) archived(attempt string) string {
	w.t.Helper()
	return w.keeperAt(w.t.TempDir(), w.objects, quick).log(attempt, 0)
}

// TestRestart stops at each step, and goes on with the same spool or none: the log and the result are the same, and one archive is made.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, lost := range []bool{false, true} {
		name := map[bool]string{false: "kept", true: "lost"}[lost]
		next := func(k *keeper) *keeper {
			k.stop()
			if lost {
				w.forgetSpools()
			}
			return w.keeper(quick)
		}
		gate := w.gate("gate")
		task := w.launch("r1."+name+".-1.1", "echo one; read x < "+gate+"; echo two; echo 3 > millrace-output")
		k := w.keeper(quick)
		k.Follow(task)
		k.shows(task.Attempt, "one\n")

		k = next(k) // while it runs
		k.Follow(task)
		k.shows(task.Attempt, "one\n")
		w.open(gate)
		w.ended(task.Attempt)

		k = next(k) // before Finish
		k.stop()
		down := w.objects.View(func(memstore.Op, string) memstore.Fault { return memstore.Drop })
		if _, err := w.keeperAt(w.dir, down, quick).Finish(t.Context(), task); !errors.Is(err, scheduler.ErrUnavailable) {
			t.Errorf("%s: without object store: got %v, want ErrUnavailable", name, err)
		}
		// The archive is made, and nobody hears of it.
		unheard := w.objects.View(func(op memstore.Op, _ string) memstore.Fault {
			if op == memstore.OpPut {
				return memstore.Lose
			}
			return memstore.None
		})
		if _, err := w.keeperAt(w.dir, unheard, quick).Finish(t.Context(), task); !errors.Is(err, scheduler.ErrUnavailable) {
			t.Errorf("%s: with an answer that is lost: got %v, want ErrUnavailable", name, err)
		}
		k = next(k) // between archive and acknowledgement
		var puts atomic.Int32
		counted := w.objects.View(func(op memstore.Op, _ string) memstore.Fault {
			if op == memstore.OpPut {
				puts.Add(1)
			}
			return memstore.None
		})
		k.stop()
		k = w.keeperAt(w.dir, counted, quick)
		res := k.finish(task)
		again := next(k).finish(task)
		if string(res.Output) != "3\n" || string(again.Output) != "3\n" || res.Log == "" || again.Log != res.Log || res.Missing+again.Missing != "" {
			t.Errorf("%s: got %+v, then %+v", name, res, again)
		}
		if got := w.archived(task.Attempt); got != "one\ntwo\n" {
			t.Errorf("%s: got %q", name, got)
		}
		if n := puts.Load(); n != 1 {
			t.Errorf("%s: %d puts after the one that was not heard of, want 1, which finds it there", name, n)
		}
	}
}

// TestSpoolDamaged: a spool that is not what its state says is begun anew.
func TestSpoolDamaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gate := w.gate("gate")
	task := w.launch("r1.a.-1.1", "echo one; read x < "+gate+"; echo two")
	spool := filepath.Join(w.dir, "r1", "a.-1.1")
	for name, damage := range map[string]func() error{
		"other bytes": func() error { return os.WriteFile(spool+".log", []byte("xxx\n"), 0o600) },
		"too short":   func() error { return os.Truncate(spool+".log", 1) },
		"too long":    func() error { return os.WriteFile(spool+".log", []byte("one\ntw"), 0o600) },
		"no spool":    func() error { return os.Remove(spool + ".log") },
		"no state":    func() error { return os.Remove(spool + ".json") },
		"half state":  func() error { return os.Truncate(spool+".json", 10) },
	} {
		k := w.keeper(quick)
		k.Follow(task)
		k.shows(task.Attempt, "one\n")
		k.stop()
		if err := damage(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		k = w.keeper(quick)
		k.Follow(task)
		k.shows(task.Attempt, "one\n")
		waitFor(t, "the state", func() bool {
			text, err := os.ReadFile(spool + ".json")
			return err == nil && json.Valid(text)
		})
		k.stop()
	}
	w.open(gate)
	w.ended(task.Attempt)
	k := w.keeper(quick)
	if res := k.finish(task); res.Missing != "" || k.log(task.Attempt, 0) != "one\ntwo\n" {
		t.Errorf("got %+v, %q", res, k.log(task.Attempt, 0))
	}
}
