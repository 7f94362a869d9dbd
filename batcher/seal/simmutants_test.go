package seal

import (
	"testing"
)

// TestMutants builds plausible misreadings of the protocol into workers, log, store or reconciler, one at a time, and fails for each that the
// simulation does not catch. A mutant's seeds are its own: the first schedule that catches it ends the search.
func TestMutants(t *testing.T) {
	t.Parallel()
	for _, m := range []struct {
		name string
		plan plan
	}{
		{"lane computed from the worker's config", plan{world: worldMutants{laneOf: true}}},
		{"records read before they are fsynced", plan{world: worldMutants{unsynced: true}}},
		{"next not carried over for unseen lanes", plan{mut: mutants{dropUnseenNext: true}}},
		{"low from own view only", plan{mut: mutants{lowOwnView: true}}},
		{"no cut for a lane with only duplicates", plan{mut: mutants{noDuplicateCut: true}}},
		{"batch id from (S, seq, lane)", plan{mut: mutants{batchIDByLane: true}}},
		{"412 compared by bytes", plan{mut: mutants{compareBytes: true}}},
		{"re-encode before asking", plan{mut: mutants{encodeFirst: true}}},
		{"reconciler up to the tail", plan{world: worldMutants{reconcileTail: true}}},
		{"sidecar after the object", plan{mut: mutants{sidecarLate: true}}},
		{"index from sidecars and the log from the tail's low", plan{mut: mutants{foldFromLow: true}}},
		{"one receive time per key", plan{mut: mutants{oneTimePerKey: true}}},
		{"link not durable before it is acted on", plan{world: worldMutants{lateLink: true}}},
		{"no count check under retention", plan{retention: true, mut: mutants{noCountCheck: true}}},
		{"empty entries without the rule", plan{mut: mutants{alwaysClose: true}}},
		{"incarnation bumped only when the log's end is behind the chain", plan{clones: true, world: worldMutants{sameWriter: true}}},
		{"void by a holder of a shorter prefix", plan{clones: true, mut: mutants{voidShort: true}}},

		{"log trimmed to the tail's low", plan{mut: mutants{trimToTail: true}}},
		{"predecessors not folded", plan{mut: mutants{noPredecessor: true}}},
		{"no window of unfinished entries", plan{mut: mutants{ignoreWindow: true}}},
		{"ids of a lost decision stay in the index", plan{mut: mutants{keepLost: true}}},
		{"announced before the object exists", plan{mut: mutants{eagerAnnounce: true}}},
		{"done raised over objects that nobody saw", plan{mut: mutants{doneUnseen: true}}},
		{"old incarnation forgotten before the next one's entry 1", plan{mut: mutants{forgetPreviously: true}}},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			const limit, stop = 3000, 3
			n, caught, first := hunt(t, m.plan, limit, stop)
			t.Logf("%d violating schedules of %d: %v", caught, n, first)
			if caught == 0 {
				t.Errorf("not caught in %d schedules", n)
			}
		})
	}
}

// hunt runs schedules of a mutant until enough of them violate something.
func hunt(t *testing.T, p plan, limit, stop int) (ran, caught int, first error) {
	bubble(t, func(share *metrics) {
		for ran < limit && caught < stop {
			ran++
			if _, err := schedule(uint64(1_000_000+ran), p, share); err != nil {
				caught++
				if first == nil {
					first = err
				}
			}
		}
	})
	return ran, caught, first
}
