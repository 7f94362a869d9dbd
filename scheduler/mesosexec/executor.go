package mesosexec

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/scheduler/mask"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec/sandbox"
)

// Executor is a scheduler.Executor whose attempts are tasks of a Mesos cluster. Safe for concurrent use.
//
//	Launch ─▶ waiting ──place──▶ sending ──record, ACCEPT──▶ sent ──terminal update──▶ ending ──log, output, report──▶ ended ─▶ ACKNOWLEDGE
//	             ▲  offers                                     │ ▲
//	             └── refused before it was read ───────────────┘ └─ reconciliation
//
// What it must know after a restart is in the store before it is sent: which attempts, on which agents, and as which framework.
type Executor struct {
	opt     ExecutorOptions
	records scheduler.Records
	client  *Client
	keeper  *sandbox.Keeper
	log     *slog.Logger
	metrics *execMetrics

	placing chan struct{} // has one place: something has changed that placing depends on
	calling chan struct{} // likewise, for the sender
	news    chan struct{} // likewise, for the reporter
	asking  chan struct{} // likewise, for the watch
	finish  chan struct{} // has a place for each attempt whose end is dealt with at the same time
	acks    chan struct{} // likewise for updates that are being acknowledged

	clusterMu sync.Mutex // held while the record of the cluster is written

	mu          sync.Mutex                  // guards the rest
	opened      chan struct{}               // closed when the records are read, made anew when Run ends
	spawn       func(func(context.Context)) // runs what Run waits for
	cluster     cluster
	attempts    map[string]*attempt   // by their ids; those that have ended stay for a while
	tasks       map[string]*attempt   // by the ids of their tasks
	live        map[*attempt]struct{} // those that have not ended
	waiting     []*attempt            // for a place, in the order in which they came
	offers      map[string]*held      // by id
	busy        time.Time             // when something waited last
	rounded     time.Time             // when everything was asked after last
	idle        bool                  // offers are suppressed
	said        bool                  // idle, as the SUBSCRIBE said that was made last
	reviveAt    time.Time             // before then offers are not asked for again
	revivePause time.Duration
	filtered    bool // there are long filters, which REVIVE removes
	avoid       map[string]map[string]time.Time
	calls       []outgoing
	reports     []delivery
	declined    declined
	inverse     []mesos.InverseOffer
}

var (
	_ scheduler.Executor = (*Executor)(nil)
	_ scheduler.Placer   = (*Executor)(nil)

	_ scheduler.RunForgetter = (*Executor)(nil)
)

// Sandboxes says where what tasks leave behind is kept: on its way in Dir, then in Objects. Of Options, those that are about agents are the executor's to set.
type Sandboxes struct {
	Dir     string
	Objects batcher.ObjectStore
	Options sandbox.Options
}

// NewExecutor returns an executor that keeps what it must know in records. Nothing happens before Run.
func NewExecutor(d Detector, records scheduler.Records, s Sandboxes, opt ExecutorOptions) (*Executor, error) {
	if err := opt.Validate(); err != nil {
		return nil, fmt.Errorf("check options of the mesos executor: %w", err)
	}
	opt = opt.withDefaults()
	one := func() chan struct{} { return make(chan struct{}, 1) }
	e := &Executor{
		opt: opt, records: records, log: opt.Logger, spawn: func(func(context.Context)) {}, placing: one(), calling: one(), news: one(), asking: one(),
		finish: make(chan struct{}, opt.Enders), acks: make(chan struct{}, maxAcks), opened: make(chan struct{}), attempts: map[string]*attempt{}, tasks: map[string]*attempt{},
		live: map[*attempt]struct{}{}, offers: map[string]*held{}, avoid: map[string]map[string]time.Time{}, declined: declined{},
	}
	var err error
	if e.metrics, err = newExecMetrics(e); err != nil {
		return nil, err
	}
	s.Options.Authorization, s.Options.TLS = opt.Client.Credentials.authorization, opt.Client.TLS
	s.Options.Silent, s.Options.Full = e.silent, e.full
	if e.keeper, err = sandbox.New(s.Dir, s.Objects, s.Options); err != nil {
		return nil, err
	}
	e.client, err = New(d, frameworkIDs{e}, e.subscribe, opt.Client)
	return e, err
}

// maxAcks is how many updates are acknowledged at the same time.
const maxAcks = 16

// wake lets a goroutine look at what there is to do.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Slots implements scheduler.Executor.
func (e *Executor) Slots() int { return e.opt.Slots }

// await returns when the records are read.
func (e *Executor) await(ctx context.Context) error {
	e.mu.Lock()
	opened := e.opened
	e.mu.Unlock()
	late := time.NewTimer(e.opt.Wait)
	defer late.Stop()
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", scheduler.ErrUnavailable, ctx.Err())
	case <-late.C:
		return fmt.Errorf("%w: the records of the executor are not read yet", scheduler.ErrUnavailable)
	}
}

