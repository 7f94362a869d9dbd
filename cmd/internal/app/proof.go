package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"millrace/batcher"
)

// probe proves that the object store is safe to put to. A store that is away is no reason not to start, if this log has a chain there: it was
// proven when that began, senders must not hear of an outage, and the log has room. Then the proof is put off until [app.awaitProof]; nothing is put before.
// Without a chain it is more likely that the configuration is wrong, and the start says so.
func (a *app) probe(ctx context.Context, store batcher.ObjectStore) error {
	p, ok := store.(batcher.Prober)
	if !ok {
		return nil
	}
	err := p.Probe(ctx)
	if errors.Is(err, batcher.ErrUnavailable) && a.hasChainIn(ctx, store.Home()) {
		a.log.Warn("objects are away, events are accepted and wait in the log", "home", store.Home(), "err", err)
		a.unproven = p
		return nil
	}
	if err != nil {
		return fmt.Errorf("probe objects at %s: %w", store.Home(), err)
	}
	return nil
}

// hasChainIn reports whether the log remembers a chain of its own at home.
func (a *app) hasChainIn(ctx context.Context, home string) bool {
	if a.wal == nil {
		return false
	}
	for _, inc := range a.wal.Incarnations() {
		if hint, err := a.wal.Hint(ctx, inc.Stream); err == nil && hint.Home == home {
			return true
		}
	}
	return false
}

// awaitProof makes up for a probe that was put off. It returns when the store has passed it, or with why it never will.
func (a *app) awaitProof(ctx context.Context) error {
	if a.unproven == nil {
		return nil
	}
	b := backoff.NewExponentialBackOff()
	b.MaxInterval = 5 * time.Second
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := a.unproven.Probe(ctx)
		if err != nil && !errors.Is(err, batcher.ErrUnavailable) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(0))
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("probe objects: %w", err)
	}
	return ctx.Err()
}
