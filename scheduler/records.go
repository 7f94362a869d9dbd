package scheduler

import (
	"context"
	"time"
)

// Record is something that an executor has to know after a restart.
type Record struct {
	// Executor is the name of the executor whose record it is, Key its name among those.
	Executor, Key string
	// Over is since when it is not needed any more, zero as long as it is. It is kept for a while, for what comes late.
	Over time.Time
	// Body is the executor's own.
	Body []byte
}

// Records keeps what executors have to know after a restart. Safe for concurrent use.
type Records interface {
	// Records returns all of an executor, by key.
	Records(ctx context.Context, executor string) ([]Record, error)
	// PutRecords writes records over those of the same executor and key: all of them, durably, or none; ErrUnavailable.
	PutRecords(ctx context.Context, list []Record) error
	// PruneRecords removes those of an executor that were over before a time, and says how many.
	PruneRecords(ctx context.Context, executor string, before time.Time) (int, error)
}
