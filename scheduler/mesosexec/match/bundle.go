package match

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"millrace/scheduler/mesos"
)

// bundle has the offers of one agent for one role: what one ACCEPT may use together.
type bundle struct {
	agent, hostname, role string
	machine               Machine       // as the first of the offers says
	offers                []mesos.Offer // by id
	kinds                 []mesos.Resource
	stock                 []*stock // by index of the name in names; nil or short: it has none
	gpus                  bool
	placed                []Placed
	used                  []bool // by offer
}

// stock is what a bundle has of the resources of one name: how much was offered, members counting as one each, and what is left of it.
type stock struct {
	offered Amount
	scalar  Amount
	members int
	parts   []*part
}

func (s *stock) left() Amount { return s.scalar + One*Amount(s.members) }

// part is one resource of one offer, with what is left of it. kind is its index in bundle.kinds: those of one kind are the same but for the amount.
type part struct {
	offer, kind int
	scalar      Amount
	ranges      []mesos.Range // in order, not touching
	items       []string      // in order
}

// names gives each name of a resource an index.
type names map[string]int

// of returns the index of a name, a new one if it is new.
func (n names) of(name string) int {
	i, ok := n[name]
	if !ok {
		i = len(n)
		n[name] = i
	}
	return i
}

// bundles puts offers together, by agent and role, in that order.
func bundles(offers []mesos.Offer, names names) []*bundle {
	sorted := slices.Clone(offers)
	slices.SortFunc(sorted, func(a, b mesos.Offer) int {
		return cmp.Or(cmp.Compare(a.AgentID.Value, b.AgentID.Value), cmp.Compare(roleOf(&a), roleOf(&b)), cmp.Compare(a.ID.Value, b.ID.Value))
	})
	var out []*bundle
	for i := range sorted {
		o := &sorted[i]
		if i > 0 && sorted[i-1].ID == o.ID {
			continue // The same offer twice is one.
		}
		if last := len(out) - 1; last < 0 || out[last].agent != o.AgentID.Value || out[last].role != roleOf(o) {
			out = append(out, &bundle{agent: o.AgentID.Value, hostname: o.Hostname, role: roleOf(o), machine: Machine{o.Hostname, o.Domain, o.Attributes}})
		}
		b := out[len(out)-1]
		b.offers, b.used = append(b.offers, *o), append(b.used, false)
	}
	for _, b := range out {
		b.take(names)
	}
	return out
}

// roleOf returns the role for which an offer was made. Frameworks of a single role see it in no offer.
func roleOf(o *mesos.Offer) string {
	if o.AllocationInfo != nil {
		return o.AllocationInfo.Role
	}
	for i := range o.Resources {
		if info := o.Resources[i].AllocationInfo; info != nil {
			return info.Role
		}
	}
	return ""
}

// take fills the stock from the offers.
func (b *bundle) take(names names) {
	kinds := map[string]int{}
	for i := range b.offers {
		for _, r := range b.offers[i].Resources {
			p := &part{offer: i}
			if p.fill(&r); p.size() == 0 || !forTasks(&r) {
				continue
			}
			key := identity(&r)
			k, ok := kinds[key]
			if !ok {
				k = len(b.kinds)
				kinds[key] = k
				r.Scalar, r.Ranges, r.Set = nil, nil, nil
				b.kinds = append(b.kinds, r)
			}
			p.kind = k
			s := b.grow(names.of(r.Name))
			s.offered += p.size()
			s.scalar += p.scalar
			s.members += countOf(p.ranges) + len(p.items)
			s.parts = append(s.parts, p)
		}
	}
	for _, s := range b.stock {
		if s == nil {
			continue
		}
		slices.SortStableFunc(s.parts, func(x, y *part) int {
			return cmp.Or(cmp.Compare(order(&b.kinds[x.kind]), order(&b.kinds[y.kind])), cmp.Compare(x.offer, y.offer),
				cmp.Compare(identity(&b.kinds[x.kind]), identity(&b.kinds[y.kind])))
		})
	}
	b.gpus = b.at(names.of(mesos.GPUs)) != nil
}

// grow returns the stock of a name, which may be new.
func (b *bundle) grow(name int) *stock {
	for len(b.stock) <= name {
		b.stock = append(b.stock, nil)
	}
	if b.stock[name] == nil {
		b.stock[name] = &stock{}
	}
	return b.stock[name]
}

// at returns the stock of a name, nil if there is none.
func (b *bundle) at(name int) *stock {
	if name >= len(b.stock) {
		return nil
	}
	return b.stock[name]
}

// fill reads the value of r. What is not of its type is left out.
func (p *part) fill(r *mesos.Resource) {
	switch {
	case r.Type == mesos.TypeScalar && r.Scalar != nil:
		p.scalar = Offered(r.Scalar.Value)
	case r.Type == mesos.TypeRanges && r.Ranges != nil:
		p.ranges = disjoint(r.Ranges.Range)
	case r.Type == mesos.TypeSet && r.Set != nil:
		p.items = unique(r.Set.Item)
	}
}

func (p *part) size() Amount {
	return p.scalar + One*Amount(countOf(p.ranges)) + One*Amount(len(p.items))
}

// forTasks reports whether any task may have r: see the package comment for what it may not.
func forTasks(r *mesos.Resource) bool {
	return r.Disk == nil && r.Shared == nil && r.Revocable == nil && r.ProviderID == nil
}

// order puts what is reserved before what is not.
func order(r *mesos.Resource) int {
	if r.Reservation != nil || len(r.Reservations) > 0 || r.Role != "" && r.Role != "*" {
		return 0
	}
	return 1
}

// identity returns a text that is equal for resources which differ in their amounts only.
func identity(r *mesos.Resource) string {
	role := "-"
	if r.AllocationInfo != nil {
		role = strconv.Quote(r.AllocationInfo.Role)
	}
	key := r.Name + " " + r.Type + " " + strconv.Quote(r.Role) + " " + role
	if r.Reservation == nil && len(r.Reservations) == 0 {
		return key
	}
	text, err := json.Marshal(struct {
		One  *mesos.Reservation
		More []mesos.Reservation
	}{r.Reservation, r.Reservations})
	if err != nil {
		panic(err) // They are strings only.
	}
	return key + string(text)
}

// away says when the agent is not to be used: now, or from some time on.
func (b *bundle) away(now time.Time, reach time.Duration) (down, ahead bool) {
	for i := range b.offers {
		u := b.offers[i].Unavailability
		if u == nil {
			continue
		}
		start := time.Unix(0, u.Start.Nanoseconds)
		over := u.Duration != nil && !now.Before(start.Add(u.Duration.Nanoseconds))
		switch {
		case over:
		case !start.After(now):
			down = true
		case reach == 0 || start.Before(now.Add(reach)):
			ahead = true
		}
	}
	return down, ahead
}
