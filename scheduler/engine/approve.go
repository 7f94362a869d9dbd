package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"millrace/scheduler"
	"millrace/scheduler/plan"
	"millrace/scheduler/spec"
)

var _ scheduler.Approver = (*Engine)(nil)

// Questions implements scheduler.Approver.
func (e *Engine) Questions(ctx context.Context, run string) ([]scheduler.Question, error) {
	out := []scheduler.Question{}
	done := make(answer, 1)
	err := e.ask(ctx, &question{done: done, ask: func(c *core) { out = append(out, c.questions(run)...) }}, done)
	return out, err
}

// questions is called between two rounds.
func (c *core) questions(run string) []scheduler.Question {
	var out []scheduler.Question
	for id, l := range c.runs {
		if run != "" && run != id {
			continue
		}
		for i := range l.Tasks {
			if l.Tasks[i].State == scheduler.StateAwaitingInput {
				out = append(out, questionOf(ref{l, i}))
			}
		}
	}
	slices.SortFunc(out, func(a, b scheduler.Question) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID)) })
	return out
}

func questionOf(r ref) scheduler.Question {
	t, ask := &r.run.Tasks[r.task], r.spec().Approval
	q := scheduler.Question{
		ID: t.ID(), Run: t.Run, DAG: r.run.Row.DAG, Task: t.Task, MapIndex: t.MapIndex, Try: t.Try, Message: t.Reason, By: ask.By,
		Options: ask.Options, Params: ask.Params, Since: t.StartedAt, Until: r.run.ParkedUntil(r.task), OnReject: cmp.Or(ask.OnReject, scheduler.RejectSkip),
	}
	if !q.Until.IsZero() {
		q.OnExpire = cmp.Or(ask.OnExpire, scheduler.DecisionReject)
	}
	return q
}

// Decide implements scheduler.Approver.
func (e *Engine) Decide(ctx context.Context, run, task string, mapIndex int, d scheduler.Decision) (*scheduler.TaskRun, error) {
	done := make(answer, 1)
	in := &decision{run: run, task: task, index: mapIndex, d: d, done: done}
	if err := e.ask(ctx, in, done); err != nil {
		return nil, err
	}
	return &in.out, nil
}

// decision is a person's decision. Its time is that of its first look, by which it is known again if it is decided on anew.
type decision struct {
	run, task string
	index     int
	d         scheduler.Decision
	out       scheduler.TaskRun // the answer, if done yields nil
	done      answer
}

func (in *decision) fail(err error) { in.done <- err }

func (in *decision) decide(ctx context.Context, c *core) {
	if in.d.At.IsZero() {
		in.d.At = c.tx.now
	}
	l := c.runs[in.run]
	if l == nil {
		in.late(ctx, c)
		return
	}
	i := slices.IndexFunc(l.Tasks, func(t scheduler.TaskRun) bool { return t.Task == in.task && t.MapIndex == in.index })
	if i < 0 {
		_, err := l.Find(in.task)
		c.then(in.done, cmp.Or(err, fmt.Errorf("find task %s/%s/%d: %w", in.run, in.task, in.index, scheduler.ErrNotFound)))
		return
	}
	t := &l.Tasks[i]
	if t.State != scheduler.StateAwaitingInput {
		in.refuse(c, t, l.Spec(i).Kind)
		return
	}
	if err := in.check(l.Spec(i).Approval); err != nil {
		c.then(in.done, err)
		return
	}
	c.step(l, plan.Decide{Task: i, Attempt: l.Attempt(i), Decision: in.d})
	c.tx.answers = append(c.tx.answers, func() { in.out = l.Tasks[i]; in.done <- nil })
}

