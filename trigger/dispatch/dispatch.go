package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
	"millrace/trigger/rules"
)

const (
	// maxHints bounds the hints of one step, and those that wait.
	maxHints = 1024
	// maxSleep bounds a wait, so that a clock that jumps is noticed.
	maxSleep = 2 * time.Second
)

// startMark is the cursor of no chain. It says that this ledger has started, also when there was no chain yet: else a restart before the first
// commit would start at tails again, behind batches that nobody has seen.
var startMark = ingest.Stream{Log: "_start", Incarnation: "0"}

// Dispatcher is the loop. Make it with [New]; its exported methods are safe for concurrent use.
type Dispatcher struct {
	cat     batcher.Catalogue
	ledger  trigger.Ledger
	starter trigger.Starter
	source  trigger.RuleSource
	o       Options
	m       *metrics
	mutant  mutant

	hints   chan hint
	ready   chan struct{} // closed when the ledger was loaded for the first time
	isReady sync.Once
	busAway atomic.Bool

	// The rest belongs to Run.
	compiler rules.Compiler
	set      *rules.Set
	changed  <-chan struct{} // closed when there is a newer set
	opened   <-chan struct{} // of the gate, taken before the last decision
	loaded   bool
	book     *book
	streams  map[ingest.Stream]*stream
	listDue  time.Time
	left     []hint // those that the last step did not get to
	more     bool   // the last step left something to do at once
	measured time.Time
}

// New returns a Dispatcher; nothing happens before Run. A chain's entries are read from cat; what was decided is loaded from ledger, and what
// is decided goes to starter, which must be two sides of the same store.
func New(cat batcher.Catalogue, ledger trigger.Ledger, starter trigger.Starter, source trigger.RuleSource, o Options) *Dispatcher {
	o = o.withDefaults()
	return &Dispatcher{
		cat: cat, ledger: ledger, starter: starter, source: source, o: o, m: newMetrics(o.Registerer),
		hints: make(chan hint, maxHints), ready: make(chan struct{}),
	}
}

// Ready returns a channel that is closed once the ledger is loaded and the start is recorded. What is committed after that will be dispatched,
// whatever happens; before it, a new ledger's start may count as the past.
func (d *Dispatcher) Ready() <-chan struct{} { return d.ready }

// Run works until ctx ends, then returns nil. It may be called once.
func (d *Dispatcher) Run(ctx context.Context) error {
	if d.o.Disabled {
		<-ctx.Done()
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	if d.o.Bus != nil {
		wg.Go(func() { d.receive(ctx) }) // ends with ctx, or with the bus
	}
	defer wg.Wait()
	defer cancel()
	var failed time.Duration
	for ctx.Err() == nil {
		err := d.turn(ctx)
		switch {
		case err == nil:
			failed = 0
		case ctx.Err() == nil:
			d.o.Log.Warn("nothing can be committed now, the ledger is loaded again", "err", err)
			failed = min(max(2*failed, 50*time.Millisecond), 5*time.Second)
			pause(ctx, failed)
		}
	}
	return nil
}

// turn loads the ledger if that must be, and goes through the steps once.
func (d *Dispatcher) turn(ctx context.Context) error {
	if !d.loaded {
		if err := d.load(ctx); err != nil {
			return err
		}
	}
	hints := d.wait(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return d.step(ctx, hints)
}

// load reads the ledger, and starts it if it is new.
func (d *Dispatcher) load(ctx context.Context) error {
	m, err := d.ledger.Remember(ctx)
	if err != nil {
		return err
	}
	d.compile()
	if m.Fresh {
		if m.Cursors, err = d.begin(ctx); err != nil {
			return fmt.Errorf("start a new ledger: %w", err)
		}
	}
	now := time.Now()
	d.book, d.streams, d.listDue = newBook(m), map[ingest.Stream]*stream{}, now
	for _, c := range m.Cursors {
		if !trigger.IsMark(c.Stream) {
			d.streams[c.Stream] = newStream(c.Stream, c.Seq, now)
			d.streams[c.Stream].recorded = true
		}
	}
	for _, a := range m.Ahead {
		s := d.streams[a.Stream]
		if s == nil {
			s = newStream(a.Stream, 0, now)
			d.streams[a.Stream] = s
		}
		if s.ahead[a.Seq] == nil {
			s.ahead[a.Seq] = map[string]bool{}
		}
		s.ahead[a.Seq][a.Batch] = true
	}
	d.loaded, d.more = true, true
	d.isReady.Do(func() { close(d.ready) })
	return nil
}

// begin records where a new ledger starts: at the tails that exist now, or at the first entries.
func (d *Dispatcher) begin(ctx context.Context) ([]trigger.Cursor, error) {
	cursors := []trigger.Cursor{{Stream: startMark}}
	if d.o.From == FromTail {
		ids, err := d.cat.Streams(ctx)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			switch e, err := d.cat.Tail(ctx, id, 0); {
			case errors.Is(err, batcher.ErrNotFound):
			case err != nil:
				return nil, err
			default:
				cursors = append(cursors, trigger.Cursor{Stream: id, Seq: e.Seq})
			}
		}
	}
	err := d.starter.Start(ctx, trigger.Intake{Gen: d.set.Gen, Cursors: cursors})
	if err == nil {
		d.o.Log.Info("a new ledger starts", "streams", len(cursors)-1, "first", d.o.From == FromFirst)
	}
	return cursors, err
}

// compile takes the present rule set.
func (d *Dispatcher) compile() {
	set, changed := d.source.Rules()
	d.changed = changed
	if d.set != nil && d.set.Gen == set.Gen {
		return
	}
	compiled, err := d.compiler.Compile(set)
	if err != nil {
		d.o.Log.Error("rules can not be compiled, their batches are filtered", "err", err)
	}
	d.set = compiled
	d.m.rules(set)
}

// wait is step 1. It returns the hints to look at, perhaps none.
func (d *Dispatcher) wait(ctx context.Context) []hint {
	hints := d.left
	d.left = nil
	if !d.more {
		timer := time.NewTimer(d.sleep(time.Now()))
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil
		case <-d.changed:
		case <-d.opening():
		case <-timer.C:
		case h := <-d.hints:
			hints = append(hints, h)
		}
	}
	for len(hints) < maxHints {
		select {
		case h := <-d.hints:
			hints = append(hints, h)
		default:
			return hints
		}
	}
	return hints
}

