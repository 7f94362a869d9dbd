package dispatch

import (
	"errors"
	"testing"
	"time"

	"millrace/ingest"
	"millrace/trigger"
	"millrace/trigger/triggertest"
)

// TestSkip passes over what was cut before a time: each such batch is in the ledger, dropped for the rule that wants it and filtered for the one
// that does not; the cursor stands before the first later cut. Broken off at every call, it ends the same.
func TestSkip(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	wants := trigger.Rule{DAG: "d", ID: "wants", Version: "v", Kind: trigger.KindBatch, Source: "web"}
	other := trigger.Rule{DAG: "d", ID: "other", Version: "v", Kind: trigger.KindBatch, Source: "web", Types: []string{"no-such-type"}}
	lane := ingest.EventLane("default", "web")
	for calls := 0; ; calls++ {
		s, chain := triggertest.Stream("log"), triggertest.NewChain()
		old := chain.Cut(s, at, lane, "", lane)
		old = append(old, chain.Cut(s, at.Add(time.Minute), lane)...)
		late := chain.Cut(s, at.Add(time.Hour), lane)
		for _, b := range append(old, late...) {
			chain.Put(b, b.CreatedAt)
		}
		chain.Close(s, at.Add(2*time.Hour))
		left, broke := calls, false
		chain.Fault = func(string) error {
			if left--; left < 0 && !broke {
				broke = true
				return trigger.ErrUnavailable
			}
			return nil
		}
		rules := triggertest.NewRules(wants, other)
		ledger := triggertest.NewLedger(rules)
		d := New(chain, ledger, ledger, rules, Options{})
		_, err := d.Skip(t.Context(), at.Add(30*time.Minute))
		if err != nil {
			_, err = d.Skip(t.Context(), at.Add(30*time.Minute))
		}
		if err != nil {
			t.Fatalf("broken off at call %d, then: %v", calls, err)
		}
		m, err := ledger.Remember(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Cursors) != 1 || m.Cursors[0] != (trigger.Cursor{Stream: s, Seq: 2}) {
			t.Errorf("broken off at call %d: got cursors %v, want the first two entries passed", calls, m.Cursors)
		}
		for _, b := range old {
			for _, dis := range dispositions(ledger, b.ID) {
				want := map[string]trigger.Fate{wants.Name(): trigger.FateDropped, other.Name(): trigger.FateFiltered}[dis.Rule]
				if dis.Fate != want || want == trigger.FateDropped && dis.Reason != reasonRestored {
					t.Errorf("batch %s: got %+v, want %s", b.ID, dis, want)
				}
			}
			if n := len(dispositions(ledger, b.ID)); n != 2 {
				t.Errorf("broken off at call %d: batch %s has %d dispositions, want 2", calls, b.ID, n)
			}
		}
		if n := len(dispositions(ledger, late[0].ID)); n != 0 {
			t.Errorf("the late batch has %d dispositions, want none yet", n)
		}
		if !broke {
			break
		}
	}
}

// TestSkipUnfinished: a batch that was cut before the time and has no object yet can not be passed over, or it would run later.
func TestSkipUnfinished(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	s, chain := triggertest.Stream("log"), triggertest.NewChain()
	b := chain.Cut(s, at, ingest.EventLane("default", "web"))
	rules := triggertest.NewRules()
	ledger := triggertest.NewLedger(rules)
	d := New(chain, ledger, ledger, rules, Options{})
	if _, err := d.Skip(t.Context(), at.Add(time.Minute)); !errors.Is(err, trigger.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, trigger.ErrUnavailable)
	}
	chain.Put(b[0], at)
	if sum, err := d.Skip(t.Context(), at.Add(time.Minute)); err != nil || sum.Batches != 1 {
		t.Errorf("got %+v, %v, want the batch passed over", sum, err)
	}
}

// dispositions returns those of a batch.
func dispositions(l *triggertest.Ledger, batch string) (out []trigger.Disposition) {
	l.View(func(s *triggertest.State) {
		for _, d := range s.Lines[batch] {
			out = append(out, d)
		}
	})
	return out
}
