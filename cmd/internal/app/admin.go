package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/verify"
	"millrace/configs"
	"millrace/ingest"
	"millrace/ingest/wal"
	"millrace/scheduler/api"
	"millrace/scheduler/sqlstore"
	"millrace/trigger"
	"millrace/trigger/dispatch"
)

// Backup writes the scheduler's state to a new file, beside a running server or without one.
func Backup(ctx context.Context, cfg *configs.Loaded, dest string) error {
	return sqlstore.Backup(ctx, cfg.Data("state.db"), dest)
}

// Restore puts a backup in the place of the scheduler's state, on hold; see [sqlstore.Restore]. The server must have ended.
func Restore(ctx context.Context, cfg *configs.Loaded, backup string) (old string, err error) {
	return sqlstore.Restore(ctx, cfg.Data("state.db"), backup, time.Now())
}

// hold keeps dispatch from working on a ledger that was restored, until a person has said from when on.
type hold struct {
	s *scheduling
	// held says that the ledger was on hold when the process started.
	held bool
	// mu makes requests to resume come one after the other.
	mu sync.Mutex
	// at is when the ledger was put on hold.
	at      time.Time
	resumed chan struct{} // closed when dispatch may begin
}

// newHold reads the ledger's mark.
func newHold(ctx context.Context, s *scheduling) (*hold, error) {
	m, err := s.store.Remember(ctx)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	h := &hold{s: s, resumed: make(chan struct{})}
	at, held := m.HeldAt()
	if h.held = held; held {
		h.at = at
	} else {
		close(h.resumed)
	}
	return h, nil
}

// since is when the ledger was put on hold, or zero if it is not.
func (h *hold) since() time.Time {
	select {
	case <-h.resumed:
		return time.Time{}
	default:
		return h.at
	}
}

// resume passes over what was cut before a time, and lets dispatch begin. The mark goes last: after a crash before it the ledger is still on hold.
func (h *hold) resume(ctx context.Context, since time.Time) (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since().IsZero() {
		return nil, api.ErrNotHeld
	}
	select { // a server that has just started: without its rules nothing can be recorded
	case <-h.s.engine.Ready():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	skipped, err := h.s.dispatch.Skip(ctx, since)
	if err != nil {
		return nil, err
	}
	rules, _ := h.s.engine.Rules()
	if err := h.s.engine.Start(ctx, trigger.Intake{Gen: rules.Gen, Cursors: []trigger.Cursor{trigger.Resume(h.at)}}); err != nil {
		return nil, fmt.Errorf("end the hold: %w", err)
	}
	close(h.resumed)
	return struct {
		Since time.Time `json:"since"`
		dispatch.Skipped
	}{since.UTC(), skipped}, nil
}

// Moved says what [MoveChain] did.
type Moved struct {
	From string `json:"from"`
	To   string `json:"to"`
	chain.Copied
	// Rows are those that were counted in the new place.
	Rows int64 `json:"rows"`
}

// MoveChain copies all objects of one configuration to the place that another one names, compares what verify says of both, and only then notes
// in the log that its chain is there. The server must have ended; broken off, it can be repeated. Nothing is removed from the old place.
func MoveChain(ctx context.Context, from, to *configs.Loaded, progress func(bytes int64)) (Moved, error) {
	var m Moved
	old, closeOld, err := openObjects(ctx, from, false)
	if err != nil {
		return m, err
	}
	defer func() { _ = closeOld() }() // nothing was put
	if _, err := ProbeObjects(ctx, to); err != nil {
		return m, fmt.Errorf("the new place: %w", err)
	}
	next, closeNext, err := openObjects(ctx, to, false)
	if err != nil {
		return m, fmt.Errorf("the new place: %w", err)
	}
	defer func() { _ = closeNext() }() // each put was durable
	if m.From, m.To = old.Home(), next.Home(); m.From == m.To {
		return m, fmt.Errorf("%w: both configurations have their objects in %s", configs.ErrInvalid, m.To)
	}
	dir := from.Data("log")
	err = wal.MoveHome(ctx, nil, dir, m.From, m.To, func(ctx context.Context, hints map[ingest.Stream]ingest.ChainHint) error {
		if m.Copied, err = chain.Copy(ctx, old, next, progress); err != nil {
			return err
		}
		m.Rows, err = compareStores(ctx, dir, old, next, hints)
		return err
	})
	return m, err
}

// compareStores reports what the new store lacks. Losses that were accepted, and batches that are void, are the same in both.
func compareStores(ctx context.Context, dir string, old, next batcher.ObjectStore, hints map[ingest.Stream]ingest.ChainHint) (rows int64, err error) {
	for s, hint := range hints {
		if _, err := chain.New(next, chain.Options{}).Tail(ctx, s, hint.Seq); err != nil {
			return 0, fmt.Errorf("in the new place: %w", err)
		}
	}
	var reports [2]*verify.Report
	for i, store := range []batcher.ObjectStore{old, next} {
		log, err := wal.OpenReader(nil, dir)
		if err != nil {
			return 0, err
		}
		reports[i], err = verifyAll(ctx, store, log)
		if err := errors.Join(err, log.Close()); err != nil {
			return 0, fmt.Errorf("verify %s: %w", store.Home(), err)
		}
	}
	was, is := reports[0], reports[1]
	if was.Batches != is.Batches || was.Rows != is.Rows || !maps.Equal(was.Totals, is.Totals) {
		return 0, fmt.Errorf("the copy is not the same: %d batches with %d rows there, %d with %d here; faults %v there, %v here",
			was.Batches, was.Rows, is.Batches, is.Rows, was.Totals, is.Totals)
	}
	return is.Rows, nil
}
