package trigger

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/ingest"
)

// Fate is what became of a batch for a rule.
type Fate string

// The fates. Held and Coalesced are provisional: freezing a firing makes them Run, the end of the rule or of the wait makes them Dropped or
// Expired. The others are final.
const (
	FateRun       Fate = "run"
	FateCoalesced Fate = "coalesced"
	FateFiltered  Fate = "filtered"
	FateHeld      Fate = "held"
	FateDropped   Fate = "dropped"
	FateExpired   Fate = "expired"
)

// Final reports whether f never changes again.
func (f Fate) Final() bool { return f != FateHeld && f != FateCoalesced }

// Disposition is the ledger's line for one (batch, rule). There is exactly one for each batch and each rule that was active when the batch
// was inserted.
type Disposition struct {
	Batch string `json:"batch"`
	// Rule is [Rule.Name].
	Rule string `json:"rule"`
	Fate Fate   `json:"disposition"`
	// Reason is a code, for Dropped ("gone", "rule_removed", "rule_changed", "paused", "superseded"), Held ([HeldPaused], [HeldJoin], [HeldOrder]),
	// Filtered ("types", "if", "if_error: …", "only_joined") and Expired ("missing: <sides>").
	Reason string `json:"reason,omitempty"`
	// Key is the value of the rule's key expression, and Sides are the sides of a join that wanted the batch, in the order of the rule's AllOf:
	// both as they were when it came, for Held and Expired.
	Key   string   `json:"key,omitempty"`
	Sides []string `json:"sides,omitempty"`
	// Run is set for Run, Group for Coalesced, and kept when the group becomes a run.
	Run   string    `json:"run,omitempty"`
	Group string    `json:"group,omitempty"`
	At    time.Time `json:"at"`
}

// Why a batch is held.
const (
	HeldPaused = "paused" // its DAG is paused
	HeldJoin   = "join"   // another side of the join has no batch of its key
	HeldOrder  = "order"  // a batch before it in its chain is not in the ledger
)

// Held is a batch that a rule holds, with what its disposition says of that.
type Held struct {
	Batch  batcher.Batch
	Reason string
	Key    string
	Sides  []string
	// At is since when.
	At time.Time
}

// Since is when the wait of a batch in a join began: when it was cut, or earlier if the clock of who cut it was ahead.
func (h *Held) Since() time.Time {
	if h.Batch.CreatedAt.Before(h.At) {
		return h.Batch.CreatedAt
	}
	return h.At
}

// Arrival is a batch that the ledger did not have, with one disposition for each rule then active.
type Arrival struct {
	Batch        batcher.Batch
	Dispositions []Disposition
	// At is when it was decided on; those of one intake keep their order.
	At time.Time
}

// Past is a batch as it once arrived: what a decision is made again from.
type Past struct {
	Batch batcher.Batch
	At    time.Time
}

// Group is an open set of batches of one rule and key that will become one run.
type Group struct {
	// ID is the trigger key of the run to be: "coal:<key>:<first batch id>". It is unique within its rule only: two rules that group the same
	// batches by the same key have groups of one id.
	ID   string `json:"id"`
	Rule string `json:"rule"`
	Key  string `json:"key"`
	// OpenedAt and LastAt are when the first and the newest batch were added.
	OpenedAt time.Time `json:"opened_at"`
	LastAt   time.Time `json:"last_at"`
	Events   int64     `json:"events"`
	Bytes    int64     `json:"bytes"`
	// Batches are the members, oldest first; the ledger keeps them as dispositions.
	Batches []batcher.Batch `json:"-"`
	// Closed is why the group was closed ("max_batches", "max_events", "max_bytes", "quiet", "max_wait", "rule_removed"), or "".
	Closed string `json:"closed,omitempty"`
}

