package scheduler

import (
	"fmt"
	"strings"
	"time"
)

// What a deadline counts from.
const (
	FromBatchSealed = "batch_sealed" // the cut of the oldest batch of the run
	FromRunCreated  = "run_created"  // the creation of the run
	FromCronTime    = "cron_time"    // the nominal time of the tick that started the run
	FromAverage     = "average"      // the creation of the run, plus the average duration of earlier ones
)

// DeadlineRule says until when a run is to be successful.
type DeadlineRule struct {
	// From is one of the From constants. Last and MinRuns are those of FromAverage: so many of the DAG's newest successful runs are averaged, and
	// there is no deadline before there are so many.
	From    string `json:"from"`
	Last    int    `json:"last,omitempty"`
	MinRuns int    `json:"min_runs,omitempty"`
	// Within is added to that.
	Within time.Duration `json:"within"`
	// Notify are the notifiers that are told when it is missed, besides those of on_event.deadline.
	Notify []string `json:"notify,omitempty"`
}

// String returns the rule in words: "5m after batch_sealed".
func (r *DeadlineRule) String() string {
	within := r.Within.String()
	if strings.HasSuffix(within, "m0s") {
		within = strings.TrimSuffix(within, "0s")
	}
	if strings.HasSuffix(within, "h0m") {
		within = strings.TrimSuffix(within, "0m")
	}
	if r.From == FromAverage {
		return fmt.Sprintf("%s after average(%d)", within, r.Last)
	}
	return within + " after " + r.From
}

// MaxDeadline bounds Within.
const MaxDeadline = 31 * 24 * time.Hour

// MaxAverage bounds Last.
const MaxAverage = 100

// Deadline is one deadline of one run. It ends in one of two ways, and stays that way whatever becomes of the run later.
type Deadline struct {
	// N is the place of its rule in [DAG.Deadlines], Rule what that says: "5m after batch_sealed".
	N    int    `json:"n"`
	Rule string `json:"rule"`
	// At is when the run is to be successful; MetAt when it was, in time; MissedAt when it was seen that it was not.
	At       time.Time `json:"at"`
	MetAt    time.Time `json:"met_at,omitzero"`
	MissedAt time.Time `json:"missed_at,omitzero"`
}

// Open reports whether d has not ended yet.
func (d *Deadline) Open() bool { return d.MetAt.IsZero() && d.MissedAt.IsZero() }

// NextDeadline returns when the first open deadline of the run is, or zero.
func (r *Run) NextDeadline() (at time.Time) {
	for i := range r.Deadlines {
		if d := &r.Deadlines[i]; d.Open() && (at.IsZero() || d.At.Before(at)) {
			at = d.At
		}
	}
	return at
}

// Waiting is a batch that waits for its run: it is held, or in an open group.
type Waiting struct {
	Batch string
	// Rule is [trigger.Rule.Name], Group the open group, "" for a batch that is held.
	Rule, Group string
	// SealedAt is when the batch was cut.
	SealedAt time.Time
}

// Key is the trigger key of the run that is waited for: the group, or the batch.
func (w *Waiting) Key() string {
	if w.Group != "" {
		return w.Group
	}
	return w.Batch
}

// Overdue says that a run that is still to come has missed a deadline: what it will be made of waits for too long.
type Overdue struct {
	// Rule and Key are those of the run to come, N is as in [Deadline].
	Rule string `json:"rule"`
	Key  string `json:"key"`
	N    int    `json:"n"`
	// At is when the run was to be successful, MissedAt when it was seen that there is none.
	At       time.Time `json:"at"`
	MissedAt time.Time `json:"missed_at"`
	// Done says that nothing waits any more: the run exists, and has the deadline among its own, or there will be none.
	Done bool `json:"-"`
}
