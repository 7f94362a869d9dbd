package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"millrace/ingest"
	"millrace/scheduler"
)

// status is what the status page shows.
type status struct {
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	Now       time.Time `json:"now"`
	Ready     string    `json:"ready,omitempty"`
	// HeldSince is when the state was restored; until a person resumes it, no batch starts a run.
	HeldSince time.Time                  `json:"held_since,omitzero"`
	Sources   []statusSource             `json:"sources"`
	Log       statusLog                  `json:"log"`
	Runs      map[scheduler.State]int64  `json:"runs"`
	DAGs      statusDAGs                 `json:"dags"`
	Executors []statusExecutor           `json:"executors"`
	Notifiers []scheduler.NotifierStatus `json:"notifiers"`
}

type statusSource struct {
	Name       string    `json:"name"`
	Tenant     string    `json:"tenant"`
	Kind       string    `json:"kind"`
	Events     int64     `json:"events"`
	PerSecond  float64   `json:"events_per_second"`
	Rejected   int64     `json:"rejected"`
	Duplicates int64     `json:"duplicates"`
	Batches    int64     `json:"batches"`
	LastCommit time.Time `json:"last_commit,omitzero"`
}

type statusLog struct {
	HeldBytes  int64   `json:"held_bytes"`
	LimitBytes int64   `json:"limit_bytes"`
	LagEvents  int64   `json:"lag_events"`
	LagSeconds float64 `json:"lag_seconds"`
	OpenLanes  int64   `json:"open_lanes"`
	Stuck      bool    `json:"stuck,omitempty"`
	// Waits says what for.
	Waits []Stuck `json:"waits,omitempty"`
}

// Stuck is a partition of the log of which nothing more is cut until a person has done something.
type Stuck struct {
	Partition int           `json:"partition"`
	Stream    ingest.Stream `json:"stream,omitzero"`
	Why       string        `json:"why"`
	// Next is what to do.
	Next string `json:"next,omitempty"`
}

type statusDAGs struct {
	Total  int `json:"total"`
	Broken int `json:"broken"`
	Paused int `json:"paused"`
}

type statusExecutor struct {
	Name  string `json:"name"`
	Slots int64  `json:"slots"`
	Used  int64  `json:"used"`
	// Note is what people should know of it.
	Note string `json:"note,omitempty"`
}

// RunCounter is an optional power of a store: how many runs there are by state.
type RunCounter interface {
	CountRuns(ctx context.Context) (map[scheduler.State]int64, error)
}

// counts are samples of metrics, by name and by the value of one label.
type counts map[string]map[string]float64

// wanted are the metrics that the status is made from, with the label that they are summed by; "" sums all.
var wanted = map[string]string{
	"millrace_ingest_events_total":            "source",
	"millrace_ingest_events_rejected_total":   "source",
	"millrace_batch_duplicates_total":         "source",
	"millrace_batch_sealed_total":             "source",
	"millrace_batch_commit_timestamp_seconds": "source",
	"millrace_log_lag_events":                 "",
	"millrace_log_lag_seconds":                "",
	"millrace_batch_open":                     "",
	"millrace_batch_stuck":                    "",
	"millrace_executor_slots":                 "executor", // those that are used
}

// sampler remembers when what was counted, for rates.
type sampler struct {
	s     *Server
	start time.Time

	mu    sync.Mutex // guards older, newer and at
	older sample
	newer sample
}

type sample struct {
	at     time.Time
	events map[string]float64
}

func newSampler(s *Server) *sampler { return &sampler{s: s, start: time.Now()} }

