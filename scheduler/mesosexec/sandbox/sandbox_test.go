package sandbox_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/batcher/memstore"
	"millrace/scheduler"
	"millrace/scheduler/mesosexec/sandbox"
	"millrace/scheduler/output"
)

const secret = "correct-horse-battery"

// TestSecrets: a secret is seen nowhere, wherever the pieces that are read are cut, and wherever we are stopped; not on this disk either.
func TestSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for at := 1; at < len(secret); at += 4 {
		first, second := w.gate("first"), w.gate("second")
		task := w.launch(fmt.Sprintf("r1.a%d.-1.1", at), fmt.Sprintf(`printf 'is %s'; read x < %s; printf -- '%s'; read x < %s; echo ' and %s.'
			echo '{"password":"%[5]s"}' > millrace-output; echo 'no %[5]s' > millrace-refused`, secret[:at], first, secret[at:], second, secret))
		task.Secrets = []string{"other-secret", secret}
		k := w.keeper(quick)
		k.Follow(task)
		k.shows(task.Attempt, "is ")
		k.stop()
		clean(t, w.dir, secret, secret[:at])

		k = w.keeper(quick)
		k.Follow(task)
		w.open(first)
		k.shows(task.Attempt, "is ***")
		k.stop()
		k = w.keeper(quick)
		k.Follow(task)
		w.open(second)
		w.ended(task.Attempt)
		res := k.finish(task)
		if got := k.log(task.Attempt, 0); got != "is *** and ***.\n" || string(res.Output) != "{\"password\":\"***\"}\n" || res.Refused != "no ***" {
			t.Errorf("cut after %d: got %q, %+v", at, got, res)
		}
		k.stop()
		clean(t, w.dir, secret)
	}
}

// TestOverlap: a secret that is the beginning of another is masked once, and we may be stopped where only the shorter one has come.
func TestOverlap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gate := w.gate("gate")
	task := w.launch("r1.a.-1.1", "printf 'x abcdefgh'; read x < "+gate+"; echo 'ijkl.'")
	task.Secrets = []string{"abcdef", "cdefghijkl"}
	k := w.keeper(quick)
	k.Follow(task)
	k.shows(task.Attempt, "x ***")
	k.stop()
	clean(t, w.dir, "gh")
	k = w.keeper(quick)
	k.Follow(task)
	w.open(gate)
	k.shows(task.Attempt, "x ***.\n")
}

// TestLimit: a log that is too long ends where it has to, and says so, once.
func TestLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var full atomic.Int32
	opt := quick
	opt.MaxLog, opt.Full = 1000, func(string) { full.Add(1) }
	gate := w.gate("gate")
	task := w.launch("r1.a.-1.1", "yes millrace | head -c 5000; read x < "+gate+"; yes | head -c 100000; echo 1 > millrace-output")
	k := w.keeper(opt)
	k.Follow(task)
	want := strings.Repeat("millrace\n", 112)[:1000] + "\nmillrace: the log has reached 1000 bytes, and what follows is not kept\n"
	k.shows(task.Attempt, want)
	w.open(gate)
	w.ended(task.Attempt)
	res := k.finish(task)
	if got := k.log(task.Attempt, 0); got != want || res.Missing == "" || string(res.Output) != "1\n" {
		t.Errorf("got %q, %+v", got, res)
	}
	if n := full.Load(); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	// A log of just that length is whole.
	task = w.launch("r1.b.-1.1", "yes millrace | head -c 1000")
	w.ended(task.Attempt)
	if res := k.finish(task); res.Missing != "" || len(k.log(task.Attempt, 0)) != 1000 {
		t.Errorf("got %+v", res)
	}
}

