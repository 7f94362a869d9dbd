package sdk

import "time"

// Option is a property of a task.
type Option interface{ apply(t *task) }

// Default is an option that [DAG.Defaults] takes as well.
type Default interface {
	Option
	shared()
}

type option func(t *task)

func (o option) apply(t *task) { o(t) }

type shared func(t *task)

func (o shared) apply(t *task) { o(t) }
func (shared) shared()         {}

func sharedKey(key string, value any) Default {
	return shared(func(t *task) { t.keys = t.keys.with(key, value) })
}

// Needs names further parents: tasks, or groups, that must have ended before this one starts. The task that the input comes from is one already.
func Needs(steps ...Node) Option {
	return option(func(t *task) {
		for _, s := range steps {
			t.needs = append(t.needs, s.node())
		}
	})
}

// When is a CEL expression over batch, batches, inputs, params, totals, trigger, run and tasks; false skips the task.
func When(cel string) Option { return Set("when", cel) }

// AtOnce bounds how many attempts of the task are active at once, in all runs of the DAG.
func AtOnce(n int) Option { return Set("concurrency", n) }

// Rule says how the parents must have ended.
func Rule(join Join) Option { return Set("rule", join) }

// FailRun is for a teardown: the run fails if it does.
func FailRun() Option { return Set("fail_run", true) }

// OutputSchema is a JSON Schema: an attempt whose output does not fit has failed. The value is what encoding/json makes of it, such as a
// json.RawMessage of an embedded file.
func OutputSchema(schema any) Option { return Set("output", object{{"schema", schema}}) }

// Cache takes the output of an earlier run instead of executing the task, if it was made of the same. It is an [Option].
type Cache struct {
	// Key is a CEL expression for what the output is made of, such as "inputs.digest".
	Key string
	// TTL is how long an output is taken after its task has ended, at most 365 days; 0 is 7 days.
	TTL time.Duration
}

func (c Cache) apply(t *task) {
	o := object{{"key", c.Key}}
	t.keys = t.keys.with("cache", o.unless(c.TTL == 0, "ttl", c.TTL.String()))
}

// Env gives the task a variable.
func Env(name, value string) Default {
	return shared(func(t *task) { t.env = t.env.with(name, value) })
}

// Executor names where the task runs; without it, on the machine of millrace.
func Executor(name string) Default { return sharedKey("executor", name) }

// Pool has the task take slots, at least 1, of a pool of the installation, besides that of its executor.
func Pool(name string, slots int) Default {
	return shared(func(t *task) { t.keys = t.keys.with("pool", name).with("pool_slots", slots) })
}

// Priority orders what waits for the same executor or pool: higher first. Without it the task has that of the DAG.
func Priority(n int) Default { return sharedKey("priority", n) }

// InfraRetry is how many attempts infrastructure may lose; without it, 3.
func InfraRetry(n int) Default { return sharedKey("infra_retry", n) }

// Timeout is how long an attempt may run. Then its context ends, and 10 s later the process. [Timeouts] has more bounds.
func Timeout(d time.Duration) Default { return sharedKey("timeout", d.String()) }

// Timeouts bounds the parts of an attempt; 0 is no bound. It is a [Default], and where a task has it, it takes the place of that of the DAG as a whole.
type Timeouts struct {
	// Queue is from when the task may run until it has a slot, Start from then until it runs, Run from then to SIGTERM.
	Queue, Start, Run time.Duration
	// Heartbeat ends an attempt that has not called [Attempt.Heartbeat] for so long; at least 1s.
	Heartbeat time.Duration
	// Grace is from SIGTERM, when the context ends, to SIGKILL; 0 is 10s.
	Grace time.Duration
}

func (o Timeouts) apply(t *task) { t.keys = t.keys.with("timeout", o) }
func (o Timeouts) shared()       {}

func (o Timeouts) describe(whole bool) object {
	out := object{}
	for _, m := range []struct {
		key string
		d   time.Duration
	}{{"queue", o.Queue}, {"start", o.Start}, {"run", o.Run}, {"heartbeat", o.Heartbeat}, {"grace", o.Grace}} {
		out = out.unless(m.d == 0 && !whole, m.key, m.d.String())
	}
	return out
}

// Retry says how often, when and after which exit codes a failed task is tried again. It is a [Default], and where a task has it, it takes the
// place of that of the DAG as a whole.
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

func (r Retry) apply(t *task) { t.keys = t.keys.with("retry", r) }
func (r Retry) shared()       {}

func (r Retry) describe(whole bool) object {
	jitter := "full"
	if !r.Jitter {
		jitter = "none"
	}
	backoff := r.Backoff
	if backoff == 0 {
		backoff = 1
	}
	var o object
	o = o.with("limit", r.Limit)
	o = o.unless(r.Delay == 0 && !whole, "delay", r.Delay.String())
	o = o.unless(r.Backoff == 0 && !whole, "backoff", backoff)
	o = o.unless(r.MaxDelay == 0 && !whole, "max_delay", r.MaxDelay.String())
	o = o.unless(!r.Jitter && !whole, "jitter", jitter)
	o = o.unless(len(r.OnExit) == 0 && !whole, "on_exit", append([]int{}, r.OnExit...))
	return o.unless(len(r.NeverOn) == 0 && !whole, "never_on", append([]int{}, r.NeverOn...))
}

// Set writes any other key of a task of the DAG format, such as one that is newer than this package. The value is what encoding/json makes of it.
func Set(key string, value any) Option {
	return option(func(t *task) { t.keys = t.keys.with(key, value) })
}
