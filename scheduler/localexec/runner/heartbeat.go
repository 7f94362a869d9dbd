//go:build linux

package runner

import (
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// maxQuiet is how much of the time between two looks counts. Whatever kept us from looking, a machine that stood still or was suspended, may have
// kept the task from beating.
const maxQuiet = logPoll

// beat is what a heartbeat file looks like. Any change is a beat.
type beat struct {
	mtime unix.Timespec
	size  int64
	inode uint64
}

// pulse is what we know of an attempt's heartbeat. A runner that takes over begins anew.
type pulse struct {
	last  beat
	at    time.Time     // of the last look
	quiet time.Duration // watched time since the last change
}

// look notes what the file looks like now, and returns how long it has not changed.
func (p *pulse) look(b beat, now time.Time) time.Duration {
	if p.at.IsZero() || b != p.last {
		p.last, p.quiet = b, 0
	} else {
		p.quiet += min(max(0, now.Sub(p.at)), maxQuiet)
	}
	p.at = now
	return p.quiet
}

// heartbeatPath is where an attempt beats.
func (p *place) heartbeatPath(id string) string {
	return filepath.Join(p.dir, attemptName(id), heartbeatName)
}

// checkBeats ends attempts that have not beaten for too long.
func (r *runner) checkBeats() {
	now := time.Now()
	for _, a := range r.running {
		if a.claim.Heartbeat == 0 || a.stop.Why != stopNone {
			continue
		}
		if a.pulse.look(beatOf(r.place.heartbeatPath(a.id)), now) >= a.claim.Heartbeat {
			r.end(a, stopHeartbeat, a.claim.Grace)
		}
	}
}

// beatOf looks at a heartbeat file; zero if it is gone.
func beatOf(path string) beat {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return beat{}
	}
	return beat{st.Mtim, st.Size, st.Ino}
}
