//go:build linux

package dockerexec

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"millrace/scheduler"
)

// overTime is how long records of attempts are kept after their ends were taken: a launch that is later than that is not on its way any more.
const overTime = 24 * time.Hour

// Run implements scheduler.Executor. Each attempt has a goroutine, from its claim to the removal of its container. Containers run on when ctx ends.
func (e *Executor) Run(ctx context.Context, report func(context.Context, []scheduler.Report) error) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	e.mu.Lock()
	e.tend = func(a *attempt) { wg.Go(func() { e.lead(ctx, a) }) } // ends with the attempt, or soon after ctx
	for _, a := range e.attempts {
		if a.claimed && a.over.IsZero() {
			e.tend(a)
		}
	}
	e.mu.Unlock()
	defer func() { // before wg.Wait: nothing is begun any more
		e.mu.Lock()
		defer e.mu.Unlock()
		e.tend = nil
	}()
	for _, loop := range []func(context.Context){e.follow, e.poll, e.sweep} {
		wg.Go(func() { loop(ctx) })
	}
	e.deliver(ctx, report)
	return nil
}

// tell queues a report.
func (e *Executor) tell(r scheduler.Report) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tellLocked(r)
}

func (e *Executor) tellLocked(r scheduler.Report) {
	e.out = append(e.out, r)
	close(e.told)
	e.told = make(chan struct{})
}

// deliver hands reports on until ctx ends. What was not taken is offered again, with what came since.
func (e *Executor) deliver(ctx context.Context, report func(context.Context, []scheduler.Report) error) {
	for failures := 0; ctx.Err() == nil; {
		e.mu.Lock()
		batch, told := slices.Clone(e.out), e.told
		e.mu.Unlock()
		if len(batch) == 0 {
			select {
			case <-told:
			case <-ctx.Done():
			}
			continue
		}
		if err := report(ctx, batch); err != nil {
			if failures == 0 && ctx.Err() == nil {
				e.opt.Logger.Warn("reports were not taken", "reports", len(batch), "err", err)
			}
			pause(ctx, failures)
			failures++
			continue
		}
		failures = 0
		e.taken(batch)
	}
}

// taken notes what has been reported; it was the beginning of the queue.
func (e *Executor) taken(batch []scheduler.Report) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.out = slices.Delete(e.out, 0, len(batch))
	for i := range batch {
		e.metrics.reports.WithLabelValues(string(batch[i].Outcome)).Inc()
		a := e.attempts[batch[i].Attempt]
		if a == nil || batch[i].Outcome == scheduler.OutcomeRunning {
			continue
		}
		select {
		case <-a.taken:
		default:
			close(a.taken)
		}
	}
}

// ours selects what is labelled as ours.
func (e *Executor) ours() client.Filters {
	return client.Filters{}.Add("label", labelExecutor+"="+e.id)
}

// follow wakes attempts at news of their containers, until ctx ends. Each connection begins with a look at all: what happened meanwhile is not told.
func (e *Executor) follow(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		stream := e.api.Events(ctx, client.EventsListOptions{Filters: e.ours().Add("type", "container")})
		if e.adopt(ctx) == nil {
			n = 0
			e.nudgeAll()
		}
		e.events(ctx, stream, n == 0)
		pause(ctx, n)
	}
}

// events takes news until there are none any more. say has it log why.
func (e *Executor) events(ctx context.Context, stream client.EventsResult, say bool) {
	for {
		select {
		case m := <-stream.Messages:
			e.mu.Lock()
			a := e.attempts[m.Actor.Attributes[labelAttempt]]
			e.mu.Unlock()
			if a != nil {
				a.nudge()
			}
		case err := <-stream.Err:
			if ctx.Err() == nil && say {
				e.opt.Logger.Warn("events of the docker engine ended", "err", err)
			}
			return
		}
	}
}

func (e *Executor) nudgeAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.attempts {
		a.nudge()
	}
}

// poll looks at all containers again and again: news may be lost.
func (e *Executor) poll(ctx context.Context) {
	tick := time.NewTicker(e.opt.Poll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := e.adopt(ctx); err != nil {
			continue // who needs the engine says so
		}
	}
}

// adopt lists all containers of ours: it wakes the attempts whose container does not run, and takes on those that no record is of.
func (e *Executor) adopt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	list, err := e.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: e.ours()})
	if err != nil {
		return err
	}
	runs := map[string]bool{}
	var found []*attempt
	e.mu.Lock()
	for _, c := range list.Items {
		id := c.Labels[labelAttempt]
		runs[id] = c.State == container.StateRunning
		if e.attempts[id] != nil || id == "" {
			continue
		}
		a := newAttempt(id)
		if err := json.Unmarshal([]byte(c.Labels[labelRecord]), &a.rec); err != nil {
			e.opt.Logger.Warn("container can not be taken on", "attempt", id, "err", err)
			continue
		}
		e.attempts[id] = a
		found = append(found, a)
	}
	for id, a := range e.attempts {
		if !runs[id] && a.over.IsZero() {
			a.nudge()
		}
	}
	e.mu.Unlock()
	if len(found) == 0 {
		return nil
	}
	if err := e.put(ctx, found...); err != nil {
		e.forget(found)
		return err
	}
	e.begin(found...)
	return nil
}
