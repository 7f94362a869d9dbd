package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// Func is the code of a task. ctx ends when the attempt is asked to end. The output becomes the input of tasks that take it; an error fails
// the attempt, which is tried again as [Retry] says. [Skip] and [NoRetry] are the other two ends.
type Func[In, Out any] func(ctx context.Context, a *Attempt, in In) (Out, error)

// Input is where the input of a task comes from: another task, the parameters of the run, both, or [None].
type Input[T any] interface {
	// Of returns the value for an attempt. A parent that was skipped, or has no output, gives the zero value.
	Of(a *Attempt) (T, error)
	nodes() []*task
}

// Node is a task of any type, or a [Group].
type Node interface{ node() ref }

// Nothing is the input or output of a task that has none.
type Nothing struct{}

// None is the input of a task that takes nothing from others; it may still read the batches of its run.
var None Input[Nothing] = none{}

type none struct{}

func (none) Of(*Attempt) (Nothing, error) { return Nothing{}, nil }
func (none) nodes() []*task               { return nil }

// Step is a task of a DAG, and its output for those that come after it.
type Step[Out any] struct{ t *task }

func (s *Step[Out]) node() ref      { return ref{s.t.dag, s.t.id, s.t} }
func (s *Step[Out]) nodes() []*task { return []*task{s.t} }

// Of implements [Input].
func (s *Step[Out]) Of(a *Attempt) (Out, error) {
	var out Out
	raw, err := a.output(s.t.id)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, NoRetry(fmt.Errorf("take output of task %q: %w", s.t.id, err))
	}
	return out, nil
}

// Pair is the input of a task with two.
type Pair[A, B any] struct {
	First  A
	Second B
}

// Both makes one input of two, of which either may be a pair again.
func Both[A, B any](a Input[A], b Input[B]) Input[Pair[A, B]] { return both[A, B]{a, b} }

type both[A, B any] struct {
	a Input[A]
	b Input[B]
}

func (i both[A, B]) nodes() []*task { return append(slices.Clone(i.a.nodes()), i.b.nodes()...) }

func (i both[A, B]) Of(a *Attempt) (p Pair[A, B], err error) {
	if p.First, err = i.a.Of(a); err == nil {
		p.Second, err = i.b.Of(a)
	}
	return p, err
}

// Params declares the parameters of the DAG's runs: the fields of a struct, by their names in JSON, of kind string, bool, integer or float, or lists,
// with their values as defaults. The tag `millrace:"required"` is for a field without a default, and `doc:"…"` describes one.
func Params[T any](d *DAG, defaults T) Input[T] {
	declared, errs := declare(defaults)
	for _, m := range declared {
		d.params = d.params.with(m.key, m.value)
	}
	for _, err := range errs {
		d.fault("%w", err)
	}
	return params[T]{}
}

type params[T any] struct{}

func (params[T]) nodes() []*task { return nil }

func (params[T]) Of(a *Attempt) (out T, err error) {
	if len(a.Params) == 0 {
		return out, nil
	}
	if err := json.Unmarshal(a.Params, &out); err != nil {
		return out, NoRetry(fmt.Errorf("take parameters: %w", err))
	}
	return out, nil
}

// Task adds a task that runs fn. Where its input comes from are its first parents; [Needs] adds others.
func Task[In, Out any](p Place, id string, from Input[In], fn Func[In, Out], opts ...Option) *Step[Out] {
	t := add(p, id, opts)
	for _, parent := range from.nodes() {
		t.inputs = append(t.inputs, ref{parent.dag, parent.id, parent})
	}
	t.run = func(ctx context.Context, a *Attempt) (any, error) {
		in, err := from.Of(a)
		if err != nil {
			return nil, err
		}
		out, err := fn(ctx, a, in)
		if _, none := any(out).(Nothing); none {
			return nil, err
		}
		return out, err
	}
	return &Step[Out]{t}
}

// task is a task without its types.
type task struct {
	dag *DAG
	// id is the name, but for setups and teardowns.
	name, id    string
	part, group string
	// inputs are where the input comes from, and needs what the author has added.
	inputs, needs []ref
	// parents are the names that both have in the description; covers and takers, what a setup covers, as its author and as others say.
	parents        []string
	covers, takers []ref
	keys           object
	env            object
	// work is what a task is that has no function.
	work object
	run  func(ctx context.Context, a *Attempt) (any, error)
}

func (t *task) describe(executable string) object {
	work := t.work
	if t.run != nil {
		work = object{{"run", []string{executable, verbRun, t.id}}}
	}
	covered := t.covered()
	var o object
	o = o.unless(len(t.parents) == 0, "needs", t.parents).unless(len(covered) == 0, "for", covered).unless(t.group == "", "group", t.group)
	return t.describeKeys(append(o, work...), t.dag.defaults != nil)
}

// bounds is an option whose zero fields have to be written where the DAG's defaults would fill them in.
type bounds interface {
	describe(whole bool) object
}

func (t *task) describeKeys(o object, defaults bool) object {
	for _, m := range t.keys {
		value := m.value
		if b, ok := value.(bounds); ok {
			value = b.describe(defaults && t.dag.defaults.keys.has(m.key))
		}
		o = append(o, member{m.key, value})
	}
	return o.unless(len(t.env) == 0, "env", t.env)
}
