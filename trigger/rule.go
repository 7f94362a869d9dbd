package trigger

import (
	"errors"
	"fmt"
	"time"
)

// Kind is what can start a run.
type Kind string

// The kinds of triggers. KindDAG is no rule's: a task of another run asked for it.
const (
	KindBatch  Kind = "batch"
	KindCron   Kind = "cron"
	KindManual Kind = "manual"
	KindDAG    Kind = "dag"
)

// Rule is one entry of a DAG's `on:`, identified by (DAG, ID): an edit of the file keeps the rule.
type Rule struct {
	DAG string `json:"dag"`
	ID  string `json:"id"`
	// Version is the hash of the DAG version that the rule is read from, and that its runs pin.
	Version string `json:"version"`
	Kind    Kind   `json:"kind"`
	// Paused holds what arrives instead of firing; WhenPaused says what becomes of it.
	Paused     bool       `json:"paused,omitempty"`
	WhenPaused WhenPaused `json:"when_paused,omitempty"`
	// Gated: what would start a run waits while the run's concurrency group is full, see [Gate]. It follows from the DAG, as Paused does.
	Gated bool `json:"gated,omitempty"`

	// Tenant and Source select batches; Source "" or "*" selects all sources of the tenant, Tenant "" means "default", "*" all.
	// Batches of quarantine lanes match only with Quarantine.
	Tenant     string `json:"tenant,omitempty"`
	Source     string `json:"source,omitempty"`
	Quarantine bool   `json:"quarantine,omitempty"`
	// Types keeps batches that hold at least one event of one of these types; empty keeps all.
	Types []string `json:"types,omitempty"`
	// If is a CEL expression over `batch` that yields a bool; "" is true.
	If string `json:"if,omitempty"`
	// Key is a CEL expression over `batch` that yields the key by which batches are coalesced and joined; "" is one key for all.
	Key      string    `json:"key,omitempty"`
	Coalesce *Coalesce `json:"coalesce,omitempty"`
	// Order says in which order its batches fire and its runs start; "": as they come.
	Order Order `json:"order,omitempty"`
	// AllOf makes the rule a join of these rules of its DAG, its sides, by id; see [Rule.Joins]. Expire is how long a batch waits for the other
	// sides, from when it was cut; 0: for ever.
	AllOf  []string      `json:"all_of,omitempty"`
	Expire time.Duration `json:"expire,omitempty"`
	// OnlyJoined: the rule starts no runs of its own, only joins that name it do.
	OnlyJoined bool `json:"only_joined,omitempty"`

	// Cron is a five-field expression, read in Timezone (IANA name, "" is UTC).
	Cron     string `json:"cron,omitempty"`
	Timezone string `json:"timezone,omitempty"`
	// Jitter delays each run by a part of itself that is a function of the rule and the nominal time, so that not all rules fire in the first
	// second of a minute.
	Jitter time.Duration `json:"jitter,omitempty"`
	// Catchup says what becomes of nominal times that passed while nobody fired; nil: those of the last two hours fire, or the newest before.
	Catchup *Catchup `json:"catchup,omitempty"`
}

// Name returns "<dag>/<id>", as in metrics and in the ledger.
func (r Rule) Name() string { return r.DAG + "/" + r.ID }

// MaxSides bounds the rules that one join names.
const MaxSides = 16

// Joins reports whether r is a join: a batch rule that selects no batches itself, but takes those that the rules of AllOf want. It starts a run
// when each of them has a batch of the same key.
func (r Rule) Joins() bool { return len(r.AllOf) > 0 }

// Order says in which order the batches of a rule fire and its runs start.
type Order string

// The orders.
const (
	// OrderFIFO: in the order of the chain; of the runs that wait for their concurrency group the oldest goes first.
	OrderFIFO Order = "fifo"
	// OrderLIFO: batches fire as they come; of the runs of the rule that wait for their group the newest goes first.
	OrderLIFO Order = "lifo"
	// OrderLatestOnly: in the order of the chain; of the batches of one key that wait only the newest fires, the others are dropped.
	OrderLatestOnly Order = "latest_only"
)

