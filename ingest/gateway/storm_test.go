package gateway

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestRetryStorm is row 23 of docs/faults.md: 60 senders bring 600 events at once to a source that may bring ten a second, and come again when
// Retry-After says, as SDKs do. All is delivered, once, hardly later than the rate permits, and each refusal told an SDK what it can act on.
func TestRetryStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const senders, each, perSecond = 60, 10, 10
		log, reg := &fakeLog{}, prometheus.NewRegistry()
		s := newServer(t, log, Options{Limits: Limits{SourceRate: perSecond}, Metrics: reg})
		begun := time.Now()
		var refused atomic.Int64
		var wg sync.WaitGroup
		for i := range senders {
			wg.Go(func() {
				for k := range each {
					body := fmt.Sprintf(`{"userId":"u","event":"e","messageId":"%d-%d"}`, i, k)
					for try := 0; ; try++ {
						w := send(s, http.MethodPost, "/v1/track", body, append(devKey, "X-Retry-Count", strconv.Itoa(try))...)
						if w.Code == http.StatusOK {
							break
						}
						wait, err := strconv.Atoi(w.Header().Get("Retry-After"))
						if w.Code != http.StatusTooManyRequests || err != nil || wait < 1 || wait > maxRetryAfter {
							t.Errorf("got %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
							return
						}
						refused.Add(1)
						time.Sleep(time.Duration(wait) * time.Second)
					}
				}
			})
		}
		wg.Wait()
		seen := map[[16]byte]bool{}
		for _, r := range log.stored() {
			seen[r.Dedupe] = true
		}
		if len(seen) != senders*each || len(log.stored()) != senders*each {
			t.Errorf("got %d events in %d records, want %d of each", len(seen), len(log.stored()), senders*each)
		}
		fair := time.Duration(senders*each-burst*perSecond) * time.Second / perSecond
		if took := time.Since(begun); took < fair-time.Second || took > fair+5*time.Second {
			t.Errorf("took %v, want about %v", took, fair)
		}
		if n := gather(t, reg)["rate_limited_total web"]; n != float64(refused.Load()) || n == 0 {
			t.Errorf("got %v refusals counted, want %d", n, refused.Load())
		}
	})
}
