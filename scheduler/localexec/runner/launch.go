//go:build linux

package runner

import (
	"errors"
	"fmt"
	"os"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mask"
)

// pid is ours; it is the same after [runner.become].
var pid = os.Getpid()

// claim takes attempts on: their claims are in the journal before any of them is executed and before the client has its answer. They are not
// synced, like a start: see step 2 of the package comment.
func (r *runner) claim(c *client, m *Message) {
	var fresh []*attempt
	var recs []record
	now := time.Now().UTC()
	for i := range m.Launch {
		l := &m.Launch[i]
		if a := r.tab.all[l.ID]; a != nil {
			r.news(a) // Claimed before: it is never started again, but its report may be missed.
			continue
		}
		rec := record{ID: l.ID, Claim: &claim{At: now, Timeout: l.Timeout, Grace: l.Grace, Heartbeat: l.Heartbeat}}
		hidden := mask.New(l.Secrets)
		if hidden != nil {
			places, all := PlacesOf(l.Secrets, l.Env)
			rec.Claim.Secrets, rec.Claim.Unplaced = places, !all
		}
		r.tab.apply(rec)
		a := r.tab.all[l.ID]
		a.mask = hidden
		a.launch, a.log = l, r.place.logPath(l.ID)
		fresh, recs = append(fresh, a), append(recs, rec)
	}
	if len(recs) > 0 {
		if err := r.note(recs...); err != nil {
			for _, a := range fresh {
				r.tab.drop(a)
			}
			r.send(c, &Message{Kind: KindDone, Seq: m.Seq, Error: "claim attempts: " + err.Error()})
			return
		}
	}
	r.queue = append(r.queue, fresh...)
	r.send(c, &Message{Kind: KindDone, Seq: m.Seq})
}

// disown makes news of the attempts. One that is not known is claimed as never to be started, durably, before the client hears of it.
func (r *runner) disown(c *client, m *Message, outcome scheduler.Outcome, reason string) {
	var recs []record
	now := time.Now().UTC()
	for _, id := range m.IDs {
		if a := r.tab.all[id]; a != nil {
			r.news(a)
			continue
		}
		end := &scheduler.Report{Attempt: id, Outcome: outcome, Exit: -1, Reason: reason, EndedAt: now, Node: r.node}
		recs = append(recs, record{ID: id, Claim: &claim{At: now}, End: end})
	}
	if len(recs) > 0 {
		_ = r.note(recs...) // commit knows.
	}
	for _, rec := range recs {
		r.tab.all[rec.ID].hidden = true
	}
	r.commit(func(err error) {
		for _, rec := range recs {
			a := r.tab.all[rec.ID]
			a.hidden = false
			if err == nil {
				r.news(a)
			} else {
				delete(r.tab.all, rec.ID)
			}
		}
		done := &Message{Kind: KindDone, Seq: m.Seq}
		if err != nil {
			done.Error = "claim unknown attempts: " + err.Error()
		}
		r.send(c, done)
	})
}

// blank is a report on a without an outcome.
func (r *runner) blank(a *attempt) scheduler.Report {
	rep := scheduler.Report{Attempt: a.id, Exit: -1, Node: r.node}
	if a.start != nil {
		rep.StartedAt = a.start.At
		rep.External = fmt.Sprintf("pid:%d", a.start.PID)
		rep.Log = r.place.logPath(a.id)
	}
	return rep
}

// execute starts the process of a claimed attempt. This is the only call of exec: once for each claim that this process has made.
func (r *runner) execute(a *attempt) {
	l := a.launch
	a.launch = nil // The input may be large.
	if a.stop.Why != stopNone {
		rep := r.blank(a)
		rep.Outcome, rep.Signal, rep.Reason = scheduler.OutcomeExited, "SIGTERM", string(a.stop.Why)+" before it was started"
		r.ended(a, rep)
		return
	}
	child, f, err := r.place.exec(l, a.mask)
	if err != nil {
		rep := r.blank(a)
		rep.Outcome, rep.Reason = scheduler.OutcomeLost, err.Error()
		if errors.As(err, new(refusal)) {
			rep.Outcome = scheduler.OutcomeRefused
		}
		r.ended(a, rep)
		return
	}
	start, err := identify(child, r.boot)
	if err != nil {
		// It is our child and not reaped: its pid is enough for us, though not for a successor.
		start = &process{PID: child, Boot: r.boot, At: time.Now().UTC()}
		r.log.Warn("process can not be identified", "attempt", a.id, "err", err)
	}
	// Not synced: the record has to survive us, not the machine, after whose death no process is left.
	_ = r.note(record{ID: a.id, Start: start})
	r.running[child] = a
	if f != nil {
		r.copyMasked(a, f)
	}
	r.watchTime(a)
	r.news(a)
}

// ended writes down how an attempt ended and tells the client at once. The report need not wait for the disk: until the client has committed
// it, nothing depends on it, and from then on nothing depends on our record.
func (r *runner) ended(a *attempt, rep scheduler.Report) {
	if a.timer != nil {
		a.timer.Stop()
	}
	if rep.EndedAt.IsZero() {
		rep.EndedAt = time.Now().UTC()
	}
	r.hide(a, &rep)
	a.filter = nil
	_ = r.note(record{ID: a.id, End: &rep})
	r.news(a)
}
