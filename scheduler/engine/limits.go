package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/expr"
	"millrace/scheduler/plan"
)

// pool is a number of slots that tasks of all DAGs share. A nil pool is that of tasks that need none, and always has room.
type pool struct {
	name string
	// size is 0 for a pool that the configuration does not have any more, while runs still name it.
	size int
	// held are the slots of active attempts; used is their sum, kept where held changes and nowhere else.
	held map[string]int
	used int
}

func (p *pool) room(want int) stop {
	if p == nil {
		return stop{}
	}
	return room(p.used, p.size, want)
}

func (p *pool) hold(attempt string, slots int) {
	if p != nil && p.held[attempt] == 0 {
		p.held[attempt] = slots
		p.used += slots
	}
}

func (p *pool) free(attempt string) {
	if p != nil {
		p.used -= p.held[attempt]
		delete(p.held, attempt)
	}
}

func (r ref) spec() *scheduler.Task { return r.run.Spec(r.task) }
func (r ref) priority() int         { return r.spec().Priority }
func (r ref) poolSlots() int        { return max(1, r.spec().PoolSlots) }
func (r ref) ready() bool {
	return r.run.Tasks[r.task].State == scheduler.StateScheduled && !r.run.held
}

// pool returns that of a task, nil if it needs none.
func (c *core) pool(t *scheduler.Task) *pool {
	if t.Pool == "" {
		return nil
	}
	p := c.pools[t.Pool]
	if p == nil {
		p = &pool{name: t.Pool, held: map[string]int{}}
		c.pools[t.Pool] = p
	}
	return p
}

// setPools takes over the pools of the configuration.
func (c *core) setPools(sizes map[string]int) {
	for name, p := range c.pools {
		p.size = sizes[name]
	}
	for name, size := range sizes {
		if c.pools[name] == nil {
			c.pools[name] = &pool{name: name, size: size, held: map[string]int{}}
		}
	}
}

// checkPool reports why a task can not get what it asks for of its pool.
func (c *core) checkPool(t *scheduler.Task) error {
	if t.Pool == "" {
		return nil
	}
	var known []string
	for _, name := range slices.Sorted(maps.Keys(c.pools)) {
		if c.pools[name].size > 0 {
			known = append(known, name)
		}
	}
	p := c.pools[t.Pool]
	if p == nil || p.size == 0 {
		have := "there is " + strings.Join(known, ", ")
		if len(known) == 0 {
			have = "it has none"
		}
		return fmt.Errorf("needs pool %q, which the configuration does not have (%s): add it to pools", t.Pool, have)
	}
	if t.PoolSlots > p.size {
		return fmt.Errorf("needs %d slots of pool %q, which has %d", t.PoolSlots, t.Pool, p.size)
	}
	return nil
}

// group is the runs of one DAG that count against one limit. It is found again after a restart: which group a run is in follows from its
// version and its frozen inputs, and a run that has started has a place.
type group struct {
	dag, value string
	// active have a place, by id; waiting have none yet, by class and then oldest first. A run in waiting may have ended.
	active  map[string]*live
	waiting []*live
	// own is the limit of the version of the run that joined last.
	own int
	// full is why the last admission went no further.
	full stop
}

// name is what people are shown.
func (g *group) name() string {
	if g.value == "" {
		return g.dag
	}
	return g.dag + "/" + g.value
}

// places is how many runs of the group may be under way: what the DAG's file says now, so that a change helps those that wait.
func (c *core) places(g *group) int {
	h := c.heads[g.dag]
	switch {
	case h == nil || h.dag == nil:
		return g.own
	case h.dag.Concurrency == nil:
		return math.MaxInt
	}
	return h.dag.Concurrency.MaxRuns
}

// grouped reports whether a run counts against a limit.
func (l *live) grouped() bool { return l.DAG.Concurrency != nil && !l.Row.State.Terminal() }

// join puts a run into its group, where it waits for a place.
func (c *core) join(l *live) error {
	con := l.DAG.Concurrency
	value, err := c.groupValue(l, con.Group)
	if err != nil {
		return fmt.Errorf("concurrency.group: %w", err)
	}
	of := c.groups[l.Row.DAG]
	if of == nil {
		of = map[string]*group{}
		c.groups[l.Row.DAG] = of
	}
	g := of[value]
	if g == nil {
		g = &group{dag: l.Row.DAG, value: value, active: map[string]*live{}}
		of[value] = g
	}
	g.own = con.MaxRuns
	g.await(l)
	l.group, l.held = g, true
	c.tx.place(g, l, 1)
	return nil
}

// await puts a run behind those of its class, and before those of the next.
func (g *group) await(l *live) {
	at := len(g.waiting)
	for at > 0 && g.waiting[at-1].Row.Class() > l.Row.Class() {
		at--
	}
	g.waiting = slices.Insert(g.waiting, at, l)
}

// groupValue evaluates the text of a group on what is frozen in the run.
func (c *core) groupValue(l *live, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	t := c.texts[text]
	if t == nil {
		var err error
		if t, err = expr.CompileText(text); err != nil {
			return "", err
		}
		c.texts[text] = t
	}
	vars, err := expr.NewVars(&l.Row, l.Batches, l.DAG.Params)
	if err != nil {
		return "", err
	}
	return t.Eval(vars)
}

// admit gives places to those that wait, oldest first; see [group.next].
func (c *core) admit(g *group) {
	limit := c.places(g)
	for g.full = (stop{}); len(g.waiting) > 0; {
		if g.waiting[0].Row.State.Terminal() {
			g.waiting = g.waiting[1:]
			continue
		}
		if g.full = room(len(g.active), limit, 1); g.full.stopped() {
			return
		}
		c.place(g, g.next())
	}
	g.waiting = nil
	if len(g.active) == 0 {
		delete(c.groups[g.dag], g.value)
		if len(c.groups[g.dag]) == 0 {
			delete(c.groups, g.dag)
		}
	}
}