// Cursored reports whether a batch waits until all before it in its chain are in the ledger.
func (o Order) Cursored() bool { return o == OrderFIFO || o == OrderLatestOnly }

// Coalesce says how many batches of one key become one run. A zero bound does not close a group; at least one must be set.
type Coalesce struct {
	MaxBatches int   `json:"max_batches,omitempty" yaml:"max_batches"`
	MaxEvents  int64 `json:"max_events,omitempty" yaml:"max_events"`
	// MaxBytes counts stored bytes of objects.
	MaxBytes int64 `json:"max_bytes,omitempty" yaml:"max_bytes"`
	// Quiet closes a group when no batch came for so long; MaxWait when its first batch is so old.
	Quiet   time.Duration `json:"quiet,omitempty" yaml:"quiet"`
	MaxWait time.Duration `json:"max_wait,omitempty" yaml:"max_wait"`
	// Mode says which batches of a closed group its run gets; "" is CoalesceAll.
	Mode CoalesceMode `json:"mode,omitempty" yaml:"mode"`
}

// CoalesceMode says which batches of a closed group its run gets.
type CoalesceMode string

// The modes. Of CoalesceLatest, all but the newest are dropped when the group closes; they count for its bounds until then.
const (
	CoalesceAll    CoalesceMode = "all"
	CoalesceLatest CoalesceMode = "latest"
)

// WhenPaused says what becomes of the batches that come while a rule is paused. "" is PausedHold.
type WhenPaused string

// The ways. Of PausedLatest, batches with different keys do not count as one.
const (
	PausedHold   WhenPaused = "hold"   // all fire when the rule goes on
	PausedDrop   WhenPaused = "drop"   // none does
	PausedLatest WhenPaused = "latest" // the newest of each key does
)

// Catchup is what a cron rule does about the nominal times that it missed: the process was away, or the clock jumped ahead.
type Catchup struct {
	// Window is how far back they count; what is older is passed over.
	Window time.Duration `json:"window,omitempty"`
	Policy CatchupPolicy `json:"policy"`
}

// CatchupPolicy says which of the missed times fire.
type CatchupPolicy string

// The policies.
const (
	CatchupAll    CatchupPolicy = "all"    // each, oldest first
	CatchupLatest CatchupPolicy = "latest" // the newest
	CatchupSkip   CatchupPolicy = "skip"   // none: a time that is late by more than a minute was missed
)

// MaxGroup bounds the batches of one group, whatever the rule says: a run's inputs are one row each, and are held in memory while it waits.
const MaxGroup = 10_000

// Validate reports all that is wrong with c.
func (c Coalesce) Validate() error {
	var errs []error
	if c.MaxBatches < 0 || c.MaxBatches > MaxGroup || c.MaxEvents < 0 || c.MaxBytes < 0 || c.Quiet < 0 || c.MaxWait < 0 {
		errs = append(errs, fmt.Errorf("a bound is negative, or max_batches is above %d", MaxGroup))
	}
	if c == (Coalesce{Mode: c.Mode}) {
		errs = append(errs, errors.New("set at least one of max_batches, max_events, max_bytes, quiet, max_wait"))
	}
	if c.Mode != "" && c.Mode != CoalesceAll && c.Mode != CoalesceLatest {
		errs = append(errs, fmt.Errorf("mode %q is not known", c.Mode))
	}
	if c.Quiet > 0 && c.MaxWait > 0 && c.Quiet > c.MaxWait {
		errs = append(errs, errors.New("quiet is longer than max_wait, so it can never close a group"))
	}
	return errors.Join(errs...)
}

// RuleSet is all rules that are active at one time. Gen rises with each change.
type RuleSet struct {
	Gen   int64
	Rules []Rule
}

// RuleSource hands out the active rules.
type RuleSource interface {
	// Rules returns the current set, not to be changed by the caller, and a channel that is closed when there is a newer one.
	Rules() (RuleSet, <-chan struct{})
}
