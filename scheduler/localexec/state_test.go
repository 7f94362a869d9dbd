//go:build linux

package localexec_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/localexec"
)

// TestStateSurvivesTries: what one try keeps, the next one finds, also under another runner; other tasks and indexes have their own; it goes
// when the run has ended, and not before.
func TestStateSurvivesTries(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var over atomic.Pointer[string] // the run that has ended
	asked := make(chan string, 1000)
	opt := localexec.Options{Sweep: time.Millisecond, Ended: func(_ context.Context, run string) (bool, error) {
		select {
		case asked <- run:
		default:
		}
		if run == "r2" {
			return false, errors.New("the store does not answer")
		}
		ended := over.Load()
		return ended != nil && *ended == run, nil
	}}
	r := start(t, dir, opt)
	say := func(id, run, task string, index int, text string) string {
		t.Helper()
		l := script(id, text)
		l.Run, l.Task, l.MapIndex = run, task, index
		r.launch(l)
		if rep := r.await(id); rep.Outcome != scheduler.OutcomeExited || rep.Exit != 0 {
			t.Fatalf("%s: got %+v", id, rep)
		}
		return r.readLog(id, 0)
	}
	const look = `cat "$MILLRACE_STATE/job" 2> /dev/null || echo none`
	const keep = `mkdir -p "$MILLRACE_STATE"; echo "$0" > "$MILLRACE_STATE/job"; `
	if got := say("r1.a.-1.1", "r1", "a", -1, look+"; "+keep+look); got != "none\nsh\n" {
		t.Errorf("first try: got %q", got)
	}
	r.stop()
	awaitNoRunner(t, dir)
	r = start(t, dir, opt)
	for _, tt := range []struct {
		id, run, task string
		index         int
		want          string
	}{
		{"r1.a.-1.2", "r1", "a", -1, "sh\n"}, {"r1.a.0.1", "r1", "a", 0, "none\n"}, {"r1.b.-1.1", "r1", "b", -1, "none\n"}, {"r2.a.-1.1", "r2", "a", -1, "none\n"},
	} {
		if got := say(tt.id, tt.run, tt.task, tt.index, look); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.id, got, tt.want)
		}
	}
	say("r2.a.-1.2", "r2", "a", -1, keep)
	for seen := map[string]bool{}; !seen["r1"] || !seen["r2"]; { // both have been asked after, and are kept
		seen[<-asked] = true
	}
	if got := say("r1.a.-1.3", "r1", "a", -1, look); got != "sh\n" {
		t.Errorf("while the run is live: got %q", got)
	}
	ended := "r1"
	over.Store(&ended)
	eventually(t, "the state of the ended run is removed", func() bool {
		_, err := os.Stat(filepath.Join(dir, "state", "r1"))
		return errors.Is(err, os.ErrNotExist)
	})
	if got := say("r2.a.-1.3", "r2", "a", -1, look); got != "sh\n" {
		t.Errorf("the run of which nothing is known has lost its state: got %q", got)
	}
}
