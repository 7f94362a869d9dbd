package scheduler

import (
	"context"
	"time"

	"millrace/trigger"
)

// Code says in one word why something waits, or that it does not.
type Code string

// The codes. Programs compare them; the sentence beside them is for people.
const (
	CodeParents     Code = "parents"     // parents of the task have not ended
	CodeSlots       Code = "slots"       // the executor has no slot
	CodePool        Code = "pool"        // the pool has not as many slots as the task needs
	CodeConcurrency Code = "concurrency" // the run's group is full
	CodeTries       Code = "tries"       // as many attempts of the task are active, in all runs, as its concurrency permits
	CodeRetryAt     Code = "retry_at"    // the time of the next try has not come
	CodeLaunching   Code = "launching"   // the executor has been told, and has not said that the task runs
	CodeUnreachable Code = "unreachable" // the executor does not reach the task, which may run
	CodeInput       Code = "input"       // a person is to decide
	CodeSubDAG      Code = "sub_dag"     // the run that it started has not ended
	CodeEnding      Code = "ending"      // it was asked to end, and has not ended yet
	CodeRunning     Code = "running"     // it waits for nothing but itself
	CodeEnded       Code = "ended"
	CodeMapped      Code = "mapped" // its items go on
	CodeLimit       Code = "limit"  // as many of its siblings go on as max_concurrent permits
	CodeImage       Code = "image"  // the registry has not said which digest the tag of its image stands for

	// Codes of a batch for a rule.
	CodeRun        Code = "run"        // it is an input of a run
	CodePaused     Code = "paused"     // the DAG is paused
	CodeHeld       Code = "held"       // held for another reason
	CodeJoining    Code = "joining"    // another side of its join has no batch
	CodeOrder      Code = "order"      // a batch before it in its chain is not known yet
	CodeCoalescing Code = "coalescing" // in a group that is open
	CodeFiltered   Code = "filtered"   // the rule does not want it
	CodeDropped    Code = "dropped"    // it starts nothing, for want of rows or of the rule
	CodeExpired    Code = "expired"    // what it was to be joined with did not come in time
)

// Why says why something is as it is, with the values on which that was decided.
type Why struct {
	Code Code `json:"code"`
	// Text is a sentence for people.
	Text string `json:"text"`
	// Name is the executor, the pool, the group or the task ("dag/task") that has no room.
	Name string `json:"name,omitempty"`
	// Used of Slots are taken, and Want are needed. Ahead is how many of the same DAG and priority, or of the same group, come before.
	Used  int `json:"used,omitempty"`
	Slots int `json:"slots,omitempty"`
	Want  int `json:"want,omitempty"`
	Ahead int `json:"ahead,omitempty"`
	// On are the ids of what is waited for, at most [MaxOn]: parents, and tasks or runs that hold what is wanted.
	On []string `json:"on,omitempty"`
	// Until is when the wait ends by itself.
	Until time.Time `json:"until,omitzero"`
}

// MaxOn bounds [Why.On].
const MaxOn = 20

// RunWhy explains a run and its tasks.
type RunWhy struct {
	Run   string    `json:"run"`
	DAG   string    `json:"dag"`
	State State     `json:"state"`
	Why   Why       `json:"why"`
	Tasks []TaskWhy `json:"tasks"`
	// Deadlines are those of the run.
	Deadlines []Deadline `json:"deadlines,omitempty"`
}

// TaskWhy explains a task.
type TaskWhy struct {
	ID       string `json:"id"`
	Task     string `json:"task"`
	MapIndex int    `json:"map_index"`
	State    State  `json:"state"`
	Why      Why    `json:"why"`
}

// Slots is an executor or a pool, with who holds its slots and how many tasks wait for them.
type Slots struct {
	Kind  string `json:"kind"` // "executor" or "pool"
	Name  string `json:"name"`
	Slots int    `json:"slots"`
	Used  int    `json:"used"`
	// Waiting are tasks whose turn it is not, for want of slots here; of an executor they include those that wait for a pool.
	Waiting int      `json:"waiting"`
	Holders []Holder `json:"holders"`
}

// Holder is a task that holds slots.
type Holder struct {
	Task  string `json:"task"` // its id
	DAG   string `json:"dag"`
	Slots int    `json:"slots"`
	// Since is when it was started, zero while it is being launched.
	Since time.Time `json:"since,omitzero"`
}

// Explainer says why things wait, from the values on which the last decision was taken. Safe for concurrent use.
type Explainer interface {
	// Explain explains a run and each of its tasks; of mapped tasks at most [MaxOn] of those that do something or failed. ErrNotFound,
	// ErrUnavailable.
	Explain(ctx context.Context, run string) (*RunWhy, error)
	// WhyFull says why a run that a rule would start for a key has no place in its concurrency group; nil if it has. ErrUnavailable.
	WhyFull(ctx context.Context, r *trigger.Rule, key string) (*Why, error)
	// ExplainTask explains one task, "load" or, of a mapped one, "load/3". Errors as Explain.
	ExplainTask(ctx context.Context, run, task string) (*TaskWhy, error)
	// BatchDeadlines returns the deadlines that count for a batch while it waits for its run, by the names of the rules for which it does.
	BatchDeadlines(ctx context.Context, batch string) (map[string][]Deadline, error)
	// Slots returns all executors and pools, in the order of their names.
	Slots(ctx context.Context) ([]Slots, error)
}

// BatchWhy explains what became of a batch.
type BatchWhy struct {
	Batch string `json:"batch"`
	// Text is a sentence for people.
	Text  string    `json:"text"`
	Rules []RuleWhy `json:"rules"`
}

// RuleWhy explains what became of a batch for one rule.
type RuleWhy struct {
	Rule        string       `json:"rule"`
	Disposition trigger.Fate `json:"disposition"`
	Why         Why          `json:"why"`
	// Deadlines are those that count for the batch while it has no run.
	Deadlines []Deadline `json:"deadlines,omitempty"`
}
