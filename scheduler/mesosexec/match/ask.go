package match

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

// Ask is what one task wants of an agent.
type Ask struct {
	// ID is the task's; no two asks have the same.
	ID string
	// Rank is its turn: those with a lower one come before all others.
	Rank int
	// Roles are those whose offers it may use; none: any that there are.
	Roles []string
	// Needs are what it needs of the resources. Those of one name are added up.
	Needs []Need
	// Constraints are those of the task. Group is what they look at the other attempts of; attempts of one group are spread.
	Constraints []scheduler.Constraint
	Group       string
	// Avoid are ids of agents that are to be used last: they refused the task.
	Avoid []string
	// Reach is how long the task may take. Agents with maintenance within it are used last. 0: not known; any maintenance ahead counts.
	Reach time.Duration
}

// Need is what is needed of the resources of one name. For a scalar it has Amount, for ranges and sets the others.
type Need struct {
	Name   string
	Amount Amount
	// Count is a number of members, whichever they are, of ranges or of a set; Numbers are particular ones of ranges, Items of a set.
	Count   int
	Numbers []uint64
	Items   []string
}

// want is a need with the index of its name in the round.
type want struct {
	Need
	name int
}

// Needs returns what a task needs that asks for r, and for a number of ports and particular ones.
func Needs(r *scheduler.Resources, ports int, fixed ...uint64) []Need {
	const mib = 1 << 20
	var out []Need
	add := func(name string, a Amount) {
		if a > 0 {
			out = append(out, Need{Name: name, Amount: a})
		}
	}
	if r != nil {
		add(mesos.CPUs, Wanted(r.CPU))
		add(mesos.Mem, Wanted(math.Ceil(float64(r.Mem)/mib)))
		add(mesos.Disk, Wanted(math.Ceil(float64(r.Disk)/mib)))
		add(mesos.GPUs, Wanted(float64(r.GPU)))
	}
	if ports > 0 || len(fixed) > 0 {
		out = append(out, Need{Name: mesos.Ports, Count: ports, Numbers: fixed})
	}
	return out
}

// normal returns needs by name, each once, without those of nothing.
func normal(needs []Need) []Need {
	var out []Need
	sorted := slices.Clone(needs)
	slices.SortStableFunc(sorted, func(a, b Need) int { return cmp.Compare(a.Name, b.Name) })
	for _, n := range sorted {
		n.Amount, n.Count = max(n.Amount, 0), max(n.Count, 0)
		n.Numbers, n.Items = unique(n.Numbers), unique(n.Items)
		switch last := len(out) - 1; {
		case n.Amount == 0 && n.members() == 0:
		case last >= 0 && out[last].Name == n.Name:
			out[last].Amount += n.Amount
			out[last].Count += n.Count
			out[last].Numbers = unique(append(out[last].Numbers, n.Numbers...))
			out[last].Items = unique(append(out[last].Items, n.Items...))
		default:
			out = append(out, n)
		}
	}
	return out
}

// members returns how many members of ranges or sets n needs.
func (n *Need) members() int { return n.Count + len(n.Numbers) + len(n.Items) }

// size returns how much n needs, members counting as one each.
func (n *Need) size() Amount { return n.Amount + One*Amount(n.members()) }

// particular reports whether n needs a certain member.
func (n *Need) particular() bool { return len(n.Numbers)+len(n.Items) > 0 }

func unique[T cmp.Ordered](in []T) []T {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

// alike reports whether two asks differ in nothing but ID and Rank.
func alike(a, b *Ask) bool {
	return a.Group == b.Group && a.Reach == b.Reach && slices.Equal(a.Roles, b.Roles) && slices.Equal(a.Avoid, b.Avoid) && slices.Equal(a.Constraints, b.Constraints) &&
		slices.EqualFunc(a.Needs, b.Needs, func(m, n Need) bool {
			return m.Name == n.Name && m.Amount == n.Amount && m.Count == n.Count && slices.Equal(m.Numbers, n.Numbers) && slices.Equal(m.Items, n.Items)
		})
}

// keys returns two texts. The first is equal for asks that may use the same agents, as far as what they need does not matter; the second for
// those that need the same.
func (a *Ask) keys(needs []want) (frame, amounts string) {
	var b strings.Builder
	number := func(v uint64) { b.WriteString(strconv.FormatUint(v, 10) + ",") }
	text := func(s string) { b.WriteString(strconv.Quote(s)) }
	gpus := false
	for _, n := range needs {
		text(n.Name)
		gpus = gpus || n.Name == mesos.GPUs
		number(uint64(n.Amount))
		number(uint64(n.Count))
		for _, v := range n.Numbers {
			number(v)
		}
		for _, v := range n.Items {
			text(v)
		}
	}
	amounts = b.String()
	b.Reset()
	b.WriteString(strconv.FormatInt(int64(a.Reach), 10) + strconv.FormatBool(gpus))
	for _, list := range [][]string{unique(a.Roles), unique(a.Avoid)} {
		b.WriteByte('|')
		for _, v := range list {
			text(v)
		}
	}
	for _, c := range a.Constraints {
		b.WriteByte('|')
		text(c.Attribute)
		text(c.Op)
		text(c.Value)
	}
	if len(a.Constraints) > 0 {
		text(a.Group)
	}
	return b.String(), amounts
}
