package engine

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"millrace/scheduler"
	"millrace/scheduler/plan"
	"millrace/scheduler/spec"
	"millrace/trigger"
)

// errStopped is what callers get when the engine ends before their input is committed.
var errStopped = fmt.Errorf("scheduler has stopped: %w", scheduler.ErrUnavailable)

// ask hands an input to the loop and waits for its answer.
func (e *Engine) ask(ctx context.Context, in input, done answer) error {
	select {
	case e.inputs <- in:
	case <-ctx.Done():
		return ctx.Err()
	case <-e.stopped:
		return errStopped
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-e.stopped:
		select {
		case err := <-done: // the last round answered
			return err
		default:
			return errStopped
		}
	}
}

// Start implements trigger.Starter.
func (e *Engine) Start(ctx context.Context, in trigger.Intake) error {
	select {
	case <-e.ready:
	default:
		return fmt.Errorf("%w: the DAG files are not in force yet", trigger.ErrUnavailable)
	}
	done := make(answer, 1)
	err := e.ask(ctx, &intake{in: in, done: done}, done)
	if errors.Is(err, scheduler.ErrUnavailable) && !errors.Is(err, trigger.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", trigger.ErrUnavailable, err)
	}
	return err
}

// SetDAGs puts the DAG files into force, and returns when that is committed. A file with a fault keeps its last good version and shows the
// fault; the DAGs of a file that is gone start nothing more, and their runs go on.
func (e *Engine) SetDAGs(ctx context.Context, set spec.Set) error {
	done := make(answer, 1)
	err := e.ask(ctx, &dagSet{set: set, done: done}, done)
	if err == nil {
		e.warnUnset()
	}
	return err
}

func (e *Engine) report(ctx context.Context, executor string, list []scheduler.Report) error {
	list, later := e.judge(ctx, list)
	done := make(answer, 1)
	return errors.Join(e.ask(ctx, &reports{executor: executor, list: list, done: done}, done), later)
}

// Trigger implements scheduler.Control.
func (e *Engine) Trigger(ctx context.Context, dag, id string, params []byte) (*scheduler.Run, error) {
	if id == "" {
		id = rand.Text()
	}
	done := make(answer, 1)
	in := &manual{dag: dag, id: id, params: params, done: done}
	if err := e.ask(ctx, in, done); err != nil {
		return nil, err
	}
	return &in.run, nil
}

// Cancel implements scheduler.Control. Of a run with running tasks the state is still running; it is cancelled when they have ended.
func (e *Engine) Cancel(ctx context.Context, run string) (*scheduler.Run, error) {
	done := make(answer, 1)
	in := &cancel{id: run, done: done}
	if err := e.ask(ctx, in, done); err != nil {
		return nil, err
	}
	if in.live {
		return &in.run, nil
	}
	d, err := e.store.Look(ctx, run)
	if err != nil {
		return nil, err
	}
	return &d.Run, nil
}

// Pause implements scheduler.Control.
func (e *Engine) Pause(ctx context.Context, dag string, paused bool) (*scheduler.DAGHead, error) {
	done := make(answer, 1)
	in := &pause{dag: dag, paused: paused, done: done}
	if err := e.ask(ctx, in, done); err != nil {
		return nil, err
	}
	return &in.head, nil
}

// view is what is published of the committed state.
type view struct {
	mu      sync.Mutex // guards all of it
	heads   []scheduler.DAGHead
	dags    map[string]*plan.DAG
	rules   trigger.RuleSet
	changed chan struct{} // closed when there are newer rules
}

// publish shows the committed heads, and the rules if they changed.
func (e *Engine) publish(rules bool) {
	c := e.core
	heads := make([]scheduler.DAGHead, 0, len(c.heads))
	dags := make(map[string]*plan.DAG, len(c.heads))
	for id, h := range c.heads {
		if h.row.Removed && h.row.Version == "" {
			continue // stood for a file that never had a good version
		}
		heads = append(heads, h.row)
		dags[id] = h.dag
	}
	slices.SortFunc(heads, func(a, b scheduler.DAGHead) int { return cmp.Compare(a.ID, b.ID) })
	e.metrics.heads(heads)
	e.view.mu.Lock()
	defer e.view.mu.Unlock()
	e.view.heads, e.view.dags = heads, dags
	if rules {
		e.view.rules = c.rules()
		close(e.view.changed)
		e.view.changed = make(chan struct{})
	}
}

// Rules implements trigger.RuleSource.
func (e *Engine) Rules() (trigger.RuleSet, <-chan struct{}) {
	e.view.mu.Lock()
	defer e.view.mu.Unlock()
	return e.view.rules, e.view.changed
}

// DAGs implements scheduler.Control.
func (e *Engine) DAGs(context.Context) ([]scheduler.DAGHead, error) {
	e.view.mu.Lock()
	defer e.view.mu.Unlock()
	return slices.Clone(e.view.heads), nil
}

// DAG implements scheduler.Control. The compiled form is not to be changed.
func (e *Engine) DAG(_ context.Context, id string) (*scheduler.DAGHead, *scheduler.DAG, error) {
	e.view.mu.Lock()
	defer e.view.mu.Unlock()
	i, ok := slices.BinarySearchFunc(e.view.heads, id, func(h scheduler.DAGHead, id string) int { return cmp.Compare(h.ID, id) })
	if !ok {
		return nil, nil, fmt.Errorf("find dag %q: %w", id, scheduler.ErrNotFound)
	}
	head := e.view.heads[i]
	if d := e.view.dags[id]; d != nil {
		return &head, &d.DAG, nil
	}
	return &head, nil, nil
}
