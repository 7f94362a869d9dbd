package dispatch

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"millrace/batcher"
	"millrace/trigger"
)

// TestWhenPaused: what comes while a rule is paused is dropped, or all but the newest of each key is, if the rule says so; a restart in between
// changes nothing, and the ledger says what became of each batch.
func TestWhenPaused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		rule := func(id string, when trigger.WhenPaused, change ...func(*trigger.Rule)) trigger.Rule {
			return batchRule(id, append(change, func(r *trigger.Rule) { r.WhenPaused = when })...)
		}
		two := coalesced(trigger.Coalesce{MaxBatches: 2})
		byEntry := func(r *trigger.Rule) { r.Key = "batch.seq > 3 ? 'late' : 'early'" }
		all := func(change ...func(*trigger.Rule)) []trigger.Rule {
			return []trigger.Rule{
				rule("drop", trigger.PausedDrop, change...), rule("hold", trigger.PausedHold, change...), rule("latest", trigger.PausedLatest, change...),
				rule("keyed", trigger.PausedLatest, append(slices.Clone(change), two, byEntry)...),
			}
		}
		r := newRig(t, all()...)
		r.start(Options{})
		first := r.commit(true) // opens a group of the keyed rule
		r.want("drop:1", "hold:1", "latest:1")
		r.rules.Set(all(paused)...)
		synctest.Wait()
		var came []batcher.Batch
		for i := range 4 {
			time.Sleep(time.Second)
			came = append(came, r.commit(true))
			if i == 1 {
				r.stop()
				r.start(Options{})
			}
		}
		r.want("drop:1", "hold:1", "latest:1")
		r.rules.Set(all()...)
		synctest.Wait()
		r.want("drop:1", "hold:1", "latest:1", "hold:1", "hold:1", "hold:1", "hold:1", "latest:1")
		if got := r.line(came[3], "d/latest"); got.Fate != trigger.FateRun {
			t.Errorf("the newest batch: got %+v, want a run", got)
		}
		for _, b := range came[:3] {
			if got := r.line(b, "d/latest"); got.Fate != trigger.FateDropped || got.Reason != "superseded" {
				t.Errorf("batch of entry %d: got %+v, want dropped(superseded)", b.Seq, got)
			}
		}
		for _, b := range came {
			if got := r.line(b, "d/drop"); got.Fate != trigger.FateDropped || got.Reason != "paused" {
				t.Errorf("batch of entry %d: got %+v, want dropped(paused)", b.Seq, got)
			}
		}
		// Of each key the newest: entries 1 to 3 are early, 4 and 5 late. Each opens a group now.
		want := []trigger.Fate{trigger.FateDropped, trigger.FateDropped, trigger.FateCoalesced, trigger.FateDropped, trigger.FateCoalesced}
		for i, b := range append([]batcher.Batch{first}, came...) {
			if got := r.line(b, "d/keyed"); got.Fate != want[i] {
				t.Errorf("batch of entry %d of the keyed rule: got %+v, want %s", b.Seq, got, want[i])
			}
		}
		r.check()
	})
}
