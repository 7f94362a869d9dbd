package sandbox

import (
	"testing"
	"time"
)

// TestPulse: time counts as quiet as long as we look, and any change of the file is a beat.
func TestPulse(t *testing.T) {
	t.Parallel()
	var p pulse
	now := time.Now()
	file := fileInfo{Path: "/x/millrace-heartbeat"}
	for i, step := range []struct {
		after  time.Duration
		change func()
		want   time.Duration
	}{
		{0, func() { file = fileInfo{} }, 0},                      // there is none yet
		{time.Second, func() {}, time.Second},                     //
		{time.Second, func() { file.Size = 1 }, 0},                // it is there
		{time.Second, func() { file.MTime.Nanoseconds = 1e9 }, 0}, // it was touched
		{2 * time.Second, func() {}, 2 * time.Second},
		{2 * time.Second, func() {}, 4 * time.Second},
		{time.Hour, func() {}, 4*time.Second + maxQuiet}, // nobody has looked
		{-time.Hour, func() {}, 4*time.Second + maxQuiet},
		{time.Second, func() { file = fileInfo{} }, 0}, // it was removed
	} {
		now = now.Add(step.after)
		step.change()
		if got := p.look(file, now); got != step.want {
			t.Errorf("step %d: got %v, want %v", i, got, step.want)
		}
	}
}
