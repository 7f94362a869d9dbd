package mesosexec

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

// outgoing is something for the sender: attempts whose records are written, and then a call.
type outgoing struct {
	attempts []*attempt
	offers   []mesos.ID // of an ACCEPT
	call     *mesos.Call
	cluster  bool // the record of the cluster is written, as it is by then
}

func (o *outgoing) accepts() bool { return o.call != nil && o.call.Accept != nil }

// push hands something to the sender; mu is held.
func (e *Executor) push(o outgoing) {
	e.calls = append(e.calls, o)
	wake(e.calling)
}

func (e *Executor) call(c *mesos.Call) { e.push(outgoing{call: c}) }

// runCalls writes records and makes calls, in order, until ctx ends. What has come while it did so is written together.
func (e *Executor) runCalls(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.calling:
		}
		e.mu.Lock()
		todo := e.calls
		e.calls = nil
		e.mu.Unlock()
		if !e.record(ctx, todo) {
			wait(ctx, time.Second)
			continue
		}
		for i := range todo {
			e.send(ctx, &todo[i])
		}
	}
}

// record writes the records of what is to be sent. If it can not, everything is as it was before: attempts wait again, and calls are made anew.
func (e *Executor) record(ctx context.Context, todo []outgoing) bool {
	var list []*attempt
	seen := map[*attempt]bool{}
	e.mu.Lock()
	now := time.Now().UTC()
	for i := range todo {
		for _, a := range todo[i].attempts {
			if todo[i].accepts() {
				a.Accepts, a.SentAt = a.Accepts+1, now
			}
			if !seen[a] {
				seen[a], list = true, append(list, a)
			}
		}
	}
	rows := e.rows(list)
	e.mu.Unlock()
	if len(rows) == 0 {
		return true
	}
	err := e.records.PutRecords(ctx, rows)
	if err == nil {
		return true
	}
	if ctx.Err() == nil {
		e.log.Error("nothing is launched: records can not be written", "attempts", len(rows), "err", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var again []outgoing
	for i := range todo {
		if !todo[i].accepts() {
			again = append(again, todo[i])
			continue
		}
		e.decline(todo[i].offers, 0)
		for _, a := range todo[i].attempts {
			a.Accepts--
			e.putBack(a)
		}
	}
	e.calls = append(again, e.calls...)
	wake(e.calling)
	return false
}

// putBack lets an attempt wait for a place again; mu is held.
func (e *Executor) putBack(a *attempt) {
	if a.phase != phaseSending {
		return
	}
	a.phase, a.Agent, a.URL = phaseWaiting, "", ""
	e.waiting = append(e.waiting, a)
	wake(e.placing)
}

// send does one thing that is recorded.
func (e *Executor) send(ctx context.Context, o *outgoing) {
	switch {
	case o.cluster:
		if err := e.keepCluster(ctx, func(*clusterKept) {}); err != nil && ctx.Err() == nil {
			e.log.Error("the record of the cluster can not be written", "err", err)
			e.mu.Lock()
			defer e.mu.Unlock()
			time.AfterFunc(time.Second, func() { e.mu.Lock(); defer e.mu.Unlock(); e.push(*o) })
		}
		return
	case o.call == nil:
		return // It was to be recorded only.
	case o.call.Accept == nil:
		if err := e.client.Call(ctx, o.call); err != nil && ctx.Err() == nil {
			e.log.Debug("a call was not taken", "type", o.call.Type, "err", err) // What matters is asked again.
			e.mu.Lock()
			e.idle = e.idle || o.call.Type == mesos.CallRevive
			e.mu.Unlock()
		}
		return
	}
	e.mu.Lock()
	for _, a := range o.attempts { // The answer may come after the first update.
		a.phase = phaseSent
	}
	e.mu.Unlock()
	err := e.client.Call(ctx, o.call)
	if err == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.decline(o.offers, 0) // If it was not read they are ours still; if it was, this means nothing.
	switch {
	case errors.Is(err, ErrNotSubscribed):
		for _, a := range o.attempts {
			e.unsent(a)
		}
	case errors.Is(err, ErrRefused) && len(o.attempts) == 1:
		e.refuse(o.attempts[0], err.Error())
	case errors.Is(err, ErrRefused):
		e.log.Warn("a master refuses several tasks, and is given each alone", "tasks", len(o.attempts), "err", err)
		for _, a := range o.attempts {
			a.solo = true
			e.unsent(a)
		}
	default: // It may have been read.
		for _, a := range o.attempts {
			a.ask.soon()
		}
		wake(e.asking)
	}
}

// unsent takes an attempt back that no master has read; mu is held.
func (e *Executor) unsent(a *attempt) {
	if a.phase != phaseSent || a.Started || a.launch == nil {
		return
	}
	a.phase = phaseSending
	a.Accepts--
	e.putBack(a)
}

// kill asks for the end of an attempt; mu is held.
func (e *Executor) kill(a *attempt, grace time.Duration) {
	switch a.phase {
	case phaseWaiting:
		e.waiting = slices.DeleteFunc(e.waiting, func(o *attempt) bool { return o == a })
		a.phase = phaseEnding
		e.report(delivery{a: a, report: scheduler.Report{Attempt: a.Attempt, Outcome: scheduler.OutcomeExited, Exit: noExit, Signal: sigterm,
			Reason: "killed before it was started", EndedAt: time.Now().UTC()}})
	case phaseSending, phaseSent:
		if a.KillAt.IsZero() {
			a.KillAt = time.Now().UTC()
		}
		a.Grace = grace
		e.sendKill(a, true)
	}
}

// sendKill sends KILL, and says when it is to be sent again; mu is held.
func (e *Executor) sendKill(a *attempt, first bool) {
	a.killAgain = time.Now().Add(a.Grace + 5*time.Second)
	o := outgoing{call: &mesos.Call{Type: mesos.CallKill, Kill: &mesos.Kill{
		TaskID: mesos.ID{Value: a.Task}, AgentID: mesos.ID{Value: a.Agent},
		KillPolicy: &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: a.Grace}},
	}}}
	if first {
		o.attempts = []*attempt{a}
	}
	e.push(o)
}

// acknowledge lets the next update of a task come. One that does not get through comes again by itself.
func (e *Executor) acknowledge(list ...*mesos.TaskStatus) {
	for _, st := range list {
		if len(st.UUID) == 0 {
			continue
		}
		e.spawn(func(ctx context.Context) {
			select {
			case e.acks <- struct{}{}:
				defer func() { <-e.acks }()
			case <-ctx.Done():
				return
			}
			err := e.client.Call(ctx, &mesos.Call{Type: mesos.CallAcknowledge, Acknowledge: &mesos.Acknowledge{AgentID: st.AgentID, TaskID: st.TaskID, UUID: st.UUID}})
			if err != nil && ctx.Err() == nil {
				e.log.Debug("an update was not acknowledged", "task", st.TaskID.Value, "err", err)
			}
		})
	}
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