// TestTwoStreams: lines of two files do not mix, and one that is not finished is shown when nothing follows.
func TestTwoStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second, third := w.gate("first"), w.gate("second"), w.gate("third")
	task := w.launch("r1.a.-1.1", "exec 2>err; echo one; printf 'is it'; read x < "+first+"; echo two >&2; read x < "+second+
		"; printf ' so\nlong' ; printf 'last' >&2; read x < "+third+"; for i in 1 2 3 4 5 6 7 8 9; do echo out$i; echo err$i >&2; done")
	task.Streams = []string{"stdout", "err"}
	k := w.keeper(quick)
	k.Follow(task)
	k.shows(task.Attempt, "one\nis it")
	w.open(first)
	k.shows(task.Attempt, "one\nis ittwo\n")
	w.open(second)
	waitFor(t, "both", func() bool {
		got := k.log(task.Attempt, 0)
		return strings.HasPrefix(got, "one\nis ittwo\n so\n") && strings.Contains(got, "long") && strings.Contains(got, "last")
	})
	k.stop()
	k = w.keeper(quick)
	k.Follow(task)
	w.open(third)
	w.ended(task.Attempt)
	k.finish(task)
	got := k.log(task.Attempt, 0)
	for i := range 9 {
		for _, line := range []string{fmt.Sprintf("out%d\n", i+1), fmt.Sprintf("err%d\n", i+1)} {
			if strings.Count(got, line) != 1 {
				t.Errorf("%q is %d times in %q", line, strings.Count(got, line), got)
			}
		}
	}
	if len(got) != len("one\nis ittwo\n so\nlonglast")+2*9*len("out1\n") {
		t.Errorf("got %q", got)
	}
}

// TestPartOfLine: what is waited for to become a line is read again after a restart.
func TestPartOfLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gate := w.gate("gate")
	task := w.launch("r1.a.-1.1", "printf 'one\ntw'; read x < "+gate+"; echo o")
	task.Streams = []string{"stdout", "err"}
	waitFor(t, "its output", func() bool {
		text, err := os.ReadFile(filepath.Join(w.place(task.Attempt), "stdout"))
		return err == nil && string(text) == "one\ntw"
	})
	slow := quick
	slow.MinPause, slow.MaxPause, slow.ReadPause = time.Hour, time.Hour, time.Hour
	k := w.keeper(slow)
	k.Follow(task)
	k.shows(task.Attempt, "one\n")
	k.stop()
	k = w.keeper(quick)
	k.Follow(task)
	k.shows(task.Attempt, "one\ntw")
	w.open(gate)
	k.shows(task.Attempt, "one\ntwo\n")
}

// TestBytes: a log is bytes, whatever they are, and as many as there are.
func TestBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper(quick)
	task := w.launch("r1.a.-1.1", `for i in 1 2 3; do head -c 1500001 /dev/urandom; done | tee copy`)
	task.Secrets = []string{secret}
	k.Follow(task)
	place := w.place(task.Attempt)
	w.ended(task.Attempt)
	k.finish(task)
	want, err := os.ReadFile(filepath.Join(place, "copy"))
	if err != nil || len(want) != 3*1500001 {
		t.Fatalf("the copy has %d bytes, %v", len(want), err)
	}
	for range 2 {
		if got := k.log(task.Attempt, 0); got != string(want) {
			t.Errorf("the log has %d bytes and is not what was written", len(got))
		}
		if got := k.log(task.Attempt, 4<<20+9); got != string(want[4<<20+9:]) {
			t.Errorf("from the middle, the log has %d bytes and is not what was written", len(got))
		}
		w.forgetSpools()
	}
}

// TestRotated: a file that is cut or replaced goes on from its beginning, with a word of what may be missing.
func TestRotated(t *testing.T) {
	t.Parallel()
	for _, streams := range [][]string{{"out"}, {"out", "stderr"}} {
		w := newWorld(t)
		gate := w.gate("gate")
		task := w.launch("r1.a.-1.1", "echo one one one > out; read x < "+gate+"; echo two > new; mv new out")
		task.Streams = streams
		k := w.keeper(quick)
		k.Follow(task)
		waitFor(t, "the first line", func() bool { return strings.Contains(k.log(task.Attempt, 0), "one one one\n") })
		w.open(gate)
		w.ended(task.Attempt)
		res := k.finish(task)
		got := k.log(task.Attempt, 0)
		if !strings.Contains(got, "one one one\n") || !strings.Contains(got, "millrace: "+res.Missing+"\ntwo\n") || !strings.Contains(res.Missing, "out was cut or replaced") {
			t.Errorf("got %q, %+v", got, res)
		}
	}
}

