//go:build linux

package runner

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"millrace/scheduler"
)

// reapChildren deals with every child that has ended. The group of a leader is signalled before the leader is reaped: until then its id can
// not have been given to others.
func (r *runner) reapChildren() {
	for {
		child := exitedChild()
		if child == 0 {
			return
		}
		a := r.running[child]
		if a == nil {
			reap(child) // An orphan of some task.
			continue
		}
		r.killRest(a)
		r.gone(a, reap(child))
	}
}

// killRest kills what a leader leaves behind, unless it was asked to end: then its children have the rest of the grace, too.
func (r *runner) killRest(a *attempt) {
	if a.stop.Why == stopNone || a.killed {
		r.kill(a)
	}
}

// gone notes that the leader has ended. The attempt has, when its group has.
func (r *runner) gone(a *attempt, st exitStatus) {
	delete(r.running, a.start.PID)
	a.exit = &st
	r.lingering[a] = struct{}{}
	r.finishIfGone(a)
}

func (r *runner) checkLingering() {
	r.lingerTick = nil
	for a := range r.lingering {
		r.finishIfGone(a)
	}
}

func (r *runner) finishIfGone(a *attempt) {
	dead := groupEmpty(a.start.PID) || a.killed && groupDead(a.start.PID)
	if a.adopted && !dead {
		known, err := r.hasMember(a)
		dead = err == nil && !known
	}
	if dead && a.end == nil && a.filter.finish() { // else it comes back when all output is there
		delete(r.lingering, a)
		r.finish(a)
	}
}

// finish makes the report of an attempt of which nothing runs any more.
func (r *runner) finish(a *attempt) {
	rep := r.blank(a)
	rep.EndedAt = a.exit.at
	rep.Outcome = scheduler.OutcomeExited
	a.exit.tell(&rep)
	switch a.stop.Why {
	case stopTimeout:
		rep.Outcome = scheduler.OutcomeTimeout
		rep.Reason = scheduler.ReasonTimeout(a.claim.Timeout)
	case stopHeartbeat:
		rep.Outcome = scheduler.OutcomeTimeout
		rep.Reason = scheduler.ReasonHeartbeat(a.claim.Heartbeat)
	case stopLog:
		rep.Reason = scheduler.ReasonLog
	case stopAsked:
		rep.Reason = string(stopAsked)
	}
	r.place.output(&rep, a.id)
	r.ended(a, rep)
}

// tell fills a report in.
func (st *exitStatus) tell(rep *scheduler.Report) {
	switch {
	case !st.known:
		rep.Outcome = scheduler.OutcomeLost
		rep.Reason = "it ended without its runner: the exit status is not known"
	case st.ws.Signaled():
		rep.Signal = unix.SignalName(st.ws.Signal())
	default:
		rep.Exit = st.ws.ExitStatus()
	}
}

// hasMember reports whether a process that is known to be the attempt's runs in its group. An adopted leader may have been reaped by
// another, and its group's id been given away: then the id alone says nothing.
func (r *runner) hasMember(a *attempt) (bool, error) {
	members, err := r.members([]*attempt{a})
	return slices.ContainsFunc(members[a], func(m member) bool { return m.pgid == a.start.PID }), err
}

// watchTime arms the timer of a: for its timeout, or for the end of its grace.
func (r *runner) watchTime(a *attempt) {
	at := a.stop.HardAt
	if at.IsZero() && a.claim.Timeout > 0 {
		at = a.start.At.Add(a.claim.Timeout)
	}
	if at.IsZero() {
		return
	}
	if a.timer != nil {
		a.timer.Stop()
	}
	a.timer = time.AfterFunc(time.Until(at), func() {
		r.post(func() { r.timeUp(a) })
	})
}

func (r *runner) timeUp(a *attempt) {
	switch now := time.Now(); {
	case !a.active():
	case a.stop.Why == stopNone && a.claim.Timeout > 0 && now.Sub(a.start.At) >= a.claim.Timeout:
		r.end(a, stopTimeout, a.claim.Grace)
	case a.stop.Why != stopNone && !a.killed && !now.Before(a.stop.HardAt):
		r.kill(a)
	}
}

// end asks an attempt to end: SIGTERM now, SIGKILL after grace. The first reason stands; a later call can only shorten the grace.
func (r *runner) end(a *attempt, why stopReason, grace time.Duration) {
	hardAt := time.Now().Add(max(0, grace))
	first := a.stop.Why == stopNone
	if !first {
		why = a.stop.Why
		if !hardAt.Before(a.stop.HardAt) {
			return
		}
	}
	// Not synced, like a start; a runner that has to take over goes on with it.
	_ = r.note(record{ID: a.id, Stop: &stop{Why: why, HardAt: hardAt}})
	switch {
	case a.start == nil: // It is not executed then.
	case grace <= 0:
		r.kill(a)
	default:
		if first {
			r.signal(a, unix.SIGTERM)
		}
		r.watchTime(a)
	}
}

func (r *runner) kill(a *attempt) {
	a.killed = true
	r.signal(a, unix.SIGKILL)
}

// signal sends sig to the group. Its id is safe while the leader is our child and not reaped, or while it has members; see hasMember.
func (r *runner) signal(a *attempt, sig unix.Signal) {
	if a.adopted {
		_, alive := a.start.alive(r.boot)
		if known, err := r.hasMember(a); !alive && (err != nil || !known) {
			return
		}
	}
	// ESRCH, no such process, is as good.
	_ = unix.Kill(-a.start.PID, sig)
}

// checkLogs ends attempts that write too much, at once: the disk is everybody's.
func (r *runner) checkLogs() {
	r.logTick = nil
	for _, a := range r.running {
		var st unix.Stat_t
		if a.stop.Why == stopNone && unix.Stat(a.log, &st) == nil && st.Size > r.maxLog {
			r.end(a, stopLog, 0)
		}
	}
}

// adopt watches a process that an earlier runner has started.
func (r *runner) adopt(a *attempt, st procStat, pids []int) error {
	r.running[a.start.PID] = a
	a.log = r.place.logPath(a.id)
	r.resumeMasked(a, pids)
	r.watchTime(a)
	if st.ppid == pid {
		return nil // We are that runner, after [runner.become]: SIGCHLD comes.
	}
	pidfd, err := openPIDFD(a.start.PID)
	if err != nil {
		delete(r.running, a.start.PID)
		return err
	}
	// The pidfd may be of a process that was given the pid since we looked.
	if _, alive := a.start.alive(r.boot); !alive {
		delete(r.running, a.start.PID)
		return os.ErrProcessDone
	}
	a.adopted = true
	r.spawn(func() { r.watchOther(a, pidfd) })
	return nil
}

// watchOther waits for the end of an adopted process, or of the runner.
func (r *runner) watchOther(a *attempt, pidfd *os.File) {
	ended := make(chan exitStatus, 1)
	r.spawn(func() { ended <- awaitOther(pidfd, r.done) })
	select {
	case st := <-ended:
		r.post(func() {
			r.killRest(a)
			r.gone(a, st)
		})
	case <-r.done:
	}
	_ = pidfd.Close()
}
