package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/trigger"
)

func ordered(o trigger.Order) func(*trigger.Rule) { return func(r *trigger.Rule) { r.Order = o } }

func byLane(r *trigger.Rule) { r.Key = `has(batch.lane_keys.k) ? batch.lane_keys.k : ""` }

// TestOrder: a rule with fifo or latest_only waits until the batches before are there, and others do not; a restart in between changes nothing.
func TestOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("any"), batchRule("fifo", ordered(trigger.OrderFIFO)), batchRule("lifo", ordered(trigger.OrderLIFO)),
			batchRule("latest", byLane, ordered(trigger.OrderLatestOnly)),
			batchRule("pairs", ordered(trigger.OrderFIFO), coalesced(trigger.Coalesce{MaxBatches: 2})))
		r.start(Options{})
		slow := r.chain.Cut(logA, time.Now(), sourceLane("web", "a"))[0]
		var later []batcher.Batch
		for _, key := range []string{"a", "b", "a"} {
			later = append(later, r.bring("web", key))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		r.want("any:1", "lifo:1", "any:1", "lifo:1", "any:1", "lifo:1")
		for _, rule := range []string{"d/fifo", "d/latest", "d/pairs"} {
			r.fates(rule, "held(order)", later...)
		}
		r.stop()
		r.start(Options{})
		r.chain.Put(slow, time.Now())
		r.chain.Close(logA, time.Now())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		want := []string{"any:2", "lifo:2", "any:3", "lifo:3", "any:4", "lifo:4", "any:1", "lifo:1",
			"fifo:1", "fifo:2", "fifo:3", "fifo:4", "latest:3", "latest:4", "pairs:1+2", "pairs:3+4"}
		if diff := cmp.Diff(want, r.entries()); diff != "" {
			t.Errorf("runs (-want +got):\n%s", diff)
		}
		r.fates("d/latest", "dropped(superseded)", slow, later[0])
		r.check()
	})
}

// TestOrderEdited: what is lined up is held when the DAG is paused, goes at once when the rule has no order any more, and is dropped with the rule.
func TestOrderEdited(t *testing.T) {
	bubble(t, func(t *testing.T) {
		rule := func(change ...func(*trigger.Rule)) trigger.Rule {
			return batchRule("r", append(change, func(r *trigger.Rule) { r.Source = "web" })...)
		}
		fifo := ordered(trigger.OrderFIFO)
		r := newRig(t, rule(fifo))
		r.start(Options{})
		r.chain.Cut(logA, time.Now(), lane) // never put
		one := r.bring("web", "a")
		r.fates("d/r", "held(order)", one)
		r.rules.Set(rule(fifo, paused))
		synctest.Wait()
		r.fates("d/r", "held(paused)", one)
		r.rules.Set(rule(fifo))
		synctest.Wait()
		r.fates("d/r", "held(order)", one)
		r.want()
		r.rules.Set(rule())
		synctest.Wait()
		r.want("r:1")
		r.rules.Set(rule(fifo))
		synctest.Wait()
		two := r.bring("web", "a")
		r.fates("d/r", "held(order)", two)
		r.rules.Set()
		synctest.Wait()
		r.fates("d/r", "dropped(rule_removed)", two)
		r.want("r:1")
	})
}

// TestCoalesceLatest: of a closed group the run gets the newest batch, and the others are dropped; they count for the bound all the same.
func TestCoalesceLatest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all", coalesced(trigger.Coalesce{MaxBatches: 3})),
			batchRule("latest", coalesced(trigger.Coalesce{MaxBatches: 3, Mode: trigger.CoalesceLatest})))
		r.start(Options{})
		one, two := r.bring("web", "a"), r.bring("web", "a")
		r.fates("d/latest", "coalesced", one, two)
		r.want()
		r.stop()
		r.start(Options{})
		three := r.bring("web", "a")
		r.want("all:3", "latest:1")
		r.fates("d/latest", "dropped(superseded)", one, two)
		r.fates("d/latest", "run", three)
		if f := r.lastFiring(); f.Key != "coal::"+one.ID {
			t.Errorf("key: got %s, want that of the group", f.Key)
		}
	})
}
