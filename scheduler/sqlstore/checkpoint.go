package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A checkpoint copies pages from the write-ahead log to the database file, with a sync of both, so that the log can begin anew. SQLite does that
// within the commit that finds the log long, which then takes ten times as long as others. Here it is done beside the commits, in two parts: most of
// it while they go on, and what they have added meanwhile while none is under way, since the log begins anew only if all of it was copied.
//
// Nothing depends on it but the length of the log. If it fails, or readers hold on to old pages, the log grows, and the next one copies more; from
// autoCheckpoint pages on commits do it themselves.
const (
	// checkpointRows is after how many written rows there is a checkpoint: about 20 MB of log if they are in pages that have nothing to do with
	// each other.
	checkpointRows = 4096
	// autoCheckpoint is the length of the log, in pages of 4 KiB, from which on a commit ends with a checkpoint.
	autoCheckpoint = 16384
)

// checkpoints are made on a connection of their own.
type checkpoints struct {
	db      *sql.DB
	rows    int // written since the last; guarded by Store.mu
	running atomic.Bool
	wg      sync.WaitGroup
}

// wrote counts rows, and begins a checkpoint when there were many. s.mu is held.
func (s *Store) wrote(rows int) {
	s.check.rows += rows
	if s.check.rows < checkpointRows || !s.check.running.CompareAndSwap(false, true) {
		return
	}
	s.check.rows = 0
	s.check.wg.Go(func() { // ends with the checkpoint; Close waits for it
		defer s.check.running.Store(false)
		s.checkpoint()
	})
}

// checkpoint is not heard of when it fails: the next one does its work, too.
func (s *Store) checkpoint() {
	defer s.m.observe("checkpoint", time.Now())
	if s.copyLog() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.m.observe("checkpoint_end", time.Now())
	_ = s.copyLog()
}

// copyLog copies what no reader needs as it was.
func (s *Store) copyLog() error {
	var busy, pages, copied int
	err := s.check.db.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &copied)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", classify(err))
	}
	return nil
}
