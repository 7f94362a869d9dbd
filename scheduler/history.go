package scheduler

import (
	"context"
	"time"

	"millrace/trigger"
)

// Ended names a run, most often one that has ended, as it was when it was read: it has another Rev or Moves once anything of it has changed.
type Ended struct {
	ID      string
	EndedAt time.Time
	Rev     int64
	// Moves says how far its audit trail went.
	Moves int64
}

// PastRun is all that is stored of a run that has ended.
type PastRun struct {
	RunDetail
	// Dispositions are those of its batches that made them inputs of this run.
	Dispositions []trigger.Disposition `json:"dispositions"`
}

// History is an optional power of a [Store]: to give up runs that ended long ago. A run is forgotten at once, by one transaction, and is known
// from then on by its id alone; what other rows it had is removed later, little by little, so that no transaction is long.
type History interface {
	// Ended returns at most limit runs that ended before the time, by the time of their end, then by id.
	Ended(ctx context.Context, before time.Time, limit int) ([]Ended, error)
	// PastRun returns a run with its dispositions; ErrNotFound.
	PastRun(ctx context.Context, id string) (*PastRun, error)
	// Forget forgets those of runs that are still as they were, and returns their ids. object is where they are archived, "" nowhere.
	Forget(ctx context.Context, runs []Ended, object string) ([]string, error)
	// Leftovers returns at most limit runs that are forgotten and have rows left.
	Leftovers(ctx context.Context, limit int) ([]string, error)
	// Clean removes the rows that are left of forgotten runs. It may be repeated.
	Clean(ctx context.Context, runs []string) error
	// Known returns those of the ids whose runs are in the store, or were and are forgotten.
	Known(ctx context.Context, ids []string) ([]string, error)
	// Archived returns where a forgotten run is archived, "" if nowhere. ErrNotFound: it was never forgotten.
	Archived(ctx context.Context, id string) (object string, err error)
}

// RunForgetter is an optional power of an [Executor] that keeps something of runs that have ended: logs.
type RunForgetter interface {
	// ForgetRun removes all that is kept of a run. It may be repeated, and a run of which nothing is kept is no error.
	ForgetRun(ctx context.Context, run string) error
}
