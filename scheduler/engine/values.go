package engine

import (
	"context"
	"errors"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/scheduler"
	"millrace/scheduler/plan"
)

// launch makes what the executor needs for the next attempt of a task. Secrets are not read here: that may take as long as another system does to
// answer, and everything waits for the loop.
func (c *core) launch(l *live, i, try int) (launch, error) {
	op := c.operators[l.Spec(i).Kind]
	pending, err := l.Pend(i, try, op, c.env)
	if err != nil {
		return launch{}, err
	}
	if pending != nil {
		return launch{launch: scheduler.Launch{ID: pending.ID(), Run: l.Row.ID}, pending: pending}, nil
	}
	spec, err := l.Launch(i, try, op, c.env)
	return launch{launch: spec}, err
}

// Bounds of reading secrets: the kills of an executor wait for it, so that none overtakes the launch of its attempt.
const (
	resolveAtOnce = 16
	resolveTime   = 10 * time.Second
)

// resolve reads the secrets of those launches that need some, and returns all that can be launched. The others are reported: as refused if the secret is
// not there, which is final, and as lost if whoever keeps it does not answer, which is tried again as the task's infra_retry says.
func (l *launcher) resolve(ctx context.Context, launches []launch) []launch {
	errs := make([]error, len(launches))
	reading, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(resolveAtOnce)
	for i := range launches {
		if launches[i].pending != nil {
			g.Go(func() (_ error) {
				launches[i].launch, errs[i] = launches[i].pending.Launch(reading)
				return
			})
		}
	}
	_ = g.Wait() // none of them fails
	ready := make([]launch, 0, len(launches))
	for i, one := range launches {
		if errs[i] != nil {
			l.unresolved(ctx, one.pending, errs[i])
			continue
		}
		ready = append(ready, one)
	}
	return ready
}

func (l *launcher) unresolved(ctx context.Context, p *plan.Pending, err error) {
	if ctx.Err() != nil {
		return // we end: the next start asks the executor, which does not know it
	}
	if !errors.Is(err, scheduler.ErrValueBusy) && !errors.Is(err, context.DeadlineExceeded) {
		l.refuse(ctx, p.ID(), err)
		return
	}
	l.giveUp(ctx, p.ID(), scheduler.OutcomeLost, err)
}

// warnUnset says once of each version which values its tasks use that nobody has: such a task fails when it is launched.
func (e *Engine) warnUnset() {
	known, ok := e.opts.Values.(scheduler.ValueIndex)
	if !ok {
		return
	}
	kinds := map[string]string{"vars": scheduler.ValueVariable, "secrets": scheduler.ValueSecret, "conns": scheduler.ValueConnection}
	e.view.mu.Lock()
	dags := maps.Clone(e.view.dags)
	e.view.mu.Unlock()
	for id, dag := range dags {
		if dag == nil {
			continue // its file never was good
		}
		for _, ref := range dag.Uses() {
			kind := kinds[ref.Root]
			if ref.Optional || known.Known(kind, ref.Name) {
				continue
			}
			if _, said := e.warned.LoadOrStore(dag.Version+" "+kind+" "+ref.Name, true); !said {
				e.log.Warn("a task uses a value that is not set", "dag", id, "kind", kind, "name", ref.Name)
			}
		}
	}
}
