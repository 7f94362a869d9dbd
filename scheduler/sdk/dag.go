package sdk

import (
	"errors"
	"fmt"
	"time"
)

// DAG collects what a DAG file says. It is not safe for concurrent use.
type DAG struct {
	id     string
	keys   object
	on     []object
	params object
	env    object
	tasks  []*task
	byID   map[string]*task
	faults []error
}

// New begins the DAG with an id, which is unique among all DAGs of an installation.
func New(id string) *DAG { return &DAG{id: id, byID: map[string]*task{}} }

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

// Set writes any other key of the DAG format, such as "concurrency". The value is what encoding/json makes of it.
func (d *DAG) Set(key string, value any) *DAG {
	d.keys = d.keys.with(key, value)
	return d
}

// BatchRule starts a run for each batch that it selects. Zero fields select everything.
type BatchRule struct {
	// ID names the rule; "" is "batch".
	ID string
	// Source and Tenant name where batches come from; Types keeps batches that have an event of one of them.
	Source, Tenant string
	Types          []string
	// If is a CEL expression over `batch`.
	If string
	// Key is a CEL expression: batches of one value are coalesced into one run, as Coalesce says.
	Key      string
	Coalesce Coalesce
	// Order is "fifo", "lifo" or "latest_only"; "" is as batches come.
	Order string
	// OnlyJoined: the rule starts no runs of its own, see [DAG.OnAllOf].
	OnlyJoined bool
}

// Coalesce says when a group of batches becomes a run. The zero value does not group.
type Coalesce struct {
	MaxBatches int
	MaxEvents  int64
	// MaxBytes counts stored bytes.
	MaxBytes int64
	// Quiet is how long no batch came, MaxWait how old the first one is.
	Quiet, MaxWait time.Duration
	// Mode is "latest" if the run is to get the newest batch alone; "" is all.
	Mode string
}

// OnBatch adds a rule.
func (d *DAG) OnBatch(r BatchRule) *DAG {
	var batch object
	batch = batch.unless(r.Source == "", "source", r.Source)
	batch = batch.unless(r.Tenant == "", "tenant", r.Tenant)
	batch = batch.unless(len(r.Types) == 0, "types", r.Types)
	var rule object
	rule = rule.unless(r.ID == "", "id", r.ID).with("batch", batch)
	rule = rule.unless(r.If == "", "if", r.If).unless(r.Key == "", "key", r.Key)
	if c := r.Coalesce; c != (Coalesce{}) {
		var co object
		co = co.unless(c.MaxBatches == 0, "max_batches", c.MaxBatches)
		co = co.unless(c.MaxEvents == 0, "max_events", c.MaxEvents)
		co = co.unless(c.MaxBytes == 0, "max_bytes", c.MaxBytes)
		co = co.unless(c.Quiet == 0, "quiet", c.Quiet.String())
		co = co.unless(c.MaxWait == 0, "max_wait", c.MaxWait.String())
		co = co.unless(c.Mode == "", "mode", c.Mode)
		rule = rule.with("coalesce", co)
	}
	rule = rule.unless(r.Order == "", "order", r.Order).unless(!r.OnlyJoined, "only_joined", true)
	d.on = append(d.on, rule)
	return d
}

// JoinRule starts a run when each of some batch rules has a batch of the same key.
type JoinRule struct {
	// ID names the rule; "" is "all_of". AllOf are the ids of the rules.
	ID    string
	AllOf []string
	// Expire is how long a batch waits for the others, 0 for ever.
	Expire time.Duration
}

// OnAllOf adds a rule.
func (d *DAG) OnAllOf(r JoinRule) *DAG {
	var rule object
	rule = rule.unless(r.ID == "", "id", r.ID).with("all_of", r.AllOf).unless(r.Expire == 0, "expire", r.Expire.String())
	d.on = append(d.on, rule)
	return d
}

// CronRule starts a run at times of the calendar.
type CronRule struct {
	// ID names the rule; "" is "cron".
	ID string
	// Cron has five fields, read in Timezone (an IANA name; "" is UTC).
	Cron, Timezone string
}

