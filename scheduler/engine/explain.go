package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"millrace/scheduler"
)

var _ scheduler.Explainer = (*Engine)(nil)

// question asks the loop between two rounds, when everything that can start has started: so the limits that stopped fill and admit are those
// by which whatever waits is waiting.
type question struct {
	ask  func(c *core)
	done answer
}

func (in *question) decide(_ context.Context, c *core) {
	c.tx.answers = append(c.tx.answers, func() { in.ask(c); in.done <- nil })
}

func (in *question) fail(err error) { in.done <- err }

// Explain implements scheduler.Explainer.
func (e *Engine) Explain(ctx context.Context, run string) (*scheduler.RunWhy, error) {
	for range 3 { // it may begin between the two looks
		var out *scheduler.RunWhy
		done := make(answer, 1)
		err := e.ask(ctx, &question{done: done, ask: func(c *core) {
			if l := c.runs[run]; l != nil {
				out = c.explain(l)
			}
		}}, done)
		if err != nil || out != nil {
			return out, err
		}
		d, err := e.store.Look(ctx, run)
		if err != nil {
			return nil, err
		}
		if d.Run.State.Terminal() {
			return explainEnded(d), nil
		}
	}
	return nil, fmt.Errorf("explain run %s: %w", run, scheduler.ErrUnavailable)
}

func explainEnded(d *scheduler.RunDetail) *scheduler.RunWhy {
	out := &scheduler.RunWhy{Run: d.Run.ID, DAG: d.Run.DAG, State: d.Run.State, Deadlines: d.Run.Deadlines, Why: ended(d.Run.State, d.Run.Reason)}
	for i := range d.Tasks {
		t := &d.Tasks[i]
		out.Tasks = append(out.Tasks, taskWhy(t, ended(t.State, t.Reason)))
	}
	return out
}

func taskWhy(t *scheduler.TaskRun, why scheduler.Why) scheduler.TaskWhy {
	return scheduler.TaskWhy{ID: t.ID(), Task: t.Task, MapIndex: t.MapIndex, State: t.State, Why: why}
}

// Slots implements scheduler.Explainer.
func (e *Engine) Slots(ctx context.Context) ([]scheduler.Slots, error) {
	var out []scheduler.Slots
	done := make(answer, 1)
	err := e.ask(ctx, &question{done: done, ask: func(c *core) { out = c.slots() }}, done)
	return out, err
}

// explain is called between two rounds.
func (c *core) explain(l *live) *scheduler.RunWhy {
	out := &scheduler.RunWhy{Run: l.Row.ID, DAG: l.Row.DAG, State: l.Row.State, Deadlines: l.Row.Deadlines}
	for i := range l.DAG.Tasks {
		out.Tasks = append(out.Tasks, taskWhy(&l.Tasks[i], c.whyTask(ref{l, i})))
		for _, row := range notable(l, i) {
			out.Tasks = append(out.Tasks, taskWhy(&l.Tasks[row], c.whyTask(ref{l, row})))
		}
	}
	out.Why = c.whyRun(l, out.Tasks)
	return out
}

