package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
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

// Node is a task of any type.
type Node interface{ node() *task }

// Nothing is the input or output of a task that has none.
type Nothing struct{}

// None is the input of a task that takes nothing from others; it may still read the batches of its run.
var None Input[Nothing] = none{}

type none struct{}

func (none) Of(*Attempt) (Nothing, error) { return Nothing{}, nil }
func (none) nodes() []*task               { return nil }

// Step is a task of a DAG, and its output for those that come after it.
type Step[Out any] struct{ t *task }

func (s *Step[Out]) node() *task    { return s.t }
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

// Params declares the parameters of the DAG's runs: the fields of a struct, by their names in JSON, of kind string, bool, integer or float,
// with their values as defaults. The tag `millrace:"required"` is for a field without a default, and `doc:"…"` describes one.
func Params[T any](d *DAG, defaults T) Input[T] {
	v := reflect.ValueOf(defaults)
	if v.Kind() != reflect.Struct {
		d.fault("parameters must be a struct, got %T", defaults)
		return params[T]{}
	}
	for i := range v.NumField() {
		d.param(v.Type().Field(i), v.Field(i))
	}
	return params[T]{}
}

func (d *DAG) param(f reflect.StructField, v reflect.Value) {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if !f.IsExported() || name == "-" {
		return
	}
	if name == "" {
		name = f.Name
	}
	kind := ""
	switch {
	case v.Kind() == reflect.String:
		kind = "string"
	case v.Kind() == reflect.Bool:
		kind = "boolean"
	case v.CanInt(), v.CanUint():
		kind = "integer"
	case v.CanFloat():
		kind = "number"
	default:
		d.fault("parameter %q is a %s, want a string, a bool or a number", name, v.Type())
	}
	required := f.Tag.Get("millrace") == "required"
	p := object{{"type", kind}}
	p = p.unless(f.Tag.Get("doc") == "", "description", f.Tag.Get("doc"))
	p = p.unless(!required, "required", true).unless(required, "default", v.Interface())
	d.params = d.params.with(name, p)
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
func Task[In, Out any](d *DAG, id string, from Input[In], fn Func[In, Out], opts ...Option) *Step[Out] {
	t := d.add(id, opts)
	for i, parent := range from.nodes() {
		t.needs = slices.Insert(t.needs, min(i, len(t.needs)), parent)
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
	t.checkNeeds()
	return &Step[Out]{t}
}

// Command adds a task that is another program: argv as it stands, in which ${{ }} is as in a DAG file. Its output is of type Out, if it
// writes one.
func Command[Out any](d *DAG, id string, argv []string, opts ...Option) *Step[Out] {
	t := d.add(id, opts)
	t.argv = argv
	t.checkNeeds()
	return &Step[Out]{t}
}

// task is a task without its types.
type task struct {
	dag   *DAG
	id    string
	needs []*task
	keys  object
	env   object
	argv  []string // of a command
	run   func(ctx context.Context, a *Attempt) (any, error)
}

func (t *task) need(parent *task) {
	if !slices.Contains(t.needs, parent) {
		t.needs = append(t.needs, parent)
	}
}

// checkNeeds drops doubles, and finds parents that describe could not name.
func (t *task) checkNeeds() {
	parents := t.needs
	t.needs = nil
	for _, p := range parents {
		if p.dag != t.dag {
			t.dag.fault("task %q needs %q, which is a task of dag %q", t.id, p.id, p.dag.id)
		}
		t.need(p)
	}
}

func (t *task) describe(executable string) object {
	argv := t.argv
	if t.run != nil {
		argv = []string{executable, verbRun, t.id}
	}
	var needs []string
	for _, p := range t.needs {
		needs = append(needs, p.id)
	}
	var o object
	o = o.unless(len(needs) == 0, "needs", needs).with("run", argv)
	o = append(o, t.keys...)
	return o.unless(len(t.env) == 0, "env", t.env)
}
