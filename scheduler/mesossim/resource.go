package mesossim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"millrace/scheduler/mesos"
)

// bundle is what somebody has of resources: at most one part of each kind, without those that are empty. Bundles are values: no function changes one that it was given.
type bundle []part

// part is so much of one resource. Amounts are in thousandths, as Mesos keeps three decimals.
type part struct {
	kind   mesos.Resource // without amount and allocation
	key    string         // what makes two resources one
	milli  int64
	ranges []mesos.Range
	items  []string
}

// bundleOf returns the resources of a list, added up.
func bundleOf(list []mesos.Resource) bundle {
	var out bundle
	for _, r := range list {
		p := part{kind: r}
		if p.kind.Role == "" && len(p.kind.Reservations) == 0 {
			p.kind.Role = "*"
		}
		if n := len(r.Reservations); n > 0 {
			p.kind.Role = r.Reservations[n-1].Role
		}
		if r.Scalar != nil {
			p.milli = int64(math.Round(r.Scalar.Value * 1000))
		}
		if r.Ranges != nil {
			p.ranges = join(r.Ranges.Range)
		}
		if r.Set != nil {
			p.items = slices.Sorted(slices.Values(r.Set.Item))
		}
		p.kind.Scalar, p.kind.Ranges, p.kind.Set, p.kind.AllocationInfo = nil, nil, nil, nil
		key := p.kind
		if len(key.Reservations) == 1 && key.Reservations[0].Type == "STATIC" {
			key.Reservations = nil // The same as to have the role only.
		}
		text, _ := json.Marshal(key) // Plain data: this cannot fail.
		p.key = string(text)
		out = out.add(bundle{p})
	}
	return out
}

func (p part) empty() bool { return p.milli <= 0 && len(p.ranges) == 0 && len(p.items) == 0 }

// add returns both.
func (b bundle) add(other bundle) bundle {
	out := slices.Clone(b)
	for _, p := range other {
		i := slices.IndexFunc(out, func(q part) bool { return q.key == p.key })
		if i < 0 {
			if !p.empty() {
				out = append(out, p)
			}
			continue
		}
		out[i].milli += p.milli
		out[i].ranges = join(append(slices.Clone(out[i].ranges), p.ranges...))
		out[i].items = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(out[i].items), p.items...))))
	}
	return out
}

// sub returns b without other, and nothing where other has more.
func (b bundle) sub(other bundle) bundle {
	var out bundle
	for _, p := range b {
		if i := slices.IndexFunc(other, func(q part) bool { return q.key == p.key }); i >= 0 {
			p.milli -= other[i].milli
			p.ranges = cut(p.ranges, other[i].ranges)
			p.items = slices.DeleteFunc(slices.Clone(p.items), func(s string) bool { return slices.Contains(other[i].items, s) })
		}
		if !p.empty() {
			out = append(out, p)
		}
	}
	return out
}

// has reports whether all of other is in b.
func (b bundle) has(other bundle) bool {
	for _, p := range other {
		i := slices.IndexFunc(b, func(q part) bool { return q.key == p.key })
		if i < 0 || b[i].milli < p.milli || len(cut(p.ranges, b[i].ranges)) > 0 {
			return false
		}
		if slices.ContainsFunc(p.items, func(s string) bool { return !slices.Contains(b[i].items, s) }) {
			return false
		}
	}
	return true
}

// like returns b in the order of another bundle.
func (b bundle) like(other bundle) bundle {
	at := func(p part) int { return slices.IndexFunc(other, func(q part) bool { return q.key == p.key }) }
	return slices.SortedStableFunc(slices.Values(b), func(x, y part) int { return at(x) - at(y) })
}

// amount returns how much there is of a name, over all roles.
func (b bundle) amount(name string) float64 {
	var milli int64
	for _, p := range b {
		if p.kind.Name == name {
			milli += p.milli
		}
	}
	return float64(milli) / 1000
}

// of returns what a role may have: what nobody has reserved, and what is reserved for it.
func (b bundle) of(role string) bundle {
	return slices.DeleteFunc(slices.Clone(b), func(p part) bool { return p.kind.Role != "*" && p.kind.Role != role })
}

// list returns the resources as they are offered to a role. With refined, reservations are in the form of frameworks with that capability (unobserved).
func (b bundle) list(role string, refined bool) []mesos.Resource {
	out := []mesos.Resource{}
	for _, p := range b {
		r := p.kind
		switch r.Type {
		case mesos.TypeScalar:
			r.Scalar = &mesos.Scalar{Value: float64(p.milli) / 1000}
		case mesos.TypeRanges:
			r.Ranges = &mesos.Ranges{Range: p.ranges}
		case mesos.TypeSet:
			r.Set = &mesos.Set{Item: p.items}
		}
		if refined && r.Role != "*" && len(r.Reservations) == 0 {
			r.Reservations = []mesos.Reservation{{Type: "STATIC", Role: r.Role}}
		}
		if refined {
			r.Role = ""
		} else if len(r.Reservations) > 0 {
			r.Reservations = nil
		}
		if role != "" {
			r.AllocationInfo = &mesos.AllocationInfo{Role: role}
		}
		out = append(out, r)
	}
	return out
}

// text writes resources as Mesos does in its messages.
func (b bundle) text(role string) string {
	var out []string
	for _, p := range b {
		name := fmt.Sprintf("%s(allocated: %s)", p.kind.Name, role)
		if p.kind.Role != "*" {
			name += fmt.Sprintf("(reservations: [(STATIC,%s)])", p.kind.Role)
		}
		switch p.kind.Type {
		case mesos.TypeRanges:
			var ranges []string
			for _, r := range p.ranges {
				ranges = append(ranges, fmt.Sprintf("%d-%d", r.Begin, r.End))
			}
			out = append(out, name+":["+strings.Join(ranges, ", ")+"]")
		case mesos.TypeSet:
			out = append(out, name+":{"+strings.Join(p.items, ", ")+"}")
		default:
			out = append(out, name+":"+strconv.FormatFloat(float64(p.milli)/1000, 'f', -1, 64))
		}
	}
	return strings.Join(out, "; ")
}

// join returns ranges in order, those that touch as one.
func join(ranges []mesos.Range) []mesos.Range {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b mesos.Range) int { return cmp.Compare(a.Begin, b.Begin) })
	var out []mesos.Range
	for _, r := range sorted {
		if n := len(out); n > 0 && r.Begin <= out[n-1].End+1 {
			out[n-1].End = max(out[n-1].End, r.End)
			continue
		}
		out = append(out, r)
	}
	return out
}

// cut returns ranges without others.
func cut(ranges, others []mesos.Range) []mesos.Range {
	out := slices.Clone(ranges)
	for _, o := range others {
		var left []mesos.Range
		for _, r := range out {
			if o.End < r.Begin || r.End < o.Begin {
				left = append(left, r)
				continue
			}
			if r.Begin < o.Begin {
				left = append(left, mesos.Range{Begin: r.Begin, End: o.Begin - 1})
			}
			if o.End < r.End {
				left = append(left, mesos.Range{Begin: o.End + 1, End: r.End})
			}
		}
		out = left
	}
	return out
}
