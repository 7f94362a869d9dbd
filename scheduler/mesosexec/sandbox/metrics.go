package sandbox

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	following prometheus.Gauge
	late      prometheus.Gauge
	bytes     prometheus.Counter
	requests  *prometheus.HistogramVec
	archived  *prometheus.CounterVec
	archive   prometheus.Histogram
	spools    prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		following: prometheus.NewGauge(prometheus.GaugeOpts{Name: "millrace_mesos_sandboxes", Help: "Attempts whose sandboxes are read."}),
		late: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_mesos_sandbox_late_seconds", Help: "How long the last look at a sandbox came after its time.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "millrace_mesos_sandbox_read_bytes_total", Help: "Bytes that were read from sandboxes."}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_mesos_sandbox_request_seconds", Help: "From a request for a sandbox's files to the agent's answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"type", "result"}),
		archived: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_mesos_logs_archived_total", Help: "Logs of attempts that have ended, by what became of them: whole, part, or refused by the object store.",
		}, []string{"result"}),
		archive: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_mesos_log_archive_seconds", Help: "How long it took to put a log into the object store.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
		spools: prometheus.NewGauge(prometheus.GaugeOpts{Name: "millrace_mesos_spooled_bytes", Help: "Bytes of archived logs that are still on this disk."}),
	}
	for _, result := range []string{"whole", "part", "refused"} {
		m.archived.WithLabelValues(result)
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.following, m.late, m.bytes, m.requests, m.archived, m.archive, m.spools} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
