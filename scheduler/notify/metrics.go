package notify

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/scheduler"
)

// metrics are those of notifiers; the label is one of the configuration, or one that DAG files name.
type metrics struct {
	sent, failed, dead    *prometheus.CounterVec
	pending, oldest, open *prometheus.GaugeVec
	duration              *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "millrace_notices_" + name, Help: help}, []string{"notifier"})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: "millrace_" + name, Help: help}, []string{"notifier"})
	}
	return &metrics{
		sent:    counter("sent_total", "Notices that were sent."),
		failed:  counter("failed_total", "Tries to send a notice that failed."),
		dead:    counter("dead_total", "Notices that were given up."),
		pending: gauge("notices_pending", "Notices that are to be sent."),
		oldest:  gauge("notices_oldest_seconds", "Age of the oldest of them."),
		open:    gauge("notifier_open", "1 while a notifier's circuit is open, since it failed several times in a row."),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_notices_duration_seconds", Help: "One try.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"notifier"}),
	}
}

func (m *metrics) observe(notifier string, took time.Duration, err error) {
	m.duration.WithLabelValues(notifier).Observe(took.Seconds())
	if err != nil {
		m.failed.WithLabelValues(notifier).Inc()
		return
	}
	m.sent.WithLabelValues(notifier).Inc()
}

func (m *metrics) counted(counts []scheduler.NoticeCount, now time.Time) {
	m.pending.Reset()
	m.oldest.Reset()
	for _, c := range counts {
		m.pending.WithLabelValues(c.Notifier).Set(float64(c.Pending))
		age := 0.0
		if c.Pending > 0 {
			age = max(0, now.Sub(c.Oldest).Seconds())
		}
		m.oldest.WithLabelValues(c.Notifier).Set(age)
	}
}
