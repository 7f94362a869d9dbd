//go:build linux

package localexec_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/localexec"
)

func TestTaskContract(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), localexec.Options{})
	id := "r1.extract.-1.1"
	r.launch(script(id, `cat "$MILLRACE_INPUT"; echo; echo err >&2; ls -a | wc -l; env | sort
		echo '{"rows":3}' > "$MILLRACE_OUTPUT"; cat; exit 7`, "A=b"))
	rep := r.await(id)
	if rep.Outcome != scheduler.OutcomeExited || rep.Exit != 7 || rep.Signal != "" {
		t.Errorf("got %+v, want exit code 7", rep)
	}
	if got := string(rep.Output); got != "{\"rows\":3}\n" || rep.OutputError != "" {
		t.Errorf("got output %q, error %q", got, rep.OutputError)
	}
	if rep.StartedAt.IsZero() || rep.EndedAt.Before(rep.StartedAt) || rep.Node == "" || !strings.HasPrefix(rep.External, "pid:") {
		t.Errorf("got %+v, want times, node and pid", rep)
	}
	log := r.readLog(id, 0)
	if want := "{\"v\":1}\nerr\n2\nA=b\nMILLRACE_INPUT=" + r.dir; !strings.HasPrefix(log, want) || !strings.Contains(log, "\nMILLRACE_OUTPUT="+r.dir) {
		t.Errorf("got log %q, want the input, both streams, an empty directory, the environment: %q", log, want)
	}
	if got := r.readLog(id, 3); got != log[3:] {
		t.Errorf("got %q from offset 3", got)
	}
	fds := script("r1.fds.-1.1", "")
	fds.Argv = []string{"ls", "-l", "/proc/self/fd"}
	r.launch(fds)
	own := r.await(fds.ID).Log
	var open []string
	for line := range strings.Lines(r.readLog(fds.ID, 0)) {
		if _, target, ok := strings.Cut(line, " -> "); ok {
			open = append(open, strings.TrimSpace(target))
		}
	}
	// The fourth is the directory that ls reads.
	if len(open) != 4 || open[0] != os.DevNull || open[1] != own || open[2] != own {
		t.Errorf("got descriptors %q, want those of standard input, output and error only", open)
	}
	if _, err := r.Log(t.Context(), "r1.none.-1.1", 0); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	eventually(t, "the directories are removed or kept for others", func() bool {
		left, err := filepath.Glob(filepath.Join(r.dir, "attempts", "r1.*"))
		return err == nil && len(left) == 0
	})
}

