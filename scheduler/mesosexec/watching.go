package mesosexec

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

const (
	// watchTick is how often the watch looks at what is due.
	watchTick = 200 * time.Millisecond
	// maxAsk bounds the tasks of one RECONCILE.
	maxAsk = 1000
	// keepEnded is how long it is known that an attempt has ended: nobody launches it again after that.
	keepEnded  = time.Hour
	pruneEvery = 10 * time.Minute
)

// askAll makes all that a master may have be asked after, and what it has that we know nothing of; mu is held.
func (e *Executor) askAll() {
	for a := range e.live {
		if a.phase == phaseSent {
			a.ask = backoff{}
			a.ask.soon()
		}
	}
	e.rounded = time.Now()
	e.call(&mesos.Call{Type: mesos.CallReconcile, Reconcile: &mesos.Reconcile{Tasks: []mesos.ReconcileTask{}}})
}

// runWatch asks after tasks, repeats kills, and lets go what is old, until ctx ends.
func (e *Executor) runWatch(ctx context.Context) {
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	pruned := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.asking:
		case <-tick.C:
		}
		now := time.Now()
		e.mu.Lock()
		e.watch(now)
		e.mu.Unlock()
		if now.Sub(pruned) > pruneEvery {
			pruned = now
			e.prune(ctx, now)
		}
	}
}

// watch does what is due; mu is held.
func (e *Executor) watch(now time.Time) {
	if e.cluster.doubt != nil && now.After(e.cluster.doubtUntil) {
		e.settleLeader() // Silence is what a master says whose agents are on their way back to it.
	}
	if !e.client.Status().Subscribed {
		return
	}
	if now.Sub(e.rounded) > e.opt.Round {
		e.askAll()
	}
	var ask []mesos.ReconcileTask
	for a := range e.live {
		if a.phase != phaseSent {
			continue
		}
		switch {
		case !a.KillAt.IsZero():
			if now.After(a.killAgain) {
				e.sendKill(a, false)
			}
		case a.Reach > 0 && !a.StartedAt.IsZero() && now.Sub(a.StartedAt) > a.Reach:
			a.Overdue = scheduler.ReasonTimeout(a.Reach)
			e.kill(a, a.Grace)
		}
		if !a.ask.at.IsZero() && !now.Before(a.ask.at) && len(ask) < maxAsk {
			ask = append(ask, mesos.ReconcileTask{TaskID: mesos.ID{Value: a.Task}, AgentID: mesos.ID{Value: a.Agent}})
			a.ask.asked(now, e.opt.AskMin, e.opt.AskMax)
		}
	}
	if len(ask) > 0 {
		e.call(&mesos.Call{Type: mesos.CallReconcile, Reconcile: &mesos.Reconcile{Tasks: ask}})
	}
}

// prune forgets attempts that have ended long ago.
func (e *Executor) prune(ctx context.Context, now time.Time) {
	before := now.Add(-keepEnded)
	if _, err := e.records.PruneRecords(ctx, e.opt.Name, before); err != nil {
		if ctx.Err() == nil {
			e.log.Warn("old records can not be removed", "err", err)
		}
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, a := range e.attempts {
		if a.phase == phaseEnded && a.Over.Before(before) {
			delete(e.attempts, id)
			if e.tasks[a.Task] == a {
				delete(e.tasks, a.Task)
			}
		}
	}
	for group, agents := range e.avoid {
		for agent, until := range agents {
			if now.After(until) {
				delete(agents, agent)
			}
		}
		if len(agents) == 0 {
			delete(e.avoid, group)
		}
	}
}

// silent ends an attempt that does not beat.
func (e *Executor) silent(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.attempts[id]; a != nil && a.phase == phaseSent && a.KillAt.IsZero() {
		a.Overdue = scheduler.ReasonHeartbeat(a.Heartbeat)
		e.kill(a, a.Grace)
	}
}

// full ends an attempt that writes too much, at once: the disk is everybody's.
func (e *Executor) full(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.attempts[id]; a != nil && a.phase == phaseSent && a.KillAt.IsZero() {
		a.Full = true
		e.kill(a, 0)
	}
}

// stranger looks at an update of a task that we do not know: if it runs and has our label, it is killed. mu is held.
func (e *Executor) stranger(st *mesos.TaskStatus) {
	e.metrics.strangers.Inc()
	v := Judge(st, Known{Ours: true})
	if v.Do != DoKill {
		e.acknowledge(st)
		return
	}
	master := e.client.Status().Master
	e.spawn(func(ctx context.Context) {
		ours, err := e.labelled(ctx, st.TaskID.Value)
		switch {
		case err != nil:
			if ctx.Err() == nil {
				e.log.Warn("a task that is not known runs, and its labels can not be read", "task", st.TaskID.Value, "master", master, "err", err)
			}
			return // It is not acknowledged, so it comes again.
		case !ours:
			e.log.Warn("a task that is not known runs, and is left alone: it has not our label", "task", st.TaskID.Value, "agent", st.AgentID.Value)
			e.acknowledge(st)
			return
		}
		e.log.Warn("a task is killed that is not to be", "task", st.TaskID.Value, "agent", st.AgentID.Value, "why", v.Why)
		e.mu.Lock()
		e.call(&mesos.Call{Type: mesos.CallKill, Kill: &mesos.Kill{TaskID: st.TaskID, AgentID: st.AgentID}})
		e.mu.Unlock()
		e.acknowledge(st)
	})
}

// labelled asks the master whether a task of this framework has the label that we give.
func (e *Executor) labelled(ctx context.Context, task string) (bool, error) {
	type labels []struct {
		ID     mesos.ID      `json:"task_id"`
		Labels *mesos.Labels `json:"labels"`
	}
	var answer struct {
		GetTasks struct {
			Tasks   labels `json:"tasks"`
			Pending labels `json:"pending_tasks"`
			Orphan  labels `json:"orphan_tasks"`
		} `json:"get_tasks"`
	}
	if err := e.client.Operator(ctx, "GET_TASKS", &answer); err != nil {
		return false, err
	}
	for _, t := range slices.Concat(answer.GetTasks.Tasks, answer.GetTasks.Pending, answer.GetTasks.Orphan) {
		if t.ID.Value != task || t.Labels == nil {
			continue
		}
		for _, l := range t.Labels.Labels {
			if l.Key == labelAttempt {
				return true, nil
			}
		}
	}
	return false, nil
}

// operatorPath is where masters answer to operators.
const operatorPath = "/api/v1"

// maxOperator bounds the answer to an operator's call.
const maxOperator = 256 << 20

// Operator makes a call of the operator API without arguments, such as GET_AGENTS, at the master that has the stream, and reads the answer.
func (c *Client) Operator(ctx context.Context, typ string, into any) error {
	c.mu.Lock()
	s := c.stream
	c.mu.Unlock()
	if s == nil {
		return fmt.Errorf("call %s: %w", typ, ErrNotSubscribed)
	}
	at := *s.url
	at.Path = operatorPath
	body, err := json.Marshal(struct {
		Type string `json:"type"`
	}{typ})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.opt.CallTimeout)
	defer cancel()
	resp, err := c.post(ctx, &at, body, "")
	if err != nil {
		return fmt.Errorf("call %s: %w", typ, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("call %s: %w", typ, answer(resp))
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxOperator))
	if err != nil {
		return fmt.Errorf("call %s: %w: %w", typ, scheduler.ErrUnavailable, err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("call %s: %w: %w", typ, ErrNotMesos, err)
	}
	return nil
}
