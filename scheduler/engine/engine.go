package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"millrace/scheduler"
	"millrace/scheduler/expr"
	"millrace/scheduler/operator"
	"millrace/trigger"
)

var (
	_ trigger.Starter    = (*Engine)(nil)
	_ trigger.RuleSource = (*Engine)(nil)
	_ scheduler.Control  = (*Engine)(nil)
)

// inherited are the variables of the server that tasks get; nothing else of its environment reaches them.
var inherited = []string{"PATH", "HOME", "LANG", "TZ", "TMPDIR"}

// Inherited returns the names of the variables that tasks get of the server's environment if [Options.Env] is nil.
func Inherited() []string { return slices.Clone(inherited) }

// Options are the engine's tunables; zero values are filled in.
type Options struct {
	// Operators by kind. nil: those of package operator.
	Operators map[string]scheduler.Operator
	// Env is the environment under that of every task, as "NAME=value". nil: PATH, HOME, LANG, TZ and TMPDIR of this process.
	Env []string
	// Values are the variables, secrets and connections of the installation; nil: there are none.
	Values scheduler.Values
	// UnreachableGrace is how long an unreachable attempt may come back before it is fenced. 0: 5 minutes.
	UnreachableGrace time.Duration
	// Pools are the pools of the installation, by name, with how many slots each has; see [Engine.SetPools].
	Pools map[string]int
	// Registry says which digests the tags of images stand for. nil: nobody does, and tasks whose images are given by tag fail.
	Registry scheduler.Registry
	// Outputs is where the executors put outputs that are too large for a report. nil: they do not, and tasks are told no URI.
	Outputs Outputs
	// MaxGroup bounds the inputs of one transaction. 0: 512.
	MaxGroup int
	// Seed is that of the jitter of retries. 0: random.
	Seed uint64
	// Noticed is called when there are new notices in the outbox; it must not block. nil: nobody sends them.
	Noticed    func()
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	if o.Operators == nil {
		o.Operators = operator.All(operator.Options{})
	}
	if o.Env == nil {
		for _, name := range inherited {
			if val, ok := os.LookupEnv(name); ok {
				o.Env = append(o.Env, name+"="+val)
			}
		}
	}
	if o.UnreachableGrace == 0 {
		o.UnreachableGrace = 5 * time.Minute
	}
	if o.MaxGroup == 0 {
		o.MaxGroup = 512
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	var errs []error
	if o.UnreachableGrace < 0 {
		errs = append(errs, fmt.Errorf("unreachable grace is %v, want at least 0", o.UnreachableGrace))
	}
	if o.MaxGroup < 0 {
		errs = append(errs, fmt.Errorf("max group is %d, want at least 0", o.MaxGroup))
	}
	for _, kv := range o.Env {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			errs = append(errs, fmt.Errorf("env %q is not NAME=value", kv))
		}
	}
	return errors.Join(errs...)
}

// Engine is the scheduler. Its methods are safe for concurrent use; before Run they wait, after it they return ErrUnavailable.
type Engine struct {
	store     scheduler.Store
	executors map[string]scheduler.Executor
	opts      Options
	log       *slog.Logger
	metrics   *metrics

	inputs  chan input
	stopped chan struct{}  // closed when Run returns
	ready   chan struct{}  // closed when the DAG files are in force
	isReady bool           // the loop's own: ready is closed
	pools   map[string]int // the loop's own

	schemas   sync.Map // *output.Schema by attempt, of those that may be running
	core      *core
	rng       *rand.Rand // the loop's own
	launchers map[string]*launcher
	asker     *asker

	warned sync.Map // what was said of values that are not set, once for each version

	view  view
	gate  gate
	watch watchers
}

// New returns an engine that keeps its state in store and runs tasks on the executors, by name. One of them is to be called "local", where
// tasks run that name none. There must be one engine for a store.
func New(store scheduler.Store, executors map[string]scheduler.Executor, opts Options) (*Engine, error) {
	if len(executors) == 0 {
		return nil, errors.New("make the engine: no executor")
	}
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("make the engine: %w", err)
	}
	opts = opts.withDefaults()
	e := &Engine{
		store: store, executors: executors, opts: opts, log: opts.Logger, metrics: newMetrics(opts.Registerer),
		rng:    rand.New(rand.NewPCG(opts.Seed, 1)),
		inputs: make(chan input, 1024), stopped: make(chan struct{}), ready: make(chan struct{}),
		launchers: map[string]*launcher{}, pools: opts.Pools, asker: newAsker(opts.Registry),
	}
	e.view.changed, e.gate.opened = make(chan struct{}), make(chan struct{})
	for name, ex := range executors {
		e.launchers[name] = newLauncher(name, ex, e)
	}
	return e, nil
}

