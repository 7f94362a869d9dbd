package plan

import (
	"slices"
	"time"

	"millrace/scheduler"
	"millrace/trigger"
)

// Tells reports whether somebody is to be told of what becomes of a run, apart from its deadlines.
func (d *DAG) Tells() bool { return d.tells }

func tells(d *scheduler.DAG) bool {
	for i := range d.Tasks {
		if len(d.Tasks[i].OnEvent) > 0 {
			return true
		}
	}
	return len(d.OnEvent) > 0
}

// Average returns how many of the newest successful runs the deadlines of d look at; 0: none.
func (d *DAG) Average() int {
	most := 0
	for i := range d.Deadlines {
		most = max(most, d.Deadlines[i].Last)
	}
	return most
}

// setDeadlines gives a new run its deadlines. A replay has none: it runs behind others, and what it is made of is old.
func (r *Run) setDeadlines(f *trigger.Firing, t *Terms) {
	if r.Row.Replay > 0 {
		return
	}
	for n := range r.DAG.Deadlines {
		rule := &r.DAG.Deadlines[n]
		at := r.reference(rule, f, t.Past)
		if at.IsZero() {
			continue
		}
		d := scheduler.Deadline{N: n, Rule: rule.String(), At: at.Add(rule.Within)}
		if slices.Contains(t.Told, n) && !d.At.After(r.Row.CreatedAt) {
			d.MissedAt = r.Row.CreatedAt
		}
		r.Row.Deadlines = append(r.Row.Deadlines, d)
	}
}

// reference is what a deadline counts from, or zero: the run has no such time.
func (r *Run) reference(rule *scheduler.DeadlineRule, f *trigger.Firing, past []time.Duration) time.Time {
	switch rule.From {
	case scheduler.FromRunCreated:
		return r.Row.CreatedAt
	case scheduler.FromCronTime:
		return f.Due
	case scheduler.FromBatchSealed:
		return sealed(r)
	case scheduler.FromAverage:
		past = past[:min(len(past), rule.Last)]
		if len(past) == 0 || len(past) < rule.MinRuns {
			return time.Time{}
		}
		var sum time.Duration
		for _, d := range past {
			sum += d
		}
		return r.Row.CreatedAt.Add(sum / time.Duration(len(past)))
	}
	return time.Time{}
}

// sealed returns when the first of the run's batches was cut.
func sealed(r *Run) (at time.Time) {
	for i := range r.Batches {
		if cut := r.Batches[i].CreatedAt; at.IsZero() || cut.Before(at) {
			at = cut
		}
	}
	return at
}

// meet ends the deadlines that a run met which has just succeeded. One that had passed before stays open: it is missed.
func meet(row *scheduler.Run, now time.Time) {
	endDeadlines(row, func(d *scheduler.Deadline) bool {
		if d.At.Before(now) {
			return false
		}
		d.MetAt = now
		return true
	})
}

// Overdue ends the open deadlines that have passed, and returns them. It is for runs in any state: only success meets a deadline.
func Overdue(row *scheduler.Run, now time.Time) []scheduler.Deadline {
	return endDeadlines(row, func(d *scheduler.Deadline) bool {
		if d.At.After(now) {
			return false
		}
		d.MissedAt = now
		return true
	})
}

// endDeadlines gives end the open deadlines, and returns those that it has ended. The list is replaced: others may be reading the old one.
func endDeadlines(row *scheduler.Run, end func(*scheduler.Deadline) bool) []scheduler.Deadline {
	if row.NextDeadline().IsZero() {
		return nil
	}
	list := slices.Clone(row.Deadlines)
	var ended []scheduler.Deadline
	for i := range list {
		if d := &list[i]; d.Open() && end(d) {
			ended = append(ended, *d)
		}
	}
	row.Deadlines = list
	return ended
}
