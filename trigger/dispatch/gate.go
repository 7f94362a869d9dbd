package dispatch

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"millrace/batcher"
	"millrace/trigger"
	"millrace/trigger/coalesce"
)

// Batches of a gated rule ([trigger.Rule.Gated]) do not become a run while its concurrency group is full. They wait in an open group, which closes
// when there is a place, oldest first; of a rule that wants the latest alone the newest waits, and a join goes on holding what it has. The
// bounds in number and size hold all the same, so such a group ends, and its run waits in the scheduler's queue.

// closedCapacity is why a group of a gated rule closed that waited for nothing but a place.
const closedCapacity = "capacity"

// noBounds are those of a group of a gated rule that does not coalesce.
var noBounds = trigger.Coalesce{MaxBatches: trigger.MaxGroup}

// full returns the concurrency group of a gated rule if that has no place left, else "".
func (d *draft) full(r *trigger.Rule, key string) string {
	if d.gate == nil || !r.Gated {
		return ""
	}
	name := d.gate.Group(r, key)
	if name == "" || d.gate.Free(name) > d.taken[name] {
		return ""
	}
	return name
}

// place notes that a run takes a place.
func (d *draft) place(r *trigger.Rule, key string) {
	if d.gate != nil && r.Gated {
		d.taken[d.gate.Group(r, key)]++
	}
}

// sized is spec without the bounds in time: a group that is closed by these waits for its place.
func sized(r *trigger.Rule, key string) coalesce.Spec {
	s := coalesce.Spec{Rule: r.Name(), Key: key, Bounds: &noBounds}
	if r.Coalesce != nil {
		bounds := *r.Coalesce
		bounds.Quiet, bounds.MaxWait = 0, 0
		s.Bounds = &bounds
	}
	return s
}

// due returns why a group is to be closed now, or the concurrency group for whose place it waits, or neither.
func (d *draft) due(r *trigger.Rule, g *trigger.Group) (reason, full string) {
	if d.gate == nil || !r.Gated {
		return spec(r, g.Key).Due(*g, d.now), ""
	}
	if reason := sized(r, g.Key).Due(*g, d.now); reason != "" {
		return reason, ""
	}
	reason = closedCapacity
	if r.Coalesce != nil {
		reason = spec(r, g.Key).Due(*g, d.now)
	}
	if reason != "" {
		if full = d.full(r, g.Key); full != "" {
			return "", full
		}
	}
	return reason, ""
}

// gather puts b into the open group of a gated rule whose concurrency group is full, and reports whether it did.
func (d *draft) gather(r *trigger.Rule, at groupKey, b batcher.Batch) bool {
	g, full := d.group(at), d.full(r, at.key)
	if full == "" && (g == nil || r.Coalesce != nil) {
		return false
	}
	if g != nil && r.Order == trigger.OrderLatestOnly {
		next := *g
		for _, old := range g.Batches {
			d.become(trigger.Disposition{Batch: old.ID, Rule: at.rule, Fate: trigger.FateDropped, Reason: reasonSuperseded, Group: g.ID})
		}
		next.Batches, next.Events, next.Bytes = nil, 0, 0
		g = &next
	}
	d.add(r, at, b, sized(r, at.key), g)
	if g := d.group(at); g != nil && full != "" && r.Coalesce == nil {
		d.waits[at] = full
	}
	return true
}

// letIn gives the places that are free now to those that wait for them, oldest first.
func (d *draft) letIn() {
	if d.gate == nil {
		return
	}
	var keys []groupKey
	for _, name := range slices.Sorted(maps.Keys(d.b.full)) {
		if d.gate.Free(name) > 0 {
			keys = slices.AppendSeq(keys, maps.Keys(d.b.full[name]))
		}
	}
	d.closeAll(keys)
}

// closeAll closes those of some groups that are due, and fires the joins among them, oldest first.
func (d *draft) closeAll(keys []groupKey) {
	since := make(map[groupKey]time.Time, len(keys))
	for _, key := range keys {
		if g := d.group(key); g != nil {
			since[key] = g.OpenedAt
		} else if set := d.joining(key); set != nil {
			since[key] = set.first
		}
	}
	slices.SortFunc(keys, func(a, b groupKey) int { return cmp.Or(since[a].Compare(since[b]), compareKeys(a, b)) })
	for _, key := range keys {
		r, g := d.set.Rule(key.rule), d.group(key)
		switch {
		case r == nil || r.Paused:
		case r.Joins():
			d.joins[key] = d.meetAny(r, key, d.joining(key))
		case g == nil:
		default:
			reason, full := d.due(r, g)
			if reason != "" {
				d.fireGroup(r, key, coalesce.Close(*g, reason))
			} else if full != "" {
				d.waits[key] = full
			}
		}
	}
}

// adoptWaits keeps who waits for a place of which concurrency group.
func (d *draft) adoptWaits() {
	b := d.b
	drop := func(key groupKey) {
		if of := b.full[b.waits[key]]; of != nil {
			if delete(of, key); len(of) == 0 {
				delete(b.full, b.waits[key])
			}
		}
		delete(b.waits, key)
	}
	for key := range b.waits {
		// Groups and joins that were all looked at have said anew whether they wait.
		if _, join := b.joins[key]; d.set.Gen != b.gen || d.scanned && !join {
			drop(key)
		}
	}
	for key, g := range d.groups {
		if g == nil {
			drop(key)
		}
	}
	for key, set := range d.joins {
		if set == nil {
			drop(key)
		}
	}
	for key, name := range d.waits {
		if d.group(key) == nil && d.joining(key) == nil {
			continue
		}
		drop(key)
		b.waits[key] = name
		if b.full[name] == nil {
			b.full[name] = map[groupKey]bool{}
		}
		b.full[name][key] = true
	}
}