// place gives a run its place, and its ready tasks to the queues.
func (c *core) place(g *group, l *live) {
	l.held = false
	g.active[l.Row.ID] = l
	for i := range l.Tasks {
		if t := &l.Tasks[i]; t.State == scheduler.StateScheduled {
			if t.Since.IsZero() { // else it had its place before a restart
				t.Since = c.tx.now
				c.tx.of(l).changed(i)
			}
			c.index(l, i) // its wait for a slot begins
			c.push(ref{l, i})
		}
		if l.Unmade(i) > 0 {
			c.expandLater(ref{l, i})
		}
	}
}

// leave gives up the place of a run that has ended.
func (c *core) leave(l *live) {
	if g := l.group; g != nil {
		l.group, l.held = nil, false
		c.tx.place(g, l, -1)
		delete(g.active, l.Row.ID)
		c.admit(g)
	}
}

// readmit looks at the groups and tasks of a DAG whose limits may have changed.
func (c *core) readmit(dag string) {
	of := c.groups[dag]
	for _, value := range slices.Sorted(maps.Keys(of)) {
		c.admit(of[value])
	}
	for _, l := range c.limits[dag] {
		c.resize(l)
	}
}

// SetPools takes over the pools of the configuration, and returns when they are in force. A pool that is gone takes no more tasks; those that
// hold its slots go on.
func (e *Engine) SetPools(ctx context.Context, sizes map[string]int) error {
	done := make(answer, 1)
	return e.ask(ctx, &poolSet{e: e, sizes: sizes, done: done}, done)
}

// poolSet is the pools as they are now.
type poolSet struct {
	e     *Engine
	sizes map[string]int
	done  answer
}

func (in *poolSet) decide(_ context.Context, c *core) {
	c.setPools(in.sizes)
	c.tx.answers = append(c.tx.answers, func() { in.e.pools = in.sizes; in.done <- nil })
}

func (in *poolSet) fail(err error) { in.done <- err }

// enter gives a new run a place in its group, or does what its DAG says for a group that is full.
func (c *core) enter(l *live) {
	if err := c.join(l); err != nil {
		l.held = false
		c.step(l, plan.Fail{Reason: err.Error()})
		return
	}
	g := l.group
	if c.admit(g); !l.held {
		return
	}
	if l.Row.Class() != scheduler.ClassLive {
		return // what was asked for again waits: it neither displaces what came by itself nor is lost for it
	}
	switch l.DAG.Concurrency.WhenFull {
	case scheduler.WhenFullSkip:
		c.step(l, plan.Cancel{Reason: plan.WordSkipped + g.sentence()})
	case scheduler.WhenFullFail:
		c.step(l, plan.Fail{Reason: "not started: " + g.sentence()})
	case scheduler.WhenFullCancelRunning:
		c.makeRoom(l)
	}
}

// sentence says that the group is full.
func (g *group) sentence() string {
	return fmt.Sprintf("concurrency group %s takes %s at a time, and %s under way", g.name(), counted(g.full.slots, "run"),
		several(slices.Sorted(maps.Keys(g.active)), "is", "are"))
}

// makeRoom cancels the oldest others of a run's group, as many as it takes for the run to get a place. It gets it when they have ended.
func (c *core) makeRoom(l *live) {
	g, limit := l.group, c.places(l.group)
	others := slices.Concat(slices.Collect(maps.Values(g.active)), g.waiting)
	others = slices.DeleteFunc(others, func(o *live) bool {
		behind := o.held && o.Row.Class() > l.Row.Class() // is in nobody's way
		return o == l || o.Row.State.Terminal() || o.ending() || behind
	})
	slices.SortFunc(others, byAge)
	for ; len(others) >= limit; others = others[1:] {
		c.step(others[0], plan.Cancel{Reason: fmt.Sprintf("cancelled by run %s, which came after it: concurrency group %s takes %s at a time",
			l.Row.ID, g.name(), counted(limit, "run"))})
	}
}

// ending reports whether a run was cancelled and has not ended yet.
func (l *live) ending() bool { return l.Row.Reason != "" }

// byAge orders runs as they came: those of one transaction by their oldest batches, in the order of the chain.
func byAge(a, b *live) int {
	if n := a.Row.CreatedAt.Compare(b.Row.CreatedAt); n != 0 {
		return n
	}
	if len(a.Batches) > 0 && len(b.Batches) > 0 {
		x, y := &a.Batches[0], &b.Batches[0]
		if n := cmp.Or(x.CreatedAt.Compare(y.CreatedAt), cmp.Compare(x.Stream.String(), y.Stream.String()), cmp.Compare(x.Seq, y.Seq), cmp.Compare(x.Cut, y.Cut)); n != 0 {
			return n
		}
	}
	return cmp.Compare(a.Row.ID, b.Row.ID)
}

// regroup finds the groups again after a load: runs that have started have a place, the others wait in the order in which they came.
func (c *core) regroup() error {
	var loaded []*live
	for _, l := range c.runs {
		if l.grouped() {
			loaded = append(loaded, l)
		}
	}
	slices.SortFunc(loaded, byAge)
	for _, l := range loaded {
		if err := c.join(l); err != nil {
			return fmt.Errorf("restore run %s: %w", l.Row.ID, err)
		}
	}
	for _, l := range loaded {
		if l.Row.State == scheduler.StateRunning {
			l.group.waiting = slices.DeleteFunc(l.group.waiting, func(o *live) bool { return o == l })
			c.place(l.group, l)
		}
	}
	for _, l := range loaded {
		if l.held {
			c.admit(l.group)
		}
	}
	return nil
}
