package sdk

import "time"

// RunEvents names the notifiers of the installation that are told what becomes of the DAG's runs: each field those that are told when a run
// has succeeded, has failed, was cancelled, when a task of it has failed and will be tried again, and when a [Deadline] was missed.
type RunEvents struct {
	Success, Failure, Cancelled, Retry, Deadline []string
}

// OnEvent says who is told what becomes of runs.
func (d *DAG) OnEvent(e RunEvents) *DAG {
	return d.Set("on_event", events(
		member{"success", e.Success}, member{"failure", e.Failure}, member{"cancelled", e.Cancelled}, member{"retry", e.Retry},
		member{"deadline", e.Deadline}))
}

// TaskEvents is like [RunEvents], for one task. It is an [Option].
type TaskEvents struct {
	Success, Failure, Cancelled, Retry, Skipped []string
}

func (e TaskEvents) apply(t *task) {
	t.keys = t.keys.with("on_event", events(
		member{"success", e.Success}, member{"failure", e.Failure}, member{"cancelled", e.Cancelled}, member{"retry", e.Retry},
		member{"skipped", e.Skipped}))
}

func events(of ...member) object {
	o := object{}
	for _, m := range of {
		if names, ok := m.value.([]string); ok && len(names) > 0 {
			o = o.with(m.key, names)
		}
	}
	return o
}

// Deadline says when a run that is not successful is late. That is told once, and changes nothing about the run.
type Deadline struct {
	From DeadlineFrom
	// Within is how long after that the run has to be successful, at most 31 days. It may be 0 with [AverageOf] alone.
	Within time.Duration
	// MinRuns is for [AverageOf]: there is no deadline before so many runs were successful. 0 is all of those that it looks at.
	MinRuns int
	// Notify names notifiers of the installation.
	Notify []string
}

// Deadline adds a deadline.
func (d *DAG) Deadline(l Deadline) *DAG {
	o := object{{"from", l.From}}
	o = o.unless(l.Within == 0, "within", l.Within.String()).unless(l.MinRuns == 0, "min_runs", l.MinRuns)
	d.deadlines = append(d.deadlines, o.unless(len(l.Notify) == 0, "notify", l.Notify))
	return d
}
