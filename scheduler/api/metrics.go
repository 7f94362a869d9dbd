package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	duration *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "millrace_http_api_request_duration_seconds", Help: "Time of a request to the console, streams excepted.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 3, 10),
	}, []string{"route", "method", "code"})}
	if reg != nil {
		reg.MustRegister(m.duration)
	}
	return m
}

// observe takes route from the table of routes, so that its values are few.
func (m *metrics) observe(r route, code int, took time.Duration) {
	m.duration.WithLabelValues(r.path, r.method, strconv.Itoa(code)).Observe(took.Seconds())
}
