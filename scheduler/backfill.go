package scheduler

import (
	"context"
	"encoding/json"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
)

// Replay asks for one more run on the inputs and params of a run.
type Replay struct {
	// Pin says by which version of the DAG: [PinOriginal] ("" counts as that) or [PinLatest].
	Pin string
	// Emit lets the replay start runs of other DAGs.
	Emit bool
}

// The versions that a replay can be run by.
const (
	PinOriginal = "original" // that of the run which is replayed, with the digests of its images
	PinLatest   = "latest"   // that of the DAG's file, with images as their tags are now
)

// Selection says which batches, or which nominal times of a cron rule, a backfill is about. What is set is required together; at least one of
// Batches, Stream, Events, Received and Dispositions is set.
type Selection struct {
	// Batches are ids. They are taken whatever the rule says of them.
	Batches []string `json:"batches,omitempty"`
	// Stream with FromSeq to ToSeq, inclusive, is a range of the entries of one chain.
	Stream  ingest.Stream `json:"stream,omitzero"`
	FromSeq int64         `json:"from_seq,omitempty"`
	ToSeq   int64         `json:"to_seq,omitempty"`
	// Events selects batches with an event whose time may be in the span, Received those with a record that was received in it.
	Events   Span `json:"events,omitzero"`
	Received Span `json:"received,omitzero"`
	// Dispositions are fates of the batch for the rule, or [SelectFailed].
	Dispositions []string `json:"dispositions,omitempty"`
}

// SelectFailed selects the batches whose newest run of the DAG failed.
const SelectFailed = "failed"

// Span is from From, inclusive, to To, exclusive. Both are set, or none.
type Span struct {
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
}

// IsZero reports whether s is not set.
func (s Span) IsZero() bool { return s.From.IsZero() && s.To.IsZero() }

// Touches reports whether something that goes from least to most, both inclusive, is in s at some time.
func (s Span) Touches(least, most time.Time) bool { return least.Before(s.To) && !most.Before(s.From) }

// Reprocess says what becomes of inputs that the DAG has had already. Inputs of a run that is under way are always left out.
type Reprocess string

// The ways.
const (
	ReprocessNone   Reprocess = "none"   // left out, unless all runs of them failed
	ReprocessFailed Reprocess = "failed" // left out, unless the newest run of them failed or was cancelled; so is what never had one
	ReprocessAll    Reprocess = "all"    // taken
)

// The orders in which a backfill starts its runs.
const (
	OrderOldest = "oldest"
	OrderNewest = "newest"
)

// BackfillSpec is what a person asks for.
type BackfillSpec struct {
	// ID makes a repeated request harmless.
	ID  string `json:"id"`
	DAG string `json:"dag"`
	// Rule is the id of the rule as whose runs they count.
	Rule      string    `json:"rule"`
	Selection Selection `json:"selection"`
	Reprocess Reprocess `json:"reprocess"`
	// Group is how many batches one run has at most. MaxActive is how many runs are under way at once.
	Group     int    `json:"group"`
	MaxActive int    `json:"max_active_runs"`
	Order     string `json:"order"`
	// Params are those of all runs: a JSON object, without defaults, or nil.
	Params json.RawMessage `json:"params,omitempty"`
	// Emit lets the runs start runs of other DAGs.
	Emit bool `json:"emit,omitempty"`
	// By says who asks; "" if nobody said.
	By string `json:"by,omitempty"`
}

// Bounds of a backfill.
const (
	MaxBackfillRuns   = 20_000
	MaxBackfillActive = 1000
	MaxBackfillGroup  = 1000
	MaxLeftOut        = 10_000
)

// BackfillState is the state of a backfill.
type BackfillState string

// The states. Done and cancelled are final; a cancelled one may have runs under way.
const (
	BackfillRunning   BackfillState = "running"
	BackfillPaused    BackfillState = "paused"
	BackfillDone      BackfillState = "done"
	BackfillCancelled BackfillState = "cancelled"
)

// Ended reports whether s is final.
func (s BackfillState) Ended() bool { return s == BackfillDone || s == BackfillCancelled }

