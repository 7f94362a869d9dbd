package dispatch

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/batcher"
	"millrace/trigger"
	"millrace/trigger/triggertest"
)

// failing makes the n'th and later calls of one operation fail, as often as times says.
func failing(op string, err error, times int) func(string) error {
	var seen atomic.Int32
	return func(got string) error {
		if got == op && int(seen.Add(1)) <= times {
			return err
		}
		return nil
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		set  func(r *rig)
	}{
		{"start, nothing committed", func(r *rig) { r.ledger.Fault = failing("start", trigger.ErrUnavailable, 5) }},
		{"start, committed but not told", func(r *rig) { r.ledger.Fault = failing("started", trigger.ErrUnavailable, 5) }},
		{"ledger does not load", func(r *rig) { r.ledger.Fault = failing("remember", trigger.ErrUnavailable, 5) }},
		{"chains can not be listed", func(r *rig) { r.chain.Fault = failing("streams", batcher.ErrUnavailable, 5) }},
		{"entries can not be read", func(r *rig) { r.chain.Fault = failing("entry", batcher.ErrUnavailable, 9) }},
		{"objects can not be asked for", func(r *rig) { r.chain.Fault = failing("facts", batcher.ErrUnavailable, 9) }},
		{"an object is late to be seen", func(r *rig) { r.chain.Fault = failing("facts", batcher.ErrNotFound, 2) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, batchRule("all"), batchRule("two", coalesced(trigger.Coalesce{MaxBatches: 2})))
				test.set(r)
				r.start(Options{})
				r.commit(true)
				time.Sleep(50 * time.Millisecond)
				r.commit(true)
				r.chain.Close(logA, time.Now())
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				got := r.runs()
				slices.Sort(got)
				if want := []string{"all:1", "all:1", "two:2"}; !slices.Equal(got, want) {
					t.Errorf("runs: got %v, want %v", got, want)
				}
				r.check()
			})
		})
	}
}

// TestStaleRules: the rules change between the decision and the commit.
func TestStaleRules(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all"))
		edits := 0
		r.ledger.Fault = func(op string) error {
			if op == "start" && edits < 3 {
				edits++
				r.rules.Set(batchRule("all"), batchRule(fmt.Sprint("new", edits)))
			}
			return nil
		}
		r.start(Options{})
		b := r.commit(true)
		synctest.Wait()
		if edits != 3 {
			t.Fatalf("%d edits, want 3", edits)
		}
		r.ledger.View(func(s *triggertest.State) {
			if n := len(s.Lines[b.ID]); n != 2 || s.Lines[b.ID]["d/new3"].Fate != trigger.FateRun {
				t.Errorf("dispositions by the last rules: got %v", s.Lines[b.ID])
			}
		})
		r.check()
	})
}

// TestBusAway: no bus, then one that ends; batches are found by looking.
func TestBusAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, batchRule("all"))
		if err := r.bus.Close(); err != nil {
			t.Fatal(err)
		}
		r.start(Options{})
		r.commit(false)
		r.chain.Close(logA, time.Now())
		time.Sleep(61 * time.Second)
		synctest.Wait()
		r.want("all:1")
	})
}

func TestMetrics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		r := newRig(t, batchRule("all"), batchRule("held", paused), batchRule("group", coalesced(trigger.Coalesce{MaxBatches: 3})),
			batchRule("broken", func(r *trigger.Rule) { r.If = "batch.types.x > 0" }))
		r.start(Options{Registerer: reg})
		for range 2 {
			b := r.chain.Cut(logA, time.Now(), lane)[0]
			b = r.chain.Put(b, time.Now())
			time.Sleep(30 * time.Millisecond)
			r.announce(b)
		}
		forged := r.chain.Cut(logA, time.Now(), lane)[0]
		forged.ID = "forged"
		r.announce(forged)
		got := gather(t, reg)
		for name, want := range map[string]float64{
			"matched_total{d/all}":                2,
			"fired_total{published,d/all}":        2,
			"fired_total{suppressed,d/held}":      2,
			"fired_total{failed,d/broken}":        2,
			"pending{d/held}":                     2,
			"pending{d/group}":                    2,
			"dispositions_total{run}":             2,
			"dispositions_total{filtered}":        2,
			"rejected_total{unknown}":             1,
			"rejected_total{malformed}":           0,
			"latency_seconds{d/all}":              0.06, // the sum of two
			"last_fired_timestamp_seconds{d/all}": float64(time.Now().UnixMilli()) / 1e3,
		} {
			if v, ok := got["millrace_trigger_"+name]; !ok || v < want-1e-6 || v > want+1e-6 {
				t.Errorf("%s: got %v (%v), want %v", name, v, ok, want)
			}
		}
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if v := gather(t, reg)["millrace_trigger_lag_seconds"]; v < 5 || v > 8 { // it may be one sleep old
			t.Errorf("lag: got %v, want about 8 s: the third batch has no object yet", v)
		}
		r.rules.Set(batchRule("all"))
		synctest.Wait()
		for name := range gather(t, reg) {
			if name == "millrace_trigger_pending{d/held}" || name == "millrace_trigger_fired_total{failed,d/broken}" {
				t.Errorf("%s is still there, its rule is gone", name)
			}
		}
	})
}

// gather returns values by "<name>{<label values>}"; of a histogram the sum.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name, sep := f.GetName(), "{"
			for _, l := range m.GetLabel() {
				name, sep = name+sep+l.GetValue(), ","
			}
			if sep == "," {
				name += "}"
			}
			out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetHistogram().GetSampleSum()
		}
	}
	return out
}