// whyRun sums up: a run without a place waits for that, others do what their tasks do.
func (c *core) whyRun(l *live, tasks []scheduler.TaskWhy) scheduler.Why {
	if l.held {
		return c.whyHeld(l)
	}
	count := map[scheduler.Code]int{}
	first := map[scheduler.Code]*scheduler.TaskWhy{}
	total := 0
	for i := range tasks {
		if tasks[i].MapIndex != scheduler.NoMap {
			continue // its whole speaks for it
		}
		total++
		code := tasks[i].Why.Code
		if count[code]++; count[code] == 1 {
			first[code] = &tasks[i]
		}
	}
	if l.ending() {
		return whyEnding(l, count[scheduler.CodeEnding])
	}
	done := fmt.Sprintf("%d of %s ended", count[scheduler.CodeEnded], counted(total, "task"))
	if n := count[scheduler.CodeRunning] + count[scheduler.CodeMapped]; n > 0 {
		return scheduler.Why{Code: scheduler.CodeRunning, Text: fmt.Sprintf("%s under way, %s", counted(n, "task"), done)}
	}
	// Nothing of it runs: it waits as that of its tasks does which is nearest to running.
	for _, code := range []scheduler.Code{scheduler.CodeLaunching, scheduler.CodeEnding, scheduler.CodeSubDAG, scheduler.CodeInput, scheduler.CodePool, scheduler.CodeTries, scheduler.CodeSlots,
		scheduler.CodeImage, scheduler.CodeRetryAt, scheduler.CodeUnreachable} {
		if t := first[code]; t != nil {
			why := t.Why
			why.Text = fmt.Sprintf("task %s %s; %s", t.Task, why.Text, done)
			return why
		}
	}
	return scheduler.Why{Code: scheduler.CodeRunning, Text: done} // can not be: a task whose parents wait has one that is not waiting for parents
}

// whyEnding is why a run that was asked to end has not ended yet: of its tasks, so many were asked as well.
func whyEnding(l *live, asked int) scheduler.Why {
	why := scheduler.Why{Code: scheduler.CodeEnding, Text: l.Row.Reason}
	var names []string
	for _, i := range l.Teardowns() {
		if t := &l.Tasks[i]; t.Kill == "" {
			why.On = append(why.On, t.ID())
			names = append(names, fmt.Sprintf("%s (%s)", t.Task, t.State))
		}
	}
	switch {
	case len(names) == 0:
		why.Text += ", and waits for the end of " + counted(asked, "task")
	case asked > 0:
		why.Text += fmt.Sprintf(", waits for the end of %s, and then for what takes down what was set up: %s", counted(asked, "task"), several(names, "", ""))
	default:
		why.Text += ", and waits for what takes down what was set up: " + several(names, "", "")
	}
	if len(names) > 0 {
		why.Text += "; a further cancel skips that"
	}
	why.On = why.On[:min(len(why.On), scheduler.MaxOn)]
	return why
}

func (c *core) whyTask(r ref) scheduler.Why {
	t := &r.run.Tasks[r.task]
	switch t.State {
	case scheduler.StateNone:
		if own, mapped := r.run.WholeOf(r.task); mapped {
			return c.whyLimit(r, own)
		}
		return whyParents(r)
	case scheduler.StateScheduled:
		return c.whyReady(r)
	case scheduler.StateUpForRetry:
		return scheduler.Why{Code: scheduler.CodeRetryAt, Until: t.RetryAt,
			Text: fmt.Sprintf("waits until %s for try %d: %s", clock(t.RetryAt), t.Try+1, cmp.Or(t.Reason, "the one before failed"))}
	case scheduler.StateLaunching, scheduler.StateRunning, scheduler.StateUnreachable:
		return c.whyActive(r)
	case scheduler.StateDeferred, scheduler.StateAwaitingInput:
		if r.run.Whole(r.task) {
			return whyMapped(r)
		}
		return c.whyParked(r)
	}
	return ended(t.State, t.Reason)
}

func whyParents(r ref) scheduler.Why {
	why := scheduler.Why{Code: scheduler.CodeParents}
	var names []string
	for _, p := range r.run.Waits(r.task) {
		t := &r.run.Tasks[p]
		why.On = append(why.On, t.ID())
		names = append(names, fmt.Sprintf("%s (%s)", t.Task, t.State))
	}
	why.Text = "waits for the end of " + several(names, "", "")
	if rule := r.spec().Rule; rule != "" {
		why.Text += ", its rule being " + rule
	}
	why.On = why.On[:min(len(why.On), scheduler.MaxOn)]
	return why
}

