package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"millrace/scheduler"
	"millrace/scheduler/plan"
	"millrace/scheduler/spec"
	"millrace/trigger"
)

// answer is where a caller waits. It takes one value and never blocks the sender.
type answer chan error

// then sends err to a when the transaction is committed.
func (c *core) then(a answer, err error) {
	c.tx.answers = append(c.tx.answers, func() { a <- err })
}

// intake is what dispatch decided.
type intake struct {
	in   trigger.Intake
	done answer
}

func (in *intake) decide(ctx context.Context, c *core) {
	if in.in.Gen != c.gen {
		c.then(in.done, trigger.ErrStale)
		return
	}
	// What has to be read is read before anything is changed: a run that exists is left alone, also one that ended long ago.
	firings, err := c.news(ctx, in.in.Firings)
	for i := 0; i < len(firings) && err == nil; i++ {
		err = c.recall(ctx, firings[i].Version)
	}
	if err != nil {
		c.then(in.done, fmt.Errorf("%w: %w", unavailable(err, trigger.ErrStale), err))
		return
	}
	chg := &c.tx.change
	chg.Arrivals = append(chg.Arrivals, in.in.Arrivals...)
	chg.Updates = append(chg.Updates, in.in.Updates...)
	chg.Groups = append(chg.Groups, in.in.Groups...)
	chg.Cursors = append(chg.Cursors, in.in.Cursors...)
	chg.Ticks = append(chg.Ticks, in.in.Ticks...)
	told := make([][]int, len(firings))
	for i, f := range firings {
		told[i] = c.tolds(f)
	}
	c.disposed(&in.in)
	for i, f := range firings {
		c.begin(f, told[i])
	}
	c.then(in.done, nil)
}

// unavailable turns an error of a read into the sentinel that the caller of Start knows.
func unavailable(err, missing error) error {
	if errors.Is(err, scheduler.ErrNotFound) {
		return missing
	}
	return trigger.ErrUnavailable
}

// news returns the firings whose runs do not exist and never did. It asks the store once for all of them.
func (c *core) news(ctx context.Context, list []trigger.Firing) ([]*trigger.Firing, error) {
	var ids []string
	for i := range list {
		if id := list[i].RunID(); c.runs[id] == nil {
			ids = append(ids, id)
		}
	}
	known, err := c.ever(ctx, ids)
	if err != nil {
		return nil, err
	}
	var out []*trigger.Firing
	for i := range list {
		if id := list[i].RunID(); c.runs[id] == nil && !slices.Contains(known, id) {
			out = append(out, &list[i])
		}
	}
	return out, nil
}

// known reports whether the run exists, in memory or in the store, or was there and is forgotten.
func (c *core) known(ctx context.Context, id string) (bool, error) {
	if c.runs[id] != nil {
		return true, nil
	}
	past, err := c.ever(ctx, []string{id})
	return len(past) > 0, err
}

// ever returns those of the ids that the store knows.
func (c *core) ever(ctx context.Context, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	if h, ok := c.read.(scheduler.History); ok {
		return h.Known(ctx, ids)
	}
	var out []string
	for _, id := range ids {
		runs, _, err := c.read.Runs(ctx, scheduler.RunQuery{ID: id})
		if err != nil {
			return nil, err
		}
		if len(runs) > 0 {
			out = append(out, id)
		}
	}
	return out, nil
}

// begin makes the run of a firing whose version is at hand, unless an earlier input of this transaction has made it. told are the deadlines that
// its batches have missed already.
func (c *core) begin(f *trigger.Firing, told []int) *live {
	if l := c.runs[f.RunID()]; l != nil {
		return l
	}
	v := c.versions[f.Version]
	params, err := spec.Params(v.dag.Params, f.Params)
	if err != nil {
		params = f.Params // spec refuses rules that can not fill the parameters; expressions on what is missing fail and say so
		if len(params) == 0 {
			params = json.RawMessage("{}")
		}
	}
	return c.make(f, plan.Terms{Params: params, Past: c.due.past[f.DAG], Told: told})
}

// make makes the run of a firing whose version is at hand.
func (c *core) make(f *trigger.Firing, terms plan.Terms) *live {
	v := c.versions[f.Version]
	v.refs++
	r, d := plan.NewRunOn(v.dag, f, terms, c.tx.now)
	return c.add(r, &d)
}

// reports is news from an executor.
type reports struct {
	executor string
	list     []scheduler.Report
	done     answer
}

func (in *reports) decide(_ context.Context, c *core) {
	for _, rep := range in.list {
		at, ok := c.attempts[rep.Attempt]
		if !ok {
			// An attempt that is not the present one of any task. If it runs, it was fenced, or its run is over: its results do not count.
			if rep.Outcome == scheduler.OutcomeRunning {
				c.tx.kills = append(c.tx.kills, kill{in.executor, rep.Attempt, plan.DefaultGrace})
			}
			continue
		}
		if rep.Outcome == scheduler.OutcomeUnsent {
			c.relaunch(at, rep)
			continue
		}
		c.step(at.run, plan.Report{Task: at.task, Report: rep})
		c.observeStart(at)
	}
	c.then(in.done, nil)
}

