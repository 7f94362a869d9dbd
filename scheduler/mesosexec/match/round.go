package match

import (
	"cmp"
	"slices"
	"time"

	"millrace/scheduler/mesos"
)

// round is one call of [Place].
type round struct {
	now     time.Time
	names   names
	bundles []*bundle
	frames  map[string]*frame
	spread  spread
}

// turn is an ask in its turn.
type turn struct {
	ask   *Ask
	needs []want
	shape *shape
	share float64
	fixed bool
}

func newRound(in *Input) *round {
	r := &round{now: in.Now, names: names{}, frames: map[string]*frame{}, spread: spread{}}
	r.bundles = bundles(in.Offers, r.names)
	for i := range in.Asks {
		a := &in.Asks[i]
		for _, c := range a.Constraints {
			if others(c.Op) {
				r.spread.watch(a.Group, c.Attribute)
			}
		}
	}
	for i := range in.Active {
		r.spread.add(in.Active[i].Group, &in.Active[i].Machine)
	}
	return r
}

// turns returns the asks in the order in which they are placed.
func (r *round) turns(asks []Ask) []turn {
	offered := make([]Amount, len(r.names))
	for _, b := range r.bundles {
		for name, s := range b.stock {
			if s != nil {
				offered[name] += s.offered
			}
		}
	}
	out := make([]turn, 0, len(asks))
	for i := range asks {
		if last := i - 1; last >= 0 && alike(&asks[last], &asks[i]) { // As the items of a mapped task are.
			t := out[last]
			t.ask = &asks[i]
			out = append(out, t)
			continue
		}
		t := turn{ask: &asks[i]}
		for _, n := range normal(asks[i].Needs) {
			name, all := r.names.of(n.Name), One
			if name < len(offered) {
				all = max(offered[name], all)
			}
			t.share = max(t.share, float64(n.size())/float64(all))
			t.fixed = t.fixed || n.particular()
			t.needs = append(t.needs, want{n, name})
		}
		t.shape = r.shapeOf(&t)
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.ask.Rank, b.ask.Rank), -compareBool(a.fixed, b.fixed), -cmp.Compare(a.share, b.share), cmp.Compare(a.ask.ID, b.ask.ID))
	})
	return out
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// frame has what is the same for all asks that may use the same agents.
type frame struct {
	rules      []rule
	err        error       // of the rules
	candidates []candidate // those that may be used, best first
	others     bool        // some of the rules look at others
	kept       []refusal   // by bundles that are no candidates
	shapes     map[string]*shape
	known      map[string]map[string]bool // by attributes of the rules that look at others, the values that the candidates have
}

// shape has what is the same for all asks of a frame that need the same.
type shape struct {
	*frame
	next int       // candidates before it have too little, and will not have more
	why  *Unplaced // of an ask that found no place; what is left never becomes more
}

type candidate struct {
	*bundle
	penalty int
}

// What makes an agent come later, worst last.
const (
	penaltyGPU = 1 << iota
	penaltyAhead
	penaltyRefused
)

func (r *round) shapeOf(t *turn) *shape {
	inFrame, amounts := t.ask.keys(t.needs)
	f := r.frames[inFrame]
	if f == nil {
		f = r.newFrame(t.ask, t.needs)
		r.frames[inFrame] = f
	}
	if f.shapes[amounts] == nil {
		f.shapes[amounts] = &shape{frame: f}
	}
	return f.shapes[amounts]
}

func (r *round) newFrame(a *Ask, needs []want) *frame {
	f := &frame{shapes: map[string]*shape{}}
	if f.rules, f.err = rulesOf(a.Constraints); f.err != nil {
		return f
	}
	gpu := slices.ContainsFunc(needs, func(n want) bool { return n.Name == mesos.GPUs })
	for _, b := range r.bundles {
		down, ahead := b.away(r.now, a.Reach)
		c := f.refusedBy(b)
		switch {
		case len(a.Roles) > 0 && !slices.Contains(a.Roles, b.role):
			f.kept = append(f.kept, refusal{bundle: b, code: CodeRole})
			continue
		case c != nil:
			f.kept = append(f.kept, refusal{b, CodeConstraint, c})
			continue
		case down:
			f.kept = append(f.kept, refusal{bundle: b, code: CodeMaintenance})
			continue
		}
		penalty := 0
		if b.gpus && !gpu {
			penalty |= penaltyGPU
		}
		if ahead {
			penalty |= penaltyAhead
		}
		if slices.Contains(a.Avoid, b.agent) {
			penalty |= penaltyRefused
		}
		f.candidates = append(f.candidates, candidate{b, penalty})
	}
	slices.SortStableFunc(f.candidates, func(x, y candidate) int { return cmp.Compare(x.penalty, y.penalty) })
	f.know()
	return f
}

// know notes the values that the candidates have: a value that none of them has will not be used, however few attempts it has.
func (f *frame) know() {
	f.known = map[string]map[string]bool{}
	for i := range f.rules {
		c := &f.rules[i]
		if !others(c.Op) {
			continue
		}
		f.others = true
		values := map[string]bool{}
		for _, b := range f.candidates {
			if v, ok := b.machine.Attribute(c.Constraint.Attribute); ok {
				values[v] = true
			}
		}
		f.known[c.Constraint.Attribute] = values
	}
}

// refusedBy returns the first of the rules that b does not pass by itself.
func (f *frame) refusedBy(b *bundle) *rule {
	if len(f.rules) == 0 {
		return nil
	}
	m := &b.machine
	for i := range f.rules {
		if !f.rules[i].alone(m) {
			return &f.rules[i]
		}
	}
	return nil
}

// place finds a place for an ask, or says why there is none.
func (r *round) place(t turn) *Unplaced {
	s := t.shape
	if s.err != nil {
		return &Unplaced{Ask: t.ask.ID, Agents: len(r.bundles), Reasons: []Reason{{Code: CodeInvalid, Agents: len(r.bundles), Detail: s.err.Error()}}}
	}
	for i := s.next; i < len(s.candidates); i++ {
		b := s.candidates[i].bundle
		if !b.has(t.needs) {
			if i == s.next {
				s.next++
			}
			continue
		}
		if r.crowded(s.frame, t.ask, b) != nil {
			continue
		}
		b.use(t.ask.ID, t.needs)
		r.spread.add(t.ask.Group, &b.machine)
		return nil
	}
	if s.why == nil || s.others {
		s.why = r.explain(t)
	}
	why := *s.why
	why.Ask = t.ask.ID
	return &why
}

// crowded returns the first of the rules about others that one more attempt on b would not pass.
func (r *round) crowded(f *frame, a *Ask, b *bundle) *rule {
	if !f.others {
		return nil
	}
	m := &b.machine
	for i := range f.rules {
		c := &f.rules[i]
		if others(c.Op) && !c.together(m, r.spread[a.Group][c.Constraint.Attribute], f.known[c.Constraint.Attribute]) {
			return c
		}
	}
	return nil
}
