package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"millrace/scheduler"
)

// decision answers one of the questions that are open.
func (s *sim) decision(done answer) (input, func()) {
	list := s.e.core.questions("")
	if len(list) == 0 {
		return nil, nil
	}
	q := list[s.rng.IntN(len(list))]
	word := []string{scheduler.DecisionApprove, scheduler.DecisionApprove, scheduler.DecisionReject}[s.rng.IntN(3)]
	in := &decision{run: q.Run, task: q.Task, index: q.MapIndex, d: scheduler.Decision{Decision: word, By: fmt.Sprint("p", s.rng.IntN(1000))}, done: done}
	return in, func() {
		switch err := s.answered(done); {
		case err == nil:
			s.decided++
		case !errors.Is(err, scheduler.ErrDecided) && !errors.Is(err, scheduler.ErrInvalid): // it was cancelled or expired in the same round
			panic(violation("decide: " + err.Error()))
		}
	}
}

// checkSubs requires that a task and the run that it waits for know of each other, that no task has two runs under way, and that a run whose task
// was asked to end was asked as well.
func (s *sim) checkSubs() {
	c := s.e.core
	waited := map[string]string{}
	for _, l := range c.runs {
		for i := range l.Tasks {
			t := &l.Tasks[i]
			if t.State != scheduler.StateDeferred || l.Whole(i) {
				continue
			}
			child := c.runs[t.External]
			switch {
			case child == nil || child.Row.State.Terminal():
				panic(violation(fmt.Sprintf("task %s waits for run %s, which has ended", t.ID(), t.External)))
			case child.Row.Trigger.Parent != t.ID() || child.Row.Trigger.Key != l.Attempt(i):
				panic(violation(fmt.Sprintf("task %s waits for run %s, whose trigger is %+v", t.ID(), t.External, child.Row.Trigger)))
			case t.Kill != "" && !child.ending():
				panic(violation(fmt.Sprintf("task %s was asked to end (%s), and run %s was not", t.ID(), t.Kill, t.External)))
			}
			waited[t.External] = t.ID()
		}
	}
	for id, l := range c.runs {
		if l.Row.Trigger.Parent != "" && waited[id] == "" && !l.again && !strings.Contains(l.Row.Trigger.Parent, "/quick") {
			panic(violation(fmt.Sprintf("run %s goes on, and task %s does not wait for it", id, l.Row.Trigger.Parent)))
		}
	}
}

// checkStarted requires that whatever a task has started is there, has ended, and has the task as what started it.
func (s *sim) checkStarted(d *scheduler.RunDetail) {
	for _, t := range d.Tasks {
		if t.External == "" || t.Executor != "" {
			continue
		}
		child, err := s.store.Run(context.Background(), t.External)
		if err != nil || !child.Run.State.Terminal() || child.Run.Trigger.Parent != t.ID() {
			panic(violation(fmt.Sprintf("task %s has started run %s, of which there is %+v, %v", t.ID(), t.External, child, err)))
		}
		s.checkMoves(child)
		s.started++
	}
}
