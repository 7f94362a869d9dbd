//go:build linux

package localexec

import (
	"github.com/prometheus/client_golang/prometheus"

	"millrace/scheduler"
)

type metrics struct {
	launch  prometheus.Histogram
	reports *prometheus.CounterVec
	starts  prometheus.Counter
}

var slotsDesc = prometheus.NewDesc("millrace_executor_runner_slots", "Slots of an executor as its runner counts them; right after a restart, too.", []string{"executor", "state"}, nil)

func newMetrics(e *Executor, name string, reg prometheus.Registerer) (*metrics, error) {
	labels := prometheus.Labels{"executor": name}
	m := &metrics{
		launch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_executor_launch_seconds", ConstLabels: labels,
			Help:    "From handing a batch of attempts to the runner to their claims being durable.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 14),
		}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_executor_reports_total", ConstLabels: labels, Help: "Reports that the engine has committed, repeated ones too.",
		}, []string{"outcome"}),
		starts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_executor_runner_starts_total", ConstLabels: labels, Help: "Runner processes started by this process.",
		}),
	}
	for _, o := range []scheduler.Outcome{
		scheduler.OutcomeRunning, scheduler.OutcomeExited, scheduler.OutcomeTimeout, scheduler.OutcomeLost, scheduler.OutcomeRefused,
	} {
		m.reports.WithLabelValues(string(o))
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.launch, m.reports, m.starts, &slots{e: e, name: name}} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// slots shows the runner's own count, so that it is right after a restart, too.
type slots struct {
	e    *Executor
	name string
}

// Describe implements prometheus.Collector.
func (s *slots) Describe(ch chan<- *prometheus.Desc) { ch <- slotsDesc }

// Collect implements prometheus.Collector.
func (s *slots) Collect(ch chan<- prometheus.Metric) {
	used := s.e.active.Load()
	free := max(0, int64(s.e.opt.Slots)-used)
	ch <- prometheus.MustNewConstMetric(slotsDesc, prometheus.GaugeValue, float64(used), s.name, "used")
	ch <- prometheus.MustNewConstMetric(slotsDesc, prometheus.GaugeValue, float64(free), s.name, "free")
}
