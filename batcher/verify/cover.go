package verify

import (
	"cmp"
	"slices"

	"millrace/ingest"
)

const (
	pageBits = 16
	pageLen  = 1 << pageBits
)

// cover has one bit for each offset: set for those that a row was found of. Pages below what can still matter are dropped.
type cover struct {
	pages map[int64]*[pageLen / 64]uint64
}

// set marks an offset, and reports whether it was marked before.
func (c *cover) set(offset int64) (again bool) {
	if c.pages == nil {
		c.pages = make(map[int64]*[pageLen / 64]uint64)
	}
	page := c.pages[offset>>pageBits]
	if page == nil {
		page = new([pageLen / 64]uint64)
		c.pages[offset>>pageBits] = page
	}
	word, bit := &page[offset%pageLen/64], uint64(1)<<(offset%64)
	again = *word&bit != 0
	*word |= bit
	return again
}

func (c *cover) has(offset int64) bool {
	page := c.pages[offset>>pageBits]
	return page != nil && page[offset%pageLen/64]&(1<<(offset%64)) != 0
}

// drop forgets offsets below low, whole pages of them.
func (c *cover) drop(low int64) {
	for n := range c.pages {
		if (n+1)<<pageBits <= low {
			delete(c.pages, n)
		}
	}
}

// fate is what became of the records of a lane in a range, other than being rows.
type fate int

const (
	fateNone fate = iota
	fateDuplicate
	fateInFlight
	fateSetAside
)

type span struct {
	first, last int64
	fate        fate
}

// named holds the ranges in which records need not be rows.
type named struct {
	dups, cuts map[ingest.Lane][]span // of one lane each
	lost       []span                 // of all lanes
}

func newNamed() *named {
	return &named{dups: make(map[ingest.Lane][]span), cuts: make(map[ingest.Lane][]span)}
}

// settle puts the ranges in order and joins those that overlap, as they only do in a chain that contradicts itself. fate needs it.
func (n *named) settle() {
	for _, lanes := range []map[ingest.Lane][]span{n.dups, n.cuts} {
		for lane, spans := range lanes {
			lanes[lane] = join(spans)
		}
	}
	n.lost = join(n.lost)
}

func join(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	out := spans[:0]
	for _, s := range spans {
		if len(out) > 0 && s.first <= out[len(out)-1].last {
			out[len(out)-1].last = max(out[len(out)-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// fate returns what is named for a record of lane at offset.
func (n *named) fate(lane ingest.Lane, offset int64) fate {
	for _, spans := range [][]span{n.dups[lane], n.cuts[lane], n.lost} {
		i, _ := slices.BinarySearchFunc(spans, offset, func(s span, o int64) int {
			if s.last < o {
				return -1
			}
			return 1
		})
		if i < len(spans) && spans[i].first <= offset {
			return spans[i].fate
		}
	}
	return fateNone
}
