package mesosexec

import (
	"cmp"
	"context"
	"errors"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec/sandbox"
)

// delivery is news of an attempt for the engine. When it was taken, acks are given.
type delivery struct {
	a      *attempt
	report scheduler.Report
	acks   []*mesos.TaskStatus
}

// update takes what a master says of a task; mu is held.
func (e *Executor) update(st *mesos.TaskStatus) {
	a := e.tasks[st.TaskID.Value]
	if a == nil {
		e.stranger(st)
		return
	}
	e.metrics.updates.WithLabelValues(string(st.State)).Inc()
	e.witness(a, st.State)
	if a.phase == phaseEnding {
		if len(st.UUID) > 0 { // the same again, most likely: it is acknowledged with the first
			a.acks = append(a.acks, st)
		}
		return
	}
	v := Judge(st, e.known(a, time.Now()))
	if v.Acknowledge && (a.phase == phaseSending || a.phase == phaseWaiting) {
		a.phase = phaseSent // The agent has it, whatever became of the call.
	}
	e.startedBy(a, st)
	a.state = st.State
	if v.Avoid {
		e.avoidAgent(a)
	}
	if v.Do != DoAsk {
		a.ask.answered()
	}
	var acks []*mesos.TaskStatus
	if v.Acknowledge {
		acks = append(acks, st)
	}
	switch v.Do {
	case DoReport:
		e.judged(a, &v.Report, acks)
		return
	case DoKill:
		e.log.Warn("a task is killed that is not to be", "task", st.TaskID.Value, "why", v.Why)
		e.sendKill(a, false)
	case DoAsk:
		if a.ask.pause <= e.opt.AskMin { // the first time, or the second
			e.log.Info("a task is asked after", "task", st.TaskID.Value, "state", st.State, "why", v.Why)
		}
		a.ask.asked(time.Now(), e.opt.AskMin, e.opt.AskMax)
	case DoRelaunch:
		e.relaunch(a)
	}
	e.acknowledge(acks...)
}

// startedBy notes that a task was started, if an update says so, and keeps that: another master that does not know the task is in doubt then. mu is held.
func (e *Executor) startedBy(a *attempt, st *mesos.TaskStatus) {
	switch st.State {
	case mesos.TaskStarting, mesos.TaskRunning, mesos.TaskKilling, mesos.TaskFinished:
	default:
		a.Started = a.Started || len(st.UUID) > 0
		return
	}
	a.Started = true
	if st.State == mesos.TaskRunning && a.StartedAt.IsZero() {
		if a.StartedAt = at(st); a.StartedAt.IsZero() {
			a.StartedAt = time.Now().UTC()
		}
		e.push(outgoing{attempts: []*attempt{a}})
	}
}

// relaunch lets an attempt wait again that was never sent, or, if a restart has made us forget what it is, gives it up. mu is held.
func (e *Executor) relaunch(a *attempt) {
	if a.launch != nil && a.phase == phaseSent {
		a.phase = phaseSending
		e.putBack(a)
		return
	}
	if a.launch == nil {
		e.end(a, &scheduler.Report{Attempt: a.Attempt, Outcome: scheduler.OutcomeLost, Exit: noExit, EndedAt: time.Now().UTC(), Reason: "it was never sent to an agent"})
	}
}

// judged takes a verdict that is news for the engine; mu is held.
func (e *Executor) judged(a *attempt, rep *scheduler.Report, acks []*mesos.TaskStatus) {
	if rep.Outcome.Ends() {
		a.acks = append(a.acks, acks...)
		e.end(a, rep)
		return
	}
	d := delivery{a: a, report: *rep, acks: acks}
	a.unreachable = rep.Outcome == scheduler.OutcomeUnreachable
	if !a.unreachable {
		a.launch = nil
		if d.report.StartedAt.IsZero() {
			d.report.StartedAt = a.StartedAt
		}
		e.follow(a)
	}
	a.last = &d.report
	e.report(d)
}

// follow begins to collect the log of an attempt that runs; mu is held.
func (e *Executor) follow(a *attempt) {
	if a.followed {
		return
	}
	a.followed = true
	e.spawn(func(context.Context) {
		e.mu.Lock()
		e.unseal(a)
		t, skip := e.sandboxOf(a), a.blind != ""
		e.mu.Unlock()
		if !skip {
			e.keeper.Follow(t)
		}
	})
}