// Backfill is a stored list of runs that are started one after the other, behind all live ones.
type Backfill struct {
	BackfillSpec
	// Version is that of the DAG when the backfill was made. All its runs pin it.
	Version string        `json:"version"`
	State   BackfillState `json:"state"`
	// Reason says why it was paused or cancelled, or "".
	Reason string `json:"reason,omitempty"`
	// Counts are filled in by reads.
	Counts    BackfillCounts `json:"counts"`
	CreatedAt time.Time      `json:"created_at"`
	EndedAt   time.Time      `json:"ended_at,omitzero"`
}

// BackfillCounts count the runs of a backfill by what became of them.
type BackfillCounts struct {
	Total     int `json:"total"`
	Waiting   int `json:"waiting"`
	Running   int `json:"running"`
	Success   int `json:"success"`
	Failed    int `json:"failed"`
	Cancelled int `json:"cancelled"`
	Skipped   int `json:"skipped"`
}

// Add counts an item.
func (c *BackfillCounts) Add(s State, n int) {
	c.Total += n
	switch s {
	case StateQueued:
		c.Waiting += n
	case StateRunning:
		c.Running += n
	case StateSuccess:
		c.Success += n
	case StateFailed:
		c.Failed += n
	case StateCancelled:
		c.Cancelled += n
	case StateSkipped:
		c.Skipped += n
	}
}

// BackfillItem is one run of a backfill, or the plan of it.
type BackfillItem struct {
	Backfill string `json:"backfill"`
	// N is its place, from 0.
	N int `json:"n"`
	// State is queued while there is no run, running until the run has ended, and then the run's last state; skipped if it was left out when its
	// turn came, cancelled without a run if that never did.
	State State  `json:"state"`
	Run   string `json:"run,omitempty"`
	// Reason is why there is no run, or "".
	Reason string `json:"reason,omitempty"`
	// Kind, Rule, Key and LaneKey are the run's trigger; Due is the nominal time of a cron tick.
	Kind    trigger.Kind `json:"kind"`
	Rule    string       `json:"rule"`
	Key     string       `json:"key"`
	LaneKey string       `json:"lane_key,omitempty"`
	Due     time.Time    `json:"due,omitzero"`
	// Batches are the inputs, oldest first.
	Batches []string `json:"batches"`
}

// Firing returns the firing of the item, without its batches, and as the rule's own run. A replay number makes it one of the backfill.
func (it *BackfillItem) Firing(dag, version string) trigger.Firing {
	f := trigger.Firing{Kind: it.Kind, DAG: dag, Rule: it.Rule, Key: it.Key, LaneKey: it.LaneKey, Due: it.Due, Version: version}
	if len(it.Batches) > 1 {
		f.Closed = "backfill"
	}
	return f
}

// ItemState says what became of a run of a backfill: running, as long as it has not ended, or its last state.
type ItemState struct {
	Backfill, Run string
	State         State
}

// LiveBackfill is a backfill that has not ended, with those of its items that have not.
type LiveBackfill struct {
	Backfill Backfill
	Items    []BackfillItem
}

// BackfillPlan is a backfill with all of its items and what was left out, before anything is stored.
type BackfillPlan struct {
	Backfill Backfill       `json:"backfill"`
	Items    []BackfillItem `json:"items"`
	// Left is what was selected and is not run, and why: the first [MaxLeftOut] of LeftTotal.
	Left      []LeftOut `json:"left_out"`
	LeftTotal int       `json:"left_out_total"`
	// Found are batches that the ledger does not have any more, and that were read from the chain.
	Found []batcher.Batch `json:"-"`
}

// LeftOut is a batch, or a nominal time, that a backfill does not run.
type LeftOut struct {
	Batch string    `json:"batch,omitempty"`
	Due   time.Time `json:"due,omitzero"`
	// Reason is a sentence for people.
	Reason string `json:"reason"`
}

// Past is what a DAG has done about a batch, or about a nominal time.
type Past struct {
	// Fates are the batch's dispositions for the DAG's rules.
	Fates []trigger.Disposition
	// Runs are those of the DAG that had it as an input, or that are of the same trigger, oldest first. Only ID, State, Backfill and CreatedAt are filled in.
	Runs []Run
	// Planned is the id of a backfill that has not ended, and is to run it; "" if there is none.
	Planned string
}

