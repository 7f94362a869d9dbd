package wal

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of one log. Buckets end at 2.5 s: a sync that takes longer is an outage.
type metrics struct {
	append, fsync prometheus.Histogram
	errors        *prometheus.CounterVec
	free          prometheus.Gauge

	registerer prometheus.Registerer
	all        []prometheus.Collector
}

var durations = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}

func newMetrics(reg prometheus.Registerer, l *Log) (*metrics, error) {
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: durations})
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m := &metrics{
		append: histogram("millrace_wal_append_duration_seconds", "From the call of Append to durable, successful calls only."),
		fsync:  histogram("millrace_wal_fsync_duration_seconds", "One fdatasync of the open segment."),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_wal_errors_total", Help: "Errors of the disk, by operation.",
		}, []string{"op"}),
		free: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_buffer_disk_free_bytes", Help: "Free space on the log's disk, looked at once a second while records come.",
		}),
		registerer: reg,
	}
	m.all = []prometheus.Collector{
		m.append, m.fsync, m.errors, m.free,
		gauge("millrace_wal_bytes", "Bytes that the log holds.", func() float64 {
			held, _, _ := l.Pressure()
			return float64(held)
		}),
		gauge("millrace_wal_segments", "Segments that the log holds.", func() float64 {
			return float64(len(l.manifest().Segments))
		}),
		gauge("millrace_wal_oldest_unflushed_age_seconds", "Age of the oldest call of Append that no sync has begun for.", l.oldestUnflushed),
	}
	if reg == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := reg.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister()
			return nil, errors.Join(errors.New("register metrics of the log"), err)
		}
	}
	return m, nil
}

func (m *metrics) failed(op string) { m.errors.WithLabelValues(op).Inc() }

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}

func (l *Log) oldestUnflushed() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending.count == 0 {
		return 0
	}
	return time.Since(l.pending.since).Seconds()
}
