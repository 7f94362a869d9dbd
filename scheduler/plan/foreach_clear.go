package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/scheduler"
)

// reset of a whole removes its rows: the next list may be another. A row that is cleared alone goes on in its whole, which is taken up again if it
// had ended.

// findRow returns the row of "task/3".
func (r *Run) findRow(id string) (int, bool, error) {
	task, index, ok := strings.Cut(id, "/")
	if !ok {
		return 0, false, nil
	}
	i, err := r.Find(task)
	if err != nil {
		return 0, true, err
	}
	missing := func(why string) (int, bool, error) {
		return 0, true, fmt.Errorf("find task %q of run %s: %w; %s", id, r.Row.ID, scheduler.ErrNotFound, why)
	}
	k, err := strconv.Atoi(index)
	rows := r.Rows(i)
	switch {
	case !r.Whole(i):
		return missing("task " + task + " is not mapped")
	case err != nil || k < 0 || k >= len(rows) || r.Tasks[rows[k]].State == scheduler.StateRemoved:
		return missing(fmt.Sprintf("task %s has %d items, from 0", task, r.mapCount(i)))
	}
	return rows[k], true, nil
}

// failedRows replaces, in a set of tasks of which those are wanted that ended badly, a whole by its rows that did. Without such rows it stands for
// itself.
func (r *Run) failedRows(set []bool) {
	for i, w := range r.wholes {
		if !set[i] {
			continue
		}
		for _, row := range w.rows {
			if endedBadly(r.Tasks[row].State) {
				set[row], set[i] = true, false
			}
		}
	}
}

// wordNotStarted begins the reason of a row that was not started because too many of its siblings had failed.
const wordNotStarted = "not started: "

// reopen takes up a whole again that has ended, because one of its rows is to be executed again, or ended otherwise. The rows that were not started
// for the failure of others may start now; so may those that a clear had removed which did not come to its end, since the run was cancelled or marked
// before what was under way had ended: they are of the list that the whole still has.
func (s *step) reopen(i int, why string) {
	t := &s.Tasks[i]
	if !t.State.Terminal() {
		return
	}
	s.open++
	s.override(i, scheduler.StateDeferred, why)
	t.Kill, t.Output, t.EndedAt = "", nil, time.Time{}
	for _, row := range s.live(i) {
		switch r := &s.Tasks[row]; {
		case r.State == scheduler.StateCancelled && strings.HasPrefix(r.Reason, wordNotStarted):
			s.reset(row, why)
		case r.State == scheduler.StateRemoved:
			s.open++
			s.override(row, scheduler.StateNone, why)
		}
	}
	s.tendLater(i)
}

// vacate removes the rows of a whole that is reset; what is under way of them is asked to end first.
func (s *step) vacate(i int, why string) {
	w := s.wholes[i]
	if w == nil {
		return
	}
	for _, row := range w.rows {
		if s.Tasks[row].State.UnderWay() {
			s.killFor(row, why)
		} else {
			s.remove(row, why)
		}
	}
	w.next, w.pending = 0, nil
}

// remove takes a row out of its list.
func (s *step) remove(row int, why string) {
	t := &s.Tasks[row]
	if t.State == scheduler.StateRemoved {
		return
	}
	if !t.State.Terminal() {
		s.open--
	}
	s.withdraw(row, why)
	s.override(row, scheduler.StateRemoved, why)
	t.Cleared, t.Lost = t.Try, 0
	t.External, t.Kill, t.Exit, t.Output, t.OutputRef, t.CachedFrom = "", "", noExit, nil, nil, ""
	t.RetryAt, t.StartedAt, t.EndedAt = time.Time{}, time.Time{}, time.Time{}
}

// haltWhole notes what a person wants of a whole that is under way, and asks its rows to end; it follows when they have.
func (s *step) haltWhole(i int, why string) {
	t := &s.Tasks[i]
	if t.Kill != why {
		t.Kill = why
		s.touch(i)
	}
	s.tendLater(i)
	state, ordered := wish(why)
	switch {
	case !ordered: // the run is cancelled, and its rows are with it
	case state == scheduler.StateNone:
		s.vacate(i, why)
	default:
		for _, row := range s.wholes[i].rows {
			switch st := s.Tasks[row].State; {
			case st.Terminal():
			case !st.UnderWay() && state == scheduler.StateFailed: // it has not begun
				s.mark(row, scheduler.StateSkipped, why)
			default:
				s.mark(row, state, why)
			}
		}
	}
}

// markRow sets the end of one mapped task, and returns its whole if that has ended well by it.
func (s *step) markRow(row int, to scheduler.State, why string) (int, bool) {
	own, _ := s.WholeOf(row)
	if !s.Tasks[row].State.UnderWay() {
		s.reopen(own, why)
	}
	s.mark(row, to, why)
	s.tendAll()
	st := s.Tasks[own].State
	return own, st == scheduler.StateSuccess || st == scheduler.StateSkipped
}

// withoutRows leaves out the rows of wholes that are in the set themselves.
func (r *Run) withoutRows(tasks []int) []int {
	return slices.DeleteFunc(tasks, func(i int) bool {
		own, mapped := r.WholeOf(i)
		_, found := slices.BinarySearch(tasks, own)
		return mapped && found
	})
}

// lastTry lets a mapped task fail for good if more of them failed than are tolerated: nothing more is started then.
func (s *step) lastTry(i int, v verdict) verdict {
	own, mapped := s.WholeOf(i)
	if !mapped || v.state != scheduler.StateUpForRetry {
		return v
	}
	if why := s.over(own); why != "" {
		v.state, v.reason = scheduler.StateFailed, v.reason+", and is not tried again: "+why
	}
	return v
}
