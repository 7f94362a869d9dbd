package dispatch

import (
	"time"

	"millrace/trigger"
	"millrace/trigger/triggertest"
)

// simExpire is that of the join which lets its batches expire.
const simExpire = time.Minute

// waits are the rules of the simulation whose batches wait: two joins of the same sides, of which one never gives up, and two with an order. They
// are always there and never paused.
func (w *world) waits() []trigger.Rule {
	lane := func(k string) trigger.Rule {
		return batchRule("k"+k, func(r *trigger.Rule) {
			r.If, r.Key, r.OnlyJoined = `batch.lane_keys.k == "`+k+`"`, "batch.stream", true
		})
	}
	both, ever := join(simExpire, "k1", "k2"), join(0, "k1", "k2")
	ever.ID = "ever"
	return []trigger.Rule{lane("1"), lane("2"), lane("3"), both, ever,
		batchRule("full", byLane, gated), batchRule("fullest", byLane, gated, ordered(trigger.OrderLatestOnly)),
		batchRule("timed", byLane, gated, coalesced(trigger.Coalesce{MaxBatches: 5, MaxWait: 10 * time.Second})),
		batchRule("fifo", ordered(trigger.OrderFIFO)), batchRule("newest", ordered(trigger.OrderLatestOnly), func(r *trigger.Rule) { r.Key = "batch.lane" })}
}

// mayWait are joins that come and go, are paused and changed.
func (w *world) mayWait() trigger.Rule {
	three := join(time.Duration(w.rng.IntN(3))*time.Minute, "k1", "k2", "k3")
	three.Gated = w.rng.IntN(2) == 0
	if three.ID = "three"; w.rng.IntN(2) == 0 {
		three.AllOf = three.AllOf[:2]
	}
	return three
}

// checkWaits looks at the rules of waits when everything has come to rest.
func (w *world) checkWaits(s *triggertest.State) {
	side := func(id string) string { return s.Batches[id].Lane.Value("k") }
	waiting := map[string]map[string]bool{} // of ever: by key, the sides that wait
	for id, lines := range s.Lines {
		b := s.Batches[id]
		if got := lines["d/both"]; got.Fate == trigger.FateHeld {
			w.errorf("batch %s of entry %d of %s is held for a join that gives up: %+v", id, b.Seq, b.Stream, got)
		} else if got.Fate == trigger.FateExpired {
			w.tally.expired++
		}
		if got := lines["d/ever"]; got.Fate == trigger.FateHeld {
			if waiting[got.Key] == nil {
				waiting[got.Key] = map[string]bool{}
			}
			waiting[got.Key][side(id)] = true
		}
		done := b.Seq <= s.Cursors[b.Stream.String()].Seq
		for _, rule := range []string{"d/full", "d/timed"} {
			if got := lines[rule]; got.Fate == trigger.FateCoalesced {
				w.errorf("batch %s of entry %d of %s for %s: got %+v although there is a place", id, b.Seq, b.Stream, rule, got)
			}
		}
		for _, rule := range []string{"d/fifo", "d/newest", "d/fullest"} {
			if got := lines[rule]; done && !got.Fate.Final() || !done && got.Fate == trigger.FateRun {
				w.errorf("batch %s of entry %d of %s for %s, passed %v: got %+v", id, b.Seq, b.Stream, rule, done, got)
			}
		}
	}
	for key, sides := range waiting {
		if len(sides) > 1 {
			w.errorf("batches of both sides of key %s wait for each other", key)
		}
	}
	at := map[string]int64{}
	for _, id := range s.Order {
		f := s.Runs[id]
		if f.Kind != trigger.KindBatch {
			continue
		}
		b := f.Batches[0]
		switch f.Rule {
		case "both", "ever":
			w.tally.joins++
			sides := map[string]bool{}
			for i := range f.Batches {
				sides[side(f.Batches[i].ID)] = true
			}
			if !sides["1"] || !sides["2"] || len(sides) > 2 {
				w.errorf("run of %s with key %s has the sides %v", f.Rule, f.Key, sides)
			}
		case "full":
			if f.Closed == closedCapacity {
				w.tally.gated++
			}
		case "fifo", "newest":
			place := f.Rule + b.Stream.String()
			if now := b.Seq*100 + int64(b.Cut); now <= at[place] {
				w.errorf("run of %s with cut %d of entry %d comes after another of that chain", f.Rule, b.Cut, b.Seq)
			} else {
				at[place] = now
			}
		}
	}
}

// turnGate lets some groups be full, or have room.
func (w *world) turnGate() {
	w.gate.set([]string{"1", "2", "3", ""}[w.rng.IntN(4)], w.rng.IntN(3))
}

// openGate gives every group room.
func (w *world) openGate() {
	for _, key := range []string{"1", "2", "3", ""} {
		w.gate.set(key, 1<<30)
	}
}
