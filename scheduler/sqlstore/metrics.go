package sqlstore

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	duration *prometheus.HistogramVec
	busy     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_store_query_duration_seconds", Help: "Time of a call of the scheduler's store, by call.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}, []string{"query"}),
		busy: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_store_busy_total", Help: "Calls that found the database locked by another process for longer than they wait.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.duration, m.busy)
	}
	return m
}

// observe is deferred with the call's start: defer m.observe("apply", time.Now()).
func (m *metrics) observe(query string, start time.Time) {
	m.duration.WithLabelValues(query).Observe(time.Since(start).Seconds())
}
