package app

import (
	"context"
	"fmt"
	"sync"
	"time"

	"millrace/configs"
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
	// at is when the ledger was put on hold; zero: it is not. Guarded by mu after the start.
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

// resume passes over what was cut before a time, and lets dispatch begin. The mark goes last: after a crash before it the ledger is still on hold.
func (h *hold) resume(ctx context.Context, since time.Time) (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at.IsZero() {
		return nil, api.ErrNotHeld
	}
	skipped, err := h.s.dispatch.Skip(ctx, since)
	if err != nil {
		return nil, err
	}
	rules, _ := h.s.engine.Rules()
	if err := h.s.engine.Start(ctx, trigger.Intake{Gen: rules.Gen, Cursors: []trigger.Cursor{trigger.Resume(h.at)}}); err != nil {
		return nil, fmt.Errorf("end the hold: %w", err)
	}
	h.at = time.Time{}
	close(h.resumed)
	return struct {
		Since time.Time `json:"since"`
		dispatch.Skipped
	}{since.UTC(), skipped}, nil
}