// TestOutputs: what a task puts out is taken as from any other executor.
func TestOutputs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper(quick)
	const big = `printf '["%s' "$PW" > millrace-output; head -c 100000 /dev/zero | tr '\0' x >> millrace-output; `
	for name, tt := range map[string]struct{ command, output, problem string }{
		"none":      {"true", "", ""},
		"empty":     {": > millrace-output", "", ""},
		"small":     {"printf 7 > millrace-output", "7", ""},
		"no-json":   {"printf '{' > millrace-output", "{", ""}, // as with a local task, the engine judges
		"directory": {"mkdir millrace-output; echo > millrace-output/x", "", "is not a plain file"},
		"large":     {"PW=" + secret + "; " + big + `printf '"]' >> millrace-output`, `["***` + strings.Repeat("x", 100000) + `"]`, ""},
		"broken":    {big, "", "is not JSON"},
		"too-large": {"truncate -s 67108865 millrace-output", "", scheduler.OutputTooLarge(67108865)},
	} {
		task := w.launch("r1."+name+".-1.1", tt.command)
		task.Secrets = []string{secret}
		w.ended(task.Attempt)
		res := k.finish(task)
		got := string(res.Output)
		if res.OutputRef != nil {
			body, err := output.NewStore(w.objects).Get(t.Context(), *res.OutputRef)
			if err != nil || len(body) <= scheduler.MaxOutput {
				t.Errorf("%s: %d bytes in the object store, %v", name, len(body), err)
			}
			got += string(body)
		}
		if got != tt.output || res.OutputError != tt.problem {
			t.Errorf("%s: got %.200q, %q, want %.200q, %q", name, got, res.OutputError, tt.output, tt.problem)
		}
	}
}

// TestRefused: a word of why the command could never be started comes back.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper(quick)
	task := w.launch("r1.a.-1.1", "echo 'there is no such program' > millrace-refused; exit 1")
	w.ended(task.Attempt)
	if res := k.finish(task); res.Refused != "there is no such program" {
		t.Errorf("got %+v", res)
	}
}

// TestSilent: a task that does not beat is told of, once; one that ends is not.
func TestSilent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	silent := make(chan string, 100)
	opt := quick
	opt.Silent = func(attempt string) { silent <- attempt }
	k := w.keeper(opt)
	gate := w.gate("gate")
	for _, task := range []sandbox.Task{w.launch("r1.deaf.-1.1", "read x < "+gate), w.launch("r1.over.-1.1", "true")} {
		task.Heartbeat = time.Second
		k.Follow(task)
		if strings.Contains(task.Attempt, "over") {
			w.ended(task.Attempt)
			k.finish(task)
		}
	}
	select {
	case got := <-silent:
		if got != "r1.deaf.-1.1" {
			t.Errorf("got %s", got)
		}
	case <-time.After(patience):
		t.Error("nobody was told")
	}
	w.open(gate)
	w.ended("r1.deaf.-1.1")
	k.stop()
	if len(silent) != 0 {
		t.Errorf("told again: %s", <-silent)
	}
}

