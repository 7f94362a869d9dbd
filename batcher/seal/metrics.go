package seal

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/batcher"
)

// maxSources bounds the label source; sources beyond it share "other".
const maxSources = 200

// metrics are those of the stage batch. Labels of sources are bounded, as their names are configuration of tenants.
type metrics struct {
	log       string
	sealedN   *prometheus.CounterVec
	events    *prometheus.HistogramVec
	bytes     *prometheus.HistogramVec
	age       *prometheus.HistogramVec
	upload    prometheus.Histogram
	failures  *prometheus.CounterVec
	committal *prometheus.GaugeVec
	toBatch   *prometheus.HistogramVec
	dups      *prometheus.CounterVec
	voids     *prometheus.CounterVec
	open      *prometheus.GaugeVec
	held      *prometheus.GaugeVec
	index     *prometheus.GaugeVec
	window    *prometheus.GaugeVec
	stuck     *prometheus.GaugeVec
	lagEvents *prometheus.GaugeVec
	lagAge    *prometheus.GaugeVec

	mu      sync.Mutex // guards sources
	sources map[string]bool
}

func newMetrics(o Options) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "millrace_" + name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "millrace_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "millrace_" + name, Help: help, Buckets: buckets}, labels)
	}
	seconds := prometheus.ExponentialBuckets(0.005, 2.5, 12)
	m := &metrics{
		log:      o.LogName,
		sources:  make(map[string]bool),
		sealedN:  counter("batch_sealed_total", "Batches whose cut is in the chain, by reason of the cut.", "source", "reason"),
		events:   histogram("batch_events", "Rows of a batch.", prometheus.ExponentialBuckets(1, 4, 10), "source"),
		bytes:    histogram("batch_bytes", "Size of an object as stored.", prometheus.ExponentialBuckets(1<<10, 4, 10), "source", "encoding"),
		age:      histogram("batch_age_seconds", "Time from the receipt of a batch's first record to its cut.", seconds, "source"),
		failures: counter("batch_upload_failures_total", "Requests to log or store that were tried again, by operation.", "op"),
		committal: gauge("batch_commit_timestamp_seconds",
			"Time of the newest object of a source in the store.", "source"),
		toBatch: histogram("event_to_batch_seconds", "Time from the receipt of a batch's oldest record to its object.", seconds, "source"),
		dups:    counter("batch_duplicates_total", "Records that repeat an earlier one.", "source"),
		voids:   counter("batch_void_total", "Batches that were given up.", "source"),
		open:    gauge("batch_open", "Lanes with rows that are in no cut.", "log", "partition"),
		held:    gauge("batch_held_bytes", "Memory of rows that are open or on their way into objects.", "log", "partition"),
		index:   gauge("batch_dedupe_index_bytes", "Memory of the index of kept records.", "log", "partition"),
		window: gauge("batch_dedupe_window_seconds",
			"How far back repeated records are recognised.", "log", "partition"),
		stuck: gauge("batch_stuck", "1 while the batcher needs an operator's word.", "log", "partition"),
		lagEvents: gauge("log_lag_events",
			"Offsets of the log that are in no cut.", "log", "partition"),
		lagAge: gauge("log_lag_seconds", "Age of the oldest record that was read and is in no cut.", "log", "partition"),
		upload: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_batch_upload_duration_seconds", Help: "Time to encode a batch and to put sidecar and object.", Buckets: seconds,
		}),
	}
	if o.Metrics == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.sealedN, m.events, m.bytes, m.age, m.upload, m.failures, m.committal, m.toBatch, m.dups, m.voids, m.open, m.held, m.index, m.window,
		m.stuck, m.lagEvents, m.lagAge,
	} {
		errs = append(errs, o.Metrics.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register metrics of the batcher: %w", err)
	}
	return m, nil
}

// source bounds the values of the label.
func (m *metrics) source(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.sources[name] {
		if len(m.sources) >= maxSources {
			return "other"
		}
		m.sources[name] = true
	}
	return name
}

func (m *metrics) sealed(c *batcher.Cut, records int64) {
	source := m.source(c.Lane.Source())
	if c.Count > 0 {
		m.sealedN.WithLabelValues(source, string(c.Reason)).Inc()
		m.events.WithLabelValues(source).Observe(float64(c.Count))
	}
	if records > c.Count {
		m.dups.WithLabelValues(source).Add(float64(records - c.Count))
	}
}

func (m *metrics) committed(c *batcher.Cut, f *batcher.Facts, took time.Duration) {
	source := m.source(c.Lane.Source())
	m.upload.Observe(took.Seconds())
	m.bytes.WithLabelValues(source, c.Codec).Observe(float64(f.Bytes))
	m.age.WithLabelValues(source).Observe(c.CreatedAt.Sub(f.ReceivedMin).Seconds())
	m.committal.WithLabelValues(source).Set(float64(f.CommittedAt.UnixMilli()) / 1e3)
	m.toBatch.WithLabelValues(source).Observe(time.Since(f.ReceivedMin).Seconds())
}

func (m *metrics) voided(c *batcher.Cut) { m.voids.WithLabelValues(m.source(c.Lane.Source())).Inc() }

func (m *metrics) retried(op string) { m.failures.WithLabelValues(op).Inc() }

// show sets the gauges of a partition.
func (m *metrics) show(s *Status) {
	part := strconv.Itoa(s.Partition)
	set := func(g *prometheus.GaugeVec, v float64) { g.WithLabelValues(m.log, part).Set(v) }
	set(m.open, float64(s.Lanes))
	set(m.held, float64(s.Held))
	set(m.index, float64(s.Index))
	set(m.window, s.Window.Seconds())
	set(m.lagEvents, float64(s.Lag))
	set(m.lagAge, s.Age.Seconds())
	stuck := 0.0
	if s.Stuck != "" {
		stuck = 1
	}
	set(m.stuck, stuck)
}
