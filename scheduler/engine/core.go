package engine

import (
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/expr"
	"millrace/scheduler/plan"
)

// reader is what decisions may read of the store.
type reader interface {
	Run(ctx context.Context, id string) (*scheduler.RunDetail, error)
	Look(ctx context.Context, id string) (*scheduler.RunDetail, error)
	AsOf(ctx context.Context, id string) (scheduler.Ended, error)
	Version(ctx context.Context, version string) (*scheduler.DAGVersion, error)
	Runs(ctx context.Context, q scheduler.RunQuery) ([]scheduler.Run, string, error)
	Batch(ctx context.Context, id string) (*scheduler.BatchDetail, error)
	scheduler.BackfillStore
}

// core is the engine's memory and its decisions. It is used by one goroutine, starts nothing, and acts on nothing: [core.decide] returns a
// transaction, whose deeds are done by somebody else after the commit. If that fails, the core is thrown away.
type core struct {
	read      reader
	operators map[string]scheduler.Operator
	env       []string
	values    scheduler.Values
	grace     time.Duration // until an unreachable attempt is fenced
	rng       *rand.Rand

	heads    map[string]*head
	versions map[string]*version
	runs     map[string]*live
	queues   map[string]*queue            // by executor
	pools    map[string]*pool             // by name
	groups   map[string]map[string]*group // by DAG and value; those that have a run
	limits   limits
	texts    map[string]*expr.Text // of groups, compiled
	attempts map[string]ref        // of active tasks
	timers   timers
	due      deadlines
	waits    waits // batches that have no run yet
	gen      int64 // of the rules
	parked
	imaging
	backfilling
	expansions

	cache   scheduler.CacheReader // nil: none
	lookups []ref                 // ready tasks that may take another's output
	schemas *sync.Map             // the engine's, by attempt

	// loaded is when the memory was filled from the store.
	loaded time.Time

	tx *txn
}

// live is a run that has not ended, or has ended in the transaction in hand.
type live struct {
	*plan.Run
	// slots has the attempt under which each task is in the indexes, or "".
	slots []string
	// started reports that the start of the first task was observed.
	started bool
	// group is the run's concurrency group, nil if it has none. held says that the run has no place in it yet: its tasks are in no queue.
	group *group
	held  bool
	// again says that the run had ended, and lives again: its waiting was a person's.
	again bool
}

// ref is a task of a run.
type ref struct {
	run  *live
	task int
}

// txn is one round's transaction with its deeds.
type txn struct {
	change   scheduler.Change
	rows     map[*live]*rows
	order    []*live // keys of rows, in the order of their first change
	launches []launch
	kills    []kill
	answers  []func() // to be called when it is committed
	rules    bool     // the rules changed
	heads    bool     // the heads changed
	files    bool     // the DAG files were put into force
	starts   []start
	places   map[string]int // by the name of a concurrency group: live runs that joined it, less those that left
	missed   []missed
	asks     []*imageAsk // of registries
	now      time.Time
	made     int // rows of mapped tasks
}

// rows are the rows of one run that a transaction changes.
type rows struct {
	fresh bool // the run is new
	back  bool // the run had ended, and is live again
	run   bool
	began bool // its first attempt was decided
	tasks map[int]bool
	order []int
}

// launch is an attempt to be handed to its executor.
type launch struct {
	executor string
	launch   scheduler.Launch
	input    plan.Frozen
	// pending has the secrets of launch to come, of which only the id is there then; nil: there are none.
	pending *plan.Pending
}

// kill is an attempt to be ended.
type kill struct {
	executor, attempt string
	grace             time.Duration
}

// start is the first start of a run.
type start struct {
	dag  string
	wait time.Duration // since its oldest event was received
}

// input is something to decide on. It is not changed by that: after a conflict it is decided again.
type input interface {
	decide(ctx context.Context, c *core)
	// fail answers the caller of an input that the store refuses.
	fail(err error)
}

