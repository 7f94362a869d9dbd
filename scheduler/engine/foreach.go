package engine

import (
	"context"
	"fmt"

	"millrace/scheduler"
	"millrace/scheduler/plan"
)

// maxRows is how many rows of mapped tasks one transaction makes: 100,000 at once would hold up everything else for seconds. How far a list is made
// is in the row of its whole, so a restart goes on from there.
const maxRows = 2000

// expansions are mapped tasks whose rows are to be made, those that had none for longest first; queued has the same.
type expansions struct {
	expanding []ref
	queued    map[ref]bool
}

// expandLater notes that rows of a mapped task are to be made.
func (c *core) expandLater(r ref) {
	if !c.queued[r] {
		c.queued[r] = true
		c.expanding = append(c.expanding, r)
	}
}

// expand makes rows, of each list a portion in turn, as many as fit into the transaction. It reports whether it made some.
func (c *core) expand() bool {
	before := c.tx.made
	for len(c.expanding) > 0 && c.tx.made < maxRows {
		r := c.expanding[0]
		c.expanding[0] = ref{} // so that the run can be collected
		c.expanding = c.expanding[1:]
		delete(c.queued, r)
		if r.run.held {
			continue // place takes it up again
		}
		left := r.run.Unmade(r.task)
		c.step(r.run, plan.Expand{Task: r.task, Most: maxRows - c.tx.made})
		if t := &r.run.Tasks[r.task]; t.Map != nil && left == 0 {
			left = t.Map.Count
		}
		c.tx.made += 1 + max(0, left-r.run.Unmade(r.task)) // making a list is some work, too
	}
	return c.tx.made > before
}

// grow makes room for the rows that a run was given.
func (l *live) grow() {
	if n := len(l.Tasks) - len(l.slots); n > 0 {
		l.slots = append(make([]string, 0, cap(l.Tasks)), l.slots...)[:len(l.Tasks)]
	}
}

// ExplainTask implements scheduler.Explainer.
func (e *Engine) ExplainTask(ctx context.Context, run, task string) (*scheduler.TaskWhy, error) {
	for range 3 { // it may begin between the two looks
		var out *scheduler.TaskWhy
		var missing error
		done := make(answer, 1)
		err := e.ask(ctx, &question{done: done, ask: func(c *core) {
			l := c.runs[run]
			if l == nil {
				return
			}
			i := 0
			if i, missing = l.Find(task); missing == nil {
				why := taskWhy(&l.Tasks[i], c.whyTask(ref{l, i}))
				out = &why
			}
		}}, done)
		if err == nil {
			err = missing
		}
		if err != nil || out != nil {
			return out, err
		}
		why, err := e.explainEndedTask(ctx, run, task)
		if why != nil || err != nil {
			return why, err
		}
	}
	return nil, fmt.Errorf("explain task %s/%s: %w", run, task, scheduler.ErrUnavailable)
}

// explainEndedTask returns nothing if the run has not ended.
func (e *Engine) explainEndedTask(ctx context.Context, run, task string) (*scheduler.TaskWhy, error) {
	d, err := e.store.Look(ctx, run)
	if err != nil || !d.Run.State.Terminal() {
		return nil, err
	}
	name, index, err := scheduler.ParseTaskName(task)
	if err != nil {
		return nil, err
	}
	t, err := e.store.Task(ctx, run, name, index)
	if err != nil {
		return nil, err
	}
	why := taskWhy(&t.Task, ended(t.Task.State, t.Task.Reason))
	return &why, nil
}

// notable returns rows of a mapped task that are worth a word of their own: those that wait for something, run or failed, at most
// [scheduler.MaxOn].
func notable(l *live, i int) []int {
	var out []int
	p := l.Progress(i)
	if p.Ready+p.Active+p.Failed == 0 {
		return nil
	}
	for _, row := range l.Rows(i) {
		switch l.Tasks[row].State {
		case scheduler.StateNone, scheduler.StateSuccess, scheduler.StateSkipped, scheduler.StateCancelled, scheduler.StateRemoved:
			continue
		}
		if out = append(out, row); len(out) == scheduler.MaxOn {
			break
		}
	}
	return out
}

// whyMapped is what the items of a mapped task do.
func whyMapped(r ref) scheduler.Why {
	t, p := &r.run.Tasks[r.task], r.run.Progress(r.task)
	why := scheduler.Why{Code: scheduler.CodeMapped, Used: p.Ready + p.Active, Slots: r.spec().Foreach.MaxConcurrent}
	ended := p.Success + p.Failed + p.Skipped + p.Cancelled
	why.Text = fmt.Sprintf("%d of its %d items ended", ended, t.Map.Count)
	if p.Failed > 0 {
		why.Text += fmt.Sprintf(", %d of them failed (%d may)", p.Failed, r.spec().Foreach.Tolerance(t.Map.Count))
	}
	why.Text += fmt.Sprintf("; %d are under way, %d wait for a slot or a time, %d are to come", p.Active, p.Ready, t.Map.Count-ended-p.Active-p.Ready)
	if n := r.run.Unmade(r.task); n > 0 {
		why.Text += fmt.Sprintf("; the rows of %d are being made", n)
	}
	if t.Kill != "" {
		why.Code, why.Text = scheduler.CodeEnding, fmt.Sprintf("was asked to end (%s): %s", t.Kill, why.Text)
	}
	for _, row := range notable(r.run, r.task) {
		why.On = append(why.On, r.run.Tasks[row].ID())
	}
	return why
}

// whyLimit is why a mapped task does not wait for a slot yet.
func (c *core) whyLimit(r ref, own int) scheduler.Why {
	p, most := r.run.Progress(own), r.spec().Foreach.MaxConcurrent
	why := scheduler.Why{Code: scheduler.CodeLimit, Name: r.run.Tasks[own].Task, Used: p.Ready + p.Active, Slots: most, Want: 1}
	for _, row := range notable(r.run, own) {
		if st := r.run.Tasks[row].State; !st.Terminal() {
			why.On = append(why.On, r.run.Tasks[row].ID())
		}
	}
	why.Text = fmt.Sprintf("waits for max_concurrent of task %s: %d of %d go on", why.Name, why.Used, most)
	return why
}