// whyReady is why fill, admit or the gate of images passed a ready task over. In a line only the head is looked at: the others wait for it to start.
func (c *core) whyReady(r ref) scheduler.Why {
	if r.run.held {
		return c.whyHeld(r.run)
	}
	if p := r.run.Image(r.task); p != nil && p.Open() {
		return c.whyImage(r)
	}
	q, p := c.queues[r.run.Tasks[r.task].Executor], c.pool(r.spec())
	ln := q.line(p, c.limit(r))
	if !q.full.stopped() && ln.capped.stopped() {
		why := c.whyLimited(ln)
		why.Ahead = ln.ahead(r)
		why.Text += aheadNote(why.Ahead) + classNote(r)
		return why
	}
	why := scheduler.Why{Code: scheduler.CodeSlots, Name: q.name, Ahead: ln.ahead(r)}
	full, what, holders := q.full, "executor "+q.name, slices.Sorted(maps.Keys(q.active))
	if !full.stopped() && p != nil {
		why.Code, why.Name = scheduler.CodePool, p.name
		full, what, holders = ln.full, "pool "+p.name, slices.Sorted(maps.Keys(p.held))
	}
	why.Used, why.Slots, why.Want = full.used, full.slots, full.want
	holders = c.tasksOf(holders)
	why.On = holders[:min(len(holders), scheduler.MaxOn)]
	if why.Code == scheduler.CodePool && full.slots == 0 {
		why.Text = fmt.Sprintf("waits for pool %s, which the configuration does not have any more: add it to pools, or cancel the run", p.name)
		return why
	}
	why.Text = fmt.Sprintf("waits for %s of %s, of which %d of %d are taken", counted(full.want, "slot"), what, full.used, full.slots)
	if len(holders) > 0 {
		why.Text += " by " + several(holders, "", "")
	}
	if next := q.first(q.of(p)); next != nil && why.Code == scheduler.CodePool && next.turns[0].list[0].ref != r {
		first := next.turns[0].list[0]
		why.Text = fmt.Sprintf("comes after task %s, which %s", first.run.Tasks[first.task].ID(), why.Text)
	} else {
		why.Text += aheadNote(why.Ahead)
	}
	why.Text += classNote(r)
	return why
}

// aheadNote says what comes before a task in its line.
func aheadNote(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %s of its DAG before it", counted(n, "task"))
}

// classNote says what comes before all tasks of a run that is not live.
func classNote(r ref) string {
	class := r.run.Row.Class()
	if class == scheduler.ClassLive {
		return ""
	}
	return fmt.Sprintf("; live runs go before %ss", class)
}

// ahead counts what comes before a task among those of its DAG and priority.
func (ln *line) ahead(r ref) int {
	if ln == nil {
		return 0
	}
	t := ln.where[r.turn()]
	if t == nil {
		return 0
	}
	n := 0
	for _, o := range t.list {
		if o.ref == r {
			break
		}
		if o.ready() {
			n++
		}
	}
	return n
}

// waiting counts the tasks of a line that still wait.
func (ln *line) waiting() int {
	n := 0
	for _, t := range ln.turns {
		for _, r := range t.list {
			if r.ready() {
				n++
			}
		}
	}
	return n
}

func (q *queue) waiting() int {
	n := 0
	for _, ln := range q.lines {
		n += ln.waiting()
	}
	return n
}

// whyHeld is why admit gave no place to a run.
func (c *core) whyHeld(l *live) scheduler.Why {
	g := l.group
	ids := slices.Sorted(maps.Keys(g.active))
	why := scheduler.Why{Code: scheduler.CodeConcurrency, Name: g.name(), Used: g.full.used, Slots: g.full.slots, Want: 1,
		On: ids[:min(len(ids), scheduler.MaxOn)], Text: "waits for a place: " + g.sentence()}
	why.Ahead = g.ahead(l)
	if why.Ahead > 0 {
		why.Text += fmt.Sprintf("; %s before it%s", counted(why.Ahead, "run"), g.lifoNote(l, &why))
	}
	return why
}

