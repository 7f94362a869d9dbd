package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/scheduler/plan"
	"millrace/scheduler/spec"
	"millrace/trigger"
)

var _ scheduler.Backfiller = (*Engine)(nil)

// Replay implements scheduler.Backfiller.
func (e *Engine) Replay(ctx context.Context, run string, r scheduler.Replay) (*scheduler.Run, error) {
	in := &replay{id: run, how: r, done: make(answer, 1)}
	if err := e.ask(ctx, in, in.done); err != nil {
		return nil, err
	}
	return &in.run, nil
}

// replay is a person's request for one more run on what a run was given.
type replay struct {
	id  string
	how scheduler.Replay
	// number is that of the replay, since the request was first decided: if only the word of its commit was lost, there must not be another.
	number int
	run    scheduler.Run // the answer, if done yields nil
	done   answer
}

func (in *replay) fail(err error) { in.done <- err }

func (in *replay) decide(ctx context.Context, c *core) {
	run, err := in.start(ctx, c)
	if err != nil {
		c.then(in.done, err)
		return
	}
	c.tx.answers = append(c.tx.answers, func() { in.run = run(); in.done <- nil })
}

// start returns what yields the row of the replay once it is committed.
func (in *replay) start(ctx context.Context, c *core) (func() scheduler.Run, error) {
	of, batches, err := c.past(ctx, in.id)
	if err != nil {
		return nil, err
	}
	f := firingOf(of, batches)
	original := f.RunID()
	if in.number > 0 {
		f.Replay = in.number
		if l := c.runs[f.RunID()]; l != nil {
			return func() scheduler.Run { return l.Row }, nil
		}
		if d, err := c.read.Look(ctx, f.RunID()); err == nil {
			return func() scheduler.Run { return d.Run }, nil
		}
	}
	if other := c.underWay(of.DAG, original, of.Batches); other != "" {
		return nil, fmt.Errorf("replay run %s: run %s of the same inputs is under way; wait for its end, or cancel it: %w", in.id, other, scheduler.ErrInvalid)
	}
	if f.Replay, err = c.nextReplay(ctx, original); err != nil {
		return nil, err
	}
	if err := c.unused(ctx, &f); err != nil {
		return nil, err
	}
	params, err := in.pin(ctx, c, of, &f)
	if err != nil {
		return nil, err
	}
	if in.how.Pin == scheduler.PinLatest {
		row := *of
		row.Images, of = nil, &row // what was mended may have been an image
	}
	in.number = f.Replay
	l := c.make(&f, plan.Terms{Params: params, Of: of, NoEmit: !in.how.Emit})
	return func() scheduler.Run { return l.Row }, nil
}

// pin sets the version by which f is run, and returns the params for it.
func (in *replay) pin(ctx context.Context, c *core, of *scheduler.Run, f *trigger.Firing) (json.RawMessage, error) {
	params := of.Params
	switch in.how.Pin {
	case "", scheduler.PinOriginal:
	case scheduler.PinLatest:
		h := c.heads[of.DAG]
		if h == nil || h.dag == nil || h.row.Removed {
			return nil, fmt.Errorf("replay run %s by the latest version: the file of dag %s is gone: %w", in.id, of.DAG, scheduler.ErrInvalid)
		}
		f.Version = h.row.Version
		var err error
		if params, err = latestParams(h.dag.Params, of.Params); err != nil {
			return nil, fmt.Errorf("replay run %s by the latest version: %w: %w", in.id, scheduler.ErrInvalid, err)
		}
	default:
		return nil, fmt.Errorf("replay run %s: pin is %q, want original or latest: %w", in.id, in.how.Pin, scheduler.ErrInvalid)
	}
	dag, err := c.lookup(ctx, f.Version)
	if err != nil {
		return nil, fmt.Errorf("replay run %s: %w", in.id, err)
	}
	if err := c.runnable(dag); err != nil {
		c.drop(f.Version)
		return nil, fmt.Errorf("replay run %s: %w: %w", in.id, scheduler.ErrInvalid, err)
	}
	return params, nil
}

// latestParams makes a run's params those of another version: what that does not declare is left out, what is new has its default.
func latestParams(declared map[string]scheduler.Param, given json.RawMessage) (json.RawMessage, error) {
	values := map[string]json.RawMessage{}
	if len(given) > 0 {
		if err := json.Unmarshal(given, &values); err != nil {
			return nil, err
		}
	}
	for name := range values {
		if _, ok := declared[name]; !ok {
			delete(values, name)
		}
	}
	raw, err := json.Marshal(values)
	if err != nil {
		return nil, err
	}
	return spec.Params(declared, raw)
}

// past returns a run that may have ended long ago, with all of its batches.
func (c *core) past(ctx context.Context, id string) (*scheduler.Run, []batcher.Batch, error) {
	if l := c.runs[id]; l != nil {
		row := l.Row
		return &row, l.Batches, nil
	}
	d, err := c.read.Look(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if n := len(d.Run.Batches) - len(d.Batches); n > 0 {
		return nil, nil, fmt.Errorf("replay run %s: %d of its %d batches are not in the ledger any more (store.retention): %w",
			id, n, len(d.Run.Batches), scheduler.ErrInvalid)
	}
	return &d.Run, d.Batches, nil
}

// firingOf is the firing of a run as the rule decided it: a replay's is that of the run that it replays.
func firingOf(r *scheduler.Run, batches []batcher.Batch) trigger.Firing {
	f := trigger.Firing{
		Kind: r.Trigger.Kind, DAG: r.DAG, Rule: r.Trigger.Rule, Key: r.Trigger.Key, Version: r.Version, Batches: batches,
		LaneKey: r.Trigger.LaneKey, Closed: r.Trigger.Closed, Parent: r.Trigger.Parent, Path: r.Trigger.Path,
	}
	if f.Kind == trigger.KindCron {
		f.Due = r.IntervalEnd
	}
	return f
}

// underWay returns the id of a run of the DAG that has not ended and is of the same trigger, or has one of the batches; "" if there is none.
func (c *core) underWay(dag, original string, batches []string) string {
	for id, l := range c.runs {
		if l.Row.DAG != dag || l.Row.State.Terminal() {
			continue
		}
		if cmp.Or(l.Row.ReplayOf, id) == original || slices.ContainsFunc(l.Row.Batches, func(b string) bool { return slices.Contains(batches, b) }) {
			return id
		}
	}
	return ""
}

// nextReplay returns the number of the next replay of a run: one more than the highest that is known.
func (c *core) nextReplay(ctx context.Context, original string) (int, error) {
	highest := 0
	runs, _, err := c.read.Runs(ctx, scheduler.RunQuery{ReplayOf: original, Limit: 1000})
	if err != nil {
		return 0, err
	}
	for i := range runs {
		highest = max(highest, runs[i].Replay)
	}
	for _, l := range c.tx.order { // those of this transaction are not stored yet
		if l.Row.ReplayOf == original {
			highest = max(highest, l.Row.Replay)
		}
	}
	return highest + 1, nil
}
