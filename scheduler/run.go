package scheduler

import (
	"encoding/json"
	"strconv"
	"time"

	"millrace/batcher"
	"millrace/trigger"
)

// Run is one execution of one version of a DAG on frozen inputs.
type Run struct {
	ID      string  `json:"id"`
	DAG     string  `json:"dag"`
	Version string  `json:"version"`
	State   State   `json:"state"`
	Trigger Trigger `json:"trigger"`
	// Batches are the ids of the inputs, oldest first.
	Batches []string `json:"batches"`
	// Params are the run's parameters with defaults filled in: a JSON object.
	Params json.RawMessage `json:"params"`
	// Replay is 0 for a rule's own run, else the number of the replay of ReplayOf: of the run that the rule makes of the same trigger, which need
	// not be there (it never started, or was pruned).
	Replay   int    `json:"replay,omitempty"`
	ReplayOf string `json:"replay_of,omitempty"`
	// Backfill is the id of the backfill that started the run, or "". NoEmit says that the run must start nothing else: no run of another DAG.
	Backfill string `json:"backfill,omitempty"`
	NoEmit   bool   `json:"no_emit,omitempty"`
	// Events and Bytes are totals over the batches; IntervalStart to IntervalEnd their event times; Watermark the least of theirs.
	Events        int64     `json:"events"`
	Bytes         int64     `json:"bytes"`
	IntervalStart time.Time `json:"interval_start,omitzero"`
	IntervalEnd   time.Time `json:"interval_end,omitzero"`
	Watermark     time.Time `json:"watermark,omitzero"`
	// Reason says why the run failed or was cancelled, or "".
	Reason    string    `json:"reason,omitempty"`
	Trace     string    `json:"trace,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	// Deadlines are those that it had or has, in the order of their rules.
	Deadlines []Deadline `json:"deadlines,omitempty"`
	// Images are those that its tasks run in, each once, in the order of the tasks.
	Images []ImagePin `json:"images,omitempty"`
	// Rev rises with each change of the row: the store's compare-and-swap.
	Rev int64 `json:"-"`
}

// Trigger says what started a run.
type Trigger struct {
	Kind trigger.Kind `json:"kind"`
	Rule string       `json:"rule"`
	Key  string       `json:"key"`
	// LaneKey is the value of the rule's key expression; Closed why the group was closed.
	LaneKey string `json:"lane_key,omitempty"`
	Closed  string `json:"closed,omitempty"`
	// Parent is the id of the task that asked for the run, Path are the ids of the DAGs that led to it, that of the task last.
	Parent string   `json:"parent,omitempty"`
	Path   []string `json:"path,omitempty"`
	// Class is that of the run of the task: what a replay starts comes after live runs, too.
	Class Class `json:"class,omitempty"`
}

// NoMap is the map index of a task that is not mapped.
const NoMap = -1

// TaskRun is a task within a run.
type TaskRun struct {
	Run      string `json:"run"`
	Task     string `json:"task"`
	MapIndex int    `json:"map_index"`
	State    State  `json:"state"`
	// Group is that of the task in the DAG. It is filled in where people are shown tasks, and not stored.
	Group string `json:"group,omitempty"`
	// Try is the number of the present attempt, from 1; 0 before the first. Cleared is what it was at the last clear: retries begin anew there.
	// Lost counts attempts lost to infrastructure since then.
	Try     int `json:"tries"`
	Cleared int `json:"cleared,omitempty"`
	Lost    int `json:"lost,omitempty"`
	// Executor runs it, "" for a task that needs none. External is the executor's own name for the present attempt, or the run that it started.
	Executor string `json:"executor"`
	External string `json:"external,omitempty"`
	// Since is when the task came into its state; zero for one that is scheduled while its run has no place in its concurrency group, since its wait
	// for a slot has not begun.
	Since time.Time `json:"since,omitzero"`
	// RetryAt is when an up_for_retry task may be scheduled.
	RetryAt time.Time `json:"retry_at,omitzero"`
	// Kill says that the present attempt was asked to end, and why ("cancelled", "cleared by …", "marked success by …").
	Kill string `json:"kill,omitempty"`
	// Exit is the exit code of the last ended attempt, -1 if a signal ended it or there is none. Reason is a sentence for people.
	Exit   int    `json:"exit"`
	Reason string `json:"reason,omitempty"`
	// Output is what the task wrote to MILLRACE_OUTPUT, if it is JSON of at most MaxOutput bytes; OutputRef says where it is if it is larger.
	Output    json.RawMessage `json:"output,omitempty"`
	OutputRef *OutputRef      `json:"output_ref,omitempty"`
	// CachedFrom is the task, as in ID, and the try whose output it took instead of being executed, or "". NoCache says that a person cleared it:
	// it is executed, whatever there is.
	CachedFrom string    `json:"cached_from,omitempty"`
	NoCache    bool      `json:"no_cache,omitempty"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	EndedAt    time.Time `json:"ended_at,omitzero"`
	// Item is what a mapped task is about; Map is of the whole, whose items are such tasks.
	Item *Item    `json:"item,omitempty"`
	Map  *Mapping `json:"map,omitempty"`
	Rev  int64    `json:"-"`
}

