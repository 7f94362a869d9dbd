package dispatch

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/trigger"
	"millrace/trigger/coalesce"
	"millrace/trigger/rules"
)

// Reasons of dispositions that are not a rule's verdict.
const (
	reasonGone        = "gone"         // the object was deleted
	reasonRuleRemoved = "rule_removed" // the rule went while the batch was held or in an open group
	reasonSuperseded  = "superseded"   // a newer batch of its key came, and the rule keeps the latest
)

// book is the part of the ledger that decisions are made on: what is provisional, and the ticks.
type book struct {
	// gen is the rule set that groups and held batches were last compared with; -1: none.
	gen    int64
	groups map[groupKey]*trigger.Group
	// held are batches of paused rules, ordered those that are ahead of their cursor; joins have what waits for another side.
	held, ordered map[string][]trigger.Held
	joins         map[groupKey]*joinSet
	crons         map[string]cronState
	// groupDue, cronDue and joinDue are no later than the first group, tick or expiry that is due; zero: none is.
	groupDue, cronDue, joinDue time.Time
	// waits has what waits for a place of a concurrency group, and full the same by the group.
	waits map[groupKey]string
	full  map[string]map[groupKey]bool
	// stalled is since when nothing can expire, because not all was looked at; zero: it can.
	stalled time.Time
}

type groupKey struct{ rule, key string }

func newBook(m trigger.Memory) *book {
	b := &book{
		gen: -1, groups: map[groupKey]*trigger.Group{}, held: map[string][]trigger.Held{}, ordered: map[string][]trigger.Held{},
		joins: map[groupKey]*joinSet{}, crons: map[string]cronState{}, waits: map[groupKey]string{}, full: map[string]map[groupKey]bool{},
	}
	for i := range m.Groups {
		g := &m.Groups[i]
		b.groups[groupKey{g.Rule, g.Key}] = g
	}
	for _, tick := range m.Ticks {
		b.crons[tick.Rule] = cronState{at: tick.At}
	}
	for rule, list := range m.Held {
		for _, h := range list {
			switch h.Reason {
			case trigger.HeldJoin:
				key := groupKey{rule, h.Key}
				b.joins[key] = b.joins[key].with(h)
			case trigger.HeldOrder:
				b.ordered[rule] = append(b.ordered[rule], h)
			default:
				b.held[rule] = append(b.held[rule], h)
			}
		}
	}
	return b
}

// draft is a decision in the making: what would change in the book, and the intake that says so. Dropping it undoes it.
type draft struct {
	b   *book
	set *rules.Set
	now time.Time
	in  trigger.Intake
	// room is how many held batches may still be fired; more: some are left to do at once.
	room int
	more bool

	groups  map[groupKey]*trigger.Group // nil: there is none any more
	joins   map[groupKey]*joinSet       // the same
	held    map[string][]trigger.Held
	ordered map[string][]trigger.Held
	crons   map[string]cronState
	// gate is nil without one. taken counts the runs of this step by concurrency group, and waits has what waits for a place of one.
	gate     trigger.Gate
	taken    map[string]int
	waits    map[groupKey]string
	scanned  bool // all groups were looked at
	expired  bool // all joins were looked at
	stalled  bool // they were to be, but not everything is known that the chains have
	arrivals map[string]int
	updates  map[line]int
}

type line struct{ batch, rule string }

// decide is step 3. It changes neither b nor set, and the intake is all there is to it; but for what the gate says it is pure.
func decide(b *book, set *rules.Set, f *found, now time.Time, o Options) *draft {
	d := &draft{
		b: b, set: set, now: now, in: trigger.Intake{Gen: set.Gen}, room: 4 * o.MaxBatches,
		groups: map[groupKey]*trigger.Group{}, joins: map[groupKey]*joinSet{}, held: map[string][]trigger.Held{},
		ordered: map[string][]trigger.Held{}, crons: map[string]cronState{}, gate: o.Gate, taken: map[string]int{}, waits: map[groupKey]string{},
		arrivals: map[string]int{}, updates: map[line]int{},
	}
	changed := set.Gen != b.gen
	if changed {
		d.sweep()
		d.sweepJoins()
		d.sweepOrder()
	}
	d.release()
	d.letIn()
	if changed || !b.groupDue.IsZero() && !now.Before(b.groupDue) {
		d.closeDue()
	}
	for _, r := range f.refs {
		d.arrive(r)
	}
	d.advance(f)
	d.expire(f)
	if changed || !b.cronDue.IsZero() && !now.Before(b.cronDue) {
		d.tick(o.CatchUp)
	}
	for _, key := range slices.SortedFunc(maps.Keys(d.groups), compareKeys) {
		if g := d.groups[key]; g != nil {
			d.in.Groups = append(d.in.Groups, *g)
		}
	}
	return d
}