// Launch implements scheduler.Executor. An attempt waits in memory until an agent has room for it, and is in the store before it is sent there.
func (e *Executor) Launch(ctx context.Context, attempts []scheduler.Launch) error {
	if err := e.await(ctx); err != nil {
		return fmt.Errorf("launch %d attempts: %w", len(attempts), err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range attempts {
		l := &attempts[i]
		if a := e.attempts[l.ID]; a != nil {
			e.again(a)
			continue
		}
		a := &attempt{kept: kept{Attempt: l.ID, Task: taskID(l.ID)}, launch: l, phase: phaseWaiting, since: time.Now(), mask: mask.New(l.Secrets)}
		a.Group = groupOf(l)
		if other := e.tasks[a.Task]; other != nil && other.phase != phaseEnded {
			e.refuse(a, fmt.Sprintf("its task id %q is in use by attempt %s", a.Task, other.Attempt))
			continue
		}
		e.add(a)
		e.waiting = append(e.waiting, a)
	}
	wake(e.placing)
	return nil
}

func (e *Executor) add(a *attempt) {
	e.attempts[a.Attempt], e.tasks[a.Task] = a, a
	if a.phase != phaseEnded {
		e.live[a] = struct{}{}
	}
}

// groupOf names the attempts that constraints look at together.
func groupOf(l *scheduler.Launch) string {
	return cmp.Or(variable(l, "MILLRACE_DAG_ID"), l.Run) + "/" + l.Task
}

// Kill implements scheduler.Executor. It is repeated until the task has ended.
func (e *Executor) Kill(ctx context.Context, id string, grace time.Duration) error {
	if err := e.await(ctx); err != nil {
		return fmt.Errorf("kill attempt %s: %w", id, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.attempts[id]
	if a == nil {
		return nil
	}
	e.kill(a, grace)
	return nil
}

// Reconcile implements scheduler.Executor.
func (e *Executor) Reconcile(ctx context.Context, ids []string) error {
	if err := e.await(ctx); err != nil {
		return fmt.Errorf("reconcile %d attempts: %w", len(ids), err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range ids {
		a := e.attempts[id]
		if a == nil {
			// What was sent is on record: this was not, and nothing sends it now.
			a = &attempt{kept: kept{Attempt: id}}
			e.report(delivery{a: a, report: scheduler.Report{Attempt: id, Outcome: scheduler.OutcomeUnsent, Exit: noExit,
				Reason: "it waited for a place on an agent when the executor was stopped"}})
			continue
		}
		e.again(a)
	}
	return nil
}

// again makes news of what is known of an attempt, or asks for it; mu is held.
func (e *Executor) again(a *attempt) {
	switch {
	case a.last != nil:
		e.report(delivery{a: a, report: *a.last})
	case a.phase == phaseSent:
		a.ask.soon()
		wake(e.asking)
	case a.phase == phaseEnded: // before a restart, and it was taken
		a.last = &scheduler.Report{Attempt: a.Attempt, Outcome: scheduler.OutcomeLost, Exit: noExit, EndedAt: a.Over,
			Reason: "it has ended, and how was reported before the executor's last restart"}
		e.report(delivery{a: a, report: *a.last})
	}
}

// Log implements scheduler.Executor.
func (e *Executor) Log(ctx context.Context, attempt string, offset int64) (io.ReadCloser, error) {
	e.mu.Lock()
	a := e.attempts[attempt]
	early := a != nil && a.phase < phaseEnding && !a.Started // The object store need not be asked.
	e.mu.Unlock()
	if early {
		return nil, fmt.Errorf("log of attempt %s: %w: it has not started", attempt, scheduler.ErrNotFound)
	}
	return e.keeper.Log(ctx, attempt, offset)
}

// ForgetRun implements scheduler.RunForgetter.
func (e *Executor) ForgetRun(ctx context.Context, run string) error {
	return e.keeper.ForgetRun(ctx, run)
}

// Run implements scheduler.Executor. What only a person can mend does not end it: [Executor.View] says what it is.
func (e *Executor) Run(ctx context.Context, report func(context.Context, []scheduler.Report) error) error {
	if err := e.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var joined sync.WaitGroup
	defer joined.Wait()
	defer stop()
	joined.Go(func() { e.runPlacing(ctx) }) // all of them end with ctx
	joined.Go(func() { e.runCalls(ctx) })
	joined.Go(func() { e.runReports(ctx, report) })
	joined.Go(func() { e.runWatch(ctx) })
	joined.Go(func() { e.runFramework(ctx) })
	e.mu.Lock()
	e.spawn = func(f func(context.Context)) { joined.Go(func() { f(ctx) }) }
	e.mu.Unlock()
	err := e.keeper.Run(ctx)
	e.close()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// open reads the records: what was sent is asked after, what was not is not known.
func (e *Executor) open(ctx context.Context) error {
	list, err := e.records.Records(ctx, e.opt.Name)
	if err != nil {
		return fmt.Errorf("read the records of executor %s: %w", e.opt.Name, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for i := range list {
		r := &list[i]
		if r.Key == clusterKey {
			errs = append(errs, e.cluster.read(r.Body))
			continue
		}
		a, err := readAttempt(r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if e.attempts[a.Attempt] == nil {
			e.add(a)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("read the records of executor %s: %w", e.opt.Name, err)
	}
	close(e.opened)
	return nil
}

// close makes callers wait for the next Run.
func (e *Executor) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.opened = make(chan struct{})
	e.spawn = func(func(context.Context)) {}
	clear(e.offers)
	e.attempts, e.tasks, e.live = map[string]*attempt{}, map[string]*attempt{}, map[*attempt]struct{}{}
	e.waiting, e.calls, e.reports = nil, nil, nil
}

// Waiting implements scheduler.Placer.
func (e *Executor) Waiting(attempt string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.attempts[attempt]; a != nil && a.phase == phaseWaiting {
		return e.whyWaiting(a)
	}
	return ""
}
