package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
	"millrace/trigger/membus"
	"millrace/trigger/publish"
	"millrace/trigger/triggertest"
)

const lane = ingest.Lane("events/tenant=default/source=web")

var logA = triggertest.Stream("a")

// rig is a dispatcher among fakes, within a bubble.
type rig struct {
	t      *testing.T
	chain  *triggertest.Chain
	rules  *triggertest.Rules
	ledger *triggertest.Ledger
	bus    *membus.Bus
	d      *Dispatcher
	stop   func()
}

func newRig(t *testing.T, rules ...trigger.Rule) *rig {
	t.Helper()
	r := &rig{t: t, chain: triggertest.NewChain(), rules: triggertest.NewRules(rules...), bus: membus.New(membus.Options{})}
	r.ledger = triggertest.NewLedger(r.rules)
	t.Cleanup(func() { _ = r.bus.Close() })
	return r
}

// start runs a dispatcher until stop, or the end of the test, and waits until it is ready and idle.
func (r *rig) start(o Options) {
	r.t.Helper()
	o.Bus = r.bus
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	r.d = New(r.chain, r.ledger, r.ledger, r.rules, o)
	go func() { done <- r.d.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("run: got %v, want nil", err)
		}
		r.stop = func() {}
	}
	r.t.Cleanup(func() { r.stop() })
	<-r.d.Ready()
	synctest.Wait()
}

// commit makes one batch whole, and says so on the bus if announced.
func (r *rig) commit(announced bool) batcher.Batch {
	b := r.chain.Put(r.chain.Cut(logA, time.Now(), lane)[0], time.Now())
	if announced {
		r.announce(b)
	}
	return b
}

func (r *rig) announce(b batcher.Batch) {
	r.t.Helper()
	m, err := publish.Encode(b)
	if err == nil {
		err = r.bus.Publish(r.t.Context(), m)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
}

// runs returns the keys of all runs as "<rule>:<n batches>", in the order of their start.
func (r *rig) runs() []string {
	var out []string
	r.ledger.View(func(s *triggertest.State) {
		for _, id := range s.Order {
			f := s.Runs[id]
			out = append(out, fmt.Sprintf("%s:%d", f.Rule, len(f.Batches)))
		}
	})
	return out
}

func (r *rig) line(b batcher.Batch, rule string) trigger.Disposition {
	var d trigger.Disposition
	r.ledger.View(func(s *triggertest.State) { d = s.Lines[b.ID][rule] })
	return d
}

func (r *rig) cursor(s ingest.Stream) int64 {
	var seq int64
	r.ledger.View(func(st *triggertest.State) { seq = st.Cursors[s.String()].Seq })
	return seq
}

func (r *rig) check() {
	r.t.Helper()
	if err := r.ledger.Check(); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) want(want ...string) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.runs()); diff != "" {
		r.t.Errorf("runs (-want +got):\n%s", diff)
	}
	r.check()
}

func batchRule(id string, change ...func(*trigger.Rule)) trigger.Rule {
	r := trigger.Rule{DAG: "d", ID: id, Version: "v1", Kind: trigger.KindBatch}
	for _, f := range change {
		f(&r)
	}
	return r
}

func paused(r *trigger.Rule) { r.Paused = true }

func coalesced(c trigger.Coalesce) func(*trigger.Rule) {
	return func(r *trigger.Rule) { r.Coalesce = &c }
}

// bubble runs f in a bubble of its own time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func TestTriggerStartsRunAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all"), batchRule("other", func(r *trigger.Rule) { r.Source = "app" }))
		r.start(Options{})
		start := time.Now()
		b := r.commit(true)
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v of the bubble's time, want 0: nothing may wait for a timer", took)
		}
		r.want("all:1")
		if got := r.line(b, "d/other"); got.Fate != trigger.FateFiltered || got.Reason != "source" {
			t.Errorf("the other rule: got %+v", got)
		}
		// The chain says a second later that the object exists; then the cursor passes it, and the batch is no news.
		time.Sleep(time.Second)
		r.chain.Close(logA, time.Now())
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := r.cursor(logA); got != 1 {
			t.Errorf("cursor: got %d, want 1", got)
		}
		r.announce(b)
		r.bus.Forget()
		r.announce(b)
		r.want("all:1")
	})
}