// decide makes one transaction of the inputs, of the timers that are due, and of what can start on free slots.
func (c *core) decide(ctx context.Context, inputs []input, now time.Time) *txn {
	c.tx = &txn{rows: map[*live]*rows{}, now: now}
	c.resume()
	for _, in := range inputs {
		in.decide(ctx, c)
	}
	late := c.fire(now)
	c.fillAll(ctx)
	if c.expire(late) {
		c.fillAll(ctx)
	}
	c.feedAll(ctx)
	c.overdue(ctx, now)
	c.askImages(now)
	c.collect()
	return c.tx
}

// step takes an event to a run.
func (c *core) step(l *live, ev plan.Event) {
	d := l.Step(ev, c.tx.now, c.rng)
	c.absorb(l, &d)
}

// absorb notes what a step changed, and brings the indexes up to date.
func (c *core) absorb(l *live, d *plan.Delta) {
	if !d.Empty() {
		r := c.tx.of(l)
		r.run = r.run || d.Run
		r.began = r.began || slices.ContainsFunc(d.Moves, func(m scheduler.Move) bool { return m.Task == "" && m.To == scheduler.StateRunning })
		for _, i := range d.Tasks {
			r.changed(i)
		}
	}
	c.tx.change.Moves = append(c.tx.change.Moves, d.Moves...)
	c.tx.change.Attempts = append(c.tx.change.Attempts, d.Attempts...)
	c.tx.change.Cached = append(c.tx.change.Cached, d.Cached...)
	for _, id := range d.Kill { // by the index as it was
		c.kill(id)
	}
	l.grow()
	if d.Run {
		c.noteImages(l)
	}
	c.announce(l, d)
	c.noteDeadlines(l, d)
	for _, i := range d.Tasks {
		c.index(l, i)
	}
	for _, i := range d.Ready {
		if l.held {
			l.Tasks[i].Since = time.Time{} // its wait for a slot begins when the run has its place
		} else {
			c.push(ref{l, i})
		}
	}
	for _, i := range d.Halt {
		c.look = append(c.look, ref{l, i})
	}
	if d.Run && l.Row.State.Terminal() {
		c.leave(l)
		c.tell(l)
		c.itemEnded(l)
	}
}

// push puts a ready task where it waits for its slots, or to be parked or expanded, or first for its image.
func (c *core) push(r ref) {
	switch {
	case r.run.Whole(r.task):
		c.expandLater(r)
	case r.run.Image(r.task) != nil:
		c.gated = append(c.gated, r)
	default:
		c.pushPinned(r)
	}
}

// pushPinned is push for a task that is no whole and needs no image, or has its digest: it may have to look into the cache first.
func (c *core) pushPinned(r ref) {
	switch {
	case c.cache != nil && r.run.Caches(r.task):
		c.lookups = append(c.lookups, r)
	default:
		c.enqueue(r)
	}
}

func (c *core) enqueue(r ref) {
	if r.run.Parks(r.task) != "" {
		c.parking = append(c.parking, r)
		return
	}
	c.queues[r.run.Tasks[r.task].Executor].push(r, c.pool(r.spec()), c.limit(r))
}

func (c *core) kill(attempt string) {
	if at, ok := c.attempts[attempt]; ok {
		c.tx.kills = append(c.tx.kills, kill{at.run.Tasks[at.task].Executor, attempt, at.run.Grace(at.task)})
	}
}