// TestSpools: archived logs stay on the disk for a while and up to a bound, and go with their run; after a restart, too.
func TestSpools(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spools := func() string {
		names, err := filepath.Glob(filepath.Join(w.dir, "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		out := ""
		for _, name := range names {
			out += filepath.Base(filepath.Dir(name)) + "/" + filepath.Base(name) + " "
		}
		return out
	}
	k := w.keeper(quick)
	for _, attempt := range []string{"r1.a.-1.1", "r1.b.-1.1", "r2.a.-1.1"} {
		task := w.launch(attempt, "echo 123456789")
		w.ended(attempt)
		k.finish(task)
	}
	if got := spools(); strings.Count(got, " ") != 6 {
		t.Errorf("got %s", got)
	}
	if err := errors.Join(k.ForgetRun(t.Context(), "r2"), k.ForgetRun(t.Context(), "none"), k.ForgetRun(t.Context(), ".."), k.ForgetRun(t.Context(), "")); err != nil {
		t.Error(err)
	}
	if got := spools(); strings.Contains(got, "r2/") || strings.Count(got, " ") != 4 {
		t.Errorf("run forgotten: got %s", got)
	}
	k.stop()
	opt := quick
	opt.KeepBytes = 15
	k = w.keeper(opt)
	waitFor(t, "the older one to go", func() bool { return spools() == "r1/b.-1.1.json r1/b.-1.1.log " })
	k.stop()
	opt.Keep = time.Nanosecond
	k = w.keeper(opt)
	waitFor(t, "all to go", func() bool { return spools() == "" })
	for _, attempt := range []string{"r1.a.-1.1", "r1.b.-1.1", "r2.a.-1.1"} {
		if got := k.log(attempt, 0); got != "123456789\n" {
			t.Errorf("%s: got %q", attempt, got)
		}
	}
}

// TestRefusedByStore: a log that the object store never takes stays on this disk, and holds nothing up.
func TestRefusedByStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.launch("r1.a.-1.1", "echo one")
	w.ended(task.Attempt)
	opt := quick
	opt.Keep = time.Nanosecond
	k, err := sandbox.New(w.dir, refusing{w.objects}, opt)
	if err != nil {
		t.Fatal(err)
	}
	res, err := k.Finish(t.Context(), task)
	if err != nil || res.Log != "" || !strings.Contains(res.Missing, "could not be archived") {
		t.Errorf("got %+v, %v", res, err)
	}
	again := w.keeper(opt)
	if got := again.log(task.Attempt, 0); got != "one\n" {
		t.Errorf("got %q", got)
	}
	again.stop()
	clean(t, filepath.Join(w.dir, "r1"), "two")
	if got := w.keeper(opt).log(task.Attempt, 0); got != "one\n" {
		t.Errorf("after a round of tidying: got %q", got)
	}
}

// TestNames: what is no id of an attempt finds nothing and writes nowhere.
func TestNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k, err := sandbox.New(filepath.Join(dir, "spool"), memstore.New(memstore.Options{}), sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, attempt := range []string{"", "r1", "../x.y", "r1.../../x", "r1.a/b", "..", ".x", "r1.ä", "r1.", "...", "r1.."} {
		if _, err := k.Log(t.Context(), attempt, 0); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("log of %q: got %v, want ErrNotFound", attempt, err)
		}
		if _, err := k.GiveUp(t.Context(), sandbox.Task{Attempt: attempt}, "why"); !errors.Is(err, scheduler.ErrInvalid) {
			t.Errorf("give up %q: got %v, want ErrInvalid", attempt, err)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("got %v", files)
	}
}

// TestOptions: all faults are said at once, and metrics that exist already are one.
func TestOptions(t *testing.T) {
	t.Parallel()
	bad := sandbox.Options{MaxLog: -1, Keep: -1, Parallel: -1, MinPause: 3, MaxPause: 2}
	_, err := sandbox.New(t.TempDir(), nil, bad)
	for _, want := range []string{"bounds of logs", "negative", "requests at once", "the least pause"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
	reg := prometheus.NewRegistry()
	for _, want := range []bool{true, false} {
		if _, err := sandbox.New(t.TempDir(), nil, sandbox.Options{Registerer: reg}); (err == nil) != want {
			t.Errorf("got %v, want no error: %v", err, want)
		}
	}
	all, err := reg.Gather()
	if err != nil || len(all) < 5 {
		t.Errorf("got %d metrics, %v", len(all), err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sandbox.New(filepath.Join(file, "x"), nil, sandbox.Options{}); err == nil {
		t.Error("a spool below a file was made")
	}
}
