//go:build linux

package localexec_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/localexec"
)

// TestHeartbeat: a task that beats goes on for longer than it may be quiet; one that does not beat, or stops, is ended as a timeout; one that is
// not asked to has no file.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), localexec.Options{})
	beats := script("r1.beats.-1.1", `i=0; while [ $i -lt 70 ]; do i=$((i+1)); echo $i > "$MILLRACE_HEARTBEAT"; sleep 0.1; done; echo stops; sleep 1000 & wait`)
	beats.Heartbeat = 5 * time.Second
	mute := script("r1.mute.-1.1", "echo mute; sleep 1000")
	mute.Heartbeat = time.Second
	free := script("r1.free.-1.1", `echo "${MILLRACE_HEARTBEAT-none}"; ls ..`)
	r.launch(beats, mute, free)
	for _, l := range []scheduler.Launch{beats, mute} {
		rep := r.await(l.ID)
		want := "no heartbeat for " + l.Heartbeat.String() + " (timeout.heartbeat)"
		if rep.Outcome != scheduler.OutcomeTimeout || rep.Reason != want || rep.EndedAt.Sub(rep.StartedAt) < l.Heartbeat {
			t.Errorf("got %+v, want a timeout after at least %v: %q", rep, l.Heartbeat, want)
		}
	}
	if got := r.readLog(beats.ID, 0); got != "stops\n" {
		t.Errorf("got log %q, want it ended only when it had stopped to beat", got)
	}
	r.await(free.ID)
	if got := r.readLog(free.ID, 0); !strings.HasPrefix(got, "none\n") || strings.Contains(got, "heartbeat") {
		t.Errorf("a task that need not beat: got %q, want no variable and no file", got)
	}
}

// TestAdoptedHeartbeat: the beats of a task whose runner died are watched by the next one.
func TestAdoptedHeartbeat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, dir, localexec.Options{})
	l := script("r1.a.-1.1", `until [ -e stop ]; do date +%N > "$MILLRACE_HEARTBEAT"; sleep 0.1; done; sleep 1000 & wait`)
	l.Heartbeat = 5 * time.Second
	r.launch(l)
	r.await(l.ID, scheduler.OutcomeRunning)
	old := runnerPID(t, dir)
	must(t, syscall.Kill(old, syscall.SIGKILL))
	eventually(t, "another runner", func() bool { pid := runnerPID(t, dir); return pid != 0 && pid != old })
	if list := r.of(l.ID); list[len(list)-1].Outcome != scheduler.OutcomeRunning {
		t.Fatalf("got %+v, want it running still", list)
	}
	must(t, os.WriteFile(filepath.Join(dir, "attempts", l.ID, "work", "stop"), nil, 0o600))
	if rep := r.await(l.ID); rep.Outcome != scheduler.OutcomeTimeout || !strings.Contains(rep.Reason, "timeout.heartbeat") {
		t.Errorf("got %+v, want a timeout", rep)
	}
}