// late answers on a run that has ended.
func (in *decision) late(ctx context.Context, c *core) {
	d, err := c.read.Run(ctx, in.run)
	if err != nil {
		c.then(in.done, err)
		return
	}
	i := slices.IndexFunc(d.Tasks, func(t scheduler.TaskRun) bool { return t.Task == in.task && t.MapIndex == in.index })
	if i < 0 {
		c.then(in.done, fmt.Errorf("find task %q of run %s: %w", in.task, in.run, scheduler.ErrNotFound))
		return
	}
	kind := ""
	if dag, err := c.lookup(ctx, d.Run.Version); err == nil {
		if t := dag.Task(in.task); t != nil {
			kind = t.Kind
		}
		c.drop(d.Run.Version)
	}
	in.refuse(c, &d.Tasks[i], kind)
}

// refuse says why a task takes no decision, unless it has this very one.
func (in *decision) refuse(c *core, t *scheduler.TaskRun, kind string) {
	if kind != scheduler.KindApproval {
		c.then(in.done, fmt.Errorf("decide on task %s: it is no approval; 'runs mark' sets how a task has ended: %w", t.ID(), scheduler.ErrInvalid))
		return
	}
	var old scheduler.Decision
	if !t.State.Terminal() || len(t.Output) == 0 || json.Unmarshal(t.Output, &old) != nil || old.Decision == "" {
		text := fmt.Sprintf("it is %s", t.State)
		if t.Reason != "" {
			text += ", " + t.Reason
		}
		c.then(in.done, fmt.Errorf("decide on task %s: it waits for no decision: %s: %w", t.ID(), text, scheduler.ErrInvalid))
		return
	}
	if old.At.Equal(in.d.At) && old.By == in.d.By && old.Decision == in.d.Decision && !old.Expired {
		row := *t
		c.tx.answers = append(c.tx.answers, func() { in.out = row; in.done <- nil })
		return
	}
	c.then(in.done, fmt.Errorf("decide on task %s: %w: %s at %s", t.ID(), scheduler.ErrDecided, t.Reason, old.At.UTC().Format(time.RFC3339)))
}

// check reports why an answer does not fit the question, and fills in what it leaves out.
func (in *decision) check(ask *scheduler.Approval) error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("decide on task %s/%s: %s: %w", in.run, in.task, fmt.Sprintf(format, args...), scheduler.ErrInvalid)
	}
	d := &in.d
	d.Expired = false
	switch {
	case d.Decision != scheduler.DecisionApprove && d.Decision != scheduler.DecisionReject:
		return invalid("the decision is %q, want approve or reject", d.Decision)
	case len(ask.By) > 0 && d.By == "":
		return invalid("%s may decide on it, and nobody said who decides", strings.Join(ask.By, ", "))
	case len(ask.By) > 0 && !slices.Contains(ask.By, d.By):
		return invalid("%s may decide on it, and %s is not among them", strings.Join(ask.By, ", "), d.By)
	case len(d.Comment) > scheduler.MaxComment || strings.ContainsFunc(d.Comment, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }):
		return invalid("the comment has %d bytes, want at most %d, without control characters", len(d.Comment), scheduler.MaxComment)
	case len(d.Input) > scheduler.MaxInput:
		return invalid("the input has %d bytes, the limit is %d", len(d.Input), scheduler.MaxInput)
	}
	if d.Decision == scheduler.DecisionReject {
		if d.Option != "" || len(d.Input) > 0 {
			return invalid("options and input are for an approval: a rejection takes a comment alone")
		}
		return nil
	}
	switch {
	case len(ask.Options) == 0 && d.Option != "":
		return invalid("it has no options, and %q is chosen", d.Option)
	case len(ask.Options) > 0 && !slices.Contains(ask.Options, d.Option):
		return invalid("the option is %q, want one of %s", d.Option, strings.Join(ask.Options, ", "))
	}
	if len(ask.Params) == 0 && len(d.Input) == 0 {
		return nil
	}
	input, err := spec.Params(ask.Params, d.Input)
	if err != nil {
		return invalid("input: %v", err)
	}
	d.Input = input
	return nil
}
