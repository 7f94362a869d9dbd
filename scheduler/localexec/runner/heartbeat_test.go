//go:build linux

package runner

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The quiet of a task is the time for which it was watched and did not beat; time in which nobody looked counts little.
func TestPulse(t *testing.T) {
	t.Parallel()
	at := func(sec int64, size int64) beat { return beat{mtime: unix.Timespec{Sec: sec}, size: size} }
	steps := []struct {
		name string
		wait time.Duration
		beat beat
		want time.Duration
	}{
		{"first look", time.Hour, at(1, 0), 0},
		{"no beat", 400 * time.Millisecond, at(1, 0), 400 * time.Millisecond},
		{"still none", 500 * time.Millisecond, at(1, 0), 900 * time.Millisecond},
		{"the machine stood still", time.Hour, at(1, 0), 900*time.Millisecond + maxQuiet},
		{"the clock went back", -time.Hour, at(1, 0), 900*time.Millisecond + maxQuiet},
		{"touched", 500 * time.Millisecond, at(2, 0), 0},
		{"quiet", 500 * time.Millisecond, at(2, 0), 500 * time.Millisecond},
		{"written within one tick of the file's clock", 500 * time.Millisecond, at(2, 7), 0},
		{"replaced", 500 * time.Millisecond, beat{mtime: unix.Timespec{Sec: 2}, size: 7, inode: 9}, 0},
		{"removed", 500 * time.Millisecond, beat{}, 0},
		{"gone", 500 * time.Millisecond, beat{}, 500 * time.Millisecond},
	}
	var p pulse
	now := time.Unix(1_700_000_000, 0)
	for _, s := range steps {
		now = now.Add(s.wait)
		if got := p.look(s.beat, now); got != s.want {
			t.Errorf("%s: quiet for %v, want %v", s.name, got, s.want)
		}
	}
}
