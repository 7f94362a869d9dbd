package dispatch

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/trigger"
)

// Values of the label reason of rejected hints.
const (
	rejectedMalformed = "malformed" // not an announcement
	rejectedUnknown   = "unknown"   // the chain has no such entry or batch
	rejectedFull      = "full"      // too many wait already
)

// Values of the label outcome of fired rules.
const (
	outcomePublished  = "published"  // a run was created
	outcomeSuppressed = "suppressed" // a batch that the rule wants is held
	outcomeFailed     = "failed"     // a batch was filtered because an expression failed
	outcomeExpired    = "expired"    // what a held batch was to be joined with did not come in time
)

type metrics struct {
	matched, fired, dispositions *prometheus.CounterVec
	pending, lastFired           *prometheus.GaugeVec
	latency                      *prometheus.HistogramVec
	redelivered                  prometheus.Counter
	rejected                     *prometheus.CounterVec
	ackPending, lag              prometheus.Gauge

	known map[string]bool // rules that have series
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "millrace_trigger_" + name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "millrace_trigger_" + name, Help: help}, labels)
	}
	m := &metrics{
		matched:      counter("matched_total", "Batches that a rule wants.", "rule"),
		fired:        counter("fired_total", "Decisions of a rule: published (a run), suppressed (held), failed (an expression), expired (a join).", "rule", "outcome"),
		dispositions: counter("dispositions_total", "Dispositions of new batches.", "disposition"),
		pending:      gauge("pending", "Batches that are held, or in an open group.", "rule"),
		lastFired:    gauge("last_fired_timestamp_seconds", "When the rule last created a run.", "rule"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_trigger_latency_seconds", Help: "From the commit of a firing's newest batch until its run is created.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 20),
		}, []string{"rule"}),
		redelivered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_trigger_redelivered_total", Help: "Deliveries that had come before.",
		}),
		rejected: counter("rejected_total", "Hints that lead nowhere: malformed, unknown (not in the chain), full (too many wait).", "reason"),
		ackPending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_trigger_ack_pending", Help: "Hints in the step that is under way.",
		}),
		lag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_trigger_lag_seconds", Help: "Age of the oldest batch that a chain has decided and that has no dispositions yet.",
		}),
		known: map[string]bool{},
	}
	if reg != nil {
		reg.MustRegister(m.matched, m.fired, m.dispositions, m.pending, m.lastFired, m.latency, m.redelivered, m.rejected, m.ackPending, m.lag)
	}
	for _, reason := range []string{rejectedMalformed, rejectedUnknown, rejectedFull} {
		m.rejected.WithLabelValues(reason)
	}
	return m
}

// rules forgets the series of rules that are gone.
func (m *metrics) rules(set trigger.RuleSet) {
	now := make(map[string]bool, len(set.Rules))
	for i := range set.Rules {
		now[set.Rules[i].Name()] = true
	}
	for name := range m.known {
		if !now[name] {
			label := prometheus.Labels{"rule": name}
			m.matched.Delete(label)
			m.pending.Delete(label)
			m.lastFired.Delete(label)
			m.latency.Delete(label)
			m.fired.DeletePartialMatch(label)
		}
	}
	m.known = now
}

// committed counts what one intake changed.
func (m *metrics) committed(in *trigger.Intake, b *book, now time.Time) {
	touched := map[string]bool{}
	for i := range in.Arrivals {
		for _, d := range in.Arrivals[i].Dispositions {
			m.dispositions.WithLabelValues(string(d.Fate)).Inc()
			switch d.Fate {
			case trigger.FateHeld:
				m.fired.WithLabelValues(d.Rule, outcomeSuppressed).Inc()
			case trigger.FateRun, trigger.FateCoalesced:
			case trigger.FateFiltered:
				if failedExpression(d.Reason) {
					m.fired.WithLabelValues(d.Rule, outcomeFailed).Inc()
				}
				continue
			default:
				continue
			}
			m.matched.WithLabelValues(d.Rule).Inc()
			touched[d.Rule] = true
		}
	}
	for _, u := range in.Updates {
		touched[u.Rule] = true
		if u.Fate == trigger.FateExpired && m.known[u.Rule] {
			m.fired.WithLabelValues(u.Rule, outcomeExpired).Inc()
		}
	}
	for i := range in.Firings {
		f := &in.Firings[i]
		name := trigger.Rule{DAG: f.DAG, ID: f.Rule}.Name()
		m.fired.WithLabelValues(name, outcomePublished).Inc()
		m.lastFired.WithLabelValues(name).Set(float64(now.UnixMilli()) / 1e3)
		if f.Kind == trigger.KindBatch {
			m.latency.WithLabelValues(name).Observe(max(0, now.Sub(newest(f)).Seconds()))
		}
	}
	b.count(touched, func(rule string, n int) {
		if m.known[rule] {
			m.pending.WithLabelValues(rule).Set(float64(n))
		}
	})
}

func newest(f *trigger.Firing) time.Time {
	var at time.Time
	for i := range f.Batches {
		if t := f.Batches[i].CommittedAt; t.After(at) {
			at = t
		}
	}
	return at
}

// count reports how many batches the given rules keep waiting.
func (b *book) count(names map[string]bool, report func(rule string, n int)) {
	n := make(map[string]int, len(names))
	for name := range names {
		n[name] = len(b.held[name]) + len(b.ordered[name])
	}
	for key, set := range b.joins {
		if names[key.rule] {
			n[key.rule] += len(set.list)
		}
	}
	for key, g := range b.groups {
		if names[key.rule] {
			n[key.rule] += len(g.Batches)
		}
	}
	for name, n := range n {
		report(name, n)
	}
}
