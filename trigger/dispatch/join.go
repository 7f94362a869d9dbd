package dispatch

import (
	"maps"
	"slices"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/trigger"
	"millrace/trigger/coalesce"
)

// A join holds each batch that one of its sides wants until every side has one, and then starts one run with all that it holds of that key. Two
// batches meet if they were cut within Expire of each other: that is a property of the chain, so it does not matter when dispatch came to see
// them, after a pause or a night without a process. What has waited for Expire has expired, but not before everything was looked at that the
// chains have by then. A join of a paused DAG rests: nothing meets, and nothing expires, until it goes on.

const (
	// reasonRuleChanged: the rule was edited while the batch was held, and is not for such batches any more.
	reasonRuleChanged = "rule_changed"
	// reasonMissing is followed by the sides that had no batch in time.
	reasonMissing = "missing: "
	// closedJoin is Firing.Closed of a join.
	closedJoin = "all_of"
	// maxStall is how long a chain that can not be read keeps others from expiring.
	maxStall = 10 * time.Minute
)

// joinSet is what a join holds of one key. It is not changed, except for spare room at the end of list.
type joinSet struct {
	list []trigger.Held
	// have counts the batches of each side; first is when the oldest wait began.
	have  map[string]int
	first time.Time
}

// with returns the set with one more.
func (s *joinSet) with(h trigger.Held) *joinSet {
	next := &joinSet{first: h.Since(), have: map[string]int{}}
	if s != nil {
		next.list, next.have = s.list, maps.Clone(s.have)
		next.first = earlier(s.first, next.first)
	}
	next.list = append(next.list, h)
	for _, side := range h.Sides {
		next.have[side]++
	}
	return next
}

// without returns the set without some, or nil if nothing is left.
func (s *joinSet) without(gone map[string]bool) *joinSet {
	var next *joinSet
	for _, h := range s.list {
		if !gone[h.Batch.ID] {
			next = next.with(h)
		}
	}
	return next
}

// near returns those that can meet h.
func (s *joinSet) near(h *trigger.Held, expire time.Duration) []trigger.Held {
	var out []trigger.Held
	for _, o := range s.list {
		if expire == 0 || o.Batch.CreatedAt.Sub(h.Batch.CreatedAt).Abs() <= expire {
			out = append(out, o)
		}
	}
	return out
}

// lacks returns the sides of which list has no batch.
func lacks(r *trigger.Rule, list []trigger.Held) []string {
	var out []string
	for _, side := range r.AllOf {
		if !slices.ContainsFunc(list, func(h trigger.Held) bool { return slices.Contains(h.Sides, side) }) {
			out = append(out, side)
		}
	}
	return out
}

func (s *joinSet) covers(r *trigger.Rule) bool {
	return s != nil && !slices.ContainsFunc(r.AllOf, func(side string) bool { return s.have[side] == 0 })
}

// collect holds a batch for a join, and fires it if that was the one that lacked.
func (d *draft) collect(r *trigger.Rule, h trigger.Held) {
	h.Reason, h.At = trigger.HeldJoin, d.now
	d.become(trigger.Disposition{Batch: h.Batch.ID, Rule: r.Name(), Fate: trigger.FateHeld, Reason: h.Reason, Key: h.Key, Sides: h.Sides})
	key := groupKey{r.Name(), h.Key}
	set := d.joining(key).with(h)
	if set.covers(r) {
		set = d.meet(r, key, set, &h)
	}
	d.joins[key] = set
}

// meet fires r with what can meet h, if every side is among that, and returns what is left.
func (d *draft) meet(r *trigger.Rule, key groupKey, set *joinSet, h *trigger.Held) *joinSet {
	list := set.near(h, r.Expire)
	if len(lacks(r, list)) > 0 {
		return set
	}
	if full := d.full(r, key.key); full != "" {
		d.waits[key] = full
		return set
	}
	batches := inputs(r, list)
	gone := make(map[string]bool, len(batches))
	for _, b := range batches {
		gone[b.ID] = true
	}
	d.fire(r, trigger.Firing{
		Kind: trigger.KindBatch, Key: "join:" + key.key + ":" + batches[0].ID, Batches: batches, LaneKey: key.key, Closed: closedJoin,
	}, "")
	if set = set.without(gone); set.covers(r) {
		return d.meetAny(r, key, set)
	}
	return set
}

// meetAny fires r as often as its sides meet.
func (d *draft) meetAny(r *trigger.Rule, key groupKey, set *joinSet) *joinSet {
	for i := 0; set.covers(r) && i < len(set.list); i++ {
		if next := d.meet(r, key, set, &set.list[i]); next != set {
			return next // meet goes on with the rest by itself
		}
	}
	return set
}