// sleep returns how long nothing is due.
func (d *Dispatcher) sleep(now time.Time) time.Duration {
	due := earlier(earlier(d.listDue, d.book.groupDue), earlier(d.book.cronDue, d.book.joinDue))
	for _, s := range d.streams {
		due = earlier(due, s.due)
	}
	return max(0, min(due.Sub(now), maxSleep))
}

// step is steps 2 to 5. After an error nobody knows what was committed.
func (d *Dispatcher) step(ctx context.Context, hints []hint) error {
	d.compile()
	d.m.ackPending.Set(float64(len(hints)))
	if d.lookUp(time.Now()); d.o.Gate != nil {
		d.opened = d.o.Gate.Opened()
	}
	f := d.look(ctx, hints, time.Now())
	d.left, d.more = f.later, f.more
	if err := d.commit(ctx, f); err != nil {
		d.loaded = d.mutant == mutantTrust
		d.left = append(f.hints, f.later...)
		for _, h := range d.left {
			if h.delivery != nil {
				_ = h.delivery.Extend(ctx) // lost: it comes once more
			}
		}
		return err
	}
	for _, h := range f.hints {
		acknowledge(ctx, h)
	}
	d.m.ackPending.Set(0)
	d.measure(time.Now())
	return nil
}

// opening returns what tells of places that became free since the last step, if anything waits for one.
func (d *Dispatcher) opening() <-chan struct{} {
	if len(d.book.waits) == 0 {
		return nil
	}
	return d.opened
}

// lookUp makes all chains due if something is to expire: what it waits for may be there.
func (d *Dispatcher) lookUp(now time.Time) {
	if at := d.book.joinDue; !at.IsZero() && !now.Before(at) {
		for _, s := range d.streams {
			s.due = now
		}
	}
}

// commit is steps 3 to 5, again with newer rules as often as they change.
func (d *Dispatcher) commit(ctx context.Context, f *found) error {
	for {
		draft := decide(d.book, d.set, f, time.Now().UTC(), d.o)
		if draft.in.Cursors = f.cursors(); draft.empty() && (len(f.moves) == 0 || !f.timed) {
			draft.adopt(d.o) // nothing to commit; a cursor alone waits for its chain to be due
			return nil
		}
		if d.mutant == mutantSplit {
			_ = d.starter.Start(ctx, trigger.Intake{Gen: draft.in.Gen, Cursors: draft.in.Cursors})
		}
		err := d.starter.Start(ctx, draft.in)
		if errors.Is(err, trigger.ErrStale) {
			d.compile()
			if d.set.Gen == draft.in.Gen { // the source is behind the starter
				d.await(ctx)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		if err != nil {
			return err
		}
		draft.adopt(d.o)
		f.adopt(d.mutant)
		d.more = d.more || draft.more
		d.m.committed(&draft.in, d.book, time.Now())
		return nil
	}
}

// await waits for a newer rule set, or for a moment.
func (d *Dispatcher) await(ctx context.Context) {
	timer := time.NewTimer(20 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-d.changed:
	case <-timer.C:
	}
	d.compile()
}

// measure sets the gauges that need a walk over all that is known, at most once a second.
func (d *Dispatcher) measure(now time.Time) {
	if now.Sub(d.measured) < time.Second {
		return
	}
	d.measured = now
	d.m.lag.Set(d.lag(now).Seconds())
}

// lag is the age of the oldest batch that a chain has decided and that is not in the ledger, as far as is known here.
func (d *Dispatcher) lag(now time.Time) time.Duration {
	var lag time.Duration
	for _, s := range d.streams {
		for i := range s.window {
			e := &s.window[i]
			for j := range e.Cuts {
				if c := &e.Cuts[j]; c.Count > 0 && !s.ahead[e.Seq][c.Batch] {
					lag = max(lag, now.Sub(c.CreatedAt))
				}
			}
		}
	}
	return lag
}