// BackfillQuery selects backfills, newest first. Zero fields do not select.
type BackfillQuery struct {
	DAG    string
	State  BackfillState
	Before string
	Limit  int
}

// BackfillStore reads backfills, and what they decide on.
type BackfillStore interface {
	// Backfills returns a page, with counts, and the cursor of the next one ("" at the end).
	Backfills(ctx context.Context, q BackfillQuery) ([]Backfill, string, error)
	// Backfill returns one, with counts; ErrNotFound.
	Backfill(ctx context.Context, id string) (*Backfill, error)
	// BackfillItems returns items from n on, at most limit (1 to 1000, default 100).
	BackfillItems(ctx context.Context, id string, n, limit int) ([]BackfillItem, error)
	// PastBatches returns the past of batches for a DAG, by batch; one that nothing is known of is not in it.
	PastBatches(ctx context.Context, dag string, batches []string) (map[string]Past, error)
	// PastRuns is PastBatches for triggers, by the id of the rule's own run. It has no fates.
	PastRuns(ctx context.Context, dag string, runs []string) (map[string]Past, error)
}

// Backfiller starts runs anew. Each call that changes something is one transaction. Errors: ErrNotFound, ErrInvalid, ErrUnavailable.
type Backfiller interface {
	// Replay starts one more run on what a run was given. ErrInvalid while a run of the same inputs is under way, or if they can not be run any more.
	Replay(ctx context.Context, run string, r Replay) (*Run, error)
	// StartBackfill stores a plan. Its runs are started as its limit permits. One whose id is known changes nothing, and is returned as it is.
	StartBackfill(ctx context.Context, p *BackfillPlan) (*Backfill, error)
	// SteerBackfill takes a backfill to another state: paused, running or cancelled. Runs that are under way go on; with runs they are cancelled.
	// One that has ended is left alone.
	SteerBackfill(ctx context.Context, id string, to BackfillState, o Steer) (*Backfill, error)
}

// Steer says how a backfill's state is changed.
type Steer struct {
	// Runs cancels the runs that are under way, if the backfill is cancelled.
	Runs bool
	By   string
}

// Judge says what rules want; it is pure. Its implementation is package trigger/rules.
type Judge interface {
	// Rule makes a batch rule ready, which counts as not paused.
	Rule(r trigger.Rule) (RuleJudge, error)
	// Ticks returns the nominal times of a cron rule in a span, at most limit.
	Ticks(r trigger.Rule, s Span, limit int) ([]time.Time, error)
}

// RuleJudge judges batches by one rule.
type RuleJudge interface {
	// Judge says what becomes of a batch: run, coalesced, filtered or dropped, and why if it is not wanted; and its key.
	Judge(b *batcher.Batch) (fate trigger.Fate, reason, key string)
	// Key returns the rule's key for a batch, whether the rule wants it or not.
	Key(b *batcher.Batch) (string, error)
}

// Refuse says why inputs with this past are left out, as a sentence that begins with a verb, or "".
func (r Reprocess) Refuse(p Past) string {
	for i := range p.Runs {
		if !p.Runs[i].State.Terminal() {
			return "is an input of run " + p.Runs[i].ID + ", which is under way"
		}
	}
	if p.Planned != "" {
		return "is to be run by backfill " + p.Planned
	}
	switch r {
	case ReprocessNone:
		for i := range p.Runs {
			if s := p.Runs[i].State; s != StateFailed {
				return "had run " + p.Runs[i].ID + ", which is " + string(s) + " (reprocess is none)"
			}
		}
	case ReprocessFailed:
		if len(p.Runs) == 0 {
			return "never had a run (reprocess is failed)"
		}
		if last := &p.Runs[len(p.Runs)-1]; last.State != StateFailed && last.State != StateCancelled {
			return "had run " + last.ID + " last, which is " + string(last.State) + " (reprocess is failed)"
		}
	}
	return ""
}