// inputs returns the batches of a run in their order: all, or, if they are too many, the oldest of each side and the oldest of the rest.
func inputs(r *trigger.Rule, list []trigger.Held) []batcher.Batch {
	all := make([]batcher.Batch, len(list))
	of := make(map[string]*trigger.Held, len(list))
	for i := range list {
		all[i], of[list[i].Batch.ID] = list[i].Batch, &list[i]
	}
	all = coalesce.Oldest(all)
	if len(all) <= trigger.MaxGroup {
		return all
	}
	must := map[string]bool{}
	for _, side := range r.AllOf {
		i := slices.IndexFunc(all, func(b batcher.Batch) bool { return slices.Contains(of[b.ID].Sides, side) })
		must[all[i].ID] = true
	}
	room := trigger.MaxGroup - len(must)
	return slices.DeleteFunc(all, func(b batcher.Batch) bool {
		if must[b.ID] {
			return false
		}
		room--
		return room < 0
	})
}

// sweepJoins brings what joins hold in line with the rules.
func (d *draft) sweepJoins() {
	for _, key := range slices.SortedFunc(maps.Keys(d.b.joins), compareKeys) {
		set, r := d.b.joins[key], d.set.Rule(key.rule)
		var next *joinSet
		for _, h := range set.list {
			if h, ok := d.stays(r, h); ok {
				next = next.with(h)
			} else {
				d.dropHeld(key.rule, r, h)
			}
		}
		if r != nil && !r.Paused {
			next = d.meetAny(r, key, next)
		}
		d.joins[key] = next
	}
}

// stays returns what a batch is to its join as it is now, and whether it is anything.
func (d *draft) stays(r *trigger.Rule, h trigger.Held) (trigger.Held, bool) {
	if r == nil || !r.Joins() {
		return h, false
	}
	h.Sides = slices.DeleteFunc(slices.Clone(h.Sides), func(side string) bool { return !slices.Contains(r.AllOf, side) })
	return h, len(h.Sides) > 0
}

// dropHeld drops a batch that is held for a rule that is gone, or is for others now.
func (d *draft) dropHeld(name string, r *trigger.Rule, h trigger.Held) {
	reason := reasonRuleRemoved
	if r != nil {
		reason = reasonRuleChanged
	}
	d.become(trigger.Disposition{Batch: h.Batch.ID, Rule: name, Fate: trigger.FateDropped, Reason: reason, Key: h.Key, Sides: h.Sides})
}

// expire ends the waits that were too long. It comes after all arrivals of the step.
func (d *draft) expire(f *found) {
	if len(d.b.joins)+len(d.joins) == 0 {
		d.expired = true // nothing waits, whatever is due by what has been there
		return
	}
	if d.set.Gen == d.b.gen && (d.b.joinDue.IsZero() || d.now.Before(d.b.joinDue)) {
		return
	}
	caught := f.caught && !d.more
	if !caught && (f.more || d.more || d.b.stalled.IsZero() || d.now.Sub(d.b.stalled) < maxStall) {
		d.stalled = true
		return
	}
	d.expired = true
	for _, key := range d.joinKeys() {
		r, set := d.set.Rule(key.rule), d.joining(key)
		due := d.joinDeadline(key, set)
		if due.IsZero() || d.now.Before(due) {
			continue
		}
		gone := map[string]bool{}
		for i := range set.list {
			h := &set.list[i]
			missing := lacks(r, set.near(h, r.Expire))
			if d.now.Before(h.Since().Add(r.Expire)) || len(missing) == 0 { // it waits for a place alone
				continue
			}
			gone[h.Batch.ID] = true
			d.become(trigger.Disposition{
				Batch: h.Batch.ID, Rule: key.rule, Fate: trigger.FateExpired, Key: h.Key, Sides: h.Sides,
				Reason: reasonMissing + strings.Join(missing, ", "),
			})
		}
		d.joins[key] = set.without(gone)
	}
}

// joinDeadline returns when the first of a set expires, zero if never.
func (d *draft) joinDeadline(key groupKey, set *joinSet) time.Time {
	r := d.set.Rule(key.rule)
	if r == nil || r.Paused || r.Expire == 0 || set == nil {
		return time.Time{}
	}
	return set.first.Add(r.Expire)
}

func (d *draft) joinKeys() []groupKey {
	all := make(map[groupKey]bool, len(d.b.joins)+len(d.joins))
	for key := range d.b.joins {
		all[key] = true
	}
	for key := range d.joins {
		all[key] = true
	}
	return slices.SortedFunc(maps.Keys(all), compareKeys)
}

func (d *draft) joining(key groupKey) *joinSet {
	if set, ok := d.joins[key]; ok {
		return set
	}
	return d.b.joins[key]
}

// adoptJoins keeps what joins hold, and when the first of it expires.
func (d *draft) adoptJoins(o Options) {
	b := d.b
	for key, set := range d.joins {
		if set == nil {
			delete(b.joins, key)
			continue
		}
		b.joins[key] = set
		b.joinDue = earlier(b.joinDue, d.joinDeadline(key, set))
	}
	switch {
	case d.expired:
		b.stalled, b.joinDue = time.Time{}, time.Time{}
		for key, set := range b.joins {
			b.joinDue = earlier(b.joinDue, d.joinDeadline(key, set))
		}
		if soon := d.now.Add(o.PollMin); !b.joinDue.IsZero() && b.joinDue.Before(soon) {
			b.joinDue = soon // what waits for a place only stays
		}
	case d.stalled:
		b.stalled, b.joinDue = earlier(b.stalled, d.now), d.now.Add(o.PollMin)
	}
}
