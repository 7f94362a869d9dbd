package dispatch

import (
	"maps"
	"slices"

	"millrace/batcher"
	"millrace/trigger"
	"millrace/trigger/coalesce"
)

// lineUp holds a batch of a rule with an order until the cursor of its chain has passed it: then all before it are in the ledger.
func (d *draft) lineUp(r *trigger.Rule, key string, b batcher.Batch) {
	h := trigger.Held{Batch: b, Reason: trigger.HeldOrder, Key: key, At: d.now}
	d.become(trigger.Disposition{Batch: b.ID, Rule: r.Name(), Fate: trigger.FateHeld, Reason: h.Reason, Key: key})
	name := r.Name()
	d.ordered[name] = append(slices.Clip(d.lined(name)), h)
}

func (d *draft) lined(rule string) []trigger.Held {
	if list, ok := d.ordered[rule]; ok {
		return list
	}
	return d.b.ordered[rule]
}

// sweepOrder brings what is lined up in line with the rules.
func (d *draft) sweepOrder() {
	for _, name := range slices.Sorted(maps.Keys(d.b.ordered)) {
		r := d.set.Rule(name)
		switch list := slices.Clone(d.b.ordered[name]); {
		case r == nil, r.Joins():
			for _, h := range list {
				d.dropHeld(name, r, h)
			}
			d.ordered[name] = nil
		case r.Paused:
			for i := range list {
				list[i].Reason = trigger.HeldPaused
				d.become(trigger.Disposition{Batch: list[i].Batch.ID, Rule: name, Fate: trigger.FateHeld, Reason: trigger.HeldPaused, Key: list[i].Key})
			}
			d.hold(r, list...)
			d.ordered[name] = nil
		}
	}
}

// advance fires what the cursors have passed, in the order of the chains. Of the batches of a rule that wants the latest alone only the newest of
// each key does, once it is known that there is no newer one.
func (d *draft) advance(f *found) {
	names := map[string]bool{}
	for name := range d.b.ordered {
		names[name] = true
	}
	for name := range d.ordered {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		r, list := d.set.Rule(name), d.lined(name)
		if r == nil || len(list) == 0 || r.Order == trigger.OrderLatestOnly && (f.more || d.more) {
			continue
		}
		var ready []batcher.Batch
		var rest []trigger.Held
		keys := map[string]string{}
		for _, h := range list {
			if r.Order.Cursored() && !f.passed(&h.Batch) {
				rest = append(rest, h)
				continue
			}
			ready = append(ready, h.Batch)
			keys[h.Batch.ID] = h.Key
		}
		if len(ready) == 0 {
			continue
		}
		d.ordered[name] = rest
		ready = coalesce.Oldest(ready)
		if r.Order == trigger.OrderLatestOnly {
			ready = d.newestOfKey(r, ready, keys)
		}
		for _, b := range ready {
			d.take(r, keys[b.ID], b)
		}
	}
}

// newestOfKey drops all but the newest batch of each key.
func (d *draft) newestOfKey(r *trigger.Rule, list []batcher.Batch, keys map[string]string) []batcher.Batch {
	last := map[string]string{}
	for _, b := range list {
		last[keys[b.ID]] = b.ID
	}
	return slices.DeleteFunc(list, func(b batcher.Batch) bool {
		older := last[keys[b.ID]] != b.ID
		if older {
			d.become(trigger.Disposition{Batch: b.ID, Rule: r.Name(), Fate: trigger.FateDropped, Reason: reasonSuperseded})
		}
		return older
	})
}
