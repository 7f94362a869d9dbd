package dispatch

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/trigger"
)

// fakeGate has one group of each key, for all rules.
type fakeGate struct {
	mu     sync.Mutex // guards the rest
	free   map[string]int
	rest   int  // of groups that free has not
	one    bool // there is one group for all keys
	opened chan struct{}
}

func newGate(rest int) *fakeGate {
	return &fakeGate{free: map[string]int{}, rest: rest, opened: make(chan struct{})}
}

func (g *fakeGate) Group(_ *trigger.Rule, key string) string {
	if g.one {
		return "g/"
	}
	return "g/" + key
}

func (g *fakeGate) Free(group string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n, ok := g.free[group]; ok {
		return n
	}
	return g.rest
}

func (g *fakeGate) Opened() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened
}

// set gives a key so many places.
func (g *fakeGate) set(key string, free int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free["g/"+key] = free
	close(g.opened)
	g.opened = make(chan struct{})
}

func gated(r *trigger.Rule) { r.Gated = true }

// TestGate: while there is no place batches collect, and become one run as soon as there is one, oldest group first; a restart changes nothing.
func TestGate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(1)
		r := newRig(t, batchRule("r", byLane, gated), batchRule("free", byLane))
		r.start(Options{Gate: gate})
		r.bring("web", "a")
		gate.set("a", 0)
		gate.set("b", 0)
		one, other := r.bring("web", "a"), r.bring("web", "b")
		time.Sleep(time.Hour)
		two := r.bring("web", "a")
		r.fates("d/r", "coalesced", one, two, other)
		r.fates("d/free", "run", one, two, other)
		r.stop()
		r.start(Options{Gate: gate})
		three := r.bring("web", "a")
		r.fates("d/r", "coalesced", one, two, three, other)
		gate.set("a", 2)
		synctest.Wait()
		r.fates("d/r", "run", one, two, three)
		r.fates("d/r", "coalesced", other)
		if f := r.lastFiring(); f.Closed != "capacity" || f.Key != "coal:a:"+one.ID || len(f.Batches) != 3 {
			t.Errorf("firing: got %+v", f)
		}
		r.fates("d/r", "run", r.bring("web", "a"))
		// Two keys of one step find one place: each has its own group here.
		r.rules.Set(batchRule("r", byLane), batchRule("free", byLane))
		synctest.Wait()
		r.fates("d/r", "run", other) // the rule is not gated any more
		r.check()
	})
}

// TestGateOfOneStep: the runs of one step count against the places that there are.
func TestGateOfOneStep(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(2)
		r := newRig(t, batchRule("r", gated, paused))
		r.start(Options{Gate: gate})
		for range 5 {
			r.bring("web", "a")
		}
		r.rules.Set(batchRule("r", gated))
		synctest.Wait()
		r.want("r:1", "r:1")
		gate.set("", 1)
		synctest.Wait()
		r.want("r:1", "r:1", "r:3")
	})
}

// TestGateIsFair: of the keys that wait for a place of one group, that which has waited longest gets it, and what comes does not pass them.
func TestGateIsFair(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(0)
		gate.one = true
		r := newRig(t, batchRule("r", byLane, gated))
		r.start(Options{Gate: gate})
		for _, key := range []string{"c", "a", "b", "a"} {
			r.bring("web", key)
			time.Sleep(time.Second)
		}
		for range 3 {
			gate.set("", 1)
			synctest.Wait()
			gate.set("", 0)
			r.bring("web", "d")
		}
		if diff := cmp.Diff([]string{"r:1", "r:2+4", "r:3"}, r.entries()); diff != "" {
			t.Errorf("runs (-want +got):\n%s", diff)
		}
	})
}

// TestGateAndCoalesce: bounds in time wait for a place, those in number do not.
func TestGateAndCoalesce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(0)
		r := newRig(t, batchRule("r", gated, coalesced(trigger.Coalesce{MaxBatches: 3, Quiet: time.Second, MaxWait: time.Minute})))
		r.start(Options{Gate: gate})
		r.bring("web", "a")
		time.Sleep(time.Hour)
		r.bring("web", "a")
		time.Sleep(time.Hour)
		r.want()
		r.bring("web", "a")
		r.want("r:3") // it waits in the queue of the scheduler now
		r.bring("web", "a")
		time.Sleep(time.Hour)
		synctest.Wait()
		r.want("r:3")
		gate.set("", 1)
		synctest.Wait()
		r.want("r:3", "r:1")
		if f := r.lastFiring(); f.Closed != "max_wait" && f.Closed != "quiet" {
			t.Errorf("closed: got %q, want the bound in time", f.Closed)
		}
		r.bring("web", "a")
		r.want("r:3", "r:1")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		r.want("r:3", "r:1", "r:1")
	})
}

// TestGateLatestOnly: of what waits for a place only the newest of each key is kept.
func TestGateLatestOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(0)
		r := newRig(t, batchRule("r", byLane, gated, ordered(trigger.OrderLatestOnly)))
		r.start(Options{Gate: gate})
		bring := func(key string) batcher.Batch {
			b := r.bring("web", key)
			r.chain.Close(logA, time.Now())
			time.Sleep(5 * time.Second)
			synctest.Wait()
			return b
		}
		one, other := bring("a"), bring("b")
		two := bring("a")
		r.fates("d/r", "dropped(superseded)", one)
		r.stop()
		r.start(Options{Gate: gate})
		three := bring("a")
		r.fates("d/r", "dropped(superseded)", two)
		r.fates("d/r", "coalesced", three, other)
		r.want()
		gate.set("a", 1)
		synctest.Wait()
		r.want("r:1")
		r.fates("d/r", "run", three)
		r.rules.Set(batchRule("r", byLane, gated, paused, ordered(trigger.OrderLatestOnly)))
		synctest.Wait()
		r.fates("d/r", "held(paused)", other)
		r.rules.Set()
		synctest.Wait()
		r.fates("d/r", "dropped(rule_removed)", other)
		r.check()
	})
}

// TestGateAndJoin: a join whose sides are all there goes on collecting until there is a place, and nothing of it expires.
func TestGateAndJoin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		gate := newGate(0)
		rules := pair(time.Hour)
		rules[2].Gated = true
		r := newRig(t, rules...)
		r.start(Options{Gate: gate})
		click, order := r.bring("clicks", "a"), r.bring("orders", "a")
		lonely := r.bring("orders", "b")
		time.Sleep(50 * time.Minute)
		more := r.bring("clicks", "a")
		time.Sleep(30 * time.Hour)
		synctest.Wait()
		r.want()
		r.fates("d/both", "held(join)", click, order)
		r.fates("d/both", "expired(missing: clicks)", lonely)
		r.stop()
		r.start(Options{Gate: gate})
		gate.set("a", 1)
		synctest.Wait()
		r.want("both:3")
		r.fates("d/both", "run", click, order, more)
	})
}
