package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"millrace/scheduler"
)

// simNoticed and simLate count the notices and the deadlines that were missed, over all schedules.
var simNoticed, simLate atomic.Int64

// simNotices is what the files of the simulation say of whom to tell: nobody, a few, or all there is.
var simNotices = []string{
	"on_event: {success: [a, b], failure: [a], cancelled: [b], retry: [a], deadline: [a]}\n" +
		"deadline: [{from: run_created, within: 3s, notify: [b]}, {from: batch_sealed, within: 10m}, {from: average(2), within: 1s}]\n",
	"",
	"on_event: {failure: [b]}\ndeadline: {from: run_created, within: 7m, notify: [b]}\n",
}

// checkNotices requires that the outbox has, of each move that somebody wants to hear of, one notice for each of them, in order, and of each
// deadline one if it was missed and none else; and that each deadline has ended, in one way, unless its time has not come.
func (s *sim) checkNotices(d *scheduler.RunDetail) {
	stored, err := s.store.Version(context.Background(), d.Run.Version)
	var dag scheduler.DAG
	if err == nil {
		err = json.Unmarshal(stored.Canonical, &dag)
	}
	if err != nil {
		panic(violation("version of run " + d.Run.ID + ": " + err.Error()))
	}
	var want []string
	for _, m := range d.Moves {
		event := runEvents[m.To]
		if m.Task != "" {
			event = ""
			if m.To == scheduler.StateUpForRetry {
				event = scheduler.OnRetry
			}
		}
		for _, name := range dag.OnEvent[event] {
			want = append(want, fmt.Sprint(name, event, m.Task, m.At.UnixMicro()))
		}
	}
	late := s.checkDeadlines(d, &dag)
	list, next, err := s.store.Notices(context.Background(), scheduler.NoticeQuery{Run: d.Run.ID, Limit: 1000})
	if err != nil || next != "" {
		panic(violation(fmt.Sprintf("notices of run %s: more than 1000, or %v", d.Run.ID, err)))
	}
	var got []string
	for _, n := range slices.Backward(list) {
		if n.Event == scheduler.OnDeadline {
			late--
			continue
		}
		got = append(got, fmt.Sprint(n.Notifier, n.Event, n.Task, n.CreatedAt.UnixMicro()))
	}
	if !slices.Equal(got, want) || late != 0 {
		panic(violation(fmt.Sprintf("run %s: notices %v, want %v, and %d of deadlines are missing", d.Run.ID, got, want, late)))
	}
	simNoticed.Add(int64(len(list)))
}

// checkDeadlines returns how many notices there must be of missed deadlines.
func (s *sim) checkDeadlines(d *scheduler.RunDetail, dag *scheduler.DAG) (notices int) {
	for _, one := range d.Run.Deadlines {
		open, both := one.Open(), !one.MetAt.IsZero() && !one.MissedAt.IsZero()
		early := !one.MissedAt.IsZero() && one.MissedAt.Before(one.At) || one.MetAt.After(one.At)
		if both || early || open && d.Run.State == scheduler.StateSuccess || open && !s.e.core.due.next[d.Run.ID].Truncate(time.Microsecond).Equal(d.Run.NextDeadline()) {
			panic(violation(fmt.Sprintf("run %s is %s, with deadline %+v", d.Run.ID, d.Run.State, one)))
		}
		if !one.MissedAt.IsZero() {
			notices += len(union(dag.Deadlines[one.N].Notify, dag.OnEvent[scheduler.OnDeadline]))
			simLate.Add(1)
		}
	}
	return notices
}
