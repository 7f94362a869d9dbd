package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"millrace/scheduler"
	"millrace/scheduler/plan"
)

// Clear implements scheduler.Mender.
func (e *Engine) Clear(ctx context.Context, run string, c scheduler.Clear) (*scheduler.Mended, error) {
	return e.mend(ctx, &mend{id: run, clear: &c})
}

// Mark implements scheduler.Mender.
func (e *Engine) Mark(ctx context.Context, run string, m scheduler.Mark) (*scheduler.Mended, error) {
	return e.mend(ctx, &mend{id: run, mark: &m})
}

func (e *Engine) mend(ctx context.Context, in *mend) (*scheduler.Mended, error) {
	for {
		in.done = make(answer, 1)
		switch err := e.ask(ctx, in, in.done); {
		case errors.Is(err, errStored):
			if in.rows, in.as, err = e.store.Rows(ctx, in.id); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, err
		default:
			return &in.out, nil
		}
	}
}

// errStored answers a word about a run that is not in memory, without its rows or with rows that are old: whoever has it reads them, and says it
// again. A run may have a hundred thousand of them, and the loop does not wait for those.
var errStored = errors.New("the run is in the store")

// mend is a person's word about a run: a clear or a mark.
type mend struct {
	id    string
	clear *scheduler.Clear
	mark  *scheduler.Mark
	// tries are how often each task had been tried when this was first decided, of mapped ones those that were changed then. A task that was to come
	// then may have ended without a try since, such as a teardown of what was not set up: it is cleared with the others.
	tries map[taskKey]int
	// out is the answer, if done yields nil. It has the tasks as they were when this was first decided, and what a clear does when it is decided
	// again goes by them: if the first decision was committed and only the word of that was lost, a task that has a new try since then must not
	// lose it.
	out     scheduler.Mended
	decided bool
	done    answer

	// rows is the run as the caller has read it, and as it was then; nil: it has not been read, or not since it was last decided on.
	rows *scheduler.RunDetail
	as   scheduler.Ended
}

func (in *mend) fail(err error) { in.done <- err }

func (in *mend) decide(ctx context.Context, c *core) {
	l, err := c.find(ctx, in)
	if err == nil {
		err = in.change(c, l)
		c.put(l)
	}
	if err != nil {
		c.then(in.done, err)
		return
	}
	c.tx.answers = append(c.tx.answers, func() { in.out.Run = l.Row; in.done <- nil })
}

// change decides on a run, which may have ended long ago.
func (in *mend) change(c *core, l *live) error {
	if in.mark != nil {
		return in.setMark(c, l)
	}
	tasks, err := l.Select(*in.clear)
	if err != nil {
		return err
	}
	in.remember(l.Tasks, tasks)
	in.out.DryRun = in.clear.DryRun
	if in.clear.DryRun {
		return nil
	}
	tasks = slices.DeleteFunc(tasks, func(i int) bool { return !unchanged(&l.Tasks[i], in.tries) })
	d := l.Run.Clear(tasks, in.clear.By, c.tx.now)
	c.change(l, &d)
	return nil
}

func (in *mend) setMark(c *core, l *live) error {
	m := in.mark
	task := plan.NoTask
	switch {
	case m.State != scheduler.StateSuccess && m.State != scheduler.StateFailed && (m.State != scheduler.StateSkipped || m.Task == ""):
		return fmt.Errorf("mark run %s: the state is %q, want success or failed, or skipped for a task: %w", in.id, m.State, scheduler.ErrInvalid)
	case m.Task != "":
		var err error
		if task, err = l.Find(m.Task); err != nil {
			return err
		}
	}
	before := slices.Clone(l.Tasks)
	d := l.Run.Mark(task, m.State, m.By, c.tx.now)
	in.remember(before, slices.Sorted(slices.Values(d.Tasks)))
	c.change(l, &d)
	return nil
}

// remember fills in what the caller is told of the tasks, as they were.
func (in *mend) remember(rows []scheduler.TaskRun, tasks []int) {
	if in.decided {
		return
	}
	in.decided = true
	in.tries = make(map[taskKey]int, len(tasks))
	for i := range rows {
		if t := &rows[i]; t.MapIndex == scheduler.NoMap {
			in.tries[taskKey{t.Task, t.MapIndex}] = t.Try
		}
	}
	in.out.Tasks = make([]scheduler.MendedTask, 0, len(tasks))
	for _, i := range tasks {
		t := &rows[i]
		in.tries[taskKey{t.Task, t.MapIndex}] = t.Try
		in.out.Tasks = append(in.out.Tasks, scheduler.MendedTask{Task: t.Task, MapIndex: t.MapIndex, State: t.State, Try: t.Try, Kill: t.State.UnderWay()})
	}
}