// index is the only place that says which tasks hold a slot and which timers they have: a function of their state.
func (c *core) index(l *live, i int) {
	t := &l.Tasks[i]
	attempt := ""
	if t.State.Active() {
		attempt = l.Attempt(i)
	}
	if old := l.slots[i]; old != attempt {
		r := ref{l, i}
		q, p, lim := c.queues[t.Executor], c.pool(r.spec()), c.limit(r)
		delete(c.attempts, old)
		delete(q.active, old)
		p.free(old)
		lim.free(old)
		if attempt != "" {
			c.attempts[attempt] = r
			q.active[attempt] = true
			p.hold(attempt, r.poolSlots())
			lim.hold(attempt)
			c.rememberSchema(l, i, attempt)
		}
		l.slots[i] = attempt
	}
	switch t.State {
	case scheduler.StateUpForRetry:
		heap.Push(&c.timers, timer{at: t.RetryAt, ref: ref{l, i}})
	case scheduler.StateUnreachable:
		heap.Push(&c.timers, timer{at: c.tx.now.Add(c.graceOf(ref{l, i})), ref: ref{l, i}, fence: attempt})
	}
	if l.Unmade(i) > 0 {
		c.expandLater(ref{l, i})
	}
	if wait := l.Wait(i); wait > 0 && !l.held {
		at := l.ParkedUntil(i)
		if at.IsZero() {
			at = c.endOfWait(t, wait)
		}
		heap.Push(&c.timers, timer{at: at, ref: ref{task: i}, late: l.Row.ID})
	}
}

// graceOf is how long an attempt of a task may be unreachable before it is given up.
func (c *core) graceOf(r ref) time.Duration {
	if r.spec().Fast {
		return 0
	}
	return c.grace
}

// fire takes the events of all timers that are due. A timer that does not fit any more does nothing. It returns those of waits, which come
// after all slots are given out: a machine that stood still must not be what a task fails of that could start now.
func (c *core) fire(now time.Time) (late []timer) {
	for len(c.timers) > 0 && !c.timers[0].at.After(now) {
		switch t := heap.Pop(&c.timers).(timer); {
		case t.late != "":
			late = append(late, t)
		case t.fence != "":
			c.step(t.ref.run, plan.Fence{Task: t.ref.task, Attempt: t.fence})
		default:
			c.step(t.ref.run, plan.Due{Task: t.ref.task})
		}
	}
	return late
}

// expire ends the waits that are over, and reports whether there was one.
func (c *core) expire(late []timer) bool {
	for _, t := range late {
		if l := c.runs[t.late]; l != nil {
			c.step(l, plan.Late{Task: t.ref.task})
		}
	}
	return len(late) > 0
}

// fillAll goes on until nothing more can start, be parked or be taken from the cache: what can not be started may make room for others, in
// another queue.
func (c *core) fillAll(ctx context.Context) {
	for again := true; again; {
		again = c.expand()
		c.passGate()
		c.takeCached(ctx)
		again = c.park(ctx) || again
		for _, q := range c.queues {
			again = c.fill(q) || again
		}
		again = again || len(c.lookups)+len(c.gated) > 0
	}
}

// fill starts what is ready while there are free slots, and reports whether it took anything out of the queue. It leaves behind why it stopped.
func (c *core) fill(q *queue) bool {
	took := false
	for q.full = (stop{}); q.depth > 0; took = true {
		if q.full = room(len(q.active), q.executor.Slots(), 1); q.full.stopped() {
			break
		}
		next, ok := q.pop()
		if !ok {
			break
		}
		l, i := next.run, next.task
		one, err := c.launch(l, i, l.Tasks[i].Try+1)
		if err != nil {
			c.step(l, plan.Refuse{Task: i, Reason: err.Error()})
			continue
		}
		c.step(l, plan.Launch{Task: i})
		one.executor, one.input = q.name, l.Freeze(i)
		c.tx.launches = append(c.tx.launches, one)
	}
	return took
}

// add takes a new run into memory.
func (c *core) add(r *plan.Run, d *plan.Delta) *live {
	l := &live{Run: r, slots: make([]string, len(r.Tasks))}
	c.runs[r.Row.ID] = l
	c.tx.of(l).fresh = true
	l.held = l.grouped()
	c.absorb(l, d)
	if l.held {
		c.enter(l)
	}
	return l
}