// Ready is closed when the state is loaded and the DAG files are in force for the first time. Before that Start returns ErrUnavailable: a batch
// that came in without rules would never start anything.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Run schedules until ctx ends. It returns an error if the stored state can not be understood or an executor gives up; then nothing runs on.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.stopped)
	if err := e.load(ctx, nil); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for name, ex := range e.executors {
		g.Go(func() error { return e.launchers[name].run(ctx) })
		g.Go(func() error {
			err := ex.Run(ctx, func(ctx context.Context, list []scheduler.Report) error { return e.report(ctx, name, list) })
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("run executor %s: %w", name, err)
			}
			return nil
		})
	}
	g.Go(func() error { return e.runAsker(ctx) })
	g.Go(func() error { return e.loop(ctx) })
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// heartbeat is the longest time between two rounds of the loop, so that a loop that hangs can be told from one that has nothing to do.
const heartbeat = 10 * time.Second

func (e *Engine) loop(ctx context.Context) error {
	wake := time.NewTimer(heartbeat)
	defer wake.Stop()
	for {
		wait := heartbeat
		if at, ok := e.core.next(); ok {
			wait = min(wait, max(0, time.Until(at)))
		}
		wake.Reset(wait)
		var group []input
		select {
		case <-ctx.Done():
			return nil
		case in := <-e.inputs:
			group = e.gather(in)
		case <-wake.C:
		}
		if err := e.round(ctx, group); err != nil {
			return err
		}
	}
}

// gather takes what waits already, without waiting for more: while the store works on one group the next one forms by itself.
func (e *Engine) gather(first input) []input {
	group := []input{first}
	for len(group) < e.opts.MaxGroup {
		select {
		case in := <-e.inputs:
			group = append(group, in)
		default:
			return group
		}
	}
	return group
}

// round decides on a group, commits, and acts. It returns an error only if the engine can not go on.
func (e *Engine) round(ctx context.Context, group []input) error {
	began := time.Now()
	for {
		tx := e.core.decide(ctx, group, time.Now().UTC())
		err := e.apply(ctx, &tx.change)
		if err == nil {
			e.act(tx)
			e.metrics.waiting.Set(float64(len(e.inputs)))
			e.metrics.round(time.Since(began), len(group), e.core)
			return nil
		}
		if ctx.Err() != nil {
			return nil // nothing was acted on; the callers see that the engine stopped
		}
		// Memory is ahead of the store: throw it away. If the answer to an earlier attempt at this commit was lost, it is committed.
		e.log.Warn("change was not committed, loading again", "inputs", len(group), "err", err)
		e.metrics.reloads.Inc()
		if err := e.load(ctx, tx.launches); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if errors.Is(err, scheduler.ErrConflict) {
			continue
		}
		if len(group) <= 1 {
			e.refuse(group, err)
			return nil
		}
		for _, in := range group { // one of them is poison: find out which
			if err := e.round(ctx, []input{in}); err != nil {
				return err
			}
		}
		return nil
	}
}

// refuse answers an input that the store can not take at all, so that it does not block its neighbours.
func (e *Engine) refuse(group []input, err error) {
	e.log.Error("store refuses a change", "err", err)
	for _, in := range group {
		in.fail(err)
	}
}

// apply commits a change, and asks again while nobody knows what became of it.
func (e *Engine) apply(ctx context.Context, chg *scheduler.Change) error {
	if chg.Empty() {
		return nil
	}
	pause := newPause()
	for {
		err := e.store.Apply(ctx, chg)
		if err == nil || ctx.Err() != nil || !errors.Is(err, scheduler.ErrUnavailable) {
			return err
		}
		e.log.Warn("store is unavailable", "err", err)
		if !sleep(ctx, pause.NextBackOff()) {
			return err
		}
	}
}