func TestInProcessNews(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all"))
		r.start(Options{})
		r.d.Announce(t.Context(), r.commit(false))
		synctest.Wait()
		r.want("all:1")
		list := r.chain.Cut(logA, time.Now(), lane, "", lane+"/k=1", lane+"/k=2")
		for _, b := range list[:2] {
			r.chain.Put(b, time.Now())
		}
		r.d.Nudge(logA, 2)
		synctest.Wait()
		r.want("all:1", "all:1", "all:1") // the third object does not exist yet
		r.announce(r.chain.Put(list[2], time.Now()))
		r.want("all:1", "all:1", "all:1", "all:1")
	})
}

func TestReconcilesWithoutTriggers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all"))
		r.start(Options{})
		r.commit(false)
		r.chain.Close(logA, time.Now())
		time.Sleep(61 * time.Second) // a new chain is found by listing
		synctest.Wait()
		r.want("all:1")
		for range 3 {
			time.Sleep(time.Hour) // the longest rest
			r.commit(false)
			r.chain.Close(logA, time.Now())
			time.Sleep(31 * time.Second)
			synctest.Wait()
		}
		r.want("all:1", "all:1", "all:1", "all:1")
	})
}

func TestOpenEntryIsNotPassed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all"))
		r.start(Options{})
		slow := r.chain.Cut(logA, time.Now(), lane, lane+"/k=2")
		r.chain.Put(slow[0], time.Now())
		for range 3 {
			r.commit(true)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		r.want("all:1", "all:1", "all:1")
		if got := r.cursor(logA); got != 0 {
			t.Errorf("cursor: got %d, want 0 while entry 1 lacks an object", got)
		}
		r.chain.Put(slow[1], time.Now())
		r.chain.Close(logA, time.Now())
		time.Sleep(5 * time.Second)
		synctest.Wait()
		r.want("all:1", "all:1", "all:1", "all:1", "all:1")
		if got := r.cursor(logA); got != 4 {
			t.Errorf("cursor: got %d, want 4", got)
		}
	})
}

func TestFreshLedger(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		from From
		want []string
	}{"from tail": {FromTail, []string{"all:1", "all:1"}}, "from first": {FromFirst, []string{"all:1", "all:1", "all:1"}}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, batchRule("all"))
				r.commit(false)
				r.chain.Close(logA, time.Now())
				r.start(Options{From: test.from})
				later := r.commit(false)
				r.chain.Close(logA, time.Now())
				other := triggertest.Stream("b")
				r.chain.Put(r.chain.Cut(other, time.Now(), lane)[0], time.Now())
				r.chain.Close(other, time.Now())
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				r.want(test.want...)
				if got := r.line(later, "d/all"); got.Fate != trigger.FateRun {
					t.Errorf("the batch after the start: got %+v", got)
				}
			})
		})
	}
}

// TestStartIsRecorded: a ledger that started before there was any chain must not start at tails a second time.
func TestStartIsRecorded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all"))
		r.start(Options{})
		r.stop()
		r.commit(false)
		r.chain.Close(logA, time.Now())
		r.start(Options{})
		time.Sleep(time.Second)
		synctest.Wait()
		r.want("all:1")
	})
}

func TestVoidAndGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all"), batchRule("other", func(r *trigger.Rule) { r.Source = "app" }))
		r.start(Options{})
		void := r.chain.Cut(logA, time.Now(), lane)[0]
		void.Void = "refused"
		r.chain.Put(void, time.Now())
		r.chain.Close(logA, time.Now())
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		for _, rule := range []string{"d/all", "d/other"} {
			if got := r.line(void, rule); got.Fate != trigger.FateDropped || got.Reason != "void" {
				t.Errorf("%s: got %+v, want dropped(void)", rule, got)
			}
		}
		r.stop()
		gone := r.commit(false)
		r.chain.Close(logA, time.Now())
		r.chain.Delete(gone)
		after := r.commit(false)
		r.chain.Close(logA, time.Now())
		r.start(Options{})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.line(gone, "d/all"); got.Fate != trigger.FateDropped || got.Reason != "gone" {
			t.Errorf("deleted object: got %+v, want dropped(gone)", got)
		}
		r.ledger.View(func(s *triggertest.State) {
			if got := s.Batches[gone.ID]; got.Bytes != gone.Bytes || got.Events != gone.Events {
				t.Errorf("deleted object: got %+v, want the facts of the chain", got)
			}
		})
		if got := r.line(after, "d/all"); got.Fate != trigger.FateRun {
			t.Errorf("the batch behind it: got %+v, want run", got)
		}
		r.want("all:1")
	})
}

