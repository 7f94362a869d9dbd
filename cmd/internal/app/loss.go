package app

import (
	"context"
	"errors"
	"fmt"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/seal"
	"millrace/configs"
	"millrace/ingest"
	"millrace/ingest/wal"
	"millrace/scheduler/api"
)

// Behind compares the log with its chains. It returns the ranges of records that a chain has claimed, whose object does not exist, and that lie
// beyond the end of a closed incarnation of this log: it is an older copy, or its disk acknowledged what it did not store. They have no segment.
// The batcher waits for the true log, or for [AcceptBehind].
func Behind(ctx context.Context, cfg *configs.Loaded) ([]wal.Damage, error) {
	return behind(ctx, cfg, true, func(batcher.ObjectStore, ingest.Stream, *batcher.Cut) (bool, error) { return true, nil })
}

// AcceptBehind gives up, for good, those of [Behind]'s ranges that lie within offsets first to last, and returns them. Idempotent.
func AcceptBehind(ctx context.Context, cfg *configs.Loaded, first, last int64) ([]wal.Damage, error) {
	return behind(ctx, cfg, false, func(store batcher.ObjectStore, s ingest.Stream, c *batcher.Cut) (bool, error) {
		if c.First < first || c.Last > last {
			return false, nil
		}
		return true, seal.AcceptLoss(ctx, store, s, batcher.Range{First: c.First, Last: c.Last}, "millrace log accept-loss")
	})
}

// wayOut says what to do about a batcher that is stuck.
func wayOut(loss *batcher.Range) string {
	if loss == nil {
		return "'millrace log check' names what the log can not read, 'millrace verify' what is damaged in the objects; restore it from a copy"
	}
	return fmt.Sprintf("find the log, or the copy of it, that has offsets %d to %d ('millrace log check' names what this one lacks); "+
		"if there is none, stop the server and give them up for good: millrace log accept-loss --first %d --last %d --yes",
		loss.First, loss.Last, loss.First, loss.Last)
}

// stuck returns the partitions that wait for a person.
func (a *app) stuck() (list []api.Stuck) {
	for _, s := range a.worker.Status() {
		if s.Stuck != "" {
			list = append(list, api.Stuck{Partition: s.Partition, Stream: s.Stream, Why: s.Stuck, Next: s.Next})
		}
	}
	return list
}

// behind returns the claims that keep says, oldest first.
func behind(ctx context.Context, cfg *configs.Loaded, readOnly bool,
	keep func(batcher.ObjectStore, ingest.Stream, *batcher.Cut) (bool, error),
) (found []wal.Damage, err error) {
	log, err := wal.OpenReader(nil, cfg.Data("log"))
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	store, closeStore, err := openObjects(ctx, cfg, readOnly)
	if errors.Is(err, batcher.ErrNotFound) {
		return nil, nil // no objects yet: no chain
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeStore()) }()
	for _, inc := range log.Incarnations() {
		if inc.Live() {
			continue // it may be written now; the next start closes it
		}
		err := claims(ctx, store, inc, func(seq int64, c *batcher.Cut) error {
			kept, err := keep(store, inc.Stream, c)
			if kept {
				found = append(found, wal.Damage{
					First: c.First, Next: c.Last + 1, Incarnation: inc.Stream.Incarnation,
					Reason: fmt.Sprintf("claimed by entry %d of the chain, and this log ends at %d", seq, inc.Next),
				})
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("compare the log with chain %s: %w", inc.Stream, err)
		}
	}
	return found, nil
}

// claims calls f for each cut that reaches beyond the end of its incarnation and has no object.
func claims(ctx context.Context, store batcher.ObjectStore, inc ingest.Incarnation, f func(seq int64, c *batcher.Cut) error) error {
	chains := chain.New(store, chain.Options{})
	tail, err := chains.Tail(ctx, inc.Stream, 0)
	if errors.Is(err, batcher.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	entries, err := chains.Range(ctx, inc.Stream, tail.Done+1, tail.Seq)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for i := range e.Cuts {
			c := &e.Cuts[i]
			if c.Count == 0 || c.Last < inc.Next {
				continue
			}
			switch _, err := store.Stat(ctx, c.Object); {
			case errors.Is(err, batcher.ErrNotFound):
				if err := f(e.Seq, c); err != nil {
					return err
				}
			case err != nil:
				return err
			}
		}
	}
	return nil
}
