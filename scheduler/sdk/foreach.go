package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ForEach makes a task mapped: it runs once for each element of a list, which [Item] gives it. It is an [Option]; docs/foreach.md has the rules.
type ForEach struct {
	// Items is a CEL expression that yields the list: "inputs.objects", "params.days", listed.Output() (then the task [Needs] listed).
	Items string
	// As is what expressions of the task call an element; "" is "item".
	As string
	// Key is a CEL expression over the element that names an element for people; "": it has no name.
	Key string
	// MaxConcurrent is how many go on at once; 0: all.
	MaxConcurrent int
	// TolerateFailures is how many may fail, "3", or such a part of all, "5%"; "": none.
	TolerateFailures string
}

func (f ForEach) apply(t *task) {
	if f.Items == "" {
		t.dag.fault("task %q is to run for each element of nothing: ForEach has no Items", t.id)
	}
	var o object
	o = o.with("items", f.Items).unless(f.As == "", "as", f.As).unless(f.Key == "", "key", f.Key).unless(f.MaxConcurrent == 0, "max_concurrent", f.MaxConcurrent)
	if f.TolerateFailures != "" {
		var n int
		var tolerate any = f.TolerateFailures
		if json.Unmarshal([]byte(f.TolerateFailures), &n) == nil {
			tolerate = n
		}
		o = o.with("tolerate_failures", tolerate)
	}
	t.keys = t.keys.with("foreach", o)
}

// Item is the input of a task with [ForEach]: its element of the list.
func Item[T any]() Input[T] { return item[T]{} }

type item[T any] struct{}

func (item[T]) nodes() []*task { return nil }

func (item[T]) Of(a *Attempt) (out T, err error) {
	if len(a.Item) == 0 {
		return out, NoRetry(errors.New("take the item: the task has no ForEach, so it has none"))
	}
	if err := json.Unmarshal(a.Item, &out); err != nil {
		return out, NoRetry(fmt.Errorf("take item %d: %w", a.MapIndex, err))
	}
	return out, nil
}

// List is the input of a task that comes after one with [ForEach]: what that has put out for each element, in their order. An element that
// failed, was skipped or has put out nothing has the zero value.
func List[T any](s *Step[T]) Input[[]T] { return outputs[T]{s} }

type outputs[T any] struct{ s *Step[T] }

func (l outputs[T]) nodes() []*task { return l.s.nodes() }

func (l outputs[T]) Of(a *Attempt) ([]T, error) { return (&Step[[]T]{l.s.t}).Of(a) }