// taskKey names a task within its run.
type taskKey struct {
	task  string
	index int
}

// unchanged reports whether a task has had no further try since it was remembered.
func unchanged(t *scheduler.TaskRun, tries map[taskKey]int) bool {
	try, known := tries[taskKey{t.Task, t.MapIndex}]
	return known && try == t.Try
}

// change takes over what a person's word changed, after which a run that had ended is among the live ones.
func (c *core) change(l *live, d *plan.Delta) {
	if d.Empty() {
		return
	}
	id := l.Row.ID
	if c.runs[id] == nil {
		c.runs[id] = l
		c.versions[l.Row.Version].refs++
		c.tx.of(l).back = true
		c.itemBack(l)
	}
	left := l.grouped() && l.group == nil // it had ended, perhaps in this very transaction
	l.held = l.held || left
	c.absorb(l, d)
	c.tell(l) // a run that was asked to end by its task is not let go on by this
	if left {
		c.rejoin(l)
	}
}

// rejoin lets a run wait for a place in its group, as one that is new, whatever the DAG says of a group that is full: a person wants it to run.
func (c *core) rejoin(l *live) {
	if err := c.join(l); err != nil {
		l.held = false
		c.step(l, plan.Fail{Reason: err.Error()})
		return
	}
	g := l.group
	g.waiting = slices.DeleteFunc(g.waiting, func(o *live) bool { return o == l })
	g.await(l)
	c.admit(g)
}

// find returns a live run, or one that has ended, by the rows that in has of it: [core.put] gives back what it holds if nothing comes of it.
func (c *core) find(ctx context.Context, in *mend) (*live, error) {
	id, d := in.id, in.rows
	if l := c.runs[id]; l != nil {
		return l, nil
	}
	in.rows = nil // the decision changes them, and what it decides may not be committed
	if d == nil {
		return nil, errStored
	}
	if as, err := c.read.AsOf(ctx, id); err != nil || as != in.as {
		return nil, cmp.Or(err, errStored)
	}
	dag, err := c.lookup(ctx, d.Run.Version)
	if err != nil {
		return nil, fmt.Errorf("take up run %s again: %w", id, err)
	}
	if err := c.fit(dag, d); err != nil {
		c.drop(d.Run.Version)
		return nil, fmt.Errorf("take up run %s again: %w: %w", id, scheduler.ErrInvalid, err)
	}
	r, err := plan.Restore(dag, &scheduler.LiveRun{Run: d.Run, Tasks: d.Tasks, Batches: d.Batches})
	if err != nil {
		c.drop(d.Run.Version)
		return nil, err
	}
	return &live{Run: r, slots: make([]string, len(r.Tasks)), started: true, again: true}, nil
}

// fit reports why this installation can not execute a stored run any more, as a sentence for people.
func (c *core) fit(dag *plan.DAG, d *scheduler.RunDetail) error {
	if n := len(d.Run.Batches) - len(d.Batches); n > 0 {
		return fmt.Errorf("%d of its %d batches are not in the ledger any more (store.retention)", n, len(d.Run.Batches))
	}
	for _, t := range d.Tasks {
		if c.queues[t.Executor] == nil && t.Executor != "" {
			return fmt.Errorf("task %s runs on executor %q, which is not configured", t.Task, t.Executor)
		}
	}
	return c.runnable(dag)
}

// runnable reports why this installation can not make a run of a version, as a sentence for people. It may have been made long ago.
func (c *core) runnable(dag *plan.DAG) error {
	for i := range dag.Tasks {
		t := &dag.Tasks[i]
		if t.Parks() != "" {
			continue
		}
		if c.operators[t.Kind] == nil {
			return fmt.Errorf("task %s has the kind %q, which this installation does not have", t.ID, t.Kind)
		}
		if err := c.checkPool(t); err != nil {
			return fmt.Errorf("task %s %w", t.ID, err)
		}
		if ex := cmp.Or(t.Executor, plan.DefaultExecutor); c.queues[ex] == nil {
			return fmt.Errorf("task %s runs on executor %q, which is not configured", t.ID, ex)
		}
	}
	return nil
}

// put gives back what find holds for a run that did not become live.
func (c *core) put(l *live) {
	if c.runs[l.Row.ID] == nil {
		c.drop(l.Row.Version)
	}
}

// drop forgets a version that nobody uses.
func (c *core) drop(version string) {
	if v := c.versions[version]; v != nil && v.refs <= 0 {
		delete(c.versions, version)
	}
}
