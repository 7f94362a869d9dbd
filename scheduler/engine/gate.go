package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"millrace/scheduler"
	"millrace/scheduler/expr"
	"millrace/scheduler/plan"
	"millrace/scheduler/spec"
	"millrace/trigger"
)

var _ trigger.Gate = (*Engine)(nil)

// gate shows the places of concurrency groups to dispatch, which works beside the loop: as they are after the last commit. Replays and backfills do
// not count: a live run goes before those that wait, so it may come however many there are.
type gate struct {
	mu     sync.Mutex // guards the rest
	limits map[string]int
	texts  map[string]groupText
	taken  map[string]int // live runs by the name of their group
	opened chan struct{}
	asked  bool // somebody has opened
}

// groupText is what the group of a DAG's run is made of.
type groupText struct {
	dag  *plan.DAG
	text *expr.Text // nil: one group for all
}

// collects reports whether what would start a run of a rule waits while the group is full, instead of the run.
func collects(c *scheduler.Concurrency, r *trigger.Rule) bool {
	return c != nil && r.Kind == trigger.KindBatch && (c.WhenFull == scheduler.WhenFullCoalesce || r.Order == trigger.OrderLatestOnly)
}

// places notes that a live run has joined its group, or left it.
func (tx *txn) place(g *group, l *live, n int) {
	if l.Row.Class() != scheduler.ClassLive {
		return
	}
	if tx.places == nil {
		tx.places = map[string]int{}
	}
	tx.places[g.name()] += n
}

// move shows what a transaction has changed.
func (g *gate) move(places map[string]int) {
	if len(places) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	more := false
	for name, n := range places {
		if g.taken[name] += n; g.taken[name] <= 0 {
			delete(g.taken, name)
		}
		more = more || n < 0
	}
	if more {
		g.tell()
	}
}

// tell says that there is more room. g.mu is held.
func (g *gate) tell() {
	if g.asked {
		close(g.opened)
		g.opened, g.asked = make(chan struct{}), false
	}
}

// limit takes over the limits of the DAGs as they are now, and after a load also who has a place.
func (g *gate) limit(c *core, loaded bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limits, g.texts = map[string]int{}, map[string]groupText{}
	for id, h := range c.heads {
		if h.dag == nil || h.dag.Concurrency == nil {
			continue
		}
		t := groupText{dag: h.dag}
		if src := h.dag.Concurrency.Group; src != "" {
			var err error
			if t.text, err = expr.CompileText(src); err != nil {
				continue // spec refuses such a file; its runs fail by themselves
			}
		}
		g.limits[id], g.texts[id] = h.dag.Concurrency.MaxRuns, t
	}
	if loaded {
		g.taken = map[string]int{}
		for _, l := range c.runs {
			if l.group != nil && l.Row.Class() == scheduler.ClassLive {
				g.taken[l.group.name()]++
			}
		}
	}
	g.tell()
}

// Group implements trigger.Gate.
func (e *Engine) Group(r *trigger.Rule, key string) string {
	e.gate.mu.Lock()
	t, ok := e.gate.texts[r.DAG]
	e.gate.mu.Unlock()
	if !ok {
		return ""
	}
	value, err := t.value(r, key)
	if err != nil {
		return ""
	}
	return (&group{dag: r.DAG, value: value}).name()
}

// value is the group of the run that a rule would start for a key: spec sees to it that no more is needed for that.
func (t groupText) value(r *trigger.Rule, key string) (string, error) {
	if t.text == nil {
		return "", nil
	}
	params, err := spec.Params(t.dag.Params, nil)
	if err != nil {
		return "", err
	}
	vars, err := expr.NewVars(&scheduler.Run{DAG: r.DAG, Version: r.Version, Params: params, Trigger: scheduler.Trigger{Kind: r.Kind, Rule: r.ID, LaneKey: key}},
		nil, t.dag.Params)
	if err != nil {
		return "", err
	}
	return t.text.Eval(vars)
}

// Free implements trigger.Gate.
func (e *Engine) Free(group string) int {
	dag, _, _ := strings.Cut(group, "/")
	e.gate.mu.Lock()
	defer e.gate.mu.Unlock()
	limit, ok := e.gate.limits[dag]
	if !ok {
		return 1 << 30
	}
	return limit - e.gate.taken[group]
}

// Opened implements trigger.Gate.
func (e *Engine) Opened() <-chan struct{} {
	e.gate.mu.Lock()
	defer e.gate.mu.Unlock()
	e.gate.asked = true
	return e.gate.opened
}

// WhyFull implements scheduler.Explainer.
func (e *Engine) WhyFull(ctx context.Context, r *trigger.Rule, key string) (*scheduler.Why, error) {
	name := e.Group(r, key)
	if name == "" || e.Free(name) > 0 {
		return nil, nil
	}
	dag, value, _ := strings.Cut(name, "/")
	var why *scheduler.Why
	done := make(answer, 1)
	err := e.ask(ctx, &question{done: done, ask: func(c *core) {
		g := c.groups[dag][value]
		if g == nil {
			return
		}
		ids := slices.Sorted(maps.Keys(g.active))
		why = &scheduler.Why{Code: scheduler.CodeConcurrency, Name: name, Used: len(g.active), Slots: c.places(g), Want: 1, On: ids[:min(len(ids), scheduler.MaxOn)]}
		for _, l := range g.waiting {
			if !l.Row.State.Terminal() {
				why.Ahead++
			}
		}
		why.Text = fmt.Sprintf("waits for a place: concurrency group %s takes %s at a time, and %s under way", name, counted(why.Slots, "run"), several(ids, "is", "are"))
		if why.Ahead > 0 {
			why.Text += fmt.Sprintf("; %s before it", counted(why.Ahead, "run"))
		}
	}}, done)
	return why, err
}
