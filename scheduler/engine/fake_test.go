package engine

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/scheduler/spec"
	"millrace/trigger"
)

// world is an executor that outlives engines, as the real runner does. It starts an attempt at most once, and remembers everything.
type world struct {
	slots int
	// script says what becomes of an attempt: its reports in order, each delivered when the one before was taken. nil: it runs and exits 0.
	script func(l scheduler.Launch) []scheduler.Report
	// fault, if set, is asked before each call; an error is returned instead, after the call was carried out if done says so.
	fault func(call string) (err error, done bool)

	mu       sync.Mutex
	wake     chan struct{}
	attempts map[string]*attempt
	order    []string
	queue    []scheduler.Report
	kills    []string
	doubled  []string
	// forget: only count, for benchmarks. ended has the number of final reports that were taken.
	forget bool
	ended  int
	more   chan struct{}
}

type attempt struct {
	launch scheduler.Launch
	over   bool // a final report was queued
	never  bool // reported as lost before it was launched
}

func newWorld(slots int) *world {
	return &world{slots: slots, attempts: map[string]*attempt{}, wake: make(chan struct{}, 1), more: make(chan struct{}, 1)}
}

// set changes the world while an engine uses it.
func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) play(script func(scheduler.Launch) []scheduler.Report) {
	w.set(func() { w.script = script })
}

// runs is the script of attempts that run until they are told to end.
func runs(scheduler.Launch) []scheduler.Report {
	return []scheduler.Report{{Outcome: scheduler.OutcomeRunning}}
}

func (w *world) Slots() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slots
}

func (w *world) ask(call string) (error, bool) {
	if w.fault == nil {
		return nil, true
	}
	return w.fault(call)
}

func (w *world) Launch(_ context.Context, list []scheduler.Launch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err, done := w.ask("launch")
	if err == nil || done {
		for _, l := range list {
			w.begin(l)
		}
	}
	return err
}

func (w *world) begin(l scheduler.Launch) {
	if a := w.attempts[l.ID]; a != nil {
		if !a.never {
			w.doubled = append(w.doubled, l.ID)
		}
		return
	}
	if !w.forget {
		w.attempts[l.ID] = &attempt{launch: l}
		w.order = append(w.order, l.ID)
	}
	now := time.Now().UTC()
	list := []scheduler.Report{
		{Outcome: scheduler.OutcomeRunning, StartedAt: now},
		{Outcome: scheduler.OutcomeExited, StartedAt: now, EndedAt: now.Add(time.Millisecond)},
	}
	if w.script != nil {
		list = w.script(l)
	}
	for _, rep := range list {
		rep.Attempt = l.ID
		w.say(rep)
	}
}

// say queues a report. The caller holds mu.
func (w *world) say(rep scheduler.Report) {
	if a := w.attempts[rep.Attempt]; a != nil && rep.Outcome.Ends() {
		a.over = true
	}
	w.queue = append(w.queue, rep)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// until waits until so many attempts have ended and were reported, with two reports each.
func (w *world) until(n int) {
	for {
		w.mu.Lock()
		got := w.ended
		w.mu.Unlock()
		if got >= n {
			return
		}
		<-w.more
	}
}

// tell queues a report from outside.
func (w *world) tell(rep scheduler.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.say(rep)
}

func (w *world) Kill(_ context.Context, id string, _ time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err, done := w.ask("kill"); err != nil && !done {
		return err
	}
	w.kills = append(w.kills, id)
	if a := w.attempts[id]; a != nil && !a.over {
		w.say(scheduler.Report{Attempt: id, Outcome: scheduler.OutcomeExited, Exit: -1, Signal: "SIGTERM"})
	}
	return nil
}

func (w *world) Reconcile(_ context.Context, ids []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err, done := w.ask("reconcile"); err != nil && !done {
		return err
	}
	for _, id := range ids {
		switch a := w.attempts[id]; {
		case a == nil:
			w.attempts[id] = &attempt{never: true}
			w.say(scheduler.Report{Attempt: id, Outcome: scheduler.OutcomeLost, Exit: -1, Reason: "not known"})
		case a.never:
			w.say(scheduler.Report{Attempt: id, Outcome: scheduler.OutcomeLost, Exit: -1, Reason: "not known"})
		case !a.over:
			w.say(scheduler.Report{Attempt: id, Outcome: scheduler.OutcomeRunning, StartedAt: time.Now().UTC()})
		}
	}
	return nil
}

func (w *world) Run(ctx context.Context, report func(context.Context, []scheduler.Report) error) error {
	for {
		w.mu.Lock()
		list := w.queue
		w.mu.Unlock()
		var again <-chan time.Time
		if len(list) > 0 {
			again = time.After(time.Second) // what was not taken comes again
			if err := report(ctx, list); err == nil {
				w.mu.Lock()
				w.queue = w.queue[len(list):]
				w.ended += len(list) / 2
				w.mu.Unlock()
				select {
				case w.more <- struct{}{}:
				default:
				}
				continue
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again:
		case <-w.wake:
		}
	}
}

func (w *world) Log(context.Context, string, int64) (io.ReadCloser, error) {
	return nil, scheduler.ErrNotFound
}

// launched returns the ids of the attempts that were started, in order.
func (w *world) launched() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.order...)
}

