package dispatch

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
	"millrace/trigger/membus"
	"millrace/trigger/publish"
	"millrace/trigger/triggertest"
)

var (
	schedules = flag.Int("schedules", defaultSchedules, "number of simulated schedules")
	firstSeed = flag.Uint64("seed", 1, "seed of the first simulated schedule")
)

// errDead is what every operation of a crashed process says: nothing that it does after the crash reaches anybody.
var errDead = errors.New("crashed")

// life is one process: it dies at an operation, and stumbles over others.
type life struct {
	mu     sync.Mutex // guards the rest
	rng    *rand.Rand
	left   int // operations until the crash; -1: none
	dead   bool
	cancel func()
	faults float64
}

func (l *life) op(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left == 0 && !l.dead {
		l.dead = true
		l.cancel()
	}
	switch {
	case l.dead:
		return errDead
	case l.left > 0:
		l.left--
	}
	if l.rng.Float64() < l.faults {
		if name == "start" || name == "started" || name == "remember" || name == "bus" {
			return trigger.ErrUnavailable
		}
		return batcher.ErrUnavailable
	}
	return nil
}

// mortalBus is a bus as one process sees it.
type mortalBus struct {
	trigger.Bus
	l *life
}

type mortalSub struct {
	trigger.Subscription
	l *life
}

type mortalDelivery struct {
	trigger.Delivery
	l *life
}

func (b mortalBus) Subscribe(ctx context.Context, name, subject string) (trigger.Subscription, error) {
	if err := b.l.op("bus"); err != nil {
		return nil, err
	}
	s, err := b.Bus.Subscribe(ctx, name, subject)
	return mortalSub{s, b.l}, err
}

func (s mortalSub) Next(ctx context.Context) (trigger.Delivery, error) {
	if err := s.l.op("bus"); err != nil {
		return nil, err
	}
	d, err := s.Subscription.Next(ctx)
	return mortalDelivery{d, s.l}, err
}

func (d mortalDelivery) Ack(ctx context.Context) error {
	if err := d.l.op("bus"); err != nil {
		return err
	}
	return d.Delivery.Ack(ctx)
}

// world is one schedule.
type world struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	chain  *triggertest.Chain
	rules  *triggertest.Rules
	ledger *triggertest.Ledger
	bus    *membus.Bus

	life    *life
	d       *Dispatcher
	done    chan error
	unborn  []batcher.Batch // cut, object not there yet
	gate    *fakeGate
	streams []ingest.Stream
	start   time.Time
	mutant  mutant
	errs    []error
	tally   tally
}

// tally says what a schedule went through, so that a simulation of nothing is noticed.
type tally struct{ crashes, runs, held, groups, joins, expired, gated int }

func (t *tally) add(o tally) {
	t.crashes, t.runs, t.held, t.groups = t.crashes+o.crashes, t.runs+o.runs, t.held+o.held, t.groups+o.groups
	t.joins, t.expired, t.gated = t.joins+o.joins, t.expired+o.expired, t.gated+o.gated
}

func (w *world) errorf(format string, args ...any) {
	w.errs = append(w.errs, fmt.Errorf(format, args...))
}

// TestSimulation runs seeded schedules: a worker cuts, puts and announces over a lossy, doubling, reordering bus while rules are edited, time
// passes, stores stumble with known and unknown outcomes, and dispatch crashes between any two of its operations. At the end each batch has
// one disposition for each rule of its time, each firing one run, each run frozen batches (the fake ledger checks every intake), and
// the rules that want everything have got everything.
func TestSimulation(t *testing.T) {
	t.Parallel()
	const shards = 4
	for shard := range shards {
		t.Run(fmt.Sprint("shard", shard), func(t *testing.T) {
			t.Parallel()
			var sum tally
			n := 0
			for i := shard; i < *schedules && !t.Failed(); i += shards {
				n++
				seed := *firstSeed + uint64(i)
				got, err := schedule(t, seed, mutantNone)
				if sum.add(got); err != nil {
					t.Errorf("to repeat it: go test ./trigger/dispatch -run TestSimulation -schedules 1 -seed %d\n%v", seed, err)
				}
			}
			t.Logf("%d schedules: %+v", n, sum)
			if least := n / 2; n >= 50 && (sum.crashes < least || sum.runs < 10*n || sum.held < least || sum.groups < least || sum.joins < least || sum.expired < least || sum.gated < least) {
				t.Errorf("%d schedules went through %+v only", n, sum)
			}
		})
	}
}

