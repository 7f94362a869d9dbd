package sandbox

import "time"

const (
	// maxQuiet is how much of the time between two looks counts: whatever kept us from looking may have kept the agent from showing a beat.
	maxQuiet = 5 * time.Second
	// beatUnit is that of the times that agents give.
	beatUnit = time.Second
)

// pulse is what we know of an attempt's heartbeat. A process that takes over begins anew.
type pulse struct {
	last  fileInfo
	at    time.Time     // of the last look
	quiet time.Duration // watched time since the last change
	told  bool
}

// look notes what the heartbeat file looks like now, and returns how long it has not changed. Any change is a beat, and that there is none yet is a look, too.
func (p *pulse) look(info fileInfo, now time.Time) time.Duration {
	if p.at.IsZero() || info != p.last {
		p.last, p.quiet, p.told = info, 0, false
	} else {
		p.quiet += min(max(0, now.Sub(p.at)), maxQuiet)
	}
	p.at = now
	return p.quiet
}

// beat tells of an attempt that has not beaten for too long, once until it beats again.
func (c *collector) beat(files map[string]fileInfo) {
	if c.task.Heartbeat == 0 {
		return
	}
	if c.pulse.look(files[HeartbeatName], time.Now()) >= c.task.Heartbeat+beatUnit && !c.pulse.told {
		c.pulse.told = true
		c.k.opt.Silent(c.task.Attempt)
	}
}
