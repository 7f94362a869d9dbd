package seal

import (
	"cmp"
	"slices"
	"time"

	"millrace/batcher"
	"millrace/ingest"
)

// pick is the decision to cut one segment.
type pick struct {
	lane   *lane
	seg    *segment
	reason batcher.Reason
}

// limits are what besides its policy makes a lane due.
type limits struct {
	now time.Time
	// open is the memory of all open rows; beyond memory the largest segments are cut until half of it is left.
	open, memory int64
	// read is how many bytes were read so far; a lane whose first row is more than hold bytes back is cut.
	read, hold int64
	// all makes every lane due: nothing more will come.
	all bool
	// cuts bounds the result.
	cuts int
}

// due is what choose finds.
type due struct {
	// picks are in the order of lanes, and of each lane's segments; at most limits.cuts of them.
	picks []pick
	// urgent: a size limit is reached, so that the spacing of entries does not hold.
	urgent bool
	// more: there are more segments than one entry takes.
	more bool
	// next is when age makes the next lane due; zero if none is open.
	next time.Time
}

// choose decides what is due. It is pure. A lane's segments are only ever picked in order, without a gap, since a cut covers all that is
// before it.
func choose(lanes map[ingest.Lane]*lane, lim limits) due {
	var d due
	var open []pick
	for _, l := range lanes {
		for _, s := range l.segs {
			reason := s.closed
			if reason == "" {
				reason = dueFor(l, s, &lim, &d)
			}
			if reason == "" {
				open = append(open, pick{lane: l, seg: s})
				continue
			}
			d.picks = append(d.picks, pick{l, s, reason})
			d.urgent = d.urgent || isSize(reason)
		}
	}
	if lim.open > lim.memory {
		d.urgent = true
		d.picks = append(d.picks, largest(open, heldBy(open)-lim.memory/2)...)
	}
	slices.SortFunc(d.picks, func(a, b pick) int {
		if c := cmp.Compare(a.lane.name, b.lane.name); c != 0 {
			return c
		}
		return cmp.Compare(a.seg.first(), b.seg.first())
	})
	if len(d.picks) > lim.cuts {
		d.picks, d.more, d.urgent = d.picks[:lim.cuts], true, true
	}
	return d
}

// dueFor says why a growing segment is due, or "", and keeps the earliest time at which age will be a reason.
func dueFor(l *lane, s *segment, lim *limits, d *due) batcher.Reason {
	reason, at := l.policy.Due(batcher.OpenLane{Rows: int64(len(s.meta)), Bytes: s.raw, FirstReceived: s.firstAt}, lim.now)
	switch {
	case lim.all:
		return batcher.ReasonDrain
	case reason == "" && lim.read-s.readAt > lim.hold:
		return batcher.ReasonMemory
	case reason == "" && (d.next.IsZero() || at.Before(d.next)):
		d.next = at
	}
	return reason
}

// largest returns the segments that hold most, until they hold excess together.
func largest(open []pick, excess int64) []pick {
	slices.SortFunc(open, func(a, b pick) int {
		if c := cmp.Compare(b.seg.held, a.seg.held); c != 0 {
			return c
		}
		return cmp.Compare(a.seg.first(), b.seg.first())
	})
	for i := range open {
		if excess <= 0 {
			return open[:i]
		}
		open[i].reason = batcher.ReasonMemory
		excess -= open[i].seg.held
	}
	return open
}

func heldBy(picks []pick) (held int64) {
	for i := range picks {
		held += picks[i].seg.held
	}
	return held
}

func isSize(r batcher.Reason) bool {
	return r == batcher.ReasonEvents || r == batcher.ReasonBytes || r == batcher.ReasonMemory
}

// act is what the loop does next.
type act int

const (
	actWait  act = iota // until something happens, or the time that decide returns
	actRead             // from the log
	actCut              // put an entry with cuts
	actClose            // put an entry without cuts, which raises done
)

// quiet is how long nothing must have been cut before an entry is written only to raise done.
const quiet = time.Second

// state is what the loop sees of itself when it decides what to do.
type state struct {
	now time.Time
	// due and urgent are of [due]; nextDue is due.next.
	due, urgent bool
	nextDue     time.Time
	// room: one more entry stays within the window.
	room bool
	// closable: an entry without cuts would raise done over an entry with cuts.
	closable bool
	// readable: the log may have more, and there is memory for it.
	readable bool
	// drain: the stream has ended and all of it was read.
	drain bool
	// lastEntry and lastCut are when this worker put, or met, the newest entry, and the newest with cuts.
	lastEntry, lastCut time.Time
	spacing            time.Duration
}

// decide says what to do, and for actWait until when at most (zero: until something happens). It is pure.
func decide(s state) (act, time.Time) {
	var until time.Time
	wake := func(at time.Time) {
		if until.IsZero() || at.Before(until) {
			until = at
		}
	}
	if s.due && s.room {
		at := s.lastEntry.Add(s.spacing)
		if s.urgent || s.drain || !s.now.Before(at) {
			return actCut, until
		}
		wake(at)
	}
	if s.closable && s.room && !s.due {
		at := s.lastCut.Add(quiet)
		if s.drain || !s.now.Before(at) {
			return actClose, until
		}
		wake(at)
	}
	if s.readable {
		return actRead, until
	}
	if !s.due && !s.nextDue.IsZero() {
		wake(s.nextDue)
	}
	return actWait, until
}
