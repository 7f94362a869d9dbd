package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"millrace/scheduler"
)

const (
	// batchSize is how many notices are read at once.
	batchSize = 16
	// lookEvery is the longest time between two looks into the outbox.
	lookEvery = 30 * time.Second
	// After openAfter failures in a row the circuit is open: one notice is tried at a time, with waits from openFirst to openMost between.
	openAfter = 5
	openFirst = 5 * time.Second
	openMost  = 5 * time.Minute
	// A notice that failed waits from retryFirst to retryMost for its next try.
	retryFirst = 2 * time.Second
	retryMost  = 10 * time.Minute
)

// sender sends the notices of one notifier, one after the other.
type sender struct {
	s    *Service
	n    Notifier
	wake chan struct{} // has one place; never closed

	mu           sync.Mutex // guards the rest
	failures     int        // in a row
	openUntil    time.Time
	sent, failed int64
	lastSent     time.Time
	lastError    string
}

// poke says that there may be something to do.
func (o *sender) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// close lets the next try be made at once.
func (o *sender) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.openUntil = time.Time{}
}

// circuit returns whether the circuit is open, and until when nothing is tried.
func (o *sender) circuit() (open bool, until time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failures >= openAfter, o.openUntil
}

func (o *sender) status(st *scheduler.NotifierStatus) {
	open, until := o.circuit()
	o.mu.Lock()
	defer o.mu.Unlock()
	st.Kind, st.Missing, st.Circuit = o.n.Kind, false, "closed"
	if open {
		st.Circuit, st.RetryAt = "open", until
	}
	st.Sent, st.Failed, st.LastSent, st.LastError = o.sent, o.failed, o.lastSent, o.lastError
}

// run works until ctx ends.
func (o *sender) run(ctx context.Context) {
	for {
		wait := o.work(ctx)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-o.wake:
			t.Stop()
		case <-t.C:
		}
	}
}

// work sends what is due, and returns how long there is nothing to do.
func (o *sender) work(ctx context.Context) time.Duration {
	for ctx.Err() == nil {
		now := time.Now().UTC()
		open, until := o.circuit()
		if open && until.After(now) {
			return min(until.Sub(now), lookEvery)
		}
		list, err := o.s.outbox.DueNotices(ctx, o.n.Name, now, batchSize)
		if err != nil {
			if ctx.Err() == nil {
				o.s.log.Warn("outbox not read", "notifier", o.n.Name, "err", err)
			}
			return openFirst
		}
		if len(list) == 0 {
			return o.idle(ctx, now)
		}
		if open { // the one that was tried least often: one that can never be sent must not be the only one that is tried
			slices.SortStableFunc(list, func(a, b scheduler.Notice) int { return cmp.Compare(a.Tries, b.Tries) })
		}
		for i := range list {
			if open, _ := o.circuit(); open && i > 0 || ctx.Err() != nil {
				break
			}
			o.try(ctx, &list[i])
		}
	}
	return 0
}

// idle returns how long it is until the next notice is due.
func (o *sender) idle(ctx context.Context, now time.Time) time.Duration {
	counts, err := o.s.outbox.CountNotices(ctx)
	if err != nil {
		return openFirst
	}
	for _, c := range counts {
		if c.Notifier == o.n.Name && c.Pending > 0 {
			return max(min(c.Next.Sub(now), lookEvery), 10*time.Millisecond)
		}
	}
	return lookEvery
}

// try sends one notice, and writes down what became of it.
func (o *sender) try(ctx context.Context, n *scheduler.Notice) {
	now := time.Now().UTC()
	expired := now.Sub(n.Since) >= o.s.opts.GiveUp
	if open, _ := o.circuit(); expired && (n.Tries > 0 || open) {
		o.giveUp(ctx, n, now)
		return
	}
	var body scheduler.NoticeBody
	err := json.Unmarshal(n.Body, &body)
	if err == nil {
		body.ID = n.ID
		o.s.links(&body)
		err = o.s.deliver(ctx, &o.n, n.ID, &body)
	}
	if err != nil && ctx.Err() != nil {
		return // the process ends, or the notifier is another now: it is tried again
	}
	o.s.metrics.observe(o.n.Name, time.Since(now), err)
	done := time.Now().UTC()
	n.Tries++
	if err == nil {
		o.succeeded(done)
		n.State, n.NextAt, n.Error, n.EndedAt = scheduler.NoticeSent, time.Time{}, "", done
		o.settle(ctx, n)
		return
	}
	o.s.log.Warn("notice not sent", "notice", n.ID, "notifier", o.n.Name, "run", n.Run, "try", n.Tries, "err", err)
	n.Error = err.Error()
	o.hadError(err, done)
	if expired {
		o.giveUp(ctx, n, done)
		return
	}
	n.NextAt = done.Add(retryWait(n.Tries, err))
	o.settle(ctx, n)
}

func (o *sender) giveUp(ctx context.Context, n *scheduler.Notice, now time.Time) {
	o.mu.Lock()
	last := cmp.Or(n.Error, o.lastError)
	o.mu.Unlock()
	n.Error = fmt.Sprintf("given up after %v and %d tries: %s", o.s.opts.GiveUp, n.Tries, last)
	o.s.bury(ctx, n, now)
}

// settle writes down what became of a try. If that fails the try is made again, with the same id.
func (o *sender) settle(ctx context.Context, n *scheduler.Notice) {
	if err := o.s.outbox.SettleNotice(ctx, n); err != nil && ctx.Err() == nil {
		o.s.log.Warn("outbox not written, the notice is sent again", "notice", n.ID, "notifier", o.n.Name, "err", err)
	}
}

func (o *sender) succeeded(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures, o.openUntil, o.lastSent, o.lastError = 0, time.Time{}, now, ""
	o.sent++
	o.s.metrics.open.WithLabelValues(o.n.Name).Set(0)
}

func (o *sender) hadError(err error, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed++
	o.failures++
	o.lastError = err.Error()
	if o.failures < openAfter {
		return
	}
	wait := min(openFirst<<min(o.failures-openAfter, 10), openMost)
	o.openUntil = now.Add(jitter(max(wait, asked(err))))
	o.s.metrics.open.WithLabelValues(o.n.Name).Set(1)
	if o.failures == openAfter {
		o.s.log.Error("notifier does not work, its circuit is open", "notifier", o.n.Name, "err", err)
	}
}

// retryWait is how long a notice waits after so many tries.
func retryWait(tries int, err error) time.Duration {
	return jitter(max(min(retryFirst<<min(tries-1, 12), retryMost), asked(err)))
}

// asked is how long the receiver wants us to stay away.
func asked(err error) time.Duration {
	var a *again
	if errors.As(err, &a) {
		return a.after
	}
	return 0
}

// jitter adds up to a fifth.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/5+1) }
