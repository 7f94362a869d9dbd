package dispatch

import (
	"context"
	"fmt"
	"testing"
	"time"

	"millrace/ingest"
	"millrace/trigger"
	"millrace/trigger/triggertest"
)

// BenchmarkAnnounceToStart goes from the announcement of one batch in the same process to the intake that has its run, the stores being
// memory: what dispatch itself adds to a batch's latency.
func BenchmarkAnnounceToStart(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint("rules=", n), func(b *testing.B) {
			rules := []trigger.Rule{batchRule("all")}
			for i := range n - 1 {
				rules = append(rules, batchRule(fmt.Sprint("other", i), func(r *trigger.Rule) { r.Source = "app" }))
			}
			source := triggertest.NewRules(rules...)
			chain, ledger := triggertest.NewChain(), triggertest.NewLedger(source)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			d := New(chain, ledger, ledger, source, Options{})
			go d.Run(ctx) // ends with ctx
			<-d.Ready()
			done := 0
			for b.Loop() {
				done++
				s := triggertest.Stream(fmt.Sprint("s", done%4))
				d.Announce(ctx, chain.Put(chain.Cut(s, time.Now(), ingest.Lane(lane))[0], time.Now()))
				if err := ledger.Wait(ctx, func(s *triggertest.State) bool { return len(s.Runs) == done }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
