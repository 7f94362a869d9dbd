package gateway

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"millrace/ingest"
	"millrace/ingest/clickstream"
)

// burst is how many seconds of its rate a source or tenant may use at once.
const burst = 10

// rates are the buckets of all sources and tenants at one setting of the limits. A source that is new has a full one. Safe for concurrent use.
type rates struct {
	perSource, perTenant int

	mu      sync.Mutex // guards what follows
	sources map[string]*rate.Limiter
	tenants map[string]*rate.Limiter
}

// newRates returns nil if there is no bound.
func newRates(perSource, perTenant int) *rates {
	if perSource == 0 && perTenant == 0 {
		return nil
	}
	return &rates{perSource: perSource, perTenant: perTenant, sources: map[string]*rate.Limiter{}, tenants: map[string]*rate.Limiter{}}
}

func orphanLimiter(l *Limits) *rate.Limiter {
	if l.OrphanRate < 0 {
		return rate.NewLimiter(0, 0)
	}
	return rate.NewLimiter(rate.Limit(l.OrphanRate), max(1000*l.OrphanRate, l.MaxEvent))
}

// limited is the error of a request that came too soon.
type limited struct {
	source string
	wait   time.Duration
}

func (e *limited) Error() string { return "too many events from source " + e.source }

// Is makes the error that of the table.
func (e *limited) Is(target error) bool { return target == errRate }

var errRate = errors.New("too many events")

// take counts recs, and the sources that brought them, or returns a [limited] error and counts nothing: a request is taken or refused as a
// whole. Records of strangers have their own bound.
func (r *rates) take(recs []ingest.Record, now time.Time) error {
	var taken []*rate.Reservation
	for from := 0; from < len(recs); {
		to := from + 1
		for to < len(recs) && recs[to].Lane == recs[from].Lane {
			to++
		}
		n, lane := to-from, recs[from].Lane
		from = to
		source := lane.Source()
		if source == clickstream.OrphanSource {
			continue
		}
		for _, l := range r.limiters(source, lane.Tenant()) {
			// More than a bucket holds would never fit: it empties the bucket.
			got := l.ReserveN(now, min(n, l.Burst()))
			taken = append(taken, got)
			if wait := got.DelayFrom(now); wait > 0 {
				for _, t := range taken {
					t.CancelAt(now)
				}
				return &limited{source: source, wait: wait}
			}
		}
	}
	return nil
}

// limiters returns the buckets that a source's events come out of.
func (r *rates) limiters(source, tenant string) []*rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*rate.Limiter
	for _, b := range []struct {
		perSecond int
		known     map[string]*rate.Limiter
		name      string
	}{{r.perSource, r.sources, source}, {r.perTenant, r.tenants, tenant}} {
		if b.perSecond == 0 {
			continue
		}
		l := b.known[b.name]
		if l == nil {
			l = rate.NewLimiter(rate.Limit(b.perSecond), burst*b.perSecond)
			b.known[b.name] = l
		}
		out = append(out, l)
	}
	return out
}
