// Package coalesce decides which batches become one run. It is pure: it takes a group, a batch and the time, and returns groups.
//
// A group is open from its first batch until a bound closes it; then it is frozen: its batches become the inputs of one run, oldest first
// ([Oldest]), and nothing is added to it any more. Whoever keeps the groups must commit a change of them together with the batches that
// caused it; then a crash anywhere leaves each batch in exactly one group.
//
//	Add ──▶ open ──┬─ max_batches, max_events, max_bytes: on the batch that reaches the bound (which is still in it)
//	               ├─ quiet, max_wait: when [Spec.Due] says so
//	               └─ rule_changed: the rule no longer coalesces
package coalesce

import (
	"cmp"
	"slices"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
)

// Why a group was closed.
const (
	MaxBatches  = "max_batches"
	MaxEvents   = "max_events"
	MaxBytes    = "max_bytes"
	Quiet       = "quiet"
	MaxWait     = "max_wait"
	RuleChanged = "rule_changed"
	// RuleRemoved and Paused end a group without a run: its batches are dropped, or held.
	RuleRemoved = "rule_removed"
	Paused      = "paused"
)

// Spec is what a group is opened for.
type Spec struct {
	// Rule is [trigger.Rule.Name], Key the value of its key expression.
	Rule, Key string
	// Bounds are the rule's, as they are now; nil means that the rule does not coalesce any more, and closes every group.
	Bounds *trigger.Coalesce
}

// Add puts b into g, the open group of s.Rule and s.Key, or into a new one if g is nil or due at now. It returns the groups that are closed by
// that, at most two and in order, and the one that is open afterwards, or nil. g is not changed; its Batches are appended to, so the caller
// goes on with what was returned.
func (s Spec) Add(g *trigger.Group, b batcher.Batch, now time.Time) (closed []trigger.Group, open *trigger.Group) {
	if g != nil {
		if reason := s.Due(*g, now); reason != "" {
			closed, g = append(closed, Close(*g, reason)), nil
		}
	}
	next := trigger.Group{ID: "coal:" + s.Key + ":" + b.ID, Rule: s.Rule, Key: s.Key, OpenedAt: now, LastAt: now}
	if g != nil {
		next = *g
	}
	next.Batches = append(next.Batches, b)
	next.Events += b.Events
	next.Bytes += b.Bytes
	if now.After(next.LastAt) {
		next.LastAt = now
	}
	if reason := s.Due(next, now); reason != "" {
		return append(closed, Close(next, reason)), nil
	}
	return closed, &next
}

// Due returns why g must be closed at now, or "".
func (s Spec) Due(g trigger.Group, now time.Time) string {
	c := s.Bounds
	switch {
	case c == nil:
		return RuleChanged
	case len(g.Batches) >= trigger.MaxGroup, c.MaxBatches > 0 && len(g.Batches) >= c.MaxBatches:
		return MaxBatches
	case c.MaxEvents > 0 && g.Events >= c.MaxEvents:
		return MaxEvents
	case c.MaxBytes > 0 && g.Bytes >= c.MaxBytes:
		return MaxBytes
	case c.Quiet > 0 && !now.Before(g.LastAt.Add(c.Quiet)):
		return Quiet
	case c.MaxWait > 0 && !now.Before(g.OpenedAt.Add(c.MaxWait)):
		return MaxWait
	}
	return ""
}

// Deadline returns when g becomes due without another batch; zero if never.
func (s Spec) Deadline(g trigger.Group) time.Time {
	var at time.Time
	if s.Bounds == nil {
		return g.OpenedAt
	}
	if s.Bounds.Quiet > 0 {
		at = g.LastAt.Add(s.Bounds.Quiet)
	}
	if s.Bounds.MaxWait > 0 {
		if end := g.OpenedAt.Add(s.Bounds.MaxWait); at.IsZero() || end.Before(at) {
			at = end
		}
	}
	return at
}

// Close returns g closed for reason, its batches frozen in their order as inputs.
func Close(g trigger.Group, reason string) trigger.Group {
	g.Closed, g.Batches = reason, Oldest(g.Batches)
	return g
}

// Oldest returns batches in the order in which a run takes them: those of one stream by entry and cut, whatever clocks said, and streams among
// each other by the time of the cut. The argument is not changed.
func Oldest(batches []batcher.Batch) []batcher.Batch {
	out := slices.Clone(batches)
	slices.SortFunc(out, func(a, b batcher.Batch) int {
		return cmp.Or(cmp.Compare(a.Stream.String(), b.Stream.String()), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Cut, b.Cut))
	})
	// Within a stream, time never goes back: a batch is at least as late as those before it.
	at := make(map[string]time.Time, len(out))
	var stream ingest.Stream
	var latest time.Time
	for _, b := range out {
		if b.Stream != stream {
			stream, latest = b.Stream, time.Time{}
		}
		if b.CreatedAt.After(latest) {
			latest = b.CreatedAt
		}
		at[b.ID] = latest
	}
	slices.SortStableFunc(out, func(a, b batcher.Batch) int { return at[a.ID].Compare(at[b.ID]) })
	return out
}
