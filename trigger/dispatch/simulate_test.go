package dispatch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/trigger"
)

// TestSimulateWaits: what rules would have done counts joins, their expiry and orders as well.
func TestSimulateWaits(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var past []trigger.Past
	for i, what := range []string{"1 clicks a", "3 clicks a", "2 clicks b", "4 orders a", "5 orders b"} {
		var seq int64
		var source, key string
		if _, err := fmt.Sscan(what, &seq, &source, &key); err != nil {
			t.Fatal(err)
		}
		at := from.Add(time.Duration(i) * 20 * time.Minute)
		past = append(past, trigger.Past{At: at, Batch: batcher.Batch{
			ID: "b" + what[:1], Tenant: "default", Source: source, Lane: sourceLane(source, key), Stream: logA, Seq: seq, URI: "x", CreatedAt: at,
		}})
	}
	rules := append(pair(time.Hour), batchRule("fifo", ordered(trigger.OrderFIFO), func(r *trigger.Rule) { r.Source = "clicks" }))
	rules[2].Expire = 30 * time.Minute
	c, err := Simulate(rules, past, from, from.Add(4*time.Hour), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range c.Firings {
		var ids []string
		for _, b := range f.Batches {
			ids = append(ids, b.ID)
		}
		got = append(got, fmt.Sprintf("%s %s %v", f.Rule, strings.Join(ids, "+"), f.At.Sub(from)))
	}
	want := []string{"fifo b1 0s", "fifo b2 40m0s", "fifo b3 40m0s"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("firings (-want +got):\n%s", diff)
	}
	for id, want := range map[string]string{"b1": "missing: orders", "b3": "missing: orders", "b4": "missing: clicks"} {
		if got := c.Dispositions["d/both"][id]; got.Fate != trigger.FateExpired || got.Reason != want {
			t.Errorf("%s: got %+v, want expired(%s)", id, got, want)
		}
	}
}