func (p *sampler) run(ctx context.Context) {
	if p.s.d.Metrics == nil {
		return
	}
	t := time.NewTicker(p.s.o.Sample)
	defer t.Stop()
	for {
		p.take(time.Now())
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// take adds a sample and forgets the one before the last.
func (p *sampler) take(now time.Time) {
	events := p.read()["millrace_ingest_events_total"]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.older, p.newer = p.newer, sample{now, events}
}

// rates returns events a second by source since the older sample.
func (p *sampler) rates(now time.Time, events map[string]float64) map[string]float64 {
	p.mu.Lock()
	base := p.older
	if base.at.IsZero() {
		base = p.newer
	}
	p.mu.Unlock()
	out := map[string]float64{}
	seconds := now.Sub(base.at).Seconds()
	if base.at.IsZero() || seconds < 0.5 {
		return out
	}
	for source, n := range events {
		out[source] = max(0, n-base.events[source]) / seconds
	}
	return out
}

// read gathers the metrics that are wanted. What can not be gathered is 0: the status shows what there is.
func (p *sampler) read() counts {
	out := counts{}
	if p.s.d.Metrics == nil {
		return out
	}
	families, err := p.s.d.Metrics.Gather()
	if err != nil {
		p.s.o.Logger.Warn("metrics not whole", "err", err)
	}
	for _, f := range families {
		label, ok := wanted[f.GetName()]
		if !ok {
			continue
		}
		sums := map[string]float64{}
		for _, m := range f.GetMetric() {
			by, free := "", false
			for _, l := range m.GetLabel() {
				if l.GetName() == label {
					by = l.GetValue()
				}
				free = free || l.GetName() == "state" && l.GetValue() == "free"
			}
			if free {
				continue
			}
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			if f.GetName() == "millrace_log_lag_seconds" {
				v = max(v, sums[by]) - sums[by] // the worst partition, not the sum
			}
			sums[by] += v
		}
		out[f.GetName()] = sums
	}
	return out
}

func (s *Server) getStatus(c echo.Context) error {
	st, err := s.statusNow(c.Request().Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, st)
}

func (s *Server) statusNow(ctx context.Context) (*status, error) {
	now := time.Now().UTC()
	st := &status{
		Version: s.o.Version.Version, StartedAt: s.status.start.UTC().Truncate(time.Second), Now: now,
		Runs: map[scheduler.State]int64{}, Sources: []statusSource{}, Executors: []statusExecutor{},
		Notifiers: []scheduler.NotifierStatus{},
	}
	if s.d.Ready != nil {
		if err := s.d.Ready(); err != nil {
			st.Ready = err.Error()
		}
	}
	if s.d.Held != nil {
		st.HeldSince = s.d.Held().UTC()
	}
	n := s.status.read()
	s.sourceStatus(st, n, now)
	st.Log = statusLog{
		LagEvents: int64(n["millrace_log_lag_events"][""]), LagSeconds: n["millrace_log_lag_seconds"][""],
		OpenLanes: int64(n["millrace_batch_open"][""]), Stuck: n["millrace_batch_stuck"][""] > 0,
	}
	if s.d.Stuck != nil {
		st.Log.Waits = s.d.Stuck()
	}
	if s.d.Pressure != nil {
		st.Log.HeldBytes, st.Log.LimitBytes, _ = s.d.Pressure.Pressure()
	}
	return st, s.runStatus(ctx, st, n)
}

// sources returns what is configured now.
func (s *Server) sources() []ingest.Source {
	if s.d.Sources == nil {
		return nil
	}
	return s.d.Sources()
}

func (s *Server) sourceStatus(st *status, n counts, now time.Time) {
	rates := s.status.rates(now, n["millrace_ingest_events_total"])
	sources := s.sources()
	for i := range sources {
		src := &sources[i]
		count := func(metric string) int64 { return int64(n[metric][src.Name]) }
		one := statusSource{
			Name: src.Name, Tenant: src.Tenant, Kind: string(src.Kind), PerSecond: rates[src.Name],
			Events: count("millrace_ingest_events_total"), Rejected: count("millrace_ingest_events_rejected_total"),
			Duplicates: count("millrace_batch_duplicates_total"), Batches: count("millrace_batch_sealed_total"),
		}
		if at := n["millrace_batch_commit_timestamp_seconds"][src.Name]; at > 0 {
			one.LastCommit = time.UnixMilli(int64(at * 1e3)).UTC()
		}
		st.Sources = append(st.Sources, one)
	}
}

func (s *Server) runStatus(ctx context.Context, st *status, n counts) error {
	var err error
	if counter, ok := s.d.Store.(RunCounter); ok {
		if st.Runs, err = counter.CountRuns(ctx); err != nil {
			return err
		}
	}
	if s.d.Control != nil {
		heads, err := s.d.Control.DAGs(ctx)
		if err != nil {
			return err
		}
		for _, h := range heads {
			if h.Removed {
				continue
			}
			st.DAGs.Total++
			if h.Error != "" {
				st.DAGs.Broken++
			}
			if h.Paused {
				st.DAGs.Paused++
			}
		}
	}
	if s.d.Notifications != nil {
		notifiers, err := s.d.Notifications.Notifiers(ctx)
		if err != nil {
			return err
		}
		st.Notifiers = list(notifiers)
	}
	for _, name := range slices.Sorted(maps.Keys(s.d.Executors)) {
		st.Executors = append(st.Executors, statusExecutor{
			Name: name, Slots: int64(s.d.Executors[name].Slots()), Used: int64(n["millrace_executor_slots"][name]), Note: s.d.ExecutorNotes[name],
		})
	}
	return nil
}