func newPause() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 20*time.Millisecond, 2*time.Second
	b.Reset()
	return b
}

// sleep waits and reports whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// act does what the committed transaction asks for.
func (e *Engine) act(tx *txn) {
	for i := range tx.launches {
		l := &tx.launches[i]
		e.launchers[l.executor].launch(*l)
	}
	for _, k := range tx.kills {
		e.launchers[k.executor].kill(k)
	}
	e.asker.add(tx.asks)
	if e.gate.move(tx.places); tx.heads {
		e.gate.limit(e.core, false)
	}
	if tx.heads || tx.rules {
		e.publish(tx.rules)
	}
	if tx.files && !e.isReady {
		e.isReady = true
		close(e.ready)
	}
	e.metrics.observe(tx)
	e.noticed(tx)
	for _, l := range tx.order {
		e.watch.notify(l.Row.ID)
	}
	e.core.settle(tx)
	for _, answer := range tx.answers {
		answer()
	}
}

// load fills a new core from the store. unsure are the launches of a transaction of which nobody knows whether it was committed.
func (e *Engine) load(ctx context.Context, unsure []launch) error {
	pause := newPause()
	for {
		snap, err := e.store.Load(ctx)
		if err == nil {
			return e.adopt(snap, unsure)
		}
		if ctx.Err() != nil || !errors.Is(err, scheduler.ErrUnavailable) {
			return fmt.Errorf("load the scheduler's state: %w", err)
		}
		e.log.Warn("store is unavailable", "err", err)
		if !sleep(ctx, pause.NextBackOff()) {
			return ctx.Err()
		}
	}
}

// adopt makes what the store has the engine's memory, and asks about the attempts that may run. Those of unsure that are committed after all
// are launched: nobody else can have done that, and the executor would call them lost.
func (e *Engine) adopt(snap *scheduler.Snapshot, unsure []launch) error {
	c := e.newCore()
	if err := c.restore(snap, time.Now().UTC()); err != nil {
		return err
	}
	// Rules that are as they were keep their generation, so that what was decided with them stays good.
	shown, _ := e.Rules()
	c.gen = shown.Gen
	news := c.gen == 0 || !slices.EqualFunc(shown.Rules, c.rules().Rules, sameRule)
	if news {
		c.gen++
	}
	e.core = c
	e.metrics.restored(c)
	e.gate.limit(c, true)
	e.publish(news)
	e.log.Info("state is loaded", "runs", len(c.runs), "attempts", len(c.attempts), "dags", len(c.heads))
	known := map[string]bool{}
	for i := range unsure {
		id := unsure[i].launch.ID
		if at, ok := c.attempts[id]; ok && at.run.Tasks[at.task].State == scheduler.StateLaunching {
			e.launchers[unsure[i].executor].launch(unsure[i])
			known[id] = true
		}
	}
	for id, at := range c.attempts {
		if !known[id] { // one that is to be killed is killed when it is reported to run
			e.launchers[at.run.Tasks[at.task].Executor].reconcile(id)
		}
	}
	return nil
}

// sameRule compares what a rule is named by: its version has the hash of all the rest.
func sameRule(a, b trigger.Rule) bool {
	return a.Name() == b.Name() && a.Version == b.Version && a.Paused == b.Paused
}

func (e *Engine) newCore() *core {
	c := &core{
		read: e.store, operators: e.opts.Operators, env: e.opts.Env, values: e.opts.Values, grace: e.opts.UnreachableGrace,
		rng:   e.rng,
		heads: map[string]*head{}, versions: map[string]*version{}, runs: map[string]*live{}, queues: map[string]*queue{},
		due: newDeadlines(), waits: newWaits(), imaging: imaging{images: map[string]*imageWait{}},
		pools: map[string]*pool{}, groups: map[string]map[string]*group{}, limits: limits{}, texts: map[string]*expr.Text{}, attempts: map[string]ref{},
		backfilling: backfilling{backfills: map[string]*backfill{}}, expansions: expansions{queued: map[ref]bool{}},
	}
	for name, ex := range e.executors {
		c.queues[name] = newQueue(name, ex)
	}
	c.schemas = &e.schemas
	c.cache, _ = e.store.(scheduler.CacheReader)
	c.setPools(e.pools)
	return c
}
