package plan

import (
	"pgregory.net/rapid"

	"millrace/scheduler"
)

// drawParts adds setups and teardowns to a graph: one pair, maybe with another within it, or a teardown alone.
func drawParts(t *rapid.T, dag *scheduler.DAG) {
	kind := rapid.IntRange(0, 4).Draw(t, "pairs")
	tasks := len(dag.Tasks)
	var covered, within []int
	for i := range tasks {
		if rapid.IntRange(0, 3).Draw(t, "covered") > 0 {
			covered = append(covered, i)
			if rapid.Bool().Draw(t, "within") {
				within = append(within, i)
			}
		}
	}
	pair := func(name string, set []int, setup bool) {
		down := scheduler.Task{
			ID: name + "_teardown", Part: scheduler.PartTeardown, Pair: name, Kind: "command", Shell: "x", Rule: scheduler.JoinAllDone,
			FailRun: rapid.Bool().Draw(t, "fail run"), Retry: scheduler.Retry{Limit: rapid.IntRange(0, 1).Draw(t, "limit")},
		}
		for _, i := range set {
			down.Needs = append(down.Needs, dag.Tasks[i].ID)
		}
		if setup {
			up := scheduler.Task{ID: name + "_setup", Part: scheduler.PartSetup, Pair: name, Kind: "command", Shell: "x"}
			for _, i := range set {
				dag.Tasks[i].Setups = append(dag.Tasks[i].Setups, up.ID)
			}
			down.Setups = []string{up.ID}
			dag.Tasks = append(dag.Tasks, up)
		}
		dag.Tasks = append(dag.Tasks, down)
	}
	switch {
	case kind == 0 || len(covered) == 0:
	case kind == 1:
		pair("alone", covered, false)
	default:
		if kind > 2 && len(within) > 0 {
			pair("inner", within, true)
			covered = append(covered, tasks, tasks+1)
		}
		pair("outer", covered, true)
		dag.Tasks[len(dag.Tasks)-1].FailRun = kind == 2
		for i := range dag.Tasks {
			if dag.Tasks[i].ID == "inner_teardown" { // its own is the only setup that it waits for
				dag.Tasks[i].Setups = []string{"inner_setup"}
			}
		}
	}
}

// withSetups returns what a task is expected to become by its setups, if its rule makes it by.
func (o *observer) withSetups(task *scheduler.Task, by scheduler.State) scheduler.State {
	var bad, skipped bool
	for _, id := range task.Setups {
		switch st := o.states[id]; {
		case !st.Terminal():
			return scheduler.StateNone
		case st == scheduler.StateSkipped:
			skipped = true
		case st != scheduler.StateSuccess:
			bad = true
		}
	}
	switch down := task.Part == scheduler.PartTeardown; {
	case down && by == scheduler.StateScheduled && (bad || skipped), !down && skipped && !bad:
		return scheduler.StateSkipped
	case !down && bad:
		return scheduler.StateUpstreamFailed
	}
	return by
}

// surrounded checks a task that is launched: what covers it is set up, and what it takes down is in nobody's use.
func (o *observer) surrounded(id string) {
	task := o.r.DAG.Task(id)
	for _, setup := range task.Setups {
		if st := o.states[setup]; st != scheduler.StateSuccess {
			o.t.Fatalf("task %s is launched while its setup is %s", id, st)
		}
	}
	if task.Part != scheduler.PartTeardown {
		return
	}
	for _, need := range task.Needs {
		if st := o.states[need]; !st.Terminal() {
			o.t.Fatalf("%s is launched while %s, which it covers, is %s", id, need, st)
		}
	}
}

// force notes what may leave something that was set up as it is.
func (o *observer) force(ev Event) {
	if c, ok := ev.(Cancel); ok && (c.Force || o.r.Row.State == scheduler.StateQueued) {
		o.forced = true
	}
}

// takenDown checks at the end of a run that nothing is left that was set up.
func (o *observer) takenDown() {
	for i := range o.r.DAG.Tasks {
		task, t := &o.r.DAG.Tasks[i], &o.r.Tasks[i]
		if task.Part != scheduler.PartTeardown || len(task.Setups) == 0 || o.forced {
			continue
		}
		up := o.states[task.Setups[0]]
		fits := map[scheduler.State]bool{scheduler.StateSuccess: true, scheduler.StateFailed: true}
		setup, err := o.r.Find(task.Setups[0])
		if err != nil {
			o.t.Fatal(err)
		}
		if _, said := wish(o.r.Tasks[setup].Reason); said || up != scheduler.StateSuccess { // nothing was set up, whatever a person says
			fits[scheduler.StateSkipped] = true
		}
		if _, person := wish(t.Reason); !fits[t.State] && t.Reason != "the task decided to skip (exit code 99)" && !person {
			o.t.Fatalf("%s is %s (%s), and its setup is %s", t.Task, t.State, t.Reason, up)
		}
	}
}
