package sdk

import (
	"errors"
	"fmt"
)

// DAG collects what a DAG file says. It is not safe for concurrent use.
type DAG struct {
	id        string
	keys      object
	on        []object
	params    object
	env       object
	defaults  *task // of which only keys and env count
	deadlines []object
	groups    []*Group
	tasks     []*task // setups and teardowns among them
	byID      map[string]*task
	faults    []error
}

// New begins the DAG with an id, which is unique among all DAGs of an installation.
func New(id string) *DAG { return &DAG{id: id, byID: map[string]*task{}} }

// ID returns the id of the DAG, for [SubDAG].
func (d *DAG) ID() string { return d.id }

// Description says what the DAG is for.
func (d *DAG) Description(text string) *DAG { return d.Set("description", text) }

// Owner says whom to ask.
func (d *DAG) Owner(name string) *DAG { return d.Set("owner", name) }

// Tags are words to find the DAG by.
func (d *DAG) Tags(words ...string) *DAG { return d.Set("tags", words) }

// Env gives every task a variable; a task's own wins.
func (d *DAG) Env(name, value string) *DAG {
	d.env = d.env.with(name, value)
	return d
}

// Defaults are options of all tasks, setups and teardowns that do not say otherwise.
func (d *DAG) Defaults(opts ...Default) *DAG {
	if d.defaults == nil {
		d.defaults = &task{dag: d}
	}
	for _, o := range opts {
		o.apply(d.defaults)
	}
	return d
}

// Concurrency bounds the runs of the DAG that are under way at once.
type Concurrency struct {
	// Group tells runs apart that have bounds of their own: the text, with ${{ }}, is the same for those that count together. "" is one for all.
	Group string
	// MaxRuns is how many of a group may be under way; 0 is 1.
	MaxRuns  int
	WhenFull WhenFull
}

// Concurrency bounds the runs that are under way at once. Without it there is no bound.
func (d *DAG) Concurrency(c Concurrency) *DAG {
	o := object{}
	o = o.unless(c.Group == "", "group", c.Group).unless(c.MaxRuns == 0, "max_runs", c.MaxRuns)
	return d.Set("concurrency", o.unless(c.WhenFull == "", "when_full", c.WhenFull))
}

// Priority is that of tasks that have none of their own.
func (d *DAG) Priority(n int) *DAG { return d.Set("priority", n) }

// Set writes any other key of the DAG format, such as one that is newer than this package. The value is what encoding/json makes of it.
func (d *DAG) Set(key string, value any) *DAG {
	d.keys = d.keys.with(key, value)
	return d
}

func (d *DAG) fault(format string, args ...any) {
	d.faults = append(d.faults, fmt.Errorf("dag %q: "+format, append([]any{d.id}, args...)...))
}

// add takes a task on. Faults are kept for [DAG.Describe], so that a program needs no error handling while it says what it is.
func add(p Place, id string, opts []Option) *task {
	t := &task{name: id, id: id}
	p.put(t)
	d := t.dag
	if d.byID[t.id] != nil {
		d.fault("task %q is defined twice", t.id)
	}
	d.tasks, d.byID[t.id] = append(d.tasks, t), t
	for _, o := range opts {
		o.apply(t)
	}
	return t
}

// Describe returns the DAG as a DAG file, in JSON, which is YAML. The tasks run as "<executable> run-task <id>".
func (d *DAG) Describe(executable string) ([]byte, error) {
	defer func(n int) { d.faults = d.faults[:n] }(len(d.faults))
	for _, t := range d.tasks {
		t.takers = nil
	}
	for _, t := range d.tasks {
		t.resolve()
	}
	if len(d.faults) > 0 {
		return nil, errors.Join(d.faults...)
	}
	return encode(d.describe(executable))
}

func (d *DAG) describe(executable string) object {
	doc := object{{"dag", d.id}}
	doc = append(doc, d.keys...)
	doc = doc.unless(len(d.params) == 0, "params", d.params)
	doc = doc.unless(len(d.on) == 0, "on", d.on)
	switch len(d.deadlines) {
	case 0:
	case 1:
		doc = doc.with("deadline", d.deadlines[0])
	default:
		doc = doc.with("deadline", d.deadlines)
	}
	doc = doc.unless(len(d.env) == 0, "env", d.env)
	if d.defaults != nil {
		doc = doc.with("defaults", d.defaults.describeKeys(object{}, false))
	}
	var groups object
	for _, g := range d.groups {
		groups = groups.with(g.name, g.describe())
	}
	doc = doc.unless(len(groups) == 0, "groups", groups)
	parts := map[string]object{}
	for _, t := range d.tasks {
		parts[t.part] = parts[t.part].with(t.name, t.describe(executable))
	}
	doc = doc.unless(len(parts[partSetup]) == 0, "setup", parts[partSetup]).with("tasks", parts[""])
	return doc.unless(len(parts[partTeardown]) == 0, "teardown", parts[partTeardown])
}