// relaunch hands an attempt to its executor again, which had it, and has forgotten it before anything came of it. What was asked to end meanwhile has ended.
func (c *core) relaunch(at ref, rep scheduler.Report) {
	t := &at.run.Tasks[at.task]
	if t.State != scheduler.StateLaunching {
		return // late: it was launched again, and has started
	}
	rep.EndedAt = c.tx.now
	if t.Kill != "" {
		rep.Outcome, rep.Exit, rep.Signal = scheduler.OutcomeExited, -1, "SIGTERM"
		c.step(at.run, plan.Report{Task: at.task, Report: rep})
		return
	}
	one, err := c.launch(at.run, at.task, t.Try)
	if err != nil {
		rep.Outcome, rep.Exit, rep.Reason = scheduler.OutcomeRefused, -1, err.Error()
		c.step(at.run, plan.Report{Task: at.task, Report: rep})
		return
	}
	one.executor, one.input = t.Executor, at.run.Freeze(at.task)
	c.tx.launches = append(c.tx.launches, one)
}

// observeStart notes when the first task of a run started.
func (c *core) observeStart(at ref) {
	began := at.run.Tasks[at.task].StartedAt
	if at.run.started || began.IsZero() {
		return
	}
	at.run.started = true
	if len(at.run.Batches) == 0 {
		return
	}
	s := start{dag: at.run.Row.DAG}
	for i := range at.run.Batches {
		if got := at.run.Batches[i].ReceivedMin; !got.IsZero() {
			s.wait = max(s.wait, began.Sub(got))
		}
	}
	c.tx.starts = append(c.tx.starts, s)
}

// manual is a person's request for a run.
type manual struct {
	dag, id string
	params  []byte
	run     scheduler.Run // the answer, if done yields nil
	done    answer
}

func (in *manual) decide(ctx context.Context, c *core) {
	h := c.heads[in.dag]
	if h == nil || h.dag == nil {
		c.then(in.done, fmt.Errorf("find dag %q: %w", in.dag, scheduler.ErrNotFound))
		return
	}
	if h.row.Removed {
		c.then(in.done, fmt.Errorf("trigger dag %q: its file is gone: %w", in.dag, scheduler.ErrNotFound))
		return
	}
	if _, err := spec.Params(h.dag.Params, in.params); err != nil {
		c.then(in.done, fmt.Errorf("%w: %w", scheduler.ErrInvalid, err))
		return
	}
	f := trigger.Firing{
		Kind: trigger.KindManual, DAG: in.dag, Key: in.id, Version: h.row.Version, At: c.tx.now, Params: in.params,
	}
	for _, r := range h.dag.On {
		if r.Kind == trigger.KindManual {
			f.Rule = r.ID
			break
		}
	}
	if c.runs[f.RunID()] == nil {
		old, err := c.read.Look(ctx, f.RunID())
		if err == nil {
			c.tx.answers = append(c.tx.answers, func() { in.run = old.Run; in.done <- nil })
			return
		}
		if errors.Is(err, scheduler.ErrNotFound) {
			err = c.refuseForgotten(ctx, f.RunID(), in.id)
		}
		if err != nil {
			c.then(in.done, err)
			return
		}
	}
	if err := c.recall(ctx, f.Version); err != nil {
		c.then(in.done, err)
		return
	}
	l := c.begin(&f, nil)
	c.tx.answers = append(c.tx.answers, func() { in.run = l.Row; in.done <- nil })
}

// cancel is a person's wish that a run ends. Said again, it is that its teardowns end, too.
type cancel struct {
	id string
	// again says so. It is found out when this is first decided: if that was committed and only the word of it was lost, it is not said again.
	again, decided bool

	live bool // the run was live; run is the answer
	run  scheduler.Run
	done answer
}

func (in *cancel) decide(_ context.Context, c *core) {
	l := c.runs[in.id]
	if l == nil {
		c.tx.answers = append(c.tx.answers, func() { in.live = false; in.done <- nil })
		return
	}
	if !in.decided {
		in.again, in.decided = l.ending(), true
	}
	ev := plan.Cancel{Reason: "cancelled by request", Force: in.again}
	if in.again {
		ev.Reason = "cancelled by request, for the second time"
	}
	c.step(l, ev)
	c.tx.answers = append(c.tx.answers, func() { in.live, in.run = true, l.Row; in.done <- nil })
}

// pause is a person's wish that a DAG starts nothing by itself, or that it does so again.
type pause struct {
	dag    string
	paused bool
	head   scheduler.DAGHead // the answer, if done yields nil
	done   answer
}

func (in *pause) decide(_ context.Context, c *core) {
	h := c.heads[in.dag]
	if h == nil {
		c.then(in.done, fmt.Errorf("find dag %q: %w", in.dag, scheduler.ErrNotFound))
		return
	}
	if h.row.Removed {
		c.then(in.done, fmt.Errorf("pause dag %q: its file is gone: %w", in.dag, scheduler.ErrNotFound))
		return
	}
	row := h.row
	row.Paused = in.paused
	c.setHead(h, row, h.dag)
	c.tx.answers = append(c.tx.answers, func() { in.head = h.row; in.done <- nil })
}

func (in *intake) fail(err error)  { in.done <- err }
func (in *reports) fail(err error) { in.done <- err }
func (in *manual) fail(err error)  { in.done <- err }
func (in *cancel) fail(err error)  { in.done <- err }
func (in *pause) fail(err error)   { in.done <- err }
func (in *dagSet) fail(err error)  { in.done <- err }