// Firing is a rule's decision to start a run, with its inputs frozen.
type Firing struct {
	Kind Kind   `json:"kind"`
	DAG  string `json:"dag"`
	// Rule is the rule's id within the DAG; "" for a manual firing of a DAG without a manual rule, and for one that a task asked for.
	Rule string `json:"rule"`
	// Key is the trigger key: the batch id, the group id, "join:<key>:<first batch id>", the nominal cron time (RFC 3339), the request's id, or the id
	// of the attempt that asks.
	Key string `json:"key"`
	// Version is the DAG version to run.
	Version string `json:"version"`
	// Batches are the frozen inputs, oldest first.
	Batches []batcher.Batch `json:"-"`
	// LaneKey is the value of the rule's key expression, Closed why a group was closed, "all_of" for a join.
	LaneKey string `json:"lane_key,omitempty"`
	Closed  string `json:"closed,omitempty"`
	// At is when it was decided; Due the nominal time of a cron tick, else zero.
	At  time.Time `json:"at"`
	Due time.Time `json:"due,omitzero"`
	// Params are the run's parameters, as JSON, or nil.
	Params json.RawMessage `json:"params,omitempty"`
	// Replay is 0 for a rule's own run, else the number of the replay.
	Replay int `json:"replay,omitempty"`
	// Parent is the id of the task that asks for a run, Path are the ids of the DAGs that led to it, the task's own last; of KindDAG.
	Parent string   `json:"parent,omitempty"`
	Path   []string `json:"path,omitempty"`
}

// RunID returns the id of the run that f starts: a pure function of DAG, rule, trigger key and replay number, so that whoever decides the
// same thing twice names the same run.
func (f Firing) RunID() string {
	text := strings.Join([]string{"run1", f.DAG, f.Rule, f.Key, strconv.Itoa(f.Replay)}, "\x00")
	sum := sha256.Sum256([]byte(text))
	return "r" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:15]))
}

// Cursor says that every batch of entries up to Seq of a stream is in the ledger.
type Cursor struct {
	Stream ingest.Stream `json:"stream"`
	Seq    int64         `json:"seq"`
}

// Tick says that nominal times of a cron rule up to At were dealt with.
type Tick struct {
	Rule string    `json:"rule"`
	At   time.Time `json:"at"`
}

// Intake is what dispatch decided in one step. All of it is committed, or nothing.
type Intake struct {
	// Gen is the rule set that the decisions were made with.
	Gen int64
	// Arrivals are new batches; Updates change provisional dispositions of older ones.
	Arrivals []Arrival
	Updates  []Disposition
	// Groups are as they are after this step; closed ones are removed.
	Groups  []Group
	Firings []Firing
	Cursors []Cursor
	Ticks   []Tick
}

// Sentinel errors of the starter and bus seams.
var (
	// ErrStale: the rules changed since the intake was decided, nothing was committed; decide again.
	ErrStale = errors.New("rules have changed")
	// ErrUnavailable: nothing is known of the outcome; try again.
	ErrUnavailable = errors.New("trigger store or bus unavailable")
	// ErrClosed: the bus or subscription was closed by its owner.
	ErrClosed = errors.New("bus closed")
)

// Starter is the hand-off to the scheduler.
type Starter interface {
	// Start commits in, in one transaction, and returns after that. A batch that the ledger has already is left alone with its
	// dispositions, a firing whose run exists is left alone: an intake may be repeated. Errors: ErrStale, ErrUnavailable.
	Start(ctx context.Context, in Intake) error
}

// Memory is what dispatch must know after a restart.
type Memory struct {
	Cursors []Cursor
	// Ahead are batches above their stream's cursor that are in the ledger already.
	Ahead []Ahead
	// Groups are the open groups with their batches; Held the held batches by rule name.
	Groups []Group
	Held   map[string][]Held
	Ticks  []Tick
	// Fresh reports that the ledger has never had a cursor: it starts at the tails that exist now.
	Fresh bool
}

// Ahead is a batch above the cursor.
type Ahead struct {
	Stream ingest.Stream
	Seq    int64
	Batch  string
}

// Ledger remembers for dispatch.
type Ledger interface {
	// Remember loads what was committed; ErrUnavailable.
	Remember(ctx context.Context) (Memory, error)
}