func (c *core) whyActive(r ref) scheduler.Why {
	t := &r.run.Tasks[r.task]
	switch {
	case t.State == scheduler.StateUnreachable:
		// The timer is what will fence it; the newest counts, since an attempt may have come back and gone again.
		why := scheduler.Why{Code: scheduler.CodeUnreachable, Name: t.Executor}
		for _, tm := range c.timers {
			if tm.ref == r && tm.fence == r.run.slots[r.task] && (why.Until.IsZero() || tm.at.Before(why.Until)) {
				why.Until = tm.at
			}
		}
		why.Text = fmt.Sprintf("executor %s does not reach try %d, which may still run; it is given up at %s", t.Executor, t.Try, clock(why.Until))
		return why
	case t.Kill != "":
		return scheduler.Why{Code: scheduler.CodeEnding, Name: t.Executor,
			Text: fmt.Sprintf("was asked to end (%s); SIGKILL follows %v after SIGTERM", t.Kill, r.run.Grace(r.task))}
	case t.State == scheduler.StateLaunching:
		why := scheduler.Why{Code: scheduler.CodeLaunching, Name: t.Executor,
			Text: fmt.Sprintf("try %d was handed to executor %s, which has not said that it runs", t.Try, t.Executor)}
		if p, ok := c.queues[t.Executor].executor.(scheduler.Placer); ok {
			if text := p.Waiting(r.run.slots[r.task]); text != "" {
				why.Text = fmt.Sprintf("try %d waits in executor %s: %s", t.Try, t.Executor, text)
			}
		}
		return why
	}
	return scheduler.Why{Code: scheduler.CodeRunning, Name: t.Executor, Text: fmt.Sprintf("try %d runs since %s", t.Try, clock(t.StartedAt))}
}

// ended explains what does not wait any more.
func ended(state scheduler.State, reason string) scheduler.Why {
	text := "ended: " + string(state)
	if reason != "" {
		text += ", " + reason
	}
	return scheduler.Why{Code: scheduler.CodeEnded, Text: text}
}

// slots is called between two rounds.
func (c *core) slots() []scheduler.Slots {
	out := []scheduler.Slots{}
	for _, name := range slices.Sorted(maps.Keys(c.queues)) {
		q := c.queues[name]
		s := scheduler.Slots{Kind: "executor", Name: name, Slots: q.executor.Slots(), Used: len(q.active), Waiting: q.waiting(), Holders: []scheduler.Holder{}}
		for _, attempt := range slices.Sorted(maps.Keys(q.active)) {
			s.Holders = append(s.Holders, c.holder(attempt, 1))
		}
		out = append(out, s)
	}
	for _, name := range slices.Sorted(maps.Keys(c.pools)) {
		p := c.pools[name]
		s := scheduler.Slots{Kind: "pool", Name: name, Slots: p.size, Used: p.used, Waiting: c.waitingFor(p), Holders: []scheduler.Holder{}}
		if s.Slots+s.Used+s.Waiting == 0 {
			continue // was removed from the configuration, and nobody asks for it any more
		}
		for _, attempt := range slices.Sorted(maps.Keys(p.held)) {
			s.Holders = append(s.Holders, c.holder(attempt, p.held[attempt]))
		}
		out = append(out, s)
	}
	return out
}

// waitingFor counts the tasks in the lines of a pool.
func (c *core) waitingFor(p *pool) int {
	n := 0
	for _, q := range c.queues {
		for _, ln := range q.of(p) {
			n += ln.waiting()
		}
	}
	return n
}

func (c *core) holder(attempt string, slots int) scheduler.Holder {
	at := c.attempts[attempt]
	t := &at.run.Tasks[at.task]
	return scheduler.Holder{Task: t.ID(), DAG: at.run.Row.DAG, Slots: slots, Since: t.StartedAt}
}

// several names some things and counts the rest, with a verb for one or for many.
func several(names []string, one, many string) string {
	const shown = 3
	verb, text := many, strings.Join(names[:min(len(names), shown)], ", ")
	if len(names) == 1 {
		verb = one
	}
	if more := len(names) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return strings.TrimSpace(text + " " + verb)
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
