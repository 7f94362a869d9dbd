package mesossim

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"millrace/scheduler/mesos"
)

// offer is one that is held.
type offer struct {
	id      string
	f       *framework
	m       *member
	role    string
	what    bundle
	timeout *timer
}

// filter keeps from a framework what it has declined of an agent, or less of it.
type filter struct {
	agent, role string
	what        bundle
	until       time.Time
}

// allocate offers all that is free.
func (c *Cluster) allocate() {
	l := c.lead
	if l == nil {
		return
	}
	for {
		offers := map[*framework][]mesos.Offer{}
		for _, m := range l.ranks {
			if o := l.next(m); o != nil {
				offers[o.f] = append(offers[o.f], l.words(o))
			}
		}
		if len(offers) == 0 {
			return
		}
		for _, f := range l.order {
			if list := offers[f]; len(list) > 0 {
				f.stream.send(&mesos.Event{Type: mesos.EventOffers, Offers: &mesos.Offers{Offers: list}})
			}
		}
	}
}

// next makes an offer of what is free of an agent, to whoever had least of all that want it.
func (l *leader) next(m *member) *offer {
	if !m.connected {
		return nil
	}
	var wanted []*offer
	for _, f := range l.order {
		for _, role := range f.roles() {
			if what := m.free.of(role); l.wants(f, role, m, what) {
				wanted = append(wanted, &offer{f: f, m: m, role: role, what: what})
			}
		}
	}
	best := l.poorest(wanted)
	if best == nil {
		return nil
	}
	best.f.grants[best.role]++
	m.free = m.free.sub(best.what)
	best.what = best.what.like(m.total)
	best.id = fmt.Sprintf("%s-O%d", l.id, l.nextOffer)
	l.nextOffer++
	l.offers[best.id] = best
	if d := l.c.opt.OfferTimeout; d > 0 {
		best.timeout = l.c.after(d, func() { l.rescind(best.id) })
	}
	return best
}

// poorest returns the offer whose framework and role had least so far.
func (l *leader) poorest(wanted []*offer) *offer {
	if len(wanted) <= 1 {
		return append(wanted, nil)[0]
	}
	best, least := -1, share{}
	for i, o := range wanted {
		if s := (share{l.share(o.f, o.role), o.f.grants[o.role]}); best < 0 || s.less(least) {
			best, least = i, s
		}
	}
	return wanted[best]
}

// share is what the next offer goes by: first how much of the cluster one has, then how often one was offered something.
type share struct {
	dominant float64
	grants   int
}

func (s share) less(o share) bool {
	return s.dominant < o.dominant || s.dominant == o.dominant && s.grants < o.grants
}

// share returns the largest part of any resource that a framework has in a role, used or offered.
func (l *leader) share(f *framework, role string) float64 {
	var total, have bundle
	for _, m := range l.ranks {
		total = total.add(m.total)
	}
	for _, t := range f.tasks {
		if !t.freed && t.role == role {
			have = have.add(t.used)
		}
	}
	for _, o := range l.offers {
		if o.f == f && o.role == role {
			have = have.add(o.what)
		}
	}
	most := 0.0
	for _, name := range []string{mesos.CPUs, mesos.Mem, mesos.Disk} {
		if t := total.amount(name); t > 0 {
			most = max(most, have.amount(name)/t)
		}
	}
	return most
}

// wants reports whether a framework is to be offered something in a role.
func (l *leader) wants(f *framework, role string, m *member, what bundle) bool {
	if f.stream == nil || f.suppressed[role] || !allocatable(f, role, what) {
		return false
	}
	if m.total.amount(mesos.GPUs) > 0 && !f.can(mesos.CapGPU) {
		return false // Unobserved.
	}
	f.filters = slices.DeleteFunc(f.filters, func(x *filter) bool { return !x.until.After(l.c.now()) })
	for _, x := range f.filters {
		if x.agent == m.a.id && x.role == role && x.what.has(what) {
			return false
		}
	}
	return f.constraints == nil || admits(f.constraints.RoleConstraints, role, m.a)
}

// allocatable reports whether something is enough to be offered at all: for the master, and for the framework (unobserved).
func allocatable(f *framework, role string, what bundle) bool {
	if what.amount(mesos.CPUs) < 0.01 && what.amount(mesos.Mem) < 32 {
		return false
	}
	least := f.info.OfferFilters[role].MinAllocatable
	if least == nil || len(least.Quantities) == 0 {
		return true
	}
	return slices.ContainsFunc(least.Quantities, func(q mesos.Quantities) bool {
		for name, amount := range q.Quantities {
			if what.amount(name) < amount.Value {
				return false
			}
		}
		return true
	})
}