// end fetches what an attempt leaves behind and reports that it has ended; mu is held.
func (e *Executor) end(a *attempt, rep *scheduler.Report) {
	if a.phase == phaseEnding || a.phase == phaseEnded {
		return
	}
	a.phase, a.launch = phaseEnding, nil
	final := *rep
	if final.StartedAt.IsZero() {
		final.StartedAt = a.StartedAt
	}
	if a.Overdue != "" && final.Outcome == scheduler.OutcomeTimeout {
		final.Reason = a.Overdue
	}
	if a.Full && final.Outcome == scheduler.OutcomeExited {
		final.Reason = scheduler.ReasonLog
	}
	e.spawn(func(ctx context.Context) {
		select {
		case e.finish <- struct{}{}:
			defer func() { <-e.finish }()
		case <-ctx.Done():
			return
		}
		if !e.collect(ctx, a, &final) {
			return // The update was not acknowledged: it comes again.
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		a.last = &final
		e.report(delivery{a: a, report: final})
	})
}

// collect adds what the sandbox has to a report, and reports false if ctx ended before it could.
func (e *Executor) collect(ctx context.Context, a *attempt, rep *scheduler.Report) bool {
	e.mu.Lock()
	e.unseal(a)
	t, blind, started, hidden := e.sandboxOf(a), a.blind, a.Started, a.mask
	e.mu.Unlock()
	never := !started && (rep.Outcome == scheduler.OutcomeLost || rep.Outcome == scheduler.OutcomeRefused)
	if never || t.Agent == "" {
		return true // There is no sandbox, or nothing in it that is of the task.
	}
	if blind != "" {
		rep.OutputError = blind
		return true
	}
	gone := rep.Outcome == scheduler.OutcomeLost // Its agent, most likely: what is there is taken, and not waited for.
	res, err := e.sweep(ctx, t, gone)
	if err != nil {
		return false
	}
	rep.Log = res.Log
	if !gone {
		rep.Output, rep.OutputRef, rep.OutputError = res.Output, res.OutputRef, res.OutputError
	}
	if res.Refused != "" && rep.Outcome == scheduler.OutcomeExited {
		rep.Outcome, rep.Exit, rep.Signal, rep.Reason = scheduler.OutcomeRefused, noExit, "", res.Refused
	}
	if hidden != nil {
		rep.Reason, rep.External = hidden.String(rep.Reason), hidden.String(rep.External)
	}
	return true
}

// sweep reads a sandbox to its end, for as long as its agent may be away.
func (e *Executor) sweep(ctx context.Context, t sandbox.Task, gone bool) (sandbox.Result, error) {
	begun := time.Now()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		res, err := e.keeper.Finish(ctx, t)
		if err == nil || ctx.Err() != nil {
			return res, err
		}
		if gone || time.Since(begun) > e.opt.Away {
			res, giveUpErr := e.keeper.GiveUp(ctx, t, err.Error())
			if giveUpErr == nil || !errors.Is(giveUpErr, scheduler.ErrUnavailable) && ctx.Err() == nil {
				res.Missing = cmp.Or(res.Missing, err.Error())
				return res, nil
			}
			err = giveUpErr
		}
		e.log.Warn("the sandbox of a task that has ended can not be read", "attempt", t.Attempt, "agent", t.Agent, "err", err)
		wait(ctx, pause)
	}
}

// avoidAgent has the next attempt of the task made elsewhere, if it can be; mu is held.
func (e *Executor) avoidAgent(a *attempt) {
	if e.avoid[a.Group] == nil {
		e.avoid[a.Group] = map[string]time.Time{}
	}
	e.avoid[a.Group][a.Agent] = time.Now().Add(avoidFor)
}

// report queues news for the engine; mu is held.
func (e *Executor) report(d delivery) {
	if d.report.Node == "" {
		d.report.Node = d.a.Machine.Hostname
	}
	e.reports = append(e.reports, d)
	wake(e.news)
}

// maxReports bounds a batch of reports.
const maxReports = 256

// runReports gives reports to the engine, and what depends on that to the others, until ctx ends.
func (e *Executor) runReports(ctx context.Context, report func(context.Context, []scheduler.Report) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.news:
		}
		for {
			e.mu.Lock()
			batch := e.reports[:min(len(e.reports), maxReports)]
			e.reports = e.reports[len(batch):]
			e.mu.Unlock()
			if len(batch) == 0 {
				break
			}
			if !e.deliver(ctx, batch, report) {
				return
			}
		}
	}
}

// deliver gives a batch until it is taken, and reports whether it was.
func (e *Executor) deliver(ctx context.Context, batch []delivery, report func(context.Context, []scheduler.Report) error) bool {
	list := make([]scheduler.Report, len(batch))
	for i := range batch {
		list[i] = batch[i].report
	}
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := report(ctx, list)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return false
		}
		e.log.Warn("reports were not taken", "reports", len(list), "err", err)
		wait(ctx, pause)
	}
	e.taken(ctx, batch)
	return true
}

// taken follows up on reports that the engine has committed: only now may Mesos forget what they are about.
func (e *Executor) taken(ctx context.Context, batch []delivery) {
	var over []*attempt
	e.mu.Lock()
	for i := range batch {
		d := &batch[i]
		e.metrics.reports.WithLabelValues(string(d.report.Outcome)).Inc()
		if d.report.Outcome.Ends() && d.a.phase != phaseEnded {
			d.a.phase, d.a.Over = phaseEnded, time.Now().UTC()
			delete(e.live, d.a)
			over = append(over, d.a)
		}
	}
	rows := e.rows(over)
	e.mu.Unlock()
	if err := e.records.PutRecords(ctx, rows); err != nil && ctx.Err() == nil {
		e.log.Warn("the ends of attempts can not be recorded, and they are asked after at the next start", "attempts", len(rows), "err", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range batch {
		e.acknowledge(batch[i].acks...)
	}
	for _, a := range over {
		e.acknowledge(a.acks...)
		a.acks, a.last = nil, nil
	}
	if len(over) > 0 {
		wake(e.placing)
	}
}