// fixture is an engine on a store in memory and a world.
type fixture struct {
	t     testing.TB
	store *schedulertest.Store
	world *world
	e     *Engine
	stop  func()
}

func newFixture(t testing.TB, files map[string]string) *fixture {
	t.Helper()
	f := &fixture{t: t, store: schedulertest.NewStore(), world: newWorld(8)}
	f.start()
	if files != nil {
		f.setDAGs(files)
	}
	return f
}

// start starts an engine, also after stop: a restart.
func (f *fixture) start() {
	f.t.Helper()
	e, err := New(f.store, map[string]scheduler.Executor{"local": f.world}, Options{Env: []string{"PATH=/bin"}, Seed: 1})
	if err != nil {
		f.t.Fatal(err)
	}
	f.run(e)
}

func (f *fixture) run(e *Engine) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	f.e = e
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Errorf("run: %v", err)
		}
	})
	f.t.Cleanup(func() { f.stop() })
}

func setOf(files map[string]string) spec.Set {
	var set spec.Set
	for name, src := range files {
		set.Files = append(set.Files, spec.ReadFile(name, []byte(src)))
	}
	return set
}

func (f *fixture) setDAGs(files map[string]string) {
	f.t.Helper()
	if err := f.e.SetDAGs(context.Background(), setOf(files)); err != nil {
		f.t.Fatal(err)
	}
}

func testBatch(n int) batcher.Batch {
	s := ingest.Stream{Log: "log", Incarnation: "inc"}
	at := time.Now().UTC().Truncate(time.Microsecond)
	return batcher.Batch{
		ID: batcher.BatchID(s, int64(n), 0, at), Tenant: "default", Source: "web", Lane: ingest.EventLane("default", "web"), Stream: s,
		Seq: int64(n), First: int64(n), Last: int64(n), Events: 1, Bytes: 10, ReceivedMin: at, ReceivedMax: at, EventMin: at, EventMax: at,
		Watermark: at, CreatedAt: at, CommittedAt: at,
	}
}

// intake makes what dispatch would decide for a batch: one firing for each rule.
func (f *fixture) intake(batches ...batcher.Batch) trigger.Intake {
	set, _ := f.e.Rules()
	in := trigger.Intake{Gen: set.Gen}
	for _, b := range batches {
		a := trigger.Arrival{Batch: b}
		for _, r := range set.Rules {
			fire := trigger.Firing{Kind: trigger.KindBatch, DAG: r.DAG, Rule: r.ID, Key: b.ID, Version: r.Version, Batches: []batcher.Batch{b}}
			in.Firings = append(in.Firings, fire)
			a.Dispositions = append(a.Dispositions, trigger.Disposition{Batch: b.ID, Rule: r.Name(), Fate: trigger.FateRun, Run: fire.RunID()})
		}
		in.Arrivals = append(in.Arrivals, a)
		in.Cursors = append(in.Cursors, trigger.Cursor{Stream: b.Stream, Seq: b.Seq})
	}
	return in
}

// wait waits for the run to end.
func (f *fixture) wait(run string) *scheduler.RunDetail {
	f.t.Helper()
	return f.until(run, func(d *scheduler.RunDetail) bool { return d.Run.State.Terminal() })
}

func (f *fixture) until(run string, ok func(*scheduler.RunDetail) bool) *scheduler.RunDetail {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for {
		changed, stop := f.e.Watch(run)
		d, err := f.store.Run(ctx, run)
		if err == nil && ok(d) {
			stop()
			return d
		}
		select {
		case <-changed:
		case <-ctx.Done():
			f.t.Fatalf("run %s does not get there: %+v, %v", run, d, err)
		}
		stop()
	}
}

func (f *fixture) trigger(dag, id, params string) *scheduler.Run {
	f.t.Helper()
	run, err := f.e.Trigger(context.Background(), dag, id, []byte(params))
	if err != nil {
		f.t.Fatal(err)
	}
	return run
}

func states(d *scheduler.RunDetail) string {
	text := string(d.Run.State)
	for _, t := range d.Tasks {
		text += fmt.Sprintf(" %s=%s", t.Task, t.State)
	}
	return text
}
