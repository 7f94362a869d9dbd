package engine

import (
	"slices"

	"millrace/scheduler"
	"millrace/trigger"
)

// order is that of the rule which started a run, as the run's own version has it.
func (l *live) order() trigger.Order {
	t := &l.Row.Trigger
	if t.Kind != trigger.KindBatch || l.Row.Class() != scheduler.ClassLive {
		return ""
	}
	for i := range l.DAG.On {
		if r := &l.DAG.On[i]; r.ID == t.Rule {
			return r.Order
		}
	}
	return ""
}

// next takes out the run whose turn it is: the first that waits, or, of a rule with lifo, the newest of that rule, which changes its turn with the
// first. So other rules of the group are neither passed nor held up by it.
func (g *group) next() *live {
	newest := 0
	if first := g.waiting[0]; first.order() == trigger.OrderLIFO {
		for i, o := range g.waiting {
			if o.Row.Trigger.Rule == first.Row.Trigger.Rule && o.order() == trigger.OrderLIFO && !o.Row.State.Terminal() && byAge(g.waiting[newest], o) < 0 {
				newest = i
			}
		}
	}
	l := g.waiting[newest]
	g.waiting[newest] = g.waiting[0]
	g.waiting = g.waiting[1:]
	return l
}

// ahead returns how many runs of its group get a place before l, if no more come.
func (g *group) ahead(l *live) int {
	waiting := slices.DeleteFunc(slices.Clone(g.waiting), func(o *live) bool { return o.Row.State.Terminal() })
	if l.order() != trigger.OrderLIFO {
		return max(0, slices.Index(waiting, l))
	}
	left := &group{waiting: waiting}
	for n := 0; len(left.waiting) > 0; n++ {
		if left.next() == l {
			return n
		}
	}
	return 0
}

// lifoNote says why newer runs come before one that waits, or "".
func (g *group) lifoNote(l *live, why *scheduler.Why) string {
	if why.Ahead == 0 || l.order() != trigger.OrderLIFO {
		return ""
	}
	return ", since rule " + l.Row.Trigger.Rule + " has order: lifo"
}
