package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/ingest/clickstream"
	"millrace/ingest/webhook"
)

// maxSources bounds the label source; later ones share "other".
const maxSources = 200

// codes are the statuses that are counted by themselves; all else counts as 500.
var codes = [...]int{http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusTooManyRequests,
	http.StatusInternalServerError, http.StatusServiceUnavailable}

var signatureFaults = [...]struct {
	err    error
	reason string
}{{webhook.ErrUnsigned, "unsigned"}, {webhook.ErrMismatch, "mismatch"}, {webhook.ErrStale, "stale"}}

// metrics are the gateway's. Counters of a source are looked up once, when the source is made known, never in a request.
type metrics struct {
	requests   *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	bytes      *prometheus.HistogramVec
	events     *prometheus.CounterVec
	rejected   *prometheus.CounterVec
	signatures *prometheus.CounterVec
	limited    *prometheus.CounterVec
	refusals   map[string]prometheus.Counter // by code of the error table; never changes
	inflight   atomic.Int64
	unknown    *sourceCounters
	register   func(...prometheus.Collector)

	mu    sync.Mutex // guards known
	known map[string]*sourceCounters
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "millrace_ingest_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "millrace_ingest_" + name, Help: help, Buckets: buckets,
			NativeHistogramBucketFactor: 1.2, NativeHistogramMaxBucketNumber: 80, NativeHistogramMinResetDuration: time.Hour}, []string{"source"})
	}
	m := &metrics{
		known:      map[string]*sourceCounters{},
		requests:   counter("requests_total", "Requests by source, protocol and status.", "source", "protocol", "code"),
		duration:   histogram("request_duration_seconds", "Time from the head of a request to its answer.", prometheus.ExponentialBuckets(0.0005, 2, 15)),
		bytes:      histogram("body_bytes", "Bytes of bodies, decompressed.", prometheus.ExponentialBuckets(256, 4, 8)),
		events:     counter("events_total", "Events that became durable.", "source", "type"),
		rejected:   counter("events_rejected_total", "Events that were set aside.", "source", "reason"),
		signatures: counter("signature_failures_total", "Webhooks refused for their signature.", "source", "reason"),
		limited:    counter("rate_limited_total", "Requests refused because their source or its tenant brought too many events.", "source"),
		refusals:   map[string]prometheus.Counter{},
	}
	refusals := counter("refusals_total", "Requests and connections refused, by code of their answer.", "reason")
	for _, reason := range []string{internal.code, "slow_headers"} {
		m.refusals[reason] = refusals.WithLabelValues(reason)
	}
	for _, row := range faults {
		m.refusals[row.code] = refusals.WithLabelValues(row.code)
	}
	m.register = func(cs ...prometheus.Collector) {
		if reg != nil {
			reg.MustRegister(cs...)
		}
	}
	m.register(m.requests, m.duration, m.bytes, m.events, m.rejected, m.signatures, m.limited, refusals)
	m.unknown = m.make(clickstream.OrphanSource, "segment")
	return m
}

// refused counts a request, or a connection, that was refused for a reason of the error table.
func (m *metrics) refused(code string) { m.refusals[code].Inc() }

// watch exports what the server knows by itself.
func (m *metrics) watch(s *Server) {
	m.register(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "millrace_ingest_inflight_requests", Help: "Requests being served."},
			func() float64 { return float64(m.inflight.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "millrace_ingest_inflight_bytes", Help: "Bytes of bodies being served."},
			func() float64 { return float64(s.held.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "millrace_ingest_connections", Help: "Open connections."},
			func() float64 { return float64(s.open.count()) }))
}

// source returns the counters of a source, the same ones each time.
func (m *metrics) source(name, protocol string) *sourceCounters {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) >= maxSources {
		name = "other"
	}
	id := name + " " + protocol
	c := m.known[id]
	if c == nil {
		c = m.make(name, protocol)
		m.known[id] = c
	}
	return c
}

func (m *metrics) make(name, protocol string) *sourceCounters {
	c := &sourceCounters{
		duration: m.duration.WithLabelValues(name), bytes: m.bytes.WithLabelValues(name), limited: m.limited.WithLabelValues(name),
	}
	for i, code := range codes {
		c.requests[i] = m.requests.WithLabelValues(name, protocol, strconv.Itoa(code))
	}
	if protocol == "bulk" {
		c.events[0] = m.events.WithLabelValues(name, bulkType)
		for _, r := range []clickstream.Reason{clickstream.BadJSON, clickstream.TooDeep, clickstream.NotObject, clickstream.TooLarge} {
			c.rejected[r] = m.rejected.WithLabelValues(name, r.String())
		}
		return c
	}
	if protocol == "webhook" {
		c.events[0] = m.events.WithLabelValues(name, webhook.Type)
		for i, f := range signatureFaults {
			c.signatures[i] = m.signatures.WithLabelValues(name, f.reason)
		}
		return c
	}
	for t := clickstream.Identify; t < clickstream.NumTypes; t++ {
		c.events[t] = m.events.WithLabelValues(name, t.String())
	}
	for r := clickstream.BadJSON; r < clickstream.NumReasons; r++ {
		c.rejected[r] = m.rejected.WithLabelValues(name, r.String())
	}
	return c
}

// sourceCounters are the metrics of one source. All methods are safe for concurrent use.
type sourceCounters struct {
	requests   [len(codes)]prometheus.Counter
	duration   prometheus.Observer
	bytes      prometheus.Observer
	limited    prometheus.Counter
	events     [clickstream.NumTypes]prometheus.Counter // of webhooks and bulk only [0]
	rejected   [clickstream.NumReasons]prometheus.Counter
	signatures [len(signatureFaults)]prometheus.Counter
}

func (c *sourceCounters) request(status int, took time.Duration, bytes int) {
	i := 0
	for i < len(codes) && codes[i] != status {
		i++
	}
	if i == len(codes) {
		i = len(codes) - 2
	}
	c.requests[i].Inc()
	c.duration.Observe(took.Seconds())
	c.bytes.Observe(float64(bytes))
}

// tally counts what a request brought to this source.
func (c *sourceCounters) tally(t *clickstream.Tally) {
	for i, n := range t.Accepted {
		if n > 0 {
			c.events[i].Add(float64(n))
		}
	}
	for i, n := range t.Rejected {
		if n > 0 {
			c.rejected[i].Add(float64(n))
		}
	}
}

func (c *sourceCounters) hook() { c.events[0].Inc() }

func (c *sourceCounters) badSignature(err error) {
	for i, f := range signatureFaults {
		if errors.Is(err, f.err) {
			c.signatures[i].Inc()
		}
	}
}