// TestSimulationCatches proves that the simulation notices wrong readings of the protocol.
func TestSimulationCatches(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]mutant{"to the tail": mutantTail, "trust": mutantTrust, "forget": mutantForget, "split": mutantSplit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(200) {
				if _, err := schedule(t, *firstSeed+seed, m); err != nil {
					t.Logf("caught by schedule %d", seed+1)
					return
				}
			}
			t.Error("not caught by 200 schedules")
		})
	}
}

func schedule(t *testing.T, seed uint64, m mutant) (got tally, err error) {
	synctest.Test(t, func(t *testing.T) { got, err = simulate(t, seed, m) })
	return got, err
}

func simulate(t *testing.T, seed uint64, m mutant) (tally, error) {
	rng := rand.New(rand.NewPCG(seed, 7))
	w := &world{t: t, seed: seed, rng: rng, chain: triggertest.NewChain(), rules: triggertest.NewRules(), start: time.Now(), mutant: m, gate: newGate(1 << 30)}
	w.ledger = triggertest.NewLedger(w.rules)
	w.bus = membus.New(membus.Options{Loss: rng.Float64() / 2, Double: rng.Float64() / 2, Reorder: rng.Float64(), Seed: seed})
	defer w.bus.Close()
	w.streams = []ingest.Stream{triggertest.Stream("a"), triggertest.Stream("b")}
	w.chain.Fault = func(op string) error { return w.life.op(op) }
	w.ledger.Fault = func(op string) error { return w.life.op(op) }
	w.edit()
	w.boot(true)
	for range 20 + rng.IntN(60) {
		w.event()
	}
	w.finish()
	return w.tally, errors.Join(w.errs...)
}

