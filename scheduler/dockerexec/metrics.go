//go:build linux

package dockerexec

import (
	"github.com/prometheus/client_golang/prometheus"

	"millrace/scheduler"
)

type metrics struct {
	reports *prometheus.CounterVec
}

func newMetrics(e *Executor, reg prometheus.Registerer) (*metrics, error) {
	labels := prometheus.Labels{"executor": e.opt.Name}
	m := &metrics{reports: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_executor_reports_total", ConstLabels: labels, Help: "Reports that the engine has committed, repeated ones too.",
	}, []string{"outcome"})}
	for _, o := range []scheduler.Outcome{
		scheduler.OutcomeRunning, scheduler.OutcomeExited, scheduler.OutcomeTimeout, scheduler.OutcomeLost, scheduler.OutcomeRefused,
	} {
		m.reports.WithLabelValues(string(o))
	}
	if reg == nil {
		return m, nil
	}
	return m, reg.Register(m.reports)
}