func TestForgedTriggers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all"))
		r.start(Options{})
		b := r.commit(true)
		r.want("all:1")
		forge := func(id string, change func(*batcher.Batch)) {
			f := b
			f.ID = id
			change(&f)
			r.announce(f)
		}
		forge("x1", func(f *batcher.Batch) { f.Stream = triggertest.Stream("nobody") })
		forge("x2", func(f *batcher.Batch) { f.Seq = 99 })
		forge("x3", func(f *batcher.Batch) { f.Seq = 2 })
		forge("x4", func(*batcher.Batch) {})
		m, err := publish.Encode(b)
		if err != nil {
			t.Fatal(err)
		}
		m.ID, m.Data = "x5", make([]byte, publish.MaxData+1)
		if err := r.bus.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		// What a trigger says of its batch is not believed: this one lies about everything but the place.
		real := r.chain.Put(r.chain.Cut(logA, time.Now(), lane)[0], time.Now())
		lie := real
		lie.Source, lie.Tenant, lie.Events, lie.URI = "app", "acme", 1_000_000, "file:///etc/passwd"
		r.announce(lie)
		r.want("all:1", "all:1")
		r.ledger.View(func(s *triggertest.State) {
			if diff := cmp.Diff(real, s.Batches[real.ID]); diff != "" {
				t.Errorf("batch (-real +got):\n%s", diff)
			}
		})
		// An object that does not exist yet is not believed either, and found when it does.
		early := r.chain.Cut(logA, time.Now(), lane)[0]
		r.announce(early)
		r.want("all:1", "all:1")
		time.Sleep(time.Minute)
		r.chain.Put(early, time.Now())
		r.chain.Close(logA, time.Now())
		time.Sleep(31 * time.Second)
		synctest.Wait()
		r.want("all:1", "all:1", "all:1")
		if n := len(r.d.streams); n != 1 {
			t.Errorf("%d chains are followed, want 1: forged ones are forgotten", n)
		}
	})
}

func TestCoalesce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("three", coalesced(trigger.Coalesce{MaxBatches: 3, Quiet: 5 * time.Second})),
			batchRule("keyed", coalesced(trigger.Coalesce{MaxWait: 10 * time.Second}), func(r *trigger.Rule) { r.Key = "batch.lane_keys.k" }))
		r.start(Options{})
		two := func() {
			for _, b := range r.chain.Cut(logA, time.Now(), lane+"/k=1", lane+"/k=2") {
				r.announce(r.chain.Put(b, time.Now()))
			}
		}
		two()
		r.want()
		two()
		r.want("three:3")
		time.Sleep(4 * time.Second)
		r.want("three:3")
		time.Sleep(time.Second)
		synctest.Wait()
		r.want("three:3", "three:1") // quiet
		r.stop()
		r.start(Options{}) // open groups outlive the process
		time.Sleep(5*time.Second - 1)
		synctest.Wait()
		r.want("three:3", "three:1")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		r.want("three:3", "three:1", "keyed:2", "keyed:2")
		r.ledger.View(func(s *triggertest.State) {
			for _, f := range s.Runs {
				if ok := strings.HasPrefix(f.Key, "coal:"+f.LaneKey+":"); !ok || f.Closed == "" || f.Version != "v1" {
					t.Errorf("firing %+v", f)
				}
				ordered := slices.IsSortedFunc(f.Batches, func(a, b batcher.Batch) int { return int(a.Seq - b.Seq) })
				if !ordered || f.Rule == "keyed" && f.Closed != "max_wait" {
					t.Errorf("firing %+v", f)
				}
			}
		})
	})
}

