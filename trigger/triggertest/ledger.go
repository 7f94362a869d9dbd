package triggertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"millrace/batcher"
	"millrace/trigger"
)

// Rules is a trigger.RuleSource that a test changes. Safe for concurrent use.
type Rules struct {
	mu      sync.Mutex
	set     trigger.RuleSet
	changed chan struct{}
}

var _ trigger.RuleSource = (*Rules)(nil)

// NewRules returns a source with a first set.
func NewRules(rules ...trigger.Rule) *Rules {
	return &Rules{set: trigger.RuleSet{Gen: 1, Rules: rules}, changed: make(chan struct{})}
}

// Set replaces the rules.
func (r *Rules) Set(rules ...trigger.Rule) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set = trigger.RuleSet{Gen: r.set.Gen + 1, Rules: rules}
	close(r.changed)
	r.changed = make(chan struct{})
}

// Rules implements trigger.RuleSource.
func (r *Rules) Rules() (trigger.RuleSet, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set, r.changed
}

// Ledger is trigger.Starter and trigger.Ledger in memory. It checks each intake, and keeps what is wrong for [Ledger.Err]. Safe for concurrent
// use.
type Ledger struct {
	// Fault is asked before ("remember", "start") and after ("started") each operation; an error after it means that what was committed is
	// not told. Set it before use.
	Fault func(op string) error

	rules *Rules

	mu      sync.Mutex
	s       State
	wrong   []error
	changed chan struct{}
}

// State is what a ledger holds.
type State struct {
	Batches map[string]batcher.Batch
	// Lines are the dispositions by batch and rule.
	Lines map[string]map[string]trigger.Disposition
	// Groups are by rule and id: ids are unique within a rule.
	Groups  map[GroupID]trigger.Group
	Runs    map[string]trigger.Firing
	Cursors map[string]trigger.Cursor
	Ticks   map[string]trigger.Tick
	// Order has the runs' ids in the order of their creation; Commits counts transactions.
	Order   []string
	Commits int
}

// GroupID names a group.
type GroupID struct{ Rule, ID string }

var (
	_ trigger.Starter = (*Ledger)(nil)
	_ trigger.Ledger  = (*Ledger)(nil)
)

// NewLedger returns an empty one, which knows which rules are active.
func NewLedger(rules *Rules) *Ledger {
	return &Ledger{rules: rules, changed: make(chan struct{}), s: State{
		Batches: map[string]batcher.Batch{}, Lines: map[string]map[string]trigger.Disposition{}, Groups: map[GroupID]trigger.Group{},
		Runs: map[string]trigger.Firing{}, Cursors: map[string]trigger.Cursor{}, Ticks: map[string]trigger.Tick{},
	}}
}

// Err returns all violations of the contract so far, joined.
func (l *Ledger) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.wrong...)
}

// View calls f with the state, which f must not keep, and returns a channel that is closed at the next commit.
func (l *Ledger) View(f func(s *State)) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.s)
	return l.changed
}

// Wait returns when cond holds, or with the error of ctx.
func (l *Ledger) Wait(ctx context.Context, cond func(s *State) bool) error {
	for {
		var ok bool
		changed := l.View(func(s *State) { ok = cond(s) })
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for the ledger: %w", ctx.Err())
		}
	}
}

func (l *Ledger) fault(op string) error {
	if l.Fault == nil {
		return nil
	}
	return l.Fault(op)
}