// sweep brings provisional batches in line with the rules: those of removed rules are dropped, groups of paused rules are held.
func (d *draft) sweep() {
	for _, key := range slices.SortedFunc(maps.Keys(d.b.groups), compareKeys) {
		g, r := d.b.groups[key], d.set.Rule(key.rule)
		switch {
		case r == nil:
			for _, b := range g.Batches {
				d.become(trigger.Disposition{Batch: b.ID, Rule: key.rule, Fate: trigger.FateDropped, Reason: reasonRuleRemoved, Group: g.ID})
			}
			d.end(key, coalesce.Close(*g, coalesce.RuleRemoved))
		case r.Paused:
			for _, b := range g.Batches {
				d.become(trigger.Disposition{Batch: b.ID, Rule: key.rule, Fate: trigger.FateHeld, Reason: rules.ReasonPaused, Key: key.key})
				d.hold(r, trigger.Held{Batch: b, Reason: rules.ReasonPaused, Key: key.key, At: d.now})
			}
			d.end(key, coalesce.Close(*g, coalesce.Paused))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.b.held)) {
		if d.set.Rule(name) == nil {
			for _, h := range d.b.held[name] {
				d.dropHeld(name, nil, h)
			}
			d.held[name] = nil
		}
	}
}

// release fires what is held for rules that are not paused any more, oldest first.
func (d *draft) release() {
	for _, name := range slices.Sorted(maps.Keys(d.b.held)) {
		r := d.set.Rule(name)
		list := d.holds(name)
		if r == nil || r.Paused || len(list) == 0 {
			continue
		}
		list = oldest(list)
		n := min(len(list), d.room)
		for i := range list[:n] {
			d.letGo(r, list[i])
		}
		d.room -= n
		d.held[name] = slices.Clip(list[n:])
		d.more = d.more || n < len(list)
	}
}

// letGo does with a batch that was held for a paused rule what the rule would do with one that comes now.
func (d *draft) letGo(r *trigger.Rule, h trigger.Held) {
	b, name := &h.Batch, r.Name()
	if r.Joins() {
		if now, ok := d.stays(r, h); ok {
			d.collect(r, now)
		} else {
			d.dropHeld(name, r, h)
		}
		return
	}
	key, err := d.set.Key(name, b)
	switch {
	case err != nil:
		d.become(trigger.Disposition{Batch: b.ID, Rule: name, Fate: trigger.FateDropped, Reason: rules.KeyReason(err)})
	case r.OnlyJoined:
		d.dropHeld(name, r, h)
	case r.Order.Cursored():
		d.lineUp(r, key, *b)
	default:
		d.take(r, key, *b)
	}
}

// oldest is coalesce.Oldest.
func oldest(list []trigger.Held) []trigger.Held {
	of := make(map[string]trigger.Held, len(list))
	batches := make([]batcher.Batch, len(list))
	for i, h := range list {
		of[h.Batch.ID], batches[i] = h, h.Batch
	}
	out := make([]trigger.Held, 0, len(list))
	for _, b := range coalesce.Oldest(batches) {
		out = append(out, of[b.ID])
	}
	return out
}

// closeDue closes the groups whose time has come, or whose rule has other bounds now.
func (d *draft) closeDue() {
	d.scanned = true
	d.closeAll(slices.Collect(maps.Keys(d.b.groups)))
}

