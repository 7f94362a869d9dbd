package engine

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/plan"
)

// runEvents and taskEvents are what notifiers hear of, by the state that was moved to.
var (
	runEvents = map[scheduler.State]string{
		scheduler.StateSuccess: scheduler.OnSuccess, scheduler.StateFailed: scheduler.OnFailure, scheduler.StateCancelled: scheduler.OnCancelled,
	}
	taskEvents = map[scheduler.State]string{
		scheduler.StateSuccess: scheduler.OnSuccess, scheduler.StateFailed: scheduler.OnFailure, scheduler.StateCancelled: scheduler.OnCancelled,
		scheduler.StateUpForRetry: scheduler.OnRetry, scheduler.StateSkipped: scheduler.OnSkipped,
	}
)

// announce writes the notices of a step's moves. They are committed with the moves, or not at all.
func (c *core) announce(l *live, d *plan.Delta) {
	if !l.DAG.Tells() {
		return
	}
	for i := range d.Moves {
		m := &d.Moves[i]
		if m.Task == "" {
			c.post(l, m, runEvents[m.To], l.DAG.OnEvent[runEvents[m.To]], -1)
			continue
		}
		event := taskEvents[m.To]
		var names []string
		if spec := l.DAG.Task(m.Task); spec != nil {
			names = spec.OnEvent[event]
		}
		if event == scheduler.OnRetry {
			names = union(l.DAG.OnEvent[event], names)
		}
		if len(names) == 0 {
			continue
		}
		task := slices.IndexFunc(d.Tasks, func(i int) bool { return l.Tasks[i].Task == m.Task && l.Tasks[i].MapIndex == m.MapIndex })
		c.post(l, m, event, names, d.Tasks[task]) // what moved has changed, so it is among them
	}
}

// post writes the notices of one move for those who want to hear of it.
func (c *core) post(l *live, m *scheduler.Move, event string, names []string, task int) {
	if len(names) == 0 {
		return
	}
	rev := l.Row.Rev
	if task >= 0 {
		rev = l.Tasks[task].Rev
	}
	b := scheduler.NewNoticeBody(event, m.At, &l.Row, l.Tasks, task)
	b.Owner = l.DAG.Owner
	// The row has a new revision with each transaction, and the number is another for each notice of this one.
	c.send(names, b, m.Run, m.Task, strconv.Itoa(m.MapIndex), event, strconv.FormatInt(rev, 10), strconv.Itoa(len(c.tx.change.Notices)))
}

// send puts a notice for each of the notifiers into the outbox. what names the event, once for all times.
func (c *core) send(names []string, b scheduler.NoticeBody, what ...string) {
	raw, err := json.Marshal(b)
	if err != nil {
		raw = []byte("{}") // can not be: it has texts, numbers and times of this century
	}
	for _, name := range names {
		n := scheduler.Notice{
			ID: scheduler.NoticeID(name, what...), Notifier: name, Event: b.Event, DAG: b.DAG, Run: b.Run, State: scheduler.NoticePending,
			NextAt: c.tx.now, CreatedAt: c.tx.now, Since: c.tx.now, Body: raw,
		}
		if b.Task != nil {
			n.Task = b.Task.Task
		}
		c.tx.change.Notices = append(c.tx.change.Notices, n)
	}
}

// union returns the names of both lists, each once.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, name := range b {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// noticed tells those who send notices that there are some.
func (e *Engine) noticed(tx *txn) {
	if len(tx.change.Notices) > 0 && e.opts.Noticed != nil {
		e.opts.Noticed()
	}
	for _, m := range tx.missed {
		e.metrics.missed.WithLabelValues(m.dag, m.from).Inc()
		e.log.Warn("deadline missed", "dag", m.dag, "run", m.run, "rule", m.rule, "at", m.at.Format(time.RFC3339))
	}
}
