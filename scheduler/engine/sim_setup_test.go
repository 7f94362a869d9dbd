package engine

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"millrace/scheduler"
	"millrace/scheduler/plan"
)

// takenDown counts the teardowns that succeeded, in all schedules.
var takenDown atomic.Int64

// checkTakenDown requires of a run that has ended that nothing is left that was set up, unless a person wanted that. What is launched is looked at
// when that happens.
func (s *sim) checkTakenDown(d *scheduler.RunDetail) {
	v, err := s.store.Version(context.Background(), d.Run.Version)
	if err != nil {
		panic(violation(err.Error()))
	}
	dag, err := plan.Compile(*v)
	if err != nil {
		panic(violation(err.Error()))
	}
	rows := map[string]*scheduler.TaskRun{}
	for i := range d.Tasks {
		rows[d.Tasks[i].Task] = &d.Tasks[i]
	}
	for i := range dag.Tasks {
		task := &dag.Tasks[i]
		if task.Part != scheduler.PartTeardown || len(task.Setups) == 0 {
			continue
		}
		up, down := rows[task.Setups[0]], rows[task.ID]
		switch {
		case up.State != scheduler.StateSuccess, strings.HasPrefix(up.Reason, "marked"), strings.HasPrefix(down.Reason, "marked"):
		case down.State == scheduler.StateSuccess:
			takenDown.Add(1)
		case down.State == scheduler.StateFailed, strings.HasPrefix(down.Reason, "the task decided"):
		case down.State == scheduler.StateCancelled && givenUp(d, task.ID):
		default:
			panic(violation(fmt.Sprintf("%s is %s (%s), and its setup is success: %s", down.ID(), down.State, down.Reason, states(d))))
		}
	}
}

// givenUp reports whether a teardown was cancelled by a second cancel, or while the run waited to begin.
func givenUp(d *scheduler.RunDetail, task string) bool {
	run, up := scheduler.StateQueued, false
	for _, m := range d.Moves {
		switch {
		case m.Task == "":
			run = m.To
		case m.Task == task:
			up = m.To == scheduler.StateCancelled && (run == scheduler.StateQueued || m.From.Active() || strings.Contains(m.Reason, "second time"))
		}
	}
	return up
}
