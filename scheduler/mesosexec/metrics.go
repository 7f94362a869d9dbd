package mesosexec

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	subscribed prometheus.Gauge
	streams    prometheus.Counter
	broken     *prometheus.CounterVec
	events     *prometheus.CounterVec
	calls      *prometheus.HistogramVec
}

// newMetrics makes the client's metrics. Labels have bounded values: event types that we do not know are one.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		subscribed: prometheus.NewGauge(prometheus.GaugeOpts{Name: "millrace_mesos_subscribed", Help: "1 while the framework is subscribed at a master."}),
		streams:    prometheus.NewCounter(prometheus.CounterOpts{Name: "millrace_mesos_streams_total", Help: "Subscriptions that a master took."}),
		broken: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_mesos_events_broken_total", Help: "Events that could not be read, and were left out; by what was wrong.",
		}, []string{"fault"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "millrace_mesos_events_total", Help: "Events of the master."}, []string{"type"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_mesos_call_seconds", Help: "From a call to the master's answer.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"type", "result"}),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.subscribed, m.streams, m.broken, m.events, m.calls} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
