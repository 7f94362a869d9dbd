package engine

import (
	"fmt"
	"maps"
	"strings"

	"millrace/scheduler"
)

// rowName names a task, or a mapped one, within its run.
func rowName(task string, index int) string {
	if index == scheduler.NoMap {
		return task
	}
	return fmt.Sprintf("%s/%d", task, index)
}

// checkGoing counts the mapped tasks of one task that go on, as the store has them.
func checkGoing(d *scheduler.RunDetail, task string, f *scheduler.Foreach) {
	if f == nil || f.MaxConcurrent == 0 {
		return
	}
	going := 0
	for i := range d.Tasks {
		if t := &d.Tasks[i]; t.Task == task && t.MapIndex != scheduler.NoMap && t.State != scheduler.StateNone && !t.State.Terminal() {
			going++
		}
	}
	if going > f.MaxConcurrent {
		panic(violation(fmt.Sprintf("run %s: %d mapped tasks of %s go on, and %d may", d.Run.ID, going, task, f.MaxConcurrent)))
	}
}

// checkWholes compares the mapped tasks of a run that has ended with their rows.
func checkWholes(d *scheduler.RunDetail) {
	rows := map[string]int{}
	for i := range d.Tasks {
		if t := &d.Tasks[i]; t.MapIndex != scheduler.NoMap && t.State != scheduler.StateRemoved {
			if t.Item == nil || !t.State.Terminal() {
				panic(violation(fmt.Sprintf("run %s has ended, and task %s is %s of %v", d.Run.ID, t.ID(), t.State, t.Item)))
			}
			rows[t.Task]++
		}
	}
	for i := range d.Tasks {
		t := &d.Tasks[i]
		if t.MapIndex == scheduler.NoMap && t.State == scheduler.StateSuccess && t.Map != nil && !strings.HasPrefix(t.Reason, "marked") && rows[t.Task] != t.Map.Count {
			panic(violation(fmt.Sprintf("run %s: task %s succeeded with %d of %d items", d.Run.ID, t.Task, rows[t.Task], t.Map.Count)))
		}
	}
}

// atExpansion returns the states that the parents of a mapped task had when its list was made: what becomes of them later does not matter, as it does
// not to any other task that has begun.
func atExpansion(d *scheduler.RunDetail, task string) map[string]scheduler.State {
	now, then := map[string]scheduler.State{}, map[string]scheduler.State{}
	for _, m := range d.Moves {
		if m.MapIndex != scheduler.NoMap {
			continue
		}
		if m.Task == task && m.From == scheduler.StateScheduled && m.To == scheduler.StateDeferred {
			then = maps.Clone(now)
		}
		now[m.Task] = m.To
	}
	return then
}
