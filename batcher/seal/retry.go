package seal

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"millrace/batcher"
	"millrace/ingest"
)

const (
	firstWait = 50 * time.Millisecond
	maxWait   = 5 * time.Second
)

// backoff waits longer with each call, with jitter of a half to all of the time.
type backoff struct {
	rng  *rand.Rand
	wait time.Duration
}

// sleep returns early, with the error of ctx, if that ends.
func (b *backoff) sleep(ctx context.Context) error {
	b.wait = min(max(2*b.wait, firstWait), maxWait)
	return sleep(ctx, b.wait/2+time.Duration(b.rng.Int64N(int64(b.wait/2))))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// again reports whether err says that trying again may help.
func again(err error) bool {
	return errors.Is(err, batcher.ErrUnavailable) || errors.Is(err, ingest.ErrUnavailable)
}

// retry calls f until it succeeds or fails for good. Only ErrUnavailable is tried again; an outage of the store thus stops the caller, and with
// it the reading of the log, so that nothing piles up. A damaged object is waited for as well, because events are accepted meanwhile; that needs
// a person, and is said.
func (p *partition) retry(ctx context.Context, rng *rand.Rand, what string, f func() error) error {
	b := backoff{rng: rng}
	said := false
	for {
		err := f()
		switch damaged := errors.Is(err, batcher.ErrDamaged); {
		case damaged:
			p.blocked(err.Error())
			said = true
		case said:
			p.blocked("")
			said = false
		}
		if err == nil || !again(err) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.w.metrics.retried(what)
		p.w.opts.Log.Warn("batcher tries again", "partition", p.id, "op", what, "err", err)
		if err := b.sleep(ctx); err != nil {
			return err
		}
	}
}
