package scheduler

import (
	"context"
	"errors"
	"io"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
)

// Sentinel errors of the store, executor and control seams.
var (
	// ErrConflict: a row is not at the revision that the change was decided on, or the lease is another's. Nothing was committed.
	ErrConflict = errors.New("changed by another")
	// ErrUnavailable: the outcome is unknown or nothing was done; try again.
	ErrUnavailable = errors.New("scheduler store or executor unavailable")
	// ErrNotFound: no such run, batch, DAG or version.
	ErrNotFound = errors.New("not found")
	// ErrDecided: somebody has decided on it already; the message says who, what and when.
	ErrDecided = errors.New("was decided already")
	// ErrInvalid: the request can not be carried out as it stands; the message says why.
	ErrInvalid = errors.New("invalid request")
)

// Change is one transaction. Rows with Rev are compared and swapped: Rev is that of the row to be replaced, 0 for a new one; the store
// writes Rev+1. The store applies the parts in the order of the fields.
type Change struct {
	Versions []DAGVersion
	Heads    []DAGHead
	// Arrivals insert a batch and its dispositions; a batch that is there is left alone. Updates replace provisional dispositions.
	Arrivals []trigger.Arrival
	Updates  []trigger.Disposition
	// Groups are written, or removed if closed.
	Groups  []trigger.Group
	Cursors []trigger.Cursor
	Ticks   []trigger.Tick
	// NewRuns are inserted with their tasks and the order of their batches; a run that is there is left alone, and what Attempts and Moves
	// have for it is ignored: it belongs to a decision that was taken before.
	NewRuns []NewRun
	Runs    []Run
	Tasks   []TaskRun
	// Attempts are inserted or replaced by id.
	Attempts []Attempt
	// Moves are appended to the audit trail.
	Moves []Move
	// Backfills and Items are inserted, or replaced by id. The queued items of a backfill that is cancelled become so, too.
	Backfills []Backfill
	Items     []BackfillItem
	// ItemStates set the states of items by their runs, where there are such items.
	ItemStates []ItemState
	// Cached are written over what has the same id.
	Cached []Cached
	// Notices are appended to the outbox; one whose id is there is left alone, and so are those of a run of NewRuns that was there.
	Notices []Notice
	// Overdue are inserted, or removed if Done.
	Overdue []Overdue
}

// Empty reports whether c changes nothing.
func (c *Change) Empty() bool {
	return len(c.Versions)+len(c.Heads)+len(c.Arrivals)+len(c.Updates)+len(c.Groups)+len(c.Cursors)+len(c.Ticks)+
		len(c.NewRuns)+len(c.Runs)+len(c.Tasks)+len(c.Attempts)+len(c.Moves)+len(c.Backfills)+len(c.Items)+len(c.ItemStates)+
		len(c.Cached)+len(c.Notices)+len(c.Overdue) == 0
}

// NewRun is a run with its tasks; Rev of all of them is 0.
type NewRun struct {
	Run   Run
	Tasks []TaskRun
}

// Move is one line of the audit trail: a state that changed.
type Move struct {
	Run string `json:"run"`
	// Task is "" for the run itself.
	Task     string    `json:"task,omitempty"`
	MapIndex int       `json:"map_index"`
	Try      int       `json:"try,omitempty"`
	From     State     `json:"from"`
	To       State     `json:"to"`
	Reason   string    `json:"reason,omitempty"`
	At       time.Time `json:"at"`
}

// Snapshot is what the engine works on after a start: all that is not finished.
type Snapshot struct {
	Heads []DAGHead
	// Versions are those of the heads and of the live runs.
	Versions []DAGVersion
	Live     []LiveRun
	// Backfills are those that have not ended, oldest first.
	Backfills []LiveBackfill
	// Late are runs that ended without success and have an open deadline.
	Late []Run
	// Waiting are the batches that wait for their runs; Overdue those of them, or of their groups, that have missed a deadline.
	Waiting []Waiting
	Overdue []Overdue
}

// LiveRun is a run that is not terminal, with its tasks and the batches that it was given.
type LiveRun struct {
	Run     Run
	Tasks   []TaskRun
	Batches []batcher.Batch
}

// RunDetail is all that is stored of one run.
type RunDetail struct {
	Run      Run             `json:"run"`
	Tasks    []TaskRun       `json:"tasks"`
	Attempts []Attempt       `json:"attempts"`
	Batches  []batcher.Batch `json:"batches"`
	Moves    []Move          `json:"moves"`
	// Mapped counts mapped tasks by task and state, where they are left out.
	Mapped map[string]map[State]int `json:"mapped,omitempty"`
}

// RunQuery selects runs, newest first. Zero fields do not select.
type RunQuery struct {
	// ID selects one run, whose row is read without all that is stored of its tasks.
	ID    string
	DAG   string
	State State
	Batch string
	// ReplayOf selects the replays of a run, Backfill the runs that a backfill started.
	ReplayOf, Backfill string
	// Before is the cursor that the page before returned; Limit is 1 to 1000, default 100.
	Before string
	Limit  int
}

// BatchQuery selects batches, newest first. Zero fields do not select.
type BatchQuery struct {
	Tenant, Source string
	// Stream and Offset select the batches whose range includes the offset.
	Stream ingest.Stream
	Offset int64
	Before string
	Limit  int
}

