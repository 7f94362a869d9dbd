//go:build linux

package dockerexec

import (
	"context"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"millrace/scheduler"
	"millrace/scheduler/localexec/runner"
	"millrace/scheduler/mask"
)

const (
	// killPoll is how soon a container is looked at again that was killed: it has ended by then.
	killPoll = time.Second
	// beatPoll is how often a heartbeat is looked at.
	beatPoll = 2 * time.Second
)

// tendRunning does what is due for a container that runs, and returns when to look again.
func (e *Executor) tendRunning(ctx context.Context, a *attempt, c *container.InspectResponse, tail *tail) time.Duration {
	e.noteRunning(a, c)
	tail.start(ctx, c)
	started := timeOf(c.State.StartedAt)
	e.mu.Lock()
	rec := a.rec
	e.mu.Unlock()
	now, next := time.Now(), e.opt.Poll
	why := stopReason("")
	switch {
	case rec.Stop != nil:
	case rec.Timeout > 0 && now.Sub(started) >= rec.Timeout:
		why = stopTimeout
	case rec.Heartbeat > 0 && tail.silent(ctx, rec.Heartbeat):
		why = stopHeartbeat
	case tail.full():
		why, rec.Grace = stopLog, 0 // the disk is everybody's
	}
	if why != "" && e.stop(a, why, rec.Grace) && e.save(ctx, a) != nil {
		return next
	}
	e.mu.Lock()
	rec.Stop = a.rec.Stop
	e.mu.Unlock()
	if rec.Stop != nil {
		return e.pursue(ctx, a, rec.Stop)
	}
	if tail.failed {
		next = min(next, time.Second)
	}
	if rec.Heartbeat > 0 {
		next = min(next, beatPoll)
	}
	if rec.Timeout > 0 {
		next = min(next, rec.Timeout-now.Sub(started))
	}
	return max(next, 0)
}

// pursue ends a container: SIGTERM, and SIGKILL when that is due.
func (e *Executor) pursue(ctx context.Context, a *attempt, s *stop) time.Duration {
	left := time.Until(s.HardAt)
	if left <= 0 {
		e.signal(ctx, a, "SIGKILL")
		return killPoll
	}
	if !a.termSent {
		a.termSent = e.signal(ctx, a, "SIGTERM")
	}
	if !a.termSent {
		return min(left, killPoll)
	}
	return left
}

// signal reports whether the container has got a signal, or needs none any more.
func (e *Executor) signal(ctx context.Context, a *attempt, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, err := e.api.ContainerKill(ctx, nameOf(e.id, a.id), client.ContainerKillOptions{Signal: name})
	if err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
		e.opt.Logger.Warn("container got no signal", "attempt", a.id, "signal", name, "err", err)
		return false
	}
	return true
}

// noteRunning reports that the container runs, once, and finds the secrets again that a process before knew.
func (e *Executor) noteRunning(a *attempt, c *container.InspectResponse) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a.running != nil {
		return
	}
	a.launch = nil // The input may be large.
	e.findSecrets(a, c)
	a.running = &scheduler.Report{
		Attempt: a.id, Outcome: scheduler.OutcomeRunning, Exit: -1, StartedAt: timeOf(c.State.StartedAt), Node: e.opt.Host,
		External: "container:" + c.ID[:min(len(c.ID), 12)], Log: e.logPath(a.id),
	}
	e.tellLocked(*a.running)
}

// findSecrets reads the secrets of an attempt from the environment of its container. Without all of them nothing of it is kept; see [attempt.blind].
func (e *Executor) findSecrets(a *attempt, c *container.InspectResponse) {
	if a.masker != nil || !a.hides() || a.rec.Unplaced {
		return
	}
	var env []byte
	for _, kv := range c.Config.Env {
		env = append(append(env, kv...), 0)
	}
	if secrets, ok := runner.SecretsIn(a.rec.Secrets, env); ok {
		a.masker = mask.New(secrets)
	}
}

// blind reports whether the attempt has secrets that are not known any more: what it writes is not kept.
func (a *attempt) blind() bool { return a.hides() && a.masker == nil }

// timeOf reads a time of the engine's; zero for one that has not come.
func timeOf(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC()
}
