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
	reasonSuperseded  = "superseded"   // a newer batch of its key came while the rule was paused, which keeps the latest
)

// book is the part of the ledger that decisions are made on: what is provisional, and the ticks.
type book struct {
	// gen is the rule set that groups and held batches were last compared with; -1: none.
	gen    int64
	groups map[groupKey]*trigger.Group
	held   map[string][]batcher.Batch
	crons  map[string]cronState
	// groupDue and cronDue are no later than the first group or tick that is due; zero: none is.
	groupDue, cronDue time.Time
}

type groupKey struct{ rule, key string }

func newBook(m trigger.Memory) *book {
	b := &book{gen: -1, groups: map[groupKey]*trigger.Group{}, held: m.Held, crons: map[string]cronState{}}
	for i := range m.Groups {
		g := &m.Groups[i]
		b.groups[groupKey{g.Rule, g.Key}] = g
	}
	for _, tick := range m.Ticks {
		b.crons[tick.Rule] = cronState{at: tick.At}
	}
	if b.held == nil {
		b.held = map[string][]batcher.Batch{}
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

	groups   map[groupKey]*trigger.Group // nil: there is none any more
	held     map[string][]batcher.Batch
	crons    map[string]cronState
	scanned  bool // all groups were looked at
	arrivals map[string]int
	updates  map[line]int
}

type line struct{ batch, rule string }

// decide is step 3. It is pure: it changes neither b nor set, and the intake is all there is to it.
func decide(b *book, set *rules.Set, refs []*ref, now time.Time, o Options) *draft {
	d := &draft{
		b: b, set: set, now: now, in: trigger.Intake{Gen: set.Gen}, room: 4 * o.MaxBatches,
		groups: map[groupKey]*trigger.Group{}, held: map[string][]batcher.Batch{}, crons: map[string]cronState{},
		arrivals: map[string]int{}, updates: map[line]int{},
	}
	changed := set.Gen != b.gen
	if changed {
		d.sweep()
	}
	d.release()
	if changed || !b.groupDue.IsZero() && !now.Before(b.groupDue) {
		d.closeDue()
	}
	for _, r := range refs {
		d.arrive(r)
	}
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
				d.become(trigger.Disposition{Batch: b.ID, Rule: key.rule, Fate: trigger.FateHeld, Reason: rules.ReasonPaused})
			}
			d.hold(r, g.Batches...)
			d.end(key, coalesce.Close(*g, coalesce.Paused))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.b.held)) {
		if d.set.Rule(name) == nil {
			for _, b := range d.b.held[name] {
				d.become(trigger.Disposition{Batch: b.ID, Rule: name, Fate: trigger.FateDropped, Reason: reasonRuleRemoved})
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
		list = coalesce.Oldest(list)
		n := min(len(list), d.room)
		for i := range list[:n] {
			b := &list[i]
			key, err := d.set.Key(name, b)
			if err != nil {
				d.become(trigger.Disposition{Batch: b.ID, Rule: name, Fate: trigger.FateDropped, Reason: rules.KeyReason(err)})
				continue
			}
			d.take(r, key, *b)
		}
		d.room -= n
		d.held[name] = slices.Clip(list[n:])
		d.more = d.more || n < len(list)
	}
}

// closeDue closes the groups whose time has come, or whose rule has other bounds now.
func (d *draft) closeDue() {
	d.scanned = true
	for _, key := range slices.SortedFunc(maps.Keys(d.b.groups), compareKeys) {
		r, g := d.set.Rule(key.rule), d.group(key)
		if r == nil || g == nil {
			continue
		}
		if reason := spec(r, key.key).Due(*g, d.now); reason != "" {
			d.fireGroup(r, key, coalesce.Close(*g, reason))
		}
	}
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
		a.Dispositions = append(a.Dispositions, trigger.Disposition{Batch: b.ID, Rule: v.Rule.Name(), Fate: v.Fate, Reason: v.Reason, At: d.now})
	}
	d.arrivals[b.ID] = len(d.in.Arrivals)
	d.in.Arrivals = append(d.in.Arrivals, a)
	for i, v := range verdicts {
		switch a.Dispositions[i].Fate {
		case trigger.FateRun, trigger.FateCoalesced:
			d.take(v.Rule, v.Key, b)
		case trigger.FateHeld:
			d.hold(v.Rule, b)
		}
	}
}

// hold keeps batches until the rule is not paused any more.
func (d *draft) hold(r *trigger.Rule, batches ...batcher.Batch) {
	name := r.Name()
	list := append(slices.Clip(d.holds(name)), batches...)
	if r.WhenPaused == trigger.PausedLatest {
		list = d.latest(r, list)
	}
	d.held[name] = list
}

// latest drops the batches that are not the newest of their key, and returns the others.
func (d *draft) latest(r *trigger.Rule, list []batcher.Batch) []batcher.Batch {
	var kept []batcher.Batch
	newer := map[string]bool{}
	for _, b := range slices.Backward(coalesce.Oldest(list)) {
		key, err := d.set.Key(r.Name(), &b)
		if err != nil { // it is dropped when it is released, and says why
			key = b.ID
		}
		if newer[key] {
			d.become(trigger.Disposition{Batch: b.ID, Rule: r.Name(), Fate: trigger.FateDropped, Reason: reasonSuperseded})
			continue
		}
		newer[key] = true
		kept = append(kept, b)
	}
	slices.Reverse(kept)
	return kept
}

// take fires a rule for b, or puts b into the rule's group.
func (d *draft) take(r *trigger.Rule, key string, b batcher.Batch) {
	if r.Coalesce == nil {
		d.fire(r, trigger.Firing{Kind: trigger.KindBatch, Key: b.ID, Batches: []batcher.Batch{b}, LaneKey: key}, "")
		return
	}
	at := groupKey{r.Name(), key}
	closed, open := spec(r, key).Add(d.group(at), b, d.now)
	if open != nil && open.Batches[len(open.Batches)-1].ID == b.ID {
		d.become(trigger.Disposition{Batch: b.ID, Rule: at.rule, Fate: trigger.FateCoalesced, Group: open.ID})
	}
	for _, g := range closed {
		d.fireGroup(r, at, g)
	}
	d.groups[at] = open
}

func (d *draft) fireGroup(r *trigger.Rule, key groupKey, g trigger.Group) {
	d.fire(r, trigger.Firing{Kind: trigger.KindBatch, Key: g.ID, Batches: g.Batches, LaneKey: g.Key, Closed: g.Closed}, g.ID)
	d.end(key, g)
}

// fire decides a run of r and makes its batches final.
func (d *draft) fire(r *trigger.Rule, f trigger.Firing, group string) {
	f.DAG, f.Rule, f.Version, f.At = r.DAG, r.ID, r.Version, d.now
	run := f.RunID()
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

func (d *draft) holds(rule string) []batcher.Batch {
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
func (d *draft) adopt() {
	b := d.b
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
	if r == nil || r.Paused {
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