// BatchDetail is a batch with what became of it.
type BatchDetail struct {
	Batch        batcher.Batch         `json:"batch"`
	Dispositions []trigger.Disposition `json:"dispositions"`
}

// Store keeps the scheduler's state and the trigger ledger. It is also trigger.Ledger. Safe for concurrent use. Times are kept to the
// microsecond, in UTC.
type Store interface {
	trigger.Ledger
	// Apply commits c, all of it, durably, or nothing: ErrConflict, ErrUnavailable.
	Apply(ctx context.Context, c *Change) error
	// Load returns what is not finished.
	Load(ctx context.Context) (*Snapshot, error)
	// Runs and Batches return a page and the cursor of the next one ("" at the end).
	Runs(ctx context.Context, q RunQuery) ([]Run, string, error)
	Run(ctx context.Context, id string) (*RunDetail, error)
	Batches(ctx context.Context, q BatchQuery) ([]batcher.Batch, string, error)
	Batch(ctx context.Context, id string) (*BatchDetail, error)
	// Arrived returns the batches that arrived from a time on and before another, in the order in which they did, at most limit of them.
	Arrived(ctx context.Context, from, to time.Time, limit int) ([]trigger.Past, error)
	// Version returns one compiled version; ErrNotFound.
	Version(ctx context.Context, version string) (*DAGVersion, error)
	BackfillStore
	MappedStore
	// Close is safe to call twice.
	Close() error
}

// Executor starts attempts somewhere and tells what becomes of them. Safe for concurrent use.
type Executor interface {
	// Launch starts the attempts, each at most once however often it is called with the same id. It returns when the executor has them, so
	// that it knows them after its own restart, or has a report for each that it could not take; an error (ErrUnavailable) says that nothing is
	// known: Reconcile decides. A machine that dies may take with it what ran there and the knowledge of it: so whoever comes back from a restart
	// of his own asks by Reconcile, and never launches anew what he may have launched.
	Launch(ctx context.Context, attempts []Launch) error
	// Kill asks an attempt to end, SIGTERM first, SIGKILL after grace; the report of its end comes as always. Unknown ids are ignored.
	Kill(ctx context.Context, attempt string, grace time.Duration) error
	// Reconcile asks for a report on each attempt. One that the executor does not know, and from then on will never start, is reported
	// as lost; an executor that knows of all attempts that ever left it may report it as unsent instead, and starts it when it is launched again.
	Reconcile(ctx context.Context, attempts []string) error
	// Run delivers reports until ctx ends. A batch of reports is repeated, after a restart too, until report has returned nil for it.
	Run(ctx context.Context, report func(ctx context.Context, reports []Report) error) error
	// Log opens the attempt's output at a byte offset; ErrNotFound while there is none. It ends at the present end of the output.
	Log(ctx context.Context, attempt string, offset int64) (io.ReadCloser, error)
	// Slots is how many attempts may be active at once.
	Slots() int
}

// Placer is an executor whose attempts may wait for a place after they were launched.
type Placer interface {
	// Waiting says what an attempt waits for, as a sentence for people, "" if it does not wait or is not known.
	Waiting(attempt string) string
}

// Operator turns a task into a command. It is pure.
type Operator interface {
	// Kind is the value of [Task.Kind].
	Kind() string
	// Validate reports all that is wrong with t.
	Validate(t *Task) error
	// Compile returns argv and the operator's own environment. Env values have had their expressions evaluated already.
	Compile(t *Task) (argv []string, err error)
}

// Watcher tells of changes.
type Watcher interface {
	// Watch returns a channel that is closed when the next change of the run is committed, and a function to be called when the caller waits
	// no more. Watch first, then read the state: a change between the two is seen. Run "" stands for every run.
	Watch(run string) (changed <-chan struct{}, stop func())
}

// Control is what people and the API ask of the engine. Every call that changes something returns after the change is committed.
type Control interface {
	Watcher
	Mender
	// Trigger starts a run of the DAG's current version. id makes a repeated request harmless; "" takes a random one. Params is a JSON
	// object or nil. ErrNotFound, ErrInvalid (a parameter), ErrUnavailable.
	Trigger(ctx context.Context, dag, id string, params []byte) (*Run, error)
	// Cancel ends a run: nothing more is started, and what runs is killed. ErrNotFound; a run that has ended is left alone.
	Cancel(ctx context.Context, run string) (*Run, error)
	// DAGs returns the heads of all DAGs, by id.
	DAGs(ctx context.Context) ([]DAGHead, error)
	// DAG returns one head with its compiled form (nil if there never was a good version).
	DAG(ctx context.Context, id string) (*DAGHead, *DAG, error)
	// Pause sets or lifts a DAG's pause, which lasts over restarts and changes of its file. While a DAG is paused the batches that its rules
	// want are held, and fire when the pause is lifted, unless a rule's WhenPaused says otherwise; ticks of cron rules pass without a run.
	// Runs that exist go on, and Trigger starts others: a person who asks for a run means it. ErrNotFound, ErrUnavailable.
	Pause(ctx context.Context, dag string, paused bool) (*DAGHead, error)
}
