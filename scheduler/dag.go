package scheduler

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"millrace/trigger"
)

// DAG is what a DAG file compiles to. Its canonical JSON is stored, and the hash of that is the version that a run pins.
type DAG struct {
	// V is the version of this form, 1.
	V           int      `json:"v"`
	ID          string   `json:"id"`
	Description string   `json:"description,omitempty"`
	Owner       string   `json:"owner,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	// Params declares the parameters of a run, by name.
	Params map[string]Param `json:"params,omitempty"`
	// On are the rules, with DAG filled in, and without Version and Paused.
	On []trigger.Rule `json:"on"`
	// Env is given to every task; a task's own wins.
	Env map[string]string `json:"env,omitempty"`
	// Tasks in the order of the file. Defaults are resolved already.
	Tasks []Task `json:"tasks"`
	// Concurrency bounds the runs that are under way at once; nil: no bound.
	Concurrency *Concurrency `json:"concurrency,omitempty"`
	// OnEvent says whom to tell of what becomes of a run; Deadlines by when it is to be successful.
	OnEvent   OnEvent        `json:"on_event,omitempty"`
	Deadlines []DeadlineRule `json:"deadlines,omitempty"`
	// Groups are the groups of its tasks, in the order of the file.
	Groups []Group `json:"groups,omitempty"`
}

// Group is a group of tasks, for people: what it means for their order is in [Task.Needs].
type Group struct {
	ID          string `json:"id"`
	Description string `json:"description,omitempty"`
}

// Concurrency bounds how many runs of a DAG, or of a group of them, are under way at once.
type Concurrency struct {
	// Group is a text with ${{ }} over params, batch, batches, totals, trigger and run: runs of the DAG for which it is the same count together.
	// "": all runs of the DAG.
	Group string `json:"group,omitempty"`
	// MaxRuns is at least 1.
	MaxRuns int `json:"max_runs"`
	// WhenFull says what becomes of a run that comes when the group is full; "" is WhenFullQueue.
	WhenFull string `json:"when_full,omitempty"`
}

// What becomes of a run whose group is full.
const (
	WhenFullQueue         = "queue"          // it waits, and the oldest goes first
	WhenFullSkip          = "skip"           // it is cancelled
	WhenFullCancelRunning = "cancel_running" // the oldest others are cancelled, and it starts when they have ended
	WhenFullFail          = "fail"           // it fails
	// WhenFullCoalesce: it is not made. What batch rules would start it with waits, and becomes one run when there is a place; other runs queue.
	WhenFullCoalesce = "coalesce"
)

// Param declares one parameter; it is a small part of JSON Schema.
type Param struct {
	// Type is string, integer, number, boolean, array or object. Title is what a form calls it.
	Type        string          `json:"type"`
	Title       string          `json:"title,omitempty"`
	Description string          `json:"description,omitempty"`
	Default     json.RawMessage `json:"default,omitempty"`
	Required    bool            `json:"required,omitempty"`
	// Enum are the only values; Minimum and Maximum bound a number, Pattern (a regular expression) and Format a text; Items is the JSON Schema of the
	// elements of an array, and Properties those of what an object has, by name.
	Enum       []json.RawMessage `json:"enum,omitempty"`
	Minimum    *float64          `json:"minimum,omitempty"`
	Maximum    *float64          `json:"maximum,omitempty"`
	Pattern    string            `json:"pattern,omitempty"`
	Format     string            `json:"format,omitempty"`
	Items      json.RawMessage   `json:"items,omitempty"`
	Properties json.RawMessage   `json:"properties,omitempty"`
}

// Task is one node of a DAG.
type Task struct {
	ID string `json:"id"`
	// Group is the group of tasks that it is in, "" for none. Needs name no groups: they are tasks already.
	Group string `json:"group,omitempty"`
	// Part is PartSetup or PartTeardown for what these keys of a DAG file have, and Pair its name there; "" for what tasks has.
	Part string `json:"part,omitempty"`
	Pair string `json:"pair,omitempty"`
	// Needs are the ids of its parents; of a teardown, of all that it covers.
	Needs []string `json:"needs,omitempty"`
	// Setups are the ids of those that cover it: unless each has succeeded it does not start, whatever its join rule. A teardown has its own here.
	Setups []string `json:"setups,omitempty"`
	// FailRun says of a teardown that the run fails if it does.
	FailRun bool `json:"fail_run,omitempty"`
	// Kind names the operator; "command" runs Run.
	Kind string `json:"kind"`
	// Run is argv. The string form of a DAG file becomes Shell, which is given to `sh -c` as it stands.
	Run   []string          `json:"run,omitempty"`
	Shell string            `json:"shell,omitempty"`
	Env   map[string]string `json:"env,omitempty"`
	// HTTP, Wait, SQL and Use are the settings of the kinds with these names.
	HTTP *HTTP `json:"http,omitempty"`
	Wait *Wait `json:"wait,omitempty"`
	SQL  *SQL  `json:"sql,omitempty"`
	Use  *Use  `json:"use,omitempty"`
	// Container is the image in which a task of KindImage runs.
	Container *Container `json:"container,omitempty"`
	// Approval and SubDAG are those of the kinds that take no slot; see [Task.Parks].
	Approval *Approval `json:"approval,omitempty"`
	SubDAG   *SubDAG   `json:"dag,omitempty"`
	// Foreach makes the task mapped; nil: it is one task.
	Foreach *Foreach `json:"foreach,omitempty"`
	// When is a CEL expression over batch, batches, params, trigger and tasks; false skips the task. "" is true.
	When string `json:"when,omitempty"`
	// Rule is the join rule over the parents, one of [Joins]; "" is JoinAllSuccess, which has no other spelling here.
	Rule     string  `json:"rule,omitempty"`
	Executor string  `json:"executor,omitempty"`
	Retry    Retry   `json:"retry,omitzero"`
	Timeout  Timeout `json:"timeout,omitzero"`
	// InfraRetry is how many attempts may be lost to infrastructure before the task fails.
	InfraRetry int `json:"infra_retry,omitempty"`
	// Pool is one of the installation's, of which an attempt holds PoolSlots (0 counts as 1) besides its slot of the executor; "": none.
	Pool      string `json:"pool,omitempty"`
	PoolSlots int    `json:"pool_slots,omitempty"`
	// Concurrency is how many attempts of the task may be active at once in all runs of the DAG; 0: any number.
	Concurrency int `json:"concurrency,omitempty"`
	// Priority orders what waits for the same pool or executor: higher first, default 0.
	Priority int `json:"priority,omitempty"`
	// Resources and Constraints are for the executor, which is told of them in [Launch]; nil: nothing is asked for.
	Resources   *Resources   `json:"resources,omitempty"`
	Constraints []Constraint `json:"constraints,omitempty"`
	// Machine is what else it asks for of the machine that it runs on; nil: nothing.
	Machine *Machine `json:"machine,omitempty"`
	// Fast says that an attempt which the executor does not reach is given up at once: the task is tried again while the old one may still run.
	Fast bool `json:"at_least_once_fast,omitempty"`
	// Output says what the task's output must be, Cache when another's is taken instead; nil: anything, and never.
	Output *Output `json:"output,omitempty"`
	Cache  *Cache  `json:"cache,omitempty"`
	// OnEvent says whom to tell of what becomes of the task.
	OnEvent OnEvent `json:"on_event,omitempty"`
}

// What a task is for, besides itself. A setup comes before the tasks that it covers; a teardown comes after them, whatever became of them and of
// the run, if its setup succeeded.
const (
	PartSetup    = "setup"
	PartTeardown = "teardown"
)

// MaxPriority bounds [Task.Priority] on both sides of 0.
const MaxPriority = 1000

// JoinAllSuccess is the default join rule: every parent succeeded.
const JoinAllSuccess = "all_success"

// Retry says how often, when and after which exit codes a failed task is tried again.
type Retry struct {
	// Limit is the number of tries after the first; 0 is none.
	Limit int `json:"limit,omitempty"`
	// Delay is the wait before the first retry; Backoff multiplies it for each further one (0 counts as 1), up to MaxDelay (0: none).
	Delay    time.Duration `json:"delay,omitempty"`
	Backoff  float64       `json:"backoff,omitempty"`
	MaxDelay time.Duration `json:"max_delay,omitempty"`
	// Jitter is "" or "full": a random part of the wait.
	Jitter string `json:"jitter,omitempty"`
	// OnExit limits retries to these exit codes, if any; NeverOn excludes these.
	OnExit  []int `json:"on_exit,omitempty"`
	NeverOn []int `json:"never_on,omitempty"`
}

// Timeout bounds a task. Zero is no bound.
type Timeout struct {
	// Queue is from the time at which the task may run until it has its slot; Start from then until the executor says that it runs.
	Queue time.Duration `json:"queue,omitempty"`
	Start time.Duration `json:"start,omitempty"`
	// Run is from exec to exit. Grace is from SIGTERM to SIGKILL; default 10 s.
	Run   time.Duration `json:"run,omitempty"`
	Grace time.Duration `json:"grace,omitempty"`
	// Heartbeat is how long it may run without a sign of life; at least 1 s.
	Heartbeat time.Duration `json:"heartbeat,omitempty"`
}

// Exit codes with a meaning.
const (
	ExitSkip     = 99 // the task decided that there is nothing to do: skipped
	ExitNoRetry  = 64 // never try again (EX_USAGE)
	ExitAgain    = 75 // what operators exit with if another try may succeed (EX_TEMPFAIL)
	ExitTimeout  = 124
	ExitNotFound = 127
)

// Canonical returns the stored form: JSON with sorted map keys, as encoding/json writes it.
func (d *DAG) Canonical() ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode dag %s: %w", d.ID, err)
	}
	return b, nil
}

// VersionOf returns the version of a canonical form: the first 16 hex digits of its SHA-256.
func VersionOf(canonical []byte) string {
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:8])
}

// Task returns the task with the id, or nil.
func (d *DAG) Task(id string) *Task {
	for i := range d.Tasks {
		if d.Tasks[i].ID == id {
			return &d.Tasks[i]
		}
	}
	return nil
}

// DAGVersion is one compiled version as stored.
type DAGVersion struct {
	Version   string    `json:"version"`
	DAG       string    `json:"dag"`
	Canonical []byte    `json:"-"`
	CreatedAt time.Time `json:"created_at"`
}

// DAGHead is what is current of a DAG.
type DAGHead struct {
	ID string `json:"id"`
	// Version is the last good version; "" if there never was one.
	Version string `json:"version"`
	// File is the path of the file it comes from, relative to the DAG directory; "" for a built-in one.
	File string `json:"file"`
	// Error is why the file's present content is not in force, or "".
	Error string `json:"error,omitempty"`
	// Paused holds what arrives. Removed says that the file is gone: its rules are inactive, its runs go on.
	Paused    bool      `json:"paused"`
	Removed   bool      `json:"removed,omitempty"`
	UpdatedAt time.Time `json:"updated_at"`
}
