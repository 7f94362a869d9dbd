package scheduler

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Kinds of tasks that wait without a slot of an executor.
const (
	KindApproval = "approval" // asks a person: [Task.Approval]
	KindDAG      = "dag"      // starts a run of another DAG: [Task.SubDAG]
)

// Parks returns the state in which a task of this kind waits without a slot, or "" if an executor runs it.
func (t *Task) Parks() State {
	switch t.Kind {
	case KindApproval:
		return StateAwaitingInput
	case KindDAG:
		return StateDeferred
	}
	return ""
}

// parkedTexts is [Task.Texts] for tasks that are parked.
func (t *Task) parkedTexts() []string {
	var out []string
	if t.Approval != nil {
		out = append(out, t.Approval.Message)
	}
	if t.SubDAG != nil {
		for _, name := range slices.Sorted(maps.Keys(t.SubDAG.Params)) {
			out = append(out, jsonTexts(t.SubDAG.Params[name])...)
		}
	}
	return out
}

// Approval is what a person is to decide.
type Approval struct {
	// Message says what about; there may be expressions in it.
	Message string `json:"message"`
	// By are the names of those who may decide; none: everybody who may use the console.
	By []string `json:"by,omitempty"`
	// Expires is how long there is for it, 0: for ever. OnExpire says what is decided then: one of the words below, "" being DecisionReject.
	Expires  time.Duration `json:"expires,omitempty"`
	OnExpire string        `json:"on_expire,omitempty"`
	// OnReject says what becomes of the task if the decision is no: RejectFail, or "", which is RejectSkip.
	OnReject string `json:"on_reject,omitempty"`
	// Options are the answers of which one is to be chosen with a yes; none: there is nothing to choose.
	Options []string `json:"options,omitempty"`
	// Params declares what can be filled in with a yes.
	Params map[string]Param `json:"params,omitempty"`
}

// What can be decided, and what becomes of a task that was rejected.
const (
	DecisionApprove = "approve"
	DecisionReject  = "reject"
	DecisionSkip    = "skip" // only by OnExpire: as if it had not been asked

	RejectSkip = "skip"
	RejectFail = "fail"
)

// SubDAG is the run that a task starts.
type SubDAG struct {
	// ID is that of the DAG, of whose current version it is a run.
	ID string `json:"id"`
	// Params are its parameters, each a JSON value; in texts there may be expressions.
	Params map[string]json.RawMessage `json:"params,omitempty"`
	// NoWait lets the task end when the run is started; NoInputs gives it none of the batches of the run that the task is of.
	NoWait   bool `json:"no_wait,omitempty"`
	NoInputs bool `json:"no_inputs,omitempty"`
}

// MaxPath bounds how many runs may have led to one that starts another, each by a task of the one before.
const MaxPath = 8

// Decision is what was decided on an approval, and the output of its task.
type Decision struct {
	// Decision is one of the words above.
	Decision string `json:"decision"`
	// By says who decided; "" if nobody said, or if Expired says that the time was over.
	By      string    `json:"by,omitempty"`
	Expired bool      `json:"expired,omitempty"`
	At      time.Time `json:"at"`
	Comment string    `json:"comment,omitempty"`
	// Option is the one that was chosen, Input what was filled in: a JSON object.
	Option string          `json:"option,omitempty"`
	Input  json.RawMessage `json:"input,omitempty"`
}

// Question is a decision that is waited for.
type Question struct {
	// ID is that of the task.
	ID       string `json:"id"`
	Run      string `json:"run"`
	DAG      string `json:"dag"`
	Task     string `json:"task"`
	MapIndex int    `json:"map_index"`
	Try      int    `json:"try"`
	Message  string `json:"message"`
	// By are those who may decide; nil: everybody who may use the console.
	By      []string         `json:"by,omitempty"`
	Options []string         `json:"options,omitempty"`
	Params  map[string]Param `json:"params,omitempty"`
	// Since is when it was asked, Until when it is decided by itself, as OnExpire says; zero: never.
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until,omitzero"`
	OnExpire string    `json:"on_expire,omitempty"`
	// OnReject is what becomes of the task that is rejected.
	OnReject string `json:"on_reject"`
}

// MaxComment bounds [Decision.Comment], MaxInput [Decision.Input], in bytes.
const (
	MaxComment = 2000
	MaxInput   = 16 << 10
)

// Approver is how people decide. Safe for concurrent use.
type Approver interface {
	// Questions returns the decisions that are waited for, the oldest first; of one run, or of all for "".
	Questions(ctx context.Context, run string) ([]Question, error)
	// Decide takes a decision on a task, and returns the task's row when it is committed. The audit trail has who said it. ErrNotFound (the
	// run, or the task), ErrDecided (a decision is there already), ErrInvalid (it is no approval, does not wait, or the answer does not fit),
	// ErrUnavailable.
	Decide(ctx context.Context, run, task string, mapIndex int, d Decision) (*TaskRun, error)
}
