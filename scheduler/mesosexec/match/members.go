package match

import (
	"cmp"
	"math"
	"slices"

	"millrace/scheduler/mesos"
)

// disjoint returns ranges in order, those that touch as one, without those that end before they begin.
func disjoint(in []mesos.Range) []mesos.Range {
	var out []mesos.Range
	sorted := slices.Clone(in)
	slices.SortFunc(sorted, func(a, b mesos.Range) int { return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.End, b.End)) })
	for _, r := range sorted {
		switch last := len(out) - 1; {
		case r.End < r.Begin:
		case last >= 0 && (out[last].End == math.MaxUint64 || r.Begin <= out[last].End+1):
			out[last].End = max(out[last].End, r.End)
		default:
			out = append(out, r)
		}
	}
	return out
}

// maxMembers bounds how many members of ranges are counted: no agent has as many ports, and their sum does not overflow.
const maxMembers = 1 << 30

func countOf(ranges []mesos.Range) int {
	n := uint64(0)
	for _, r := range ranges {
		n = min(n+min(r.End-r.Begin, maxMembers)+1, maxMembers)
	}
	return int(n)
}

func contains(ranges []mesos.Range, v uint64) bool {
	i, _ := slices.BinarySearchFunc(ranges, v, func(r mesos.Range, v uint64) int { return cmp.Compare(r.End, v) })
	return i < len(ranges) && ranges[i].Begin <= v
}

// without returns ranges, in order, without one of their members.
func without(ranges []mesos.Range, v uint64) []mesos.Range {
	out := make([]mesos.Range, 0, len(ranges)+1)
	for _, r := range ranges {
		if v < r.Begin || v > r.End {
			out = append(out, r)
			continue
		}
		if v > r.Begin {
			out = append(out, mesos.Range{Begin: r.Begin, End: v - 1})
		}
		if v < r.End {
			out = append(out, mesos.Range{Begin: v + 1, End: r.End})
		}
	}
	return out
}

// lowest returns the n lowest members of ranges.
func lowest(ranges []mesos.Range, n int) []uint64 {
	var out []uint64
	for _, r := range ranges {
		for v := r.Begin; len(out) < n; v++ {
			out = append(out, v)
			if v == r.End {
				break
			}
		}
	}
	return out
}

// rangesOf returns the ranges that have exactly the numbers.
func rangesOf(numbers []uint64) []mesos.Range {
	out := make([]mesos.Range, 0, len(numbers))
	for _, v := range numbers {
		out = append(out, mesos.Range{Begin: v, End: v})
	}
	return disjoint(out)
}