// arrive inserts one batch with a disposition for each rule.
func (d *draft) arrive(r *ref) {
	b := r.batch
	verdicts := d.set.Match(&b)
	a := trigger.Arrival{Batch: b, Dispositions: make([]trigger.Disposition, 0, len(verdicts)), At: d.now}
	for _, v := range verdicts {
		if r.gone {
			v.Fate, v.Reason = trigger.FateDropped, reasonGone
		}
		line := trigger.Disposition{Batch: b.ID, Rule: v.Rule.Name(), Fate: v.Fate, Reason: v.Reason, At: d.now}
		if v.Fate == trigger.FateHeld {
			line.Key, line.Sides = v.Key, v.Sides
		}
		a.Dispositions = append(a.Dispositions, line)
	}
	d.arrivals[b.ID] = len(d.in.Arrivals)
	d.in.Arrivals = append(d.in.Arrivals, a)
	for i, v := range verdicts {
		switch a.Dispositions[i].Fate {
		case trigger.FateRun, trigger.FateCoalesced:
			if v.Rule.Order.Cursored() {
				d.lineUp(v.Rule, v.Key, b)
			} else {
				d.take(v.Rule, v.Key, b)
			}
		case trigger.FateHeld:
			h := trigger.Held{Batch: b, Reason: v.Reason, Key: v.Key, Sides: v.Sides, At: d.now}
			if v.Reason == trigger.HeldJoin {
				d.collect(v.Rule, h)
			} else {
				d.hold(v.Rule, h)
			}
		}
	}
}

// hold keeps batches until the rule is not paused any more.
func (d *draft) hold(r *trigger.Rule, more ...trigger.Held) {
	name := r.Name()
	list := append(slices.Clip(d.holds(name)), more...)
	if r.WhenPaused == trigger.PausedLatest {
		list = d.latest(r, list)
	}
	d.held[name] = list
}

// latest drops the batches that are not the newest of their key, and returns the others.
func (d *draft) latest(r *trigger.Rule, list []trigger.Held) []trigger.Held {
	var kept []trigger.Held
	newer := map[string]bool{}
	for _, h := range slices.Backward(oldest(list)) {
		key, err := d.set.Key(r.Name(), &h.Batch)
		switch {
		case err != nil: // it is dropped when it is released, and says why
			key = h.Batch.ID
		case r.Joins(): // each side keeps its own
			key = h.Key + "\x00" + strings.Join(h.Sides, ",")
		}
		if newer[key] {
			d.become(trigger.Disposition{Batch: h.Batch.ID, Rule: r.Name(), Fate: trigger.FateDropped, Reason: reasonSuperseded})
			continue
		}
		newer[key] = true
		kept = append(kept, h)
	}
	slices.Reverse(kept)
	return kept
}

// take fires a rule for b, or puts b into the rule's group.
func (d *draft) take(r *trigger.Rule, key string, b batcher.Batch) {
	at := groupKey{r.Name(), key}
	switch {
	case d.gate != nil && r.Gated && d.gather(r, at, b):
	case r.Coalesce == nil:
		d.fire(r, trigger.Firing{Kind: trigger.KindBatch, Key: b.ID, Batches: []batcher.Batch{b}, LaneKey: key}, "")
	default:
		d.add(r, at, b, spec(r, key), d.group(at))
	}
}

// add puts b into a group, or into a new one if g is nil.
func (d *draft) add(r *trigger.Rule, at groupKey, b batcher.Batch, s coalesce.Spec, g *trigger.Group) {
	closed, open := s.Add(g, b, d.now)
	if open != nil && open.Batches[len(open.Batches)-1].ID == b.ID {
		d.become(trigger.Disposition{Batch: b.ID, Rule: at.rule, Fate: trigger.FateCoalesced, Group: open.ID})
	}
	for _, g := range closed {
		d.fireGroup(r, at, g)
	}
	d.groups[at] = open
}

func (d *draft) fireGroup(r *trigger.Rule, key groupKey, g trigger.Group) {
	if c := r.Coalesce; c != nil && c.Mode == trigger.CoalesceLatest {
		last := len(g.Batches) - 1
		for _, b := range g.Batches[:last] {
			d.become(trigger.Disposition{Batch: b.ID, Rule: key.rule, Fate: trigger.FateDropped, Reason: reasonSuperseded, Group: g.ID})
		}
		g.Batches = g.Batches[last:]
	}
	d.fire(r, trigger.Firing{Kind: trigger.KindBatch, Key: g.ID, Batches: g.Batches, LaneKey: g.Key, Closed: g.Closed}, g.ID)
	d.end(key, g)
}