func TestRefused(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), localexec.Options{})
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "plain"), []byte("text"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "garbage"), []byte("text"), 0o700))
	for i, tt := range []struct {
		name, want string
		argv       []string
	}{
		{"no command", "no command", nil},
		{"not in PATH", "not found in PATH", []string{"no-such-program"}},
		{"no such file", "no such file", []string{"/no/such/program"}},
		{"not executable", "not executable", []string{filepath.Join(dir, "plain")}},
		{"directory", "is a directory", []string{dir}},
		{"bad format", "exec format error", []string{filepath.Join(dir, "garbage")}},
	} {
		l := script(taskID(i), "")
		l.Argv = tt.argv
		r.launch(l)
		rep := r.await(l.ID)
		if rep.Outcome != scheduler.OutcomeRefused || !strings.Contains(rep.Reason, tt.want) {
			t.Errorf("%s: got %s %q, want refused with %q", tt.name, rep.Outcome, rep.Reason, tt.want)
		}
	}
	image := script("r1.image.-1.1", "true")
	image.Container = &scheduler.Container{Image: "registry.example/load:1.4"}
	r.launch(image)
	if rep := r.await(image.ID); rep.Outcome != scheduler.OutcomeRefused || !strings.Contains(rep.Reason, "runs no images (registry.example/load:1.4)") {
		t.Errorf("an image: got %s %q, want refused", rep.Outcome, rep.Reason)
	}
	for name, tt := range map[string]struct {
		ask  func(l *scheduler.Launch)
		want string
	}{
		"constraint": {func(l *scheduler.Launch) {
			l.Constraints = []scheduler.Constraint{{Attribute: "rack", Op: scheduler.OpUnlike, Value: "rack-9"}}
		}, "can not choose by constraints ([rack, unlike, rack-9])"},
		"machine": {func(l *scheduler.Launch) {
			l.Machine = &scheduler.Machine{User: "other", Ports: make([]scheduler.Port, 1), URIs: []scheduler.URI{{Value: "/a"}}, Health: &scheduler.Health{Shell: "true"}}
		}, "does not see to what is asked for (user, ports, uris, health_check)"},
		"gpu": {func(l *scheduler.Launch) { l.Resources = &scheduler.Resources{GPU: 2} }, "hands out no GPUs, and 2 are asked for"},
	} {
		l := script("r1."+name+".-1.1", "true")
		tt.ask(&l)
		r.launch(l)
		if rep := r.await(l.ID); rep.Outcome != scheduler.OutcomeRefused || !strings.Contains(rep.Reason, tt.want) {
			t.Errorf("%s: got %s %q, want refused with %q", name, rep.Outcome, rep.Reason, tt.want)
		}
	}
	modest := script("r1.modest.-1.1", "true")
	modest.Resources = &scheduler.Resources{CPU: 1, Mem: 1 << 20}
	r.launch(modest)
	if rep := r.await(modest.ID); rep.Outcome != scheduler.OutcomeExited {
		t.Errorf("with resources that it does not enforce: got %s %q, want exited", rep.Outcome, rep.Reason)
	}
	l := script("r1.large.-1.1", "true")
	l.Input = make([]byte, 17<<20)
	r.launch(l)
	if rep := r.await(l.ID); rep.Outcome != scheduler.OutcomeRefused || !strings.Contains(rep.Reason, "more than") {
		t.Errorf("got %s %q, want refused", rep.Outcome, rep.Reason)
	}
}

func TestLaunchRepeated(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), localexec.Options{})
	out := filepath.Join(t.TempDir(), "marks")
	l := script("r1.once.-1.1", markScript, "OUT="+out, "SLEEP=0.2")
	for range 3 {
		r.launch(l, l)
	}
	r.await(l.ID)
	r.launch(l)
	r.launch(script("r1.after.-1.1", "true")) // What is launched later has ended: so would a second execution have begun.
	r.await("r1.after.-1.1")
	eventually(t, "the end is reported again", func() bool {
		n := 0
		for _, rep := range r.of(l.ID) {
			if rep.Outcome == scheduler.OutcomeExited {
				n++
			}
		}
		return n >= 2
	})
	if got := lines(t, out); len(got) != 2 {
		t.Errorf("got %q, want one start and one end", got)
	}
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), localexec.Options{})
	out := filepath.Join(t.TempDir(), "marks")
	late := script("r1.late.-1.1", markScript, "OUT="+out, "SLEEP=0")
	must(t, r.Reconcile(t.Context(), []string{late.ID}))
	if rep := r.await(late.ID); rep.Outcome != scheduler.OutcomeLost || rep.Reason == "" {
		t.Errorf("got %+v, want lost", rep)
	}
	r.launch(late)
	running := script("r1.running.-1.1", "read x; sleep 60")
	running.Argv = []string{"sleep", "60"}
	r.launch(running)
	r.await(running.ID, scheduler.OutcomeRunning)
	before := len(r.of(running.ID))
	must(t, r.Reconcile(t.Context(), []string{running.ID}))
	eventually(t, "another report", func() bool { return len(r.of(running.ID)) > before })
	must(t, r.Kill(t.Context(), running.ID, time.Second))
	if rep := r.await(running.ID); rep.Outcome != scheduler.OutcomeExited || rep.Signal != "SIGTERM" || rep.Exit != -1 {
		t.Errorf("got %+v, want SIGTERM", rep)
	}
	must(t, r.Kill(t.Context(), "r1.unknown.-1.1", time.Second))
	if got := lines(t, out); got != nil {
		t.Errorf("got %q, want the late launch never started", got)
	}
}
