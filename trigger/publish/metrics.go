package publish

import "github.com/prometheus/client_golang/prometheus"

// Values of the label outcome.
const (
	outcomePublished = "published"
	outcomeFailed    = "failed"
	outcomeDropped   = "dropped"
)

type metrics struct {
	published *prometheus.CounterVec
	duration  prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, queued func() float64) *metrics {
	m := &metrics{
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_trigger_published_total",
			Help: "Announcements of batches, by what became of them: published, failed (the bus did not take it), dropped (queue full).",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "millrace_trigger_publish_duration_seconds",
			Help:    "From the first try of an announcement until the bus has stored it.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16),
		}),
	}
	for _, outcome := range []string{outcomePublished, outcomeFailed, outcomeDropped} {
		m.published.WithLabelValues(outcome)
	}
	if reg != nil {
		reg.MustRegister(m.published, m.duration, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "millrace_trigger_publish_queue",
			Help: "Announcements that wait to be published.",
		}, queued))
	}
	return m
}