// fire decides a run of r and makes its batches final.
func (d *draft) fire(r *trigger.Rule, f trigger.Firing, group string) {
	f.DAG, f.Rule, f.Version, f.At = r.DAG, r.ID, r.Version, d.now
	run := f.RunID()
	d.place(r, f.LaneKey)
	for _, b := range f.Batches {
		d.become(trigger.Disposition{Batch: b.ID, Rule: r.Name(), Fate: trigger.FateRun, Run: run, Group: group})
	}
	d.in.Firings = append(d.in.Firings, f)
}

// become sets the disposition of a batch for a rule: in its arrival if that is part of this step, else as an update.
func (d *draft) become(to trigger.Disposition) {
	to.At = d.now
	if i, ok := d.arrivals[to.Batch]; ok {
		list := d.in.Arrivals[i].Dispositions
		j := slices.IndexFunc(list, func(x trigger.Disposition) bool { return x.Rule == to.Rule })
		list[j] = to
		return
	}
	at := line{to.Batch, to.Rule}
	if i, ok := d.updates[at]; ok {
		d.in.Updates[i] = to
		return
	}
	d.updates[at] = len(d.in.Updates)
	d.in.Updates = append(d.in.Updates, to)
}

func (d *draft) end(key groupKey, g trigger.Group) {
	d.groups[key] = nil
	d.in.Groups = append(d.in.Groups, g)
}

func (d *draft) group(key groupKey) *trigger.Group {
	if g, ok := d.groups[key]; ok {
		return g
	}
	return d.b.groups[key]
}

func (d *draft) holds(rule string) []trigger.Held {
	if list, ok := d.held[rule]; ok {
		return list
	}
	return d.b.held[rule]
}

// empty reports whether there is nothing to commit, cursors aside.
func (d *draft) empty() bool {
	return len(d.in.Arrivals)+len(d.in.Updates)+len(d.in.Groups)+len(d.in.Firings)+len(d.in.Ticks) == 0
}

// adopt makes the draft part of the book, after the commit, or if there is nothing to commit.
func (d *draft) adopt(o Options) {
	b := d.b
	d.adoptWaits()
	d.adoptJoins(o)
	b.gen = d.set.Gen
	for key, g := range d.groups {
		if g == nil {
			delete(b.groups, key)
			continue
		}
		b.groups[key] = g
		b.groupDue = earlier(b.groupDue, d.deadline(key, g))
	}
	for rule, list := range d.held {
		if b.held[rule] = list; len(list) == 0 {
			delete(b.held, rule)
		}
	}
	for rule, list := range d.ordered {
		if b.ordered[rule] = list; len(list) == 0 {
			delete(b.ordered, rule)
		}
	}
	d.adoptCrons()
	if !d.scanned {
		return
	}
	b.groupDue = time.Time{}
	for key, g := range b.groups {
		b.groupDue = earlier(b.groupDue, d.deadline(key, g))
	}
}

func (d *draft) deadline(key groupKey, g *trigger.Group) time.Time {
	r := d.set.Rule(key.rule)
	if _, waits := d.b.waits[key]; waits || r == nil || r.Paused || d.gate != nil && r.Gated && r.Coalesce == nil {
		return time.Time{}
	}
	return spec(r, key.key).Deadline(*g)
}

func spec(r *trigger.Rule, key string) coalesce.Spec {
	return coalesce.Spec{Rule: r.Name(), Key: key, Bounds: r.Coalesce}
}

// earlier returns the earlier of two times, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func compareKeys(a, b groupKey) int {
	return cmp.Or(cmp.Compare(a.rule, b.rule), cmp.Compare(a.key, b.key))
}

// failedExpression reports whether a batch was filtered because the rule could not judge it.
func failedExpression(reason string) bool {
	return strings.HasPrefix(reason, rules.ReasonIfError) || strings.HasPrefix(reason, rules.ReasonKeyError) || strings.HasPrefix(reason, rules.ReasonRuleError)
}
