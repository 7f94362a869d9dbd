package seal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/batcher/memstore"
	"millrace/ingest"
	"millrace/ingest/memlog"
)

// payload is a Segment track of about 540 bytes, as the gateway writes it.
func payload(rng *rand.Rand, n int) []byte {
	return fmt.Appendf(nil, `{"anonymousId":"%016x","context":{"ip":"203.0.113.%d","library":{"name":"analytics.js","version":"4.1.0"},`+
		`"locale":"de-DE","page":{"path":"/products/%d","referrer":"https://example.com/","title":"Product %d","url":"https://shop.example/products/%d"},`+
		`"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"},"event":"Product Viewed","messageId":"ajs-%016x%08x",`+
		`"properties":{"price":%d.%02d,"sku":"sku-%d"},"type":"track"}`,
		rng.Uint64(), n%250, n%900, n%900, n%900, rng.Uint64(), n, n%300, n%100, n%5000)
}

// BenchmarkWorker cuts a log of a million events, that is in memory, into objects in memory, and reports the rate and the CPU of everything.
func BenchmarkWorker(b *testing.B) {
	for _, lanes := range []int{1, 200} {
		b.Run(fmt.Sprintf("lanes=%d", lanes), func(b *testing.B) { benchWorker(b, lanes, 500_000) })
	}
}

func benchWorker(b *testing.B, lanes, events int) {
	rng := rand.New(rand.NewPCG(1, 2))
	log := memlog.New(memlog.Options{})
	for n := 0; n < events; {
		var recs []ingest.Record
		for range 1000 {
			body := payload(rng, n)
			recs = append(recs, ingest.Record{
				Lane: ingest.EventLane("default", "web", ingest.KeyValue{Key: "c", Value: fmt.Sprint(n % lanes)}), Type: "track",
				Dedupe: ingest.DedupeID("web", string(body[:64])+fmt.Sprint(n)), ReceivedAt: time.Now().UTC(), Payload: body,
			})
			n++
		}
		if _, err := log.Put(recs); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		store := memstore.New(memstore.Options{})
		left, done := int64(events), make(chan struct{})
		w, err := New(store, policyOf(batcher.Policy{MaxAge: time.Second}), counter(func(n int64) {
			if left -= n; left == 0 {
				close(done)
			}
		}), Options{Uploads: 1})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		began, cpu := time.Now(), cpuTime()
		go func() { ended <- w.Work(ctx, untrimmed{log.Partition(0)}) }()
		<-done
		b.ReportMetric(float64(events)/time.Since(began).Seconds(), "events/s")
		b.ReportMetric((cpuTime()-cpu).Seconds()*1e6/float64(events), "CPU-s/million")
		cancel()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
	}
}

// untrimmed keeps its records and its chain's hint to itself, so that a log can be cut again.
type untrimmed struct{ *memlog.Partition }

func (untrimmed) Trim(context.Context, ingest.Stream, int64) error { return nil }
func (untrimmed) Hint(context.Context, ingest.Stream) (ingest.ChainHint, error) {
	return ingest.ChainHint{}, nil
}
func (untrimmed) SaveHint(context.Context, ingest.Stream, ingest.ChainHint) error { return nil }

type counter func(n int64)

func (c counter) Announce(_ context.Context, b batcher.Batch) { c(b.Events) }

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