// OnCron adds a rule.
func (d *DAG) OnCron(r CronRule) *DAG {
	var rule object
	rule = rule.unless(r.ID == "", "id", r.ID).with("cron", r.Cron).unless(r.Timezone == "", "timezone", r.Timezone)
	d.on = append(d.on, rule)
	return d
}

// OnManual adds a rule that starts nothing by itself: it names the runs that people start. Any DAG can be started by people without one.
func (d *DAG) OnManual() *DAG {
	d.on = append(d.on, object{{"id", "manual"}, {"manual", true}})
	return d
}

// Option is a property of a task.
type Option interface{ apply(t *task) }

type option func(t *task)

func (o option) apply(t *task) { o(t) }

// Needs names further parents: tasks that must have ended before this one starts. The task that the input comes from is one already.
func Needs(steps ...Node) Option {
	return option(func(t *task) {
		for _, s := range steps {
			t.need(s.node())
		}
	})
}

// When is a CEL expression over batch, batches, params, trigger and tasks; false skips the task.
func When(cel string) Option { return Set("when", cel) }

// Rule is the join rule over the parents; "" is all_success.
func Rule(name string) Option { return Set("rule", name) }

// Timeout is how long an attempt may run. Then its context ends, and 10 s later the process.
func Timeout(d time.Duration) Option { return Set("timeout", d.String()) }

// Env gives the task a variable.
func Env(name, value string) Option {
	return option(func(t *task) { t.env = t.env.with(name, value) })
}

// Set writes any other key of a task of the DAG format, such as "pool". The value is what encoding/json makes of it.
func Set(key string, value any) Option {
	return option(func(t *task) { t.keys = t.keys.with(key, value) })
}

// Retry says how often, when and after which exit codes a failed task is tried again. It is an [Option].
type Retry struct {
	// Limit is the number of tries after the first.
	Limit int
	// Delay is the wait before the first retry; Backoff multiplies it for each further one, up to MaxDelay. Jitter takes a random part of it.
	Delay    time.Duration
	Backoff  float64
	MaxDelay time.Duration
	Jitter   bool
	// OnExit limits retries to these exit codes, if any; NeverOn excludes these. An error is exit code 1, a panic 2.
	OnExit, NeverOn []int
}

func (r Retry) apply(t *task) {
	var o object
	o = o.with("limit", r.Limit)
	o = o.unless(r.Delay == 0, "delay", r.Delay.String())
	o = o.unless(r.Backoff == 0, "backoff", r.Backoff)
	o = o.unless(r.MaxDelay == 0, "max_delay", r.MaxDelay.String())
	o = o.unless(!r.Jitter, "jitter", "full")
	o = o.unless(len(r.OnExit) == 0, "on_exit", r.OnExit)
	o = o.unless(len(r.NeverOn) == 0, "never_on", r.NeverOn)
	t.keys = t.keys.with("retry", o)
}

func (d *DAG) fault(format string, args ...any) {
	d.faults = append(d.faults, fmt.Errorf("dag %q: "+format, append([]any{d.id}, args...)...))
}

// add takes a task on. Faults are kept for [DAG.Describe], so that a program needs no error handling while it says what it is.
func (d *DAG) add(id string, opts []Option) *task {
	t := &task{dag: d, id: id}
	if d.byID[id] != nil {
		d.fault("task %q is defined twice", id)
	}
	d.tasks, d.byID[id] = append(d.tasks, t), t
	for _, o := range opts {
		o.apply(t)
	}
	return t
}

// Describe returns the DAG as a DAG file, in JSON, which is YAML. The tasks run as "<executable> run-task <id>".
func (d *DAG) Describe(executable string) ([]byte, error) {
	if len(d.faults) > 0 {
		return nil, errors.Join(d.faults...)
	}
	doc := object{{"dag", d.id}}
	doc = append(doc, d.keys...)
	doc = doc.unless(len(d.params) == 0, "params", d.params)
	doc = doc.unless(len(d.on) == 0, "on", d.on)
	doc = doc.unless(len(d.env) == 0, "env", d.env)
	var tasks object
	for _, t := range d.tasks {
		tasks = tasks.with(t.id, t.describe(executable))
	}
	return encode(doc.with("tasks", tasks))
}
