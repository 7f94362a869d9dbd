package engine

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"millrace/scheduler"
)

// launcher takes one executor's work off the loop: launches, questions and kills, in this order, so that a kill never overtakes the launch
// of its attempt and a question never makes an attempt lost that waits to be launched. Its queue is bounded by what the loop may have under
// way: as many launches as there are slots, and a kill or a question for each.
type launcher struct {
	name string
	ex   scheduler.Executor
	log  *slog.Logger
	// report takes reports that the executor could not give.
	report func(ctx context.Context, name string, list []scheduler.Report) error
	// place says where a task of a run finds an output of the object store.
	place func(ctx context.Context, ex scheduler.Executor, run string, ref scheduler.OutputRef) (uri, path string, err error)

	// outputs may be nil.
	outputs Outputs

	mu        sync.Mutex // guards the three
	launches  []launch
	questions []string
	kills     []kill
	wake      chan struct{} // has one place; never closed
}

func newLauncher(name string, ex scheduler.Executor, e *Engine) *launcher {
	return &launcher{name: name, ex: ex, log: e.log.With("executor", name), report: e.report, place: e.place, outputs: e.opts.Outputs, wake: make(chan struct{}, 1)}
}

func (l *launcher) launch(one launch)   { l.add(func() { l.launches = append(l.launches, one) }) }
func (l *launcher) reconcile(id string) { l.add(func() { l.questions = append(l.questions, id) }) }
func (l *launcher) kill(one kill)       { l.add(func() { l.kills = append(l.kills, one) }) }

func (l *launcher) add(f func()) {
	l.mu.Lock()
	f()
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends. What is left then is found again by the next start: the attempts are active in the store.
func (l *launcher) run(ctx context.Context) error {
	pause := newPause()
	for {
		retry := l.work(ctx)
		if retry == 0 {
			pause.Reset()
			select {
			case <-ctx.Done():
				return nil
			case <-l.wake:
			}
			continue
		}
		if !sleep(ctx, pause.NextBackOff()) {
			return nil
		}
	}
}

// work does everything that waits, and returns how much of it has to be done again.
func (l *launcher) work(ctx context.Context) int {
	l.mu.Lock()
	launches, questions, kills := l.launches, l.questions, l.kills
	l.launches, l.questions, l.kills = nil, nil, nil
	l.mu.Unlock()

	questions = append(questions, l.start(ctx, launches)...)
	if len(questions) > 0 {
		err := l.ex.Reconcile(ctx, questions)
		if err == nil {
			questions = nil
		} else if ctx.Err() == nil {
			l.log.Warn("executor does not answer", "attempts", len(questions), "err", err)
		}
	}
	var again []kill
	for _, k := range kills {
		if err := l.ex.Kill(ctx, k.attempt, k.grace); err != nil {
			again = append(again, k)
			if ctx.Err() == nil {
				l.log.Warn("attempt could not be killed", "attempt", k.attempt, "err", err)
			}
		}
	}
	if len(questions)+len(again) > 0 {
		l.mu.Lock()
		l.questions, l.kills = append(questions, l.questions...), append(again, l.kills...)
		l.mu.Unlock()
	}
	return len(questions) + len(again)
}

// start hands attempts on, and returns those of which nothing is known then: the executor is to be asked. Those that read from the object store
// come last, one by one: what is fetched for them must not keep the others.
func (l *launcher) start(ctx context.Context, launches []launch) []string {
	near := slices.DeleteFunc(slices.Clone(launches), func(one launch) bool { return one.input.Far() })
	unknown := l.hand(ctx, near)
	for i := range launches {
		if one := launches[i]; one.input.Far() && l.fetch(ctx, &one) {
			unknown = append(unknown, l.hand(ctx, []launch{one})...)
		}
	}
	return unknown
}

// hand gives attempts whose inputs are at hand to the executor.
func (l *launcher) hand(ctx context.Context, launches []launch) []string {
	if len(launches) == 0 {
		return nil
	}
	batch := make([]scheduler.Launch, 0, len(launches))
	ids := make([]string, 0, len(launches))
	for _, ready := range l.resolve(ctx, launches) {
		one := ready.launch
		var err error
		if one.Input, err = ready.input.Input(); err != nil {
			l.refuse(ctx, one.ID, err)
			continue
		}
		batch = append(batch, one)
		ids = append(ids, one.ID)
	}
	if len(batch) == 0 {
		return nil
	}
	if err := l.ex.Launch(ctx, batch); err != nil {
		if ctx.Err() == nil {
			l.log.Warn("executor did not take attempts", "attempts", len(batch), "err", err)
		}
		return ids
	}
	return nil
}

func (l *launcher) refuse(ctx context.Context, id string, err error) {
	l.giveUp(ctx, id, scheduler.OutcomeRefused, err)
}

func (l *launcher) giveUp(ctx context.Context, id string, outcome scheduler.Outcome, err error) {
	rep := scheduler.Report{Attempt: id, Outcome: outcome, Exit: -1, Reason: err.Error(), EndedAt: time.Now().UTC()}
	if err := l.report(ctx, l.name, []scheduler.Report{rep}); err != nil && ctx.Err() == nil {
		l.log.Error("report was not taken", "attempt", id, "err", err)
	}
}
