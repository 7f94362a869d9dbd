package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
)

// IngestOptions say what to measure.
type IngestOptions struct {
	// Self is the millrace binary; Dir an empty directory on the disk to be measured.
	Self, Dir   string
	Connections int
	// Events is the number of events in a request: 1 posts to /v1/track, more to /v1/batch.
	Events   int
	Duration time.Duration
	// Rate is events per second of the latency phase; 0 takes half of the measured capacity. With Only, the capacity phase is left out.
	Rate float64
	Only bool
	// Baseline also measures a bare net/http handler that reads the body and answers 200, before and after.
	Baseline bool
	// LogOnly runs the gateway and the log without batcher and scheduler.
	LogOnly bool
	Notices io.Writer
}

// Measured is one server under one load.
type Measured struct {
	Server    string  `json:"server"`
	Requests  int64   `json:"requests"`
	Events    int64   `json:"acked_events"`
	ReqPerSec float64 `json:"requests_per_second"`
	EvPerSec  float64 `json:"events_per_second"`
	// ServerCPU and GeneratorCPU are CPU-seconds per million events.
	ServerCPU    float64 `json:"server_cpu_seconds_per_million"`
	GeneratorCPU float64 `json:"generator_cpu_seconds_per_million"`
	// GeneratorShare is the generator's part of the machine's processors, 0 to 1.
	GeneratorShare float64       `json:"generator_share"`
	PeakRSS        int64         `json:"server_peak_rss_bytes"`
	Refused        map[int]int64 `json:"refused_requests,omitempty"`
	// Latency is of the phase with a rate, from when a request was due.
	Rate          float64            `json:"rate_requests_per_second,omitempty"`
	LatencyMillis map[string]float64 `json:"latency_ms,omitempty"`
	// Stored counts rows found in objects afterwards; Unsure are events without an answer, which may be stored.
	Stored int64 `json:"stored_events"`
	Unsure int64 `json:"unsure_events"`
	// Lag is the age in seconds of the oldest event that is in no object, sampled each second of the phase with a rate.
	Lag []float64 `json:"lag_seconds,omitempty"`
}

// IngestReport is the result of [Ingest].
type IngestReport struct {
	CPUs     int        `json:"cpus"`
	Events   int        `json:"events_per_request"`
	Conns    int        `json:"connections"`
	Measured []Measured `json:"measured"`
	// Ratio is millrace's requests per second over the bare handler's, CPURatio its server CPU per event over the bare handler's.
	Ratio    float64 `json:"ratio,omitempty"`
	CPURatio float64 `json:"cpu_ratio,omitempty"`
	Verdict  string  `json:"verdict"`
}

// maxGeneratorShare is the part of the machine above which the generator, and not the server, was measured.
const maxGeneratorShare = 0.55

// errLost is returned if an acknowledged event is in no object.
var errLost = errors.New("acknowledged events are missing from the objects")

// Ingest runs the benchmark. It returns the report also with errLost.
func Ingest(ctx context.Context, o IngestOptions) (*IngestReport, error) {
	r := &IngestReport{CPUs: runtime.NumCPU(), Events: o.Events, Conns: o.Connections}
	servers := []string{"millrace"}
	if o.Baseline {
		servers = []string{"bare", "millrace", "bare"}
	}
	for i, kind := range servers {
		_, _ = fmt.Fprintf(o.Notices, "%s: %d connections, %d events a request, %v …\n", kind, o.Connections, o.Events, o.Duration)
		m, err := o.measure(ctx, kind, filepath.Join(o.Dir, fmt.Sprint(i)))
		if m != nil {
			r.Measured = append(r.Measured, *m)
		}
		if err != nil {
			return r, err
		}
	}
	r.judge()
	return r, nil
}

// judge compares millrace with the mean of the bare handler's runs around it.
func (r *IngestReport) judge() {
	var bareRate, bareCPU, share float64
	var bares int
	var own *Measured
	for i := range r.Measured {
		m := &r.Measured[i]
		share = max(share, m.GeneratorShare)
		if m.Server == "bare" {
			bareRate, bareCPU, bares = bareRate+m.ReqPerSec, bareCPU+m.ServerCPU, bares+1
		} else {
			own = m
		}
	}
	if own != nil && bares > 0 && bareRate > 0 && bareCPU > 0 {
		r.Ratio, r.CPURatio = own.ReqPerSec/(bareRate/float64(bares)), own.ServerCPU/(bareCPU/float64(bares))
	}
	switch {
	case share > maxGeneratorShare:
		r.Verdict = fmt.Sprintf("none: the generator took %.0f%% of the machine, so it was the limit", 100*share)
	case r.Ratio > 0:
		r.Verdict = fmt.Sprintf("%.0f%% of the bare handler's requests per second at %.1f times its CPU", 100*r.Ratio, r.CPURatio)
	default:
		r.Verdict = "no baseline was asked for"
	}
}