func TestPauseAndRemove(t *testing.T) {
	bubble(t, func(t *testing.T) {
		plain, grouped := batchRule("plain"), batchRule("grouped", coalesced(trigger.Coalesce{MaxBatches: 2}))
		r := newRig(t, plain, grouped)
		r.start(Options{})
		first := r.commit(true)
		r.want("plain:1")
		r.rules.Set(batchRule("plain", paused), batchRule("grouped", paused, coalesced(trigger.Coalesce{MaxBatches: 2})))
		synctest.Wait()
		if got := r.line(first, "d/grouped"); got.Fate != trigger.FateHeld || got.Reason != "paused" || got.Group != "" {
			t.Errorf("the batch in the open group: got %+v, want held(paused)", got)
		}
		for range 4 {
			time.Sleep(time.Second)
			r.commit(true)
		}
		r.want("plain:1")
		r.stop()
		r.start(Options{})
		r.rules.Set(plain, batchRule("grouped", paused, coalesced(trigger.Coalesce{MaxBatches: 2})))
		synctest.Wait()
		r.want("plain:1", "plain:1", "plain:1", "plain:1", "plain:1")
		r.ledger.View(func(s *triggertest.State) {
			var last int64
			for _, id := range s.Order {
				if seq := s.Runs[id].Batches[0].Seq; seq <= last {
					t.Errorf("held batch of entry %d fires after %d, want oldest first", seq, last)
				} else {
					last = seq
				}
			}
		})
		r.rules.Set(plain, grouped)
		synctest.Wait()
		if got := r.runs()[5:]; !slices.Equal(got, []string{"grouped:2", "grouped:2"}) {
			t.Errorf("released groups: got %v", got)
		}
		r.check()
		// One batch is left in an open group; the rule goes, while the other is paused and holds one.
		r.rules.Set(batchRule("plain", paused), grouped)
		synctest.Wait()
		last := r.commit(true)
		r.rules.Set()
		synctest.Wait()
		r.check()
		for _, rule := range []string{"d/plain", "d/grouped"} {
			if got := r.line(last, rule); rule == "d/plain" && (got.Fate != trigger.FateDropped || got.Reason != "rule_removed") {
				t.Errorf("%s: got %+v, want dropped(rule_removed)", rule, got)
			}
		}
		r.ledger.View(func(s *triggertest.State) {
			for id := range s.Groups {
				t.Errorf("group %q is still open", id)
			}
		})
	})
}

// TestManyHeld releases more than one intake takes, and a full window of entries.
func TestManyHeld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all", paused))
		r.start(Options{From: FromFirst, MaxBatches: 10})
		for range 3*maxWindow + 5 {
			r.commit(false)
		}
		r.chain.Close(logA, time.Now())
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.cursor(logA); got != 3*maxWindow+5 {
			t.Errorf("cursor: got %d, want %d", got, 3*maxWindow+5)
		}
		r.want()
		r.rules.Set(batchRule("all"))
		synctest.Wait()
		if got := len(r.runs()); got != 3*maxWindow+5 {
			t.Errorf("runs: got %d, want %d", got, 3*maxWindow+5)
		}
		r.check()
	})
}

func TestWideEntry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all"))
		r.start(Options{MaxBatches: 10})
		lanes := make([]ingest.Lane, 75)
		for i := range lanes {
			lanes[i] = ingest.Lane(fmt.Sprintf("%s/k=%d", lane, i))
		}
		list := r.chain.Cut(logA, time.Now(), lanes...)
		for _, b := range list {
			r.chain.Put(b, time.Now())
		}
		r.chain.Close(logA, time.Now())
		r.announce(list[40])
		time.Sleep(time.Second)
		synctest.Wait()
		if got := len(r.runs()); got != 75 || r.cursor(logA) != 1 {
			t.Errorf("got %d runs and cursor %d, want 75 and 1", got, r.cursor(logA))
		}
		r.check()
	})
}

// TestIdle counts what a rest costs.
func TestIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all"))
		r.start(Options{})
		r.commit(true)
		r.chain.Close(logA, time.Now())
		time.Sleep(time.Hour)
		commits := func() (n int) { r.ledger.View(func(s *triggertest.State) { n = s.Commits }); return n }
		reads, before := r.chain.Asked("entry"), commits()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := r.chain.Asked("entry") - reads; got > 125 {
			t.Errorf("%d reads in an hour of rest, want one in 30 s", got)
		}
		if got := commits() - before; got != 0 {
			t.Errorf("%d commits in an hour of rest, want 0", got)
		}
	})
}

func TestDisabled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		d := New(r.chain, r.ledger, r.ledger, r.rules, Options{Bus: r.bus, Disabled: true})
		go func() { done <- d.Run(ctx) }()
		r.commit(true)
		time.Sleep(time.Hour)
		r.want()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: got %v, want nil", err)
		}
	})
}