// event is one thing that happens.
func (w *world) event() {
	if w.rng.IntN(3) == 0 {
		w.turnGate()
	}
	switch n := w.rng.IntN(100); {
	case n < 30:
		w.cut()
	case n < 60:
		w.put()
	case n < 65:
		w.chain.Close(w.pick(), time.Now())
	case n < 70:
		w.edit()
	case n < 73:
		w.bus.Wipe()
	case n < 76:
		w.bus.Forget()
	case n < 82:
		w.reap()
		w.boot(true)
	case n < 92:
		time.Sleep(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
	case n < 94:
		time.Sleep(time.Duration(w.rng.IntN(90)) * time.Second)
	default:
		synctest.Wait()
	}
	if w.died() { // the operator's supervisor
		w.tally.crashes++
		w.reap()
		if w.rng.IntN(3) == 0 {
			time.Sleep(time.Duration(w.rng.IntN(120)) * time.Second)
		}
		w.boot(true)
	}
}

func (w *world) pick() ingest.Stream { return w.streams[w.rng.IntN(len(w.streams))] }

func (w *world) cut() {
	lanes := []ingest.Lane{lane + "/k=1", lane + "/k=2", lane + "/k=3", "", "events/tenant=default/source=app", "quarantine/tenant=default/source=web/reason=bad"}
	w.rng.Shuffle(len(lanes), func(i, j int) { lanes[i], lanes[j] = lanes[j], lanes[i] })
	w.unborn = append(w.unborn, w.chain.Cut(w.pick(), time.Now(), lanes[:1+w.rng.IntN(3)]...)...)
}

func (w *world) put() {
	if len(w.unborn) == 0 {
		return
	}
	i := w.rng.IntN(len(w.unborn))
	b := w.unborn[i]
	w.unborn = append(w.unborn[:i], w.unborn[i+1:]...)
	if w.rng.IntN(20) == 0 {
		b.Void = "refused"
	}
	b = w.chain.Put(b, time.Now())
	switch w.rng.IntN(4) {
	case 0:
	case 1:
		w.d.Announce(w.t.Context(), b)
	default:
		m, err := publish.Encode(b)
		if err == nil {
			err = w.bus.Publish(w.t.Context(), m)
		}
		if err != nil {
			w.errorf("announce: %w", err)
		}
	}
}

// edit changes the rules: "all", "groups" and "minute" are always there and never paused, others come and go, are paused and changed.
func (w *world) edit() {
	set := []trigger.Rule{
		batchRule("all"),
		batchRule("groups", coalesced(trigger.Coalesce{MaxBatches: 1 + w.rng.IntN(4), Quiet: 20 * time.Second}), func(r *trigger.Rule) { r.Source = "web" }),
		{DAG: "d", ID: "minute", Version: "v1", Kind: trigger.KindCron, Cron: "* * * * *"},
	}
	set = append(set, w.waits()...)
	maybe := []trigger.Rule{
		w.mayWait(),
		batchRule("keyed", coalesced(trigger.Coalesce{MaxEvents: 25, MaxWait: time.Minute}), func(r *trigger.Rule) { r.Key = "batch.lane" }),
		batchRule("ones", func(r *trigger.Rule) { r.If = `batch.lane_keys.k == "1"` }),
		batchRule("bad", func(r *trigger.Rule) { r.Quarantine = true }),
		batchRule("shape", func(r *trigger.Rule) {
			if w.rng.IntN(2) == 0 {
				r.Coalesce = &trigger.Coalesce{MaxBatches: 3}
			}
		}),
	}
	for _, r := range maybe {
		r.Paused = w.rng.IntN(3) == 0
		if w.rng.IntN(3) > 0 {
			set = append(set, r)
		}
	}
	w.rules.Set(set...)
}

// boot starts a process, which is doomed or not.
func (w *world) boot(doomed bool) {
	ctx, cancel := context.WithCancel(w.t.Context())
	w.life = &life{rng: rand.New(rand.NewPCG(w.rng.Uint64(), 1)), left: -1, cancel: cancel}
	if doomed {
		w.life.left, w.life.faults = w.rng.IntN(120), w.rng.Float64()/8
	}
	w.d = New(w.chain, w.ledger, w.ledger, w.rules, Options{Bus: mortalBus{w.bus, w.life}, From: FromFirst, MaxBatches: 1 + w.rng.IntN(6), Gate: w.gate})
	w.d.mutant = w.mutant
	w.done = make(chan error, 1)
	go func() { w.done <- w.d.Run(ctx) }()
}

func (w *world) died() bool {
	w.life.mu.Lock()
	defer w.life.mu.Unlock()
	return w.life.dead
}

// reap ends the process, whatever it is doing.
func (w *world) reap() {
	w.life.mu.Lock()
	w.life.dead = true
	w.life.mu.Unlock()
	w.life.cancel()
	if err := <-w.done; err != nil {
		w.errorf("run: got %v, want nil", err)
	}
}

// finish lets everything come to rest, and looks at what there is.
func (w *world) finish() {
	w.reap()
	w.openGate()
	for len(w.unborn) > 0 {
		w.put()
	}
	for _, s := range w.streams {
		w.chain.Close(s, time.Now())
		w.chain.Close(s, time.Now())
	}
	w.boot(false)
	time.Sleep(4 * time.Minute)
	synctest.Wait()
	w.reap()
	if err := w.ledger.Check(); err != nil {
		w.errs = append(w.errs, err)
	}
	w.ledger.View(func(s *triggertest.State) {
		for _, id := range w.streams {
			done := w.chain.Done(id)
			for _, b := range done {
				w.dealtWith(s, b)
			}
			if n := len(done); n > 0 && s.Cursors[id.String()].Seq < done[n-1].Seq {
				w.errorf("cursor of %s: got %d, want at least %d", id, s.Cursors[id.String()].Seq, done[n-1].Seq)
			}
		}
		w.minutes(s)
		w.checkWaits(s)
		w.count(s)
	})
}

// dealtWith checks that the rules that are always there have had their run of b.
func (w *world) dealtWith(s *triggertest.State, b batcher.Batch) {
	for rule, wants := range map[string]bool{"d/all": true, "d/groups": b.Source == "web"} {
		want := trigger.FateRun
		switch {
		case b.Void != "":
			want = trigger.FateDropped
		case !wants || b.Lane.Quarantine():
			want = trigger.FateFiltered
		}
		if got := s.Lines[b.ID][rule]; got.Fate != want {
			w.errorf("batch %s of entry %d of %s for %s: got %+v, want %s", b.ID, b.Seq, b.Stream, rule, got, want)
		}
	}
}

// minutes checks that no minute was left out between the first and the last tick; that none came twice the ledger has checked.
func (w *world) minutes(s *triggertest.State) {
	ticks := map[int64]bool{}
	first, last := int64(1<<62), int64(0)
	for _, f := range s.Runs {
		if f.Rule == "minute" {
			n := f.Due.Unix() / 60
			ticks[n], first, last = true, min(first, n), max(last, n)
		}
	}
	if want := int(last - first + 1); len(ticks) != want || want < 3 {
		w.errorf("%d ticks in %d minutes", len(ticks), want)
	}
	if start := w.start.Unix() / 60; first > start+30 {
		w.errorf("the first tick came after %d minutes", first-start)
	}
}

func (w *world) count(s *triggertest.State) {
	w.tally.runs = len(s.Runs)
	for _, f := range s.Runs {
		if len(f.Batches) > 1 {
			w.tally.groups++
		}
	}
	for _, lines := range s.Lines {
		for _, d := range lines {
			if d.Fate == trigger.FateHeld {
				w.tally.held++
			}
		}
	}
}
