package scheduler

import "context"

// Clear asks that tasks of a run are executed again, by the version of the DAG and on the inputs that the run has. A run that has ended goes
// on.
type Clear struct {
	// Tasks are the ids of those that are meant; empty is all.
	Tasks []string
	// Groups adds all tasks of these groups to Tasks.
	Groups []string
	// Failed keeps of these only what is failed, upstream_failed or cancelled.
	Failed bool
	// Downstream adds everything that comes after them, whatever became of it.
	Downstream bool
	// DryRun asks what would be cleared, and changes nothing.
	DryRun bool
	// By says who asks, for the audit trail; "" if nobody said.
	By string
}

// Mark says how a task has ended, or a run, whatever it did.
type Mark struct {
	// Task is "" for the run as a whole.
	Task string
	// State is success, failed, or, for a task, skipped.
	State State
	By    string
}

// Mended is what a clear or a mark changed.
type Mended struct {
	Run Run `json:"run"`
	// Tasks are those that it changed, in the order of the DAG, with the state that they had.
	Tasks []MendedTask `json:"tasks"`
	// DryRun says that nothing was changed.
	DryRun bool `json:"dry_run,omitempty"`
}

// MendedTask is a task as it was before.
type MendedTask struct {
	Task     string `json:"task"`
	MapIndex int    `json:"map_index"`
	State    State  `json:"state"`
	Try      int    `json:"tries"`
	// Kill says that an attempt runs, which is ended first; its result does not count.
	Kill bool `json:"kill,omitempty"`
}

// Mender changes what became of runs. Each call is one transaction; the audit trail has every move, and who asked for it. Errors: ErrNotFound
// (the run, or a task of it), ErrInvalid (it can not be executed any more, or such a thing can not be marked), ErrUnavailable.
type Mender interface {
	// Clear takes tasks back to where they have not been looked at, and starts those whose parents have ended. Attempts that run are killed
	// first. A repeated call clears again what has ended meanwhile.
	Clear(ctx context.Context, run string, c Clear) (*Mended, error)
	// Mark sets the end of a task, and lets what failed after it run if that is a good one; or it ends a run. A repeated call changes nothing.
	Mark(ctx context.Context, run string, m Mark) (*Mended, error)
}