func (o IngestOptions) args(kind string) []string {
	switch {
	case kind == "bare":
		return []string{"bench", "target", "--listen", "INGEST"}
	case o.LogOnly:
		return []string{"bench", "target", "--listen", "INGEST", "--log-dir", "DIR"}
	}
	return []string{"dev", "--data-dir", "DIR", "--listen", "INGEST", "--console", "CONSOLE", "--dags", "DIR/none", "--log-level", "error"}
}

func (o IngestOptions) measure(ctx context.Context, kind, dir string) (*Measured, error) {
	if err := os.MkdirAll(filepath.Join(dir, "none"), 0o755); err != nil {
		return nil, err
	}
	p, err := start(ctx, o.Self, dir, o.args(kind)...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.stop() }()
	m := &Measured{Server: kind}
	next := new(atomic.Int64)
	l := load{addr: p.ingest, writeKey: "dev", connections: o.Connections, events: o.Events, duration: o.Duration, next: next}
	warm := l
	warm.duration = min(o.Duration/5, time.Second)
	if _, err := warm.run(ctx); err != nil {
		return m, err
	}
	acked := next.Load()
	if !o.Only {
		capacity, err := o.phase(ctx, p, &l, m)
		if err != nil {
			return m, err
		}
		acked += capacity.Acked
	}
	if kind == "bare" && !o.Only {
		return m, nil
	}
	l.rate = o.Rate / float64(o.Events)
	if o.Rate == 0 {
		l.rate = m.ReqPerSec / 2
	}
	lag := p.watchLag(ctx, o.Duration, kind == "millrace" && !o.LogOnly)
	timed, err := o.phase(ctx, p, &l, m)
	if err != nil {
		return m, err
	}
	acked += timed.Acked
	m.Rate, m.Lag = l.rate, <-lag
	m.LatencyMillis = map[string]float64{}
	for name, q := range map[string]float64{"p50": .5, "p90": .9, "p99": .99, "p99.9": .999, "max": 1} {
		m.LatencyMillis[name] = float64(timed.quantile(q).Microseconds()) / 1000
	}
	if kind == "bare" || o.LogOnly {
		return m, nil
	}
	return m, p.checkStored(ctx, m, acked)
}

// phase runs a load; if it is the first measured one, its throughput and CPU are the figures.
func (o IngestOptions) phase(ctx context.Context, p *process, l *load, m *Measured) (*phase, error) {
	before, err := usageOf(p.cmd.Process.Pid)
	if err != nil {
		return nil, fmt.Errorf("read usage of the server: %w", err)
	}
	own, err := usageOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	ph, err := l.run(ctx)
	if err != nil {
		return nil, err
	}
	m.Unsure += ph.Unsure
	after, err := usageOf(p.cmd.Process.Pid)
	if err != nil {
		return nil, fmt.Errorf("the server ended: %s", strings.TrimSpace(p.stderr.String()))
	}
	ownAfter, err := usageOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	m.PeakRSS = max(m.PeakRSS, after.PeakRSS)
	if m.Requests > 0 {
		return ph, nil
	}
	m.Requests, m.Events, m.Refused = ph.Requests, ph.Acked, ph.Refused
	m.ReqPerSec, m.EvPerSec = ph.perSecond(ph.Requests), ph.perSecond(ph.Acked)
	if ph.Acked > 0 {
		perMillion := 1e6 / float64(ph.Acked)
		m.ServerCPU = (after.CPU - before.CPU).Seconds() * perMillion
		m.GeneratorCPU = (ownAfter.CPU - own.CPU).Seconds() * perMillion
	}
	m.GeneratorShare = (ownAfter.CPU - own.CPU).Seconds() / ph.Elapsed.Seconds() / float64(runtime.NumCPU())
	return ph, nil
}