// ID returns "<run>/<task>", with "/<map index>" if the task is mapped.
func (t *TaskRun) ID() string {
	return t.Run + "/" + TaskName(t.Task, t.MapIndex)
}

// IdempotencyKey is the same for all tries of the task in this run: side effects elsewhere can be made once by it.
func (t *TaskRun) IdempotencyKey() string { return t.ID() }

// AttemptID names the try'th attempt: unique for ever, since a clear goes on counting.
func (t *TaskRun) AttemptID(try int) string {
	return t.Run + "." + t.Task + "." + strconv.Itoa(t.MapIndex) + "." + strconv.Itoa(try)
}

// Attempt is one try of one task, as stored: one row, written when the intent is committed and again when it ended.
type Attempt struct {
	ID       string `json:"id"`
	Run      string `json:"run"`
	Task     string `json:"task"`
	MapIndex int    `json:"map_index"`
	Try      int    `json:"try"`
	Executor string `json:"executor"`
	State    State  `json:"state"`
	Exit     int    `json:"exit"`
	Reason   string `json:"reason,omitempty"`
	// Log is where the executor keeps its output.
	Log       string    `json:"log,omitempty"`
	Node      string    `json:"node,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
}

// Launch is all that an executor needs to start an attempt.
type Launch struct {
	ID       string
	Run      string
	Task     string
	MapIndex int
	Try      int
	// Argv[0] is looked up in PATH of Env. Env is complete except for MILLRACE_INPUT and MILLRACE_OUTPUT, which the executor sets to the
	// files that it made, and MILLRACE_STATE, a directory of Run, Task and MapIndex that the task may make and that outlives the attempt.
	Argv []string
	Env  []string
	// Container is the image to run in, by its digest, with its expressions evaluated; nil: a process of the machine. Without Argv the image's own entrypoint
	// gets Container.Args. An executor that runs no images reports OutcomeRefused.
	Container *Container `json:",omitempty"`
	// Resources and Constraints are those of the task. An executor that can not see to constraints, or to a GPU, reports OutcomeRefused; one that
	// does not bound the other resources starts the attempt nevertheless.
	Resources   *Resources   `json:",omitempty"`
	Constraints []Constraint `json:",omitempty"`
	// Machine is what else the task asks for of the machine; nil: nothing. An executor that can not see to a part of it reports OutcomeRefused.
	Machine *Machine `json:",omitempty"`
	// Input is the JSON document of the task contract.
	Input []byte
	// Timeout is from exec to SIGTERM, 0 is none; Grace from SIGTERM to SIGKILL.
	Timeout time.Duration
	Grace   time.Duration
	// Heartbeat is how long the attempt may go without changing the file that MILLRACE_HEARTBEAT names, before it is ended as for Timeout. 0: it
	// need not beat, and has no such file. An executor that can not watch a file ignores it.
	Heartbeat time.Duration
	// Secrets are texts that must not be seen in what the attempt writes: the executor masks them in its log, its output and the reasons of its
	// reports. One that can not must say so.
	Secrets []string `json:",omitempty"`
}

// Outcome is what an executor knows of an attempt.
type Outcome string

// Ends reports whether an attempt of which this is known has ended.
func (o Outcome) Ends() bool {
	return o != OutcomeRunning && o != OutcomeUnreachable && o != OutcomeUnsent
}

// The outcomes. All but OutcomeRunning, OutcomeUnreachable and OutcomeUnsent end the attempt.
const (
	OutcomeRunning     Outcome = "running"
	OutcomeExited      Outcome = "exited"      // Exit or Signal is set
	OutcomeTimeout     Outcome = "timeout"     // ended because of Launch.Timeout
	OutcomeLost        Outcome = "lost"        // infrastructure took it; proven not to run any more, or never to have run
	OutcomeRefused     Outcome = "refused"     // can never be started: no such program, bad directory
	OutcomeUnreachable Outcome = "unreachable" // may still run
	// OutcomeUnsent answers Reconcile: it waited for a place, was never handed on, and is not known any more. Launch is to be called again. It ends nothing.
	OutcomeUnsent Outcome = "unsent"
)

// Reasons of reports, which all executors give in the same words.

// ReasonLog is for an attempt that was ended because its log was too long.
const ReasonLog = "log_limit: wrote more output than permitted"

// ReasonTimeout is for one that ran longer than Launch.Timeout.
func ReasonTimeout(d time.Duration) string { return "timeout: ran longer than " + d.String() }

// ReasonHeartbeat is for one that did not beat within Launch.Heartbeat.
func ReasonHeartbeat(d time.Duration) string {
	return "no heartbeat for " + d.String() + " (timeout.heartbeat)"
}

// Report is news of one attempt. Reports may be doubled and reordered; the engine ignores those of attempts that are not the present one.
type Report struct {
	Attempt string
	Outcome Outcome
	// Exit is the exit code, -1 if Signal (a name such as "SIGKILL") ended it.
	Exit   int
	Signal string
	// Reason is a sentence for people, or "".
	Reason    string
	StartedAt time.Time
	EndedAt   time.Time
	// Output is the content of MILLRACE_OUTPUT, at most MaxOutput bytes. A larger one is in the object store when the report is given, and
	// OutputRef says where: an executor may put it there by itself. It is JSON then. OutputError is why it could not be taken.
	Output      []byte
	OutputRef   *OutputRef
	OutputError string
	Node        string
	External    string
	Log         string
}

// Input is the document of the task contract that a task finds at MILLRACE_INPUT.
type Input struct {
	V       int             `json:"v"`
	Run     InputRun        `json:"run"`
	Task    string          `json:"task"`
	Trigger Trigger         `json:"trigger"`
	Batches []batcher.Batch `json:"batches"`
	Totals  InputTotals     `json:"totals"`
	Params  json.RawMessage `json:"params"`
	// Upstream has the outputs of the task's parents, null for one that put out nothing; of a mapped one, the list of those of its items. A parent
	// whose output is in the object store is in UpstreamRefs instead, and so is an item's, as "<task>/<index>".
	Upstream     map[string]json.RawMessage `json:"upstream"`
	UpstreamRefs map[string]UpstreamRef     `json:"upstream_refs,omitempty"`
	// Item is what a mapped task is about, and Map which of how many.
	Item json.RawMessage `json:"item,omitempty"`
	Map  *InputMap       `json:"map,omitempty"`
}

// InputRun is the part of a run that its tasks see.
type InputRun struct {
	ID            string    `json:"id"`
	DAG           string    `json:"dag"`
	Version       string    `json:"version"`
	ReplayOf      string    `json:"replay_of,omitempty"`
	IntervalStart time.Time `json:"interval_start,omitzero"`
	IntervalEnd   time.Time `json:"interval_end,omitzero"`
	Watermark     time.Time `json:"watermark,omitzero"`
	CreatedAt     time.Time `json:"created_at"`
}

// InputTotals sums over the batches.
type InputTotals struct {
	Batches int   `json:"batches"`
	Events  int64 `json:"events"`
	Bytes   int64 `json:"bytes"`
}
