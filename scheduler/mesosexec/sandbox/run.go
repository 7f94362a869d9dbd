package sandbox

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	"millrace/scheduler"
)

const (
	// readerFor is how long somebody who has read a log counts as one who goes on.
	readerFor = 10 * time.Second
	tidyEvery = time.Minute
)

// Run collects until ctx ends, and then returns nil. Call it once at a time.
func (k *Keeper) Run(ctx context.Context) error {
	defer k.agents.http.CloseIdleConnections()
	var looks sync.WaitGroup
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	k.tidy(time.Now())
	next := time.NewTimer(0)
	defer next.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-k.wake:
		case <-next.C:
		case now := <-tidy.C:
			k.tidy(now)
		}
		next.Reset(k.start(ctx, &looks))
	}
	looks.Wait() // They end with ctx.
	k.saveAll()
	return nil
}

// start looks at all that are due, as many as may be looked at at once, and returns when the next is due.
func (k *Keeper) start(ctx context.Context, looks *sync.WaitGroup) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for len(k.queue) > 0 && k.looking < k.opt.Parallel && ctx.Err() == nil {
		f := k.queue[0]
		if wait := f.due.Sub(now); wait > 0 {
			return wait
		}
		base := f.agent
		l := k.lines[base]
		if l == nil {
			l = &line{}
			k.lines[base] = l
		}
		places, until := k.agents.places(base)
		if until.After(now) {
			f.due = until
			heap.Fix(&k.queue, 0)
			continue
		}
		heap.Pop(&k.queue)
		if l.looking >= places {
			l.waiting = append(l.waiting, f)
			continue
		}
		k.metrics.late.Set(now.Sub(f.due).Seconds())
		k.looking++
		l.looking++
		looks.Go(func() { // ends with ctx, or with the request's time-out
			k.look(ctx, f)
			k.nudge()
		})
	}
	return tidyEvery // Somebody wakes us.
}

// left gives the place of a look at an agent to the next; mu is held.
func (k *Keeper) left(base string) {
	k.looking--
	l := k.lines[base]
	l.looking--
	for len(l.waiting) > 0 {
		f := l.waiting[0]
		l.waiting = l.waiting[1:]
		if !f.over {
			heap.Push(&k.queue, f)
			return
		}
	}
	if l.looking == 0 {
		delete(k.lines, base)
	}
}

// look looks at an attempt once, and puts it back into the queue.
func (k *Keeper) look(ctx context.Context, f *follow) {
	c := &f.collector
	var grown, more, over bool
	select {
	case f.held <- struct{}{}:
		var err error
		if grown, more, over, err = c.once(ctx); err != nil && ctx.Err() == nil {
			k.opt.Logger.Debug("sandbox not read", "attempt", c.task.Attempt, "err", err)
		}
		f.release()
	case <-ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.left(f.agent)
	now := time.Now()
	f.looked = now
	if over && !f.over { // Finish was not called, or before this process was there.
		f.over = true
		delete(k.follows, c.task.Attempt)
		k.metrics.following.Set(float64(len(k.follows)))
	}
	if f.over {
		return
	}
	most := k.opt.MaxPause
	if now.Before(f.reader) {
		most = min(most, k.opt.ReadPause)
	}
	if beat := c.task.Heartbeat / 4; beat > 0 {
		most = min(most, beat)
	}
	switch {
	case more:
		f.pause = 0
	case grown:
		f.pause = k.opt.MinPause
	default:
		f.pause = max(k.opt.MinPause, min(2*f.pause, most))
	}
	f.due = now.Add(f.pause)
	k.push(f)
}

// once looks once. over says that there is nothing more to look at.
func (c *collector) once(ctx context.Context) (grown, more, over bool, err error) {
	if err := c.open(); err != nil {
		return false, false, errors.Is(err, scheduler.ErrInvalid), err
	}
	grown, more, err = c.look(ctx)
	return grown, more, c.spool != nil && (c.spool.Ended || c.spool.Full && c.task.Heartbeat == 0), err
}

// saveAll saves what is known of all spools, so that the next process goes on exactly there.
func (k *Keeper) saveAll() {
	k.mu.Lock()
	var all []*follow
	for _, f := range k.follows {
		all = append(all, f)
	}
	k.mu.Unlock()
	for _, f := range all {
		select {
		case f.held <- struct{}{}:
			if err := f.collector.save(true); err != nil {
				k.opt.Logger.Warn("state of a spool is not saved", "attempt", f.collector.task.Attempt, "err", err)
			}
			f.release()
		default: // Finish saves it.
		}
	}
}
