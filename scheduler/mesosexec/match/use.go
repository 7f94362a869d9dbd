package match

import (
	"cmp"
	"slices"

	"millrace/scheduler/mesos"
)

// has reports whether b has all that is needed.
func (b *bundle) has(needs []want) bool {
	for i := range needs {
		if !b.at(needs[i].name).has(&needs[i].Need) {
			return false
		}
	}
	return true
}

func (s *stock) has(n *Need) bool {
	if s == nil || n.Amount > s.scalar || n.members() > s.members {
		return false
	}
	return !n.particular() || s.free(n) == len(n.Numbers)+len(n.Items)
}

// free counts which of the particular members of n there are.
func (s *stock) free(n *Need) int {
	if s == nil {
		return 0
	}
	free := 0
	for _, v := range n.Numbers {
		if slices.ContainsFunc(s.parts, func(p *part) bool { return contains(p.ranges, v) }) {
			free++
		}
	}
	for _, v := range n.Items {
		if slices.ContainsFunc(s.parts, func(p *part) bool { return slices.Contains(p.items, v) }) {
			free++
		}
	}
	return free
}

// basket collects what one task is given, by kinds.
type basket struct {
	scalars map[int]Amount
	numbers map[int][]uint64
	items   map[int][]string
}

// use takes what is needed out of b, which has it.
func (b *bundle) use(id string, needs []want) {
	got := basket{map[int]Amount{}, map[int][]uint64{}, map[int][]string{}}
	task := Placed{Ask: id}
	if len(needs) == 0 {
		b.used[0] = true // The agent has to be said by an offer.
	}
	for i := range needs {
		s := b.at(needs[i].name)
		b.useScalar(s, needs[i].Amount, got)
		b.useMembers(s, &needs[i].Need, got)
	}
	for k, kind := range b.kinds {
		switch {
		case got.scalars[k] > 0:
			kind.Scalar = &mesos.Scalar{Value: got.scalars[k].Float()}
		case len(got.numbers[k]) > 0:
			kind.Ranges = &mesos.Ranges{Range: rangesOf(got.numbers[k])}
		case len(got.items[k]) > 0:
			kind.Set = &mesos.Set{Item: unique(got.items[k])}
		default:
			continue
		}
		task.Resources = append(task.Resources, kind)
		if kind.Name == mesos.Ports {
			task.Ports = unique(append(task.Ports, got.numbers[k]...))
		}
	}
	slices.SortStableFunc(task.Resources, func(x, y mesos.Resource) int { return cmp.Compare(x.Name, y.Name) })
	b.placed = append(b.placed, task)
}

func (b *bundle) useScalar(s *stock, want Amount, got basket) {
	for _, p := range s.parts {
		n := min(want, p.scalar)
		if n == 0 {
			continue
		}
		p.scalar, s.scalar, want = p.scalar-n, s.scalar-n, want-n
		got.scalars[p.kind] += n
		b.used[p.offer] = true
	}
}

// useMembers takes the particular members first, so that none of them is taken as any.
func (b *bundle) useMembers(s *stock, n *Need, got basket) {
	if n.members() == 0 {
		return
	}
	s.members -= n.members()
	for _, p := range s.parts {
		for _, v := range n.Numbers {
			b.useNumber(p, v, got)
		}
		for _, v := range n.Items {
			b.useItem(p, v, got)
		}
	}
	count := n.Count
	for _, p := range s.parts {
		for _, v := range lowest(p.ranges, count) {
			count -= b.useNumber(p, v, got)
		}
		for _, v := range slices.Clone(p.items[:min(count, len(p.items))]) {
			count -= b.useItem(p, v, got)
		}
	}
}

func (b *bundle) useNumber(p *part, v uint64, got basket) int {
	if !contains(p.ranges, v) {
		return 0
	}
	p.ranges = without(p.ranges, v)
	got.numbers[p.kind] = append(got.numbers[p.kind], v)
	b.used[p.offer] = true
	return 1
}

func (b *bundle) useItem(p *part, v string, got basket) int {
	if !slices.Contains(p.items, v) {
		return 0
	}
	p.items = slices.DeleteFunc(slices.Clone(p.items), func(s string) bool { return s == v })
	got.items[p.kind] = append(got.items[p.kind], v)
	b.used[p.offer] = true
	return 1
}

// accept returns what is to be accepted of b.
func (b *bundle) accept() Accept {
	out := Accept{AgentID: mesos.ID{Value: b.agent}, Hostname: b.hostname, Role: b.role, Tasks: b.placed}
	for i, used := range b.used {
		if used {
			out.OfferIDs = append(out.OfferIDs, b.offers[i].ID)
		}
	}
	out.Rest = b.rest(func(offer int) bool { return b.used[offer] })
	return out
}

func (p *part) add(q *part) {
	p.scalar += q.scalar
	p.ranges = disjoint(append(p.ranges, q.ranges...))
	p.items = unique(append(p.items, q.items...))
}

// rest returns what is left of the offers for which of says so, of each kind once, by name.
func (b *bundle) rest(of func(offer int) bool) []mesos.Resource {
	left := make([]part, len(b.kinds))
	for _, s := range b.stock {
		if s == nil {
			continue
		}
		for _, p := range s.parts {
			if of(p.offer) {
				left[p.kind].add(p)
			}
		}
	}
	var out []mesos.Resource
	for k, kind := range b.kinds {
		switch {
		case left[k].scalar > 0:
			kind.Scalar = &mesos.Scalar{Value: left[k].scalar.Float()}
		case len(left[k].ranges) > 0:
			kind.Ranges = &mesos.Ranges{Range: left[k].ranges}
		case len(left[k].items) > 0:
			kind.Set = &mesos.Set{Item: left[k].items}
		default:
			continue
		}
		out = append(out, kind)
	}
	slices.SortStableFunc(out, func(x, y mesos.Resource) int { return cmp.Compare(x.Name, y.Name) })
	return out
}