// Remember implements trigger.Ledger.
func (l *Ledger) Remember(context.Context) (trigger.Memory, error) {
	if err := l.fault("remember"); err != nil {
		return trigger.Memory{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m := trigger.Memory{Held: map[string][]trigger.Held{}, Fresh: len(l.s.Cursors) == 0}
	m.Cursors = slices.Collect(maps.Values(l.s.Cursors))
	m.Ticks = slices.Collect(maps.Values(l.s.Ticks))
	for _, id := range slices.Sorted(maps.Keys(l.s.Batches)) {
		b := l.s.Batches[id]
		if b.Seq > l.s.Cursors[b.Stream.String()].Seq {
			m.Ahead = append(m.Ahead, trigger.Ahead{Stream: b.Stream, Seq: b.Seq, Batch: id})
		}
		for rule, d := range l.s.Lines[id] {
			if d.Fate == trigger.FateHeld {
				m.Held[rule] = append(m.Held[rule], trigger.Held{Batch: b, Reason: d.Reason, Key: d.Key, Sides: slices.Clone(d.Sides), At: d.At})
			}
		}
	}
	for _, g := range l.s.Groups {
		g.Batches = l.members(g.ID, g.Rule)
		m.Groups = append(m.Groups, g)
	}
	return m, nil
}

// members are the batches whose disposition names an open group, oldest first.
func (l *Ledger) members(group, rule string) []batcher.Batch {
	var out []batcher.Batch
	for id, lines := range l.s.Lines {
		if d := lines[rule]; d.Fate == trigger.FateCoalesced && d.Group == group {
			out = append(out, l.s.Batches[id])
		}
	}
	slices.SortFunc(out, func(a, b batcher.Batch) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Start implements trigger.Starter.
func (l *Ledger) Start(_ context.Context, in trigger.Intake) error {
	if err := l.fault("start"); err != nil {
		return err
	}
	l.mu.Lock()
	set, _ := l.rules.Rules()
	if in.Gen != set.Gen {
		l.mu.Unlock()
		return trigger.ErrStale
	}
	l.apply(&in, set)
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	return l.fault("started")
}

func (l *Ledger) apply(in *trigger.Intake, set trigger.RuleSet) {
	l.s.Commits++
	for i := range in.Arrivals {
		l.arrive(&in.Arrivals[i], set)
	}
	for _, u := range in.Updates {
		old, ok := l.s.Lines[u.Batch][u.Rule]
		if !ok || old.Fate.Final() {
			l.violation("update of batch %s for %s to %s: it is %q", u.Batch, u.Rule, u.Fate, old.Fate)
			continue
		}
		l.s.Lines[u.Batch][u.Rule] = u
	}
	for _, g := range in.Groups {
		g.Batches = nil
		if g.Closed != "" {
			delete(l.s.Groups, GroupID{g.Rule, g.ID})
		} else {
			l.s.Groups[GroupID{g.Rule, g.ID}] = g
		}
	}
	for _, f := range in.Firings {
		l.fire(f)
	}
	for _, c := range in.Cursors {
		if old := l.s.Cursors[c.Stream.String()]; c.Seq < old.Seq {
			l.violation("cursor of %s goes back from %d to %d", c.Stream, old.Seq, c.Seq)
		}
		l.s.Cursors[c.Stream.String()] = c
	}
	for _, t := range in.Ticks {
		if old, ok := l.s.Ticks[t.Rule]; ok && t.At.Before(old.At) {
			l.violation("tick of %s goes back from %v to %v", t.Rule, old.At, t.At)
		}
		l.s.Ticks[t.Rule] = t
	}
}

func (l *Ledger) arrive(a *trigger.Arrival, set trigger.RuleSet) {
	if _, ok := l.s.Batches[a.Batch.ID]; ok {
		l.violation("batch %s is inserted twice", a.Batch.ID)
		return
	}
	l.s.Batches[a.Batch.ID] = a.Batch
	lines := map[string]trigger.Disposition{}
	for _, d := range a.Dispositions {
		if _, twice := lines[d.Rule]; twice || d.Batch != a.Batch.ID || d.At.IsZero() {
			l.violation("disposition %+v of batch %s", d, a.Batch.ID)
		}
		lines[d.Rule] = d
	}
	l.s.Lines[a.Batch.ID] = lines
	active := 0
	for _, r := range set.Rules {
		if r.Kind == trigger.KindBatch {
			active++
			if _, ok := lines[r.Name()]; !ok {
				l.violation("batch %s has no disposition for %s", a.Batch.ID, r.Name())
			}
		}
	}
	if active != len(lines) {
		l.violation("batch %s has %d dispositions, %d rules are active", a.Batch.ID, len(lines), active)
	}
}

func (l *Ledger) fire(f trigger.Firing) {
	run := f.RunID()
	if _, ok := l.s.Runs[run]; ok {
		l.violation("run of %s/%s key %q is started twice", f.DAG, f.Rule, f.Key)
		return
	}
	l.s.Runs[run] = f
	l.s.Order = append(l.s.Order, run)
	if f.Kind == trigger.KindBatch && len(f.Batches) == 0 {
		l.violation("run of %s/%s key %q has no batches", f.DAG, f.Rule, f.Key)
	}
}

// Check compares dispositions, runs and groups with each other; what it finds is added to [Ledger.Err].
func (l *Ledger) Check() error {
	l.mu.Lock()
	in := map[string]map[string]int{} // by rule and batch: runs that hold it
	for run, f := range l.s.Runs {
		rule := trigger.Rule{DAG: f.DAG, ID: f.Rule}.Name()
		if in[rule] == nil {
			in[rule] = map[string]int{}
		}
		for _, b := range f.Batches {
			in[rule][b.ID]++
			if d := l.s.Lines[b.ID][rule]; d.Fate != trigger.FateRun || d.Run != run {
				l.violation("run %s of %s holds batch %s, whose disposition is %+v", run, rule, b.ID, d)
			}
		}
	}
	for id, lines := range l.s.Lines {
		for rule, d := range lines {
			_, open := l.s.Groups[GroupID{rule, d.Group}]
			switch n := in[rule][id]; {
			case d.Fate == trigger.FateRun && n != 1, d.Fate != trigger.FateRun && n != 0:
				l.violation("batch %s is %s for %s, and in %d runs", id, d.Fate, rule, n)
			case d.Fate == trigger.FateCoalesced && !open:
				l.violation("batch %s is in group %q of %s, which is not open", id, d.Group, rule)
			}
		}
	}
	for id, g := range l.s.Groups {
		members := l.members(g.ID, g.Rule)
		var events int64
		for _, b := range members {
			events += b.Events
		}
		if len(members) == 0 || events != g.Events {
			l.violation("group %q says %d events, its %d members have %d", id, g.Events, len(members), events)
		}
	}
	l.mu.Unlock()
	return l.Err()
}

func (l *Ledger) violation(format string, args ...any) {
	l.wrong = append(l.wrong, fmt.Errorf(format, args...))
}