// admits reports whether an agent fits a role's constraints (unobserved).
func admits(constraints map[string]mesos.RoleConstraints, role string, a *agent) bool {
	rc, ok := constraints[role]
	if !ok || len(rc.Groups) == 0 {
		return true
	}
	return slices.ContainsFunc(rc.Groups, func(g mesos.ConstraintGroup) bool {
		return !slices.ContainsFunc(g.AttributeConstraints, func(k mesos.AttributeConstraint) bool { return !a.fits(k) })
	})
}

func (a *agent) fits(k mesos.AttributeConstraint) bool {
	value, there, text := a.attribute(k.Selector)
	match := func(r *mesos.Regex) bool {
		ok, err := regexp.MatchString("^(?:"+r.Regex+")$", value)
		return err == nil && ok
	}
	switch p := k.Predicate; {
	case p.Exists != nil:
		return there
	case p.NotExists != nil:
		return !there
	case p.TextEquals != nil:
		return there && (!text || value == p.TextEquals.Value)
	case p.TextNotEquals != nil:
		return !there || !text || value != p.TextNotEquals.Value
	case p.TextMatches != nil:
		return there && (!text || match(p.TextMatches))
	case p.TextNotMatches != nil:
		return !there || !text || !match(p.TextNotMatches)
	}
	return true
}

// attribute returns what a selector names, whether there is such a thing, and whether it is a text.
func (a *agent) attribute(s mesos.Selector) (value string, there, text bool) {
	switch s.Pseudo {
	case "HOSTNAME":
		return a.opt.Hostname, true, true
	case "REGION", "ZONE":
		if d := a.opt.Domain; d == nil || d.FaultDomain == nil {
			return "", false, true
		} else if s.Pseudo == "REGION" {
			return d.FaultDomain.Region.Name, true, true
		} else {
			return d.FaultDomain.Zone.Name, true, true
		}
	}
	for _, at := range a.opt.Attributes {
		if at.Name == s.Attribute {
			if at.Text != nil {
				return at.Text.Value, true, true
			}
			return "", true, false
		}
	}
	return "", false, false
}

// words is an offer as the framework gets it.
func (l *leader) words(o *offer) mesos.Offer {
	a := o.m.a
	return mesos.Offer{ID: mesos.ID{Value: o.id}, FrameworkID: mesos.ID{Value: o.f.id}, AgentID: mesos.ID{Value: a.id}, Hostname: a.opt.Hostname,
		URL: a.url(), Domain: a.opt.Domain, Resources: o.what.list(o.role, o.f.can(mesos.CapReservationRefinement)), Attributes: a.opt.Attributes,
		ExecutorIDs: a.executorIDs(o.f.id), Unavailability: o.m.window, AllocationInfo: &mesos.AllocationInfo{Role: o.role}}
}

// recover gives an offer's resources back.
func (l *leader) recover(id string) *offer {
	o := l.offers[id]
	if o == nil {
		return nil
	}
	delete(l.offers, id)
	if l.c.opt.Easy.Offers {
		l.used[id] = o
	}
	o.timeout.stop()
	o.m.free = o.m.free.add(o.what)
	return o
}

// rescind takes an offer back and says so.
func (l *leader) rescind(id string) {
	if o := l.recover(id); o != nil && o.f.stream != nil {
		o.f.stream.send(&mesos.Event{Type: mesos.EventRescind, Rescind: &mesos.Rescind{OfferID: mesos.ID{Value: id}}})
	}
}

// refuse remembers what was declined, 5 s unless the filters say otherwise.
func (l *leader) refuse(f *framework, m *member, role string, what bundle, filters *mesos.Filters) {
	seconds := 5.0
	if filters != nil && filters.RefuseSeconds >= 0 {
		seconds = min(filters.RefuseSeconds, 365*24*3600)
	}
	if seconds > 0 && len(what) > 0 {
		f.filters = append(f.filters, &filter{m.a.id, role, what, l.c.now().Add(l.c.opt.seconds(seconds))})
	}
}

func (l *leader) decline(f *framework, d *mesos.Decline) {
	for _, id := range d.OfferIDs {
		if o := l.offers[id.Value]; o != nil && o.f == f {
			l.recover(id.Value)
			l.refuse(f, o.m, o.role, o.what, d.Filters)
		}
	}
}

// suppress keeps offers away from roles; revive brings them back, at once. Roles that the framework has not are ignored.
func (l *leader) suppress(f *framework, r *mesos.Roles) {
	for _, role := range rolesOf(f, r) {
		f.suppressed[role] = true
	}
}

func (l *leader) revive(f *framework, r *mesos.Roles) {
	roles := rolesOf(f, r)
	for _, role := range roles {
		delete(f.suppressed, role)
	}
	f.filters = slices.DeleteFunc(f.filters, func(x *filter) bool { return slices.Contains(roles, x.role) })
	l.c.allocate()
}

func rolesOf(f *framework, r *mesos.Roles) []string {
	if r == nil || len(r.Roles) == 0 {
		return f.roles()
	}
	return r.Roles
}