func (tx *txn) of(l *live) *rows {
	r := tx.rows[l]
	if r == nil {
		r = &rows{tasks: map[int]bool{}}
		tx.rows[l] = r
		tx.order = append(tx.order, l)
	}
	return r
}

// collect writes the changed rows into the change, as they are after all inputs, and raises their revisions in memory as the store will.
func (c *core) collect() {
	chg := &c.tx.change
	for _, l := range c.tx.order {
		r := c.tx.rows[l]
		c.itemState(l, r)
		if r.fresh {
			chg.NewRuns = append(chg.NewRuns, l.New())
			l.Row.Rev = 1
			for i := range l.Tasks {
				l.Tasks[i].Rev = 1
			}
			continue
		}
		if r.run {
			chg.Runs = append(chg.Runs, l.Row)
			l.Row.Rev++
		}
		for _, i := range r.order {
			chg.Tasks = append(chg.Tasks, l.Tasks[i])
			l.Tasks[i].Rev++
		}
	}
}

// settle forgets the runs that the committed transaction ended.
func (c *core) settle(tx *txn) {
	for _, l := range tx.order {
		if l.Row.State.Terminal() {
			delete(c.runs, l.Row.ID)
			c.release(l.Row.Version)
			c.forgetSchemas(l)
		}
	}
	c.tx = nil
}

// restore loads what is not finished.
func (c *core) restore(snap *scheduler.Snapshot, now time.Time) error {
	c.tx, c.loaded = &txn{rows: map[*live]*rows{}, now: now}, now
	stored := map[string]scheduler.DAGVersion{}
	for _, v := range snap.Versions {
		stored[v.Version] = v
	}
	c.restoreHeads(snap.Heads, stored)
	for i := range snap.Live {
		if err := c.restoreRun(&snap.Live[i], stored); err != nil {
			return err
		}
	}
	for i := range snap.Late {
		c.due.follow(&snap.Late[i])
	}
	c.restoreWaits(snap)
	if err := c.regroup(); err != nil {
		return err
	}
	c.restoreBackfills(snap.Backfills)
	c.tx = nil
	return nil
}

func (c *core) restoreRun(lr *scheduler.LiveRun, stored map[string]scheduler.DAGVersion) error {
	dag, err := c.hold(stored[lr.Run.Version])
	if err != nil {
		return fmt.Errorf("restore run %s: %w", lr.Run.ID, err)
	}
	r, err := plan.Restore(dag, lr)
	if err != nil {
		return err
	}
	l := &live{Run: r, slots: make([]string, len(r.Tasks))}
	l.held = l.grouped()
	c.runs[r.Row.ID] = l
	c.due.follow(&r.Row)
	c.noteImages(l)
	for i := range l.Tasks {
		t := &l.Tasks[i]
		if c.queues[t.Executor] == nil && t.Executor != "" {
			return fmt.Errorf("restore run %s: task %s runs on executor %q, which is not configured", r.Row.ID, t.Task, t.Executor)
		}
		l.started = l.started || !t.StartedAt.IsZero() || t.Cleared > 0
		l.again = l.again || t.Cleared > 0
		c.index(l, i)
		switch {
		case t.State == scheduler.StateScheduled && !l.held:
			c.push(ref{l, i})
		case t.State == scheduler.StateDeferred && !l.Whole(i):
			c.look = append(c.look, ref{l, i})
		}
	}
	return nil
}

// next returns when the next timer is due, and whether there is one.
func (c *core) next() (time.Time, bool) {
	if c.hungry || len(c.expanding) > 0 {
		return time.Time{}, true
	}
	at := c.due.first()
	if q := c.nextQuestion(); !q.IsZero() && (at.IsZero() || q.Before(at)) {
		at = q
	}
	if len(c.timers) > 0 && (at.IsZero() || c.timers[0].at.Before(at)) {
		at = c.timers[0].at
	}
	return at, !at.IsZero()
}
