package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/plan"
	"millrace/scheduler/spec"
	"millrace/trigger"
)

// A task that starts a run of another DAG is deferred while that goes on. The new run and the move of the task are in one transaction, as are the
// end of the run and the end of the wait, and the wish that the task ends with the wish that the run does: so a crash finds both or neither, and
// the id of the run, which follows from the try, is never decided on twice. Nothing else joins the two: each is a run like any other.

// startSub starts the run of a ready task.
func (c *core) startSub(ctx context.Context, r ref) {
	if r.run.Row.NoEmit {
		c.skipSub(r)
		return
	}
	f, params, err := c.subFiring(r)
	if err != nil {
		c.step(r.run, plan.Refuse{Task: r.task, Reason: err.Error()})
		return
	}
	known, err := c.known(ctx, f.RunID())
	if err == nil {
		err = c.recall(ctx, f.Version)
	}
	if err != nil {
		c.postponed.parking = append(c.postponed.parking, r)
		return
	}
	if known { // can not be: the try is new, and its id is not for people to choose
		c.step(r.run, plan.Refuse{Task: r.task, Reason: fmt.Sprintf("run %s of dag %s exists, and was not started by this task", f.RunID(), f.DAG)})
		return
	}
	child := c.make(f, plan.Terms{Params: params, Class: r.run.Row.Class(), Past: c.due.past[f.DAG]})
	c.step(r.run, plan.Park{Task: r.task, On: child.Row.ID, Reason: fmt.Sprintf("waits for run %s of dag %s", child.Row.ID, f.DAG)})
	if r.spec().SubDAG.NoWait {
		_, _, out := plan.Outcome(&child.Row, plan.Leaves{})
		c.step(r.run, plan.Unpark{Task: r.task, Attempt: r.run.Attempt(r.task), State: scheduler.StateSuccess, Output: out})
	}
	c.look = append(c.look, r) // it may have ended at once
}

// skipSub ends a task of a run that is to start nothing else.
func (c *core) skipSub(r ref) {
	c.step(r.run, plan.Park{Task: r.task})
	c.step(r.run, plan.Unpark{Task: r.task, Attempt: r.run.Attempt(r.task), State: scheduler.StateSkipped,
		Reason: "this run is a replay that starts no runs of other DAGs: ask for them with --emit"})
}

// subFiring is what starts the run of a task, with its parameters, or a sentence on why none can be started.
func (c *core) subFiring(r ref) (*trigger.Firing, json.RawMessage, error) {
	id, path := r.spec().SubDAG.ID, append(slices.Clone(r.run.Row.Trigger.Path), r.run.Row.DAG)
	switch h := c.heads[id]; {
	case slices.Contains(path, id):
		return nil, nil, fmt.Errorf("dag %s is started by a run of itself: %s → %s", id, strings.Join(path, " → "), id)
	case len(path) > scheduler.MaxPath:
		return nil, nil, fmt.Errorf("%d runs have led to this one, each by a task of the one before (%s), which is the most there may be", len(path)-1, strings.Join(path, " → "))
	case h != nil && h.row.Removed:
		return nil, nil, fmt.Errorf("dag %s can not be started: its file is gone", id)
	case h == nil || h.dag == nil:
		return nil, nil, c.noSuchDAG(id)
	}
	f, err := r.run.Ask(r.task)
	if err != nil {
		return nil, nil, err
	}
	f.Version, f.At = c.heads[id].row.Version, c.tx.now
	params, err := spec.Params(c.heads[id].dag.Params, f.Params)
	if err != nil {
		return nil, nil, fmt.Errorf("dag %s: %w", id, err)
	}
	return f, params, nil
}

func (c *core) noSuchDAG(id string) error {
	var known []string
	for _, name := range slices.Sorted(maps.Keys(c.heads)) {
		if h := c.heads[name]; h.dag != nil && !h.row.Removed {
			known = append(known, name)
		}
	}
	text := "dag " + id + " does not exist"
	if h := c.heads[id]; h != nil && h.row.Error != "" {
		text = "dag " + id + " has no good version: its file has a fault"
	} else if hint := spec.Suggest(id, known); hint != "" {
		text += ": " + hint
	}
	return errors.New(text)
}

// tell lets the task that asked for a run look at its end.
func (c *core) tell(l *live) {
	if r, ok := c.parent(l); ok {
		c.look = append(c.look, r)
	}
}

// parent returns the task that waits for a run.
func (c *core) parent(l *live) (ref, bool) {
	if l.Row.Trigger.Parent == "" {
		return ref{}, false
	}
	id, _, _ := strings.Cut(l.Row.Trigger.Parent, "/")
	p := c.runs[id]
	if p == nil {
		return ref{}, false
	}
	i := slices.IndexFunc(p.Tasks, func(t scheduler.TaskRun) bool {
		return t.State == scheduler.StateDeferred && t.External == l.Row.ID && t.ID() == l.Row.Trigger.Parent
	})
	return ref{p, i}, i >= 0
}

// followSub brings a deferred task in line with the run that it waits for, and that run with what the task was asked.
func (c *core) followSub(ctx context.Context, r ref) {
	t := &r.run.Tasks[r.task]
	if t.State != scheduler.StateDeferred {
		return
	}
	child := c.runs[t.External]
	if child != nil && !child.Row.State.Terminal() {
		if t.Kill != "" && !child.ending() {
			c.step(child, plan.Cancel{Reason: fmt.Sprintf("cancelled: task %s, which started it, was asked to end (%s)", t.ID(), t.Kill)})
		}
		return
	}
	end := plan.Unpark{Task: r.task, Attempt: r.run.Attempt(r.task)}
	if child != nil {
		end.State, end.Reason, end.Output = plan.Outcome(&child.Row, child.DAG.Leaves(child.Tasks))
		c.step(r.run, end)
		return
	}
	// It ended in an earlier transaction, of which this memory knows nothing.
	d, err := c.read.Look(ctx, t.External) // leaves are what is not mapped
	switch {
	case errors.Is(err, scheduler.ErrNotFound):
		end.State, end.Reason, end.Final = scheduler.StateFailed, fmt.Sprintf("run %s is not stored any more", t.External), true
	case err != nil:
		c.postponed.look = append(c.postponed.look, r)
		return
	default:
		end.State, end.Reason, end.Output = plan.Outcome(&d.Run, c.leaves(ctx, d))
	}
	c.step(r.run, end)
}

// leaves returns what the leaves of a stored run have put out, or nothing if its version can not be read.
func (c *core) leaves(ctx context.Context, d *scheduler.RunDetail) plan.Leaves {
	dag, err := c.lookup(ctx, d.Run.Version)
	if err != nil {
		return plan.Leaves{}
	}
	out := dag.Leaves(d.Tasks)
	c.drop(d.Run.Version)
	return out
}

// whySub says what the run does that a task waits for.
func (c *core) whySub(t *scheduler.TaskRun) scheduler.Why {
	why := scheduler.Why{Code: scheduler.CodeSubDAG, On: []string{t.External}, Text: "waits for the end of run " + t.External}
	child := c.runs[t.External]
	if child == nil {
		return why
	}
	of := c.explain(child).Why
	why.Name = child.Row.DAG
	why.Text = fmt.Sprintf("waits for run %s of dag %s (%s): %s", t.External, child.Row.DAG, child.Row.State, of.Text)
	why.On = append(why.On, of.On...)
	why.On = why.On[:min(len(why.On), scheduler.MaxOn)]
	return why
}
