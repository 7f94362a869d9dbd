package engine

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/scheduler"
)

// metrics are those of the scheduler. Labels are DAGs, tasks and executors, which DAG files bound.
type metrics struct {
	runs        *prometheus.CounterVec
	active      *prometheus.GaugeVec
	duration    *prometheus.HistogramVec
	delay       *prometheus.HistogramVec
	lastSuccess *prometheus.GaugeVec

	tasks        *prometheus.CounterVec
	taskDuration *prometheus.HistogramVec
	retries      *prometheus.CounterVec
	running      *prometheus.GaugeVec

	loop       prometheus.Histogram
	group      prometheus.Histogram
	beat       prometheus.Gauge
	waiting    prometheus.Gauge
	reloads    prometheus.Counter
	parseFault *prometheus.GaugeVec
	missed     *prometheus.CounterVec
	depth      *prometheus.GaugeVec
	slots      *prometheus.GaugeVec
	pools      *prometheus.GaugeVec

	eventToRun *prometheus.HistogramVec

	images      *prometheus.CounterVec
	imagesAwait prometheus.Gauge
}

// fine are buckets from 1 ms to about 17 minutes.
var fine = prometheus.ExponentialBuckets(0.001, 2, 21)

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "millrace_" + name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: "millrace_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return f.NewHistogramVec(prometheus.HistogramOpts{Name: "millrace_" + name, Help: help, Buckets: fine}, labels)
	}
	return &metrics{
		runs:         counter("run_total", "Runs that ended, by state.", "dag", "state"),
		active:       gauge("run_active", "Runs that have not ended.", "dag"),
		duration:     histogram("run_duration_seconds", "From the start of a run's first task to its end.", "dag"),
		delay:        histogram("run_schedule_delay_seconds", "From the creation of a run to the first launch.", "dag"),
		lastSuccess:  gauge("run_last_success_timestamp_seconds", "When a run last succeeded.", "dag"),
		tasks:        counter("task_total", "Tasks that ended, by state.", "dag", "task", "executor", "state"),
		taskDuration: histogram("task_duration_seconds", "From exec to exit of an attempt.", "executor"),
		retries:      counter("task_retries_total", "Attempts after the first of a task.", "dag", "task"),
		running:      gauge("task_running", "Attempts that hold a slot.", "executor"),
		loop:         histogram("scheduler_loop_duration_seconds", "One round: decide, commit, act.").WithLabelValues().(prometheus.Histogram),
		group: f.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_scheduler_group_inputs", Help: "Inputs decided in one transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		beat:        gauge("scheduler_heartbeat_timestamp_seconds", "When the loop last went round.").WithLabelValues(),
		waiting:     gauge("scheduler_inputs_waiting", "Inputs that came while the last round was under way; at most 1024.").WithLabelValues(),
		reloads:     counter("scheduler_reloads_total", "Commits that failed, after which the state was loaded again.").WithLabelValues(),
		missed:      counter("scheduler_deadlines_missed_total", "Deadlines that passed without a successful run, by what they count from.", "dag", "from"),
		parseFault:  gauge("scheduler_dag_parse_errors", "1 while a DAG's file has a fault.", "dag"),
		depth:       gauge("scheduler_queue_depth", "Tasks that wait for a slot.", "pool"),
		slots:       gauge("executor_slots", "Slots of an executor.", "executor", "state"),
		pools:       gauge("pool_slots", "Slots of a pool.", "pool", "state"),
		images:      counter("scheduler_image_questions_total", "Questions to registries about the digests of images, by what came of them: pinned, refused, unavailable.", "outcome"),
		imagesAwait: gauge("scheduler_images_waiting", "Images whose digests runs wait for.").WithLabelValues(),
		eventToRun:  histogram("event_to_run_seconds", "From the receipt of a run's oldest event to the start of its first task.", "dag"),
	}
}

// round notes one round of the loop.
func (m *metrics) round(took time.Duration, inputs int, c *core) {
	m.beat.SetToCurrentTime()
	if inputs > 0 {
		m.loop.Observe(took.Seconds())
		m.group.Observe(float64(inputs))
	}
	m.imagesAwait.Set(float64(len(c.images)))
	for name, q := range c.queues {
		used := float64(len(q.active))
		m.running.WithLabelValues(name).Set(used)
		m.slots.WithLabelValues(name, "used").Set(used)
		m.slots.WithLabelValues(name, "free").Set(max(0, float64(q.executor.Slots())-used))
		m.depth.WithLabelValues(name).Set(float64(q.depth))
	}
	for name, p := range c.pools {
		m.pools.WithLabelValues(name, "used").Set(float64(p.used))
		m.pools.WithLabelValues(name, "free").Set(float64(max(0, p.size-p.used)))
	}
}

// observe counts what a committed transaction did.
func (m *metrics) observe(tx *txn) {
	for _, s := range tx.starts {
		m.eventToRun.WithLabelValues(s.dag).Observe(s.wait.Seconds())
	}
	for _, l := range tx.order {
		r, row := tx.rows[l], &l.Row
		if r.fresh || r.back {
			m.active.WithLabelValues(row.DAG).Inc()
		}
		if r.began && !l.again {
			m.delay.WithLabelValues(row.DAG).Observe(row.StartedAt.Sub(row.CreatedAt).Seconds())
		}
		for _, i := range r.order {
			m.task(l, i)
		}
		if !row.State.Terminal() {
			continue
		}
		m.active.WithLabelValues(row.DAG).Dec()
		m.runs.WithLabelValues(row.DAG, string(row.State)).Inc()
		if !row.StartedAt.IsZero() {
			m.duration.WithLabelValues(row.DAG).Observe(row.EndedAt.Sub(row.StartedAt).Seconds())
		}
		if row.State == scheduler.StateSuccess {
			m.lastSuccess.WithLabelValues(row.DAG).SetToCurrentTime()
		}
	}
}

// task counts a task that changed. A task that ended and started again within one transaction counts as started.
func (m *metrics) task(l *live, i int) {
	t := &l.Tasks[i]
	switch {
	case t.State.Terminal():
		m.tasks.WithLabelValues(l.Row.DAG, t.Task, t.Executor, string(t.State)).Inc()
		if t.Executor != "" && !t.StartedAt.IsZero() && t.EndedAt.After(t.StartedAt) {
			m.taskDuration.WithLabelValues(t.Executor).Observe(t.EndedAt.Sub(t.StartedAt).Seconds())
		}
	case (t.State == scheduler.StateLaunching || t.State.Parked()) && t.Try > 1:
		m.retries.WithLabelValues(l.Row.DAG, t.Task).Inc()
	}
}

// heads shows which DAG files have faults.
func (m *metrics) heads(heads []scheduler.DAGHead) {
	m.parseFault.Reset()
	for i := range heads {
		fault := 0.0
		if heads[i].Error != "" {
			fault = 1
		}
		m.parseFault.WithLabelValues(heads[i].ID).Set(fault)
	}
}

// asked counts a question to a registry.
func (m *metrics) asked(err error) { m.images.WithLabelValues(outcomeOf(err)).Inc() }

// restored sets the gauges after a load.
func (m *metrics) restored(c *core) {
	m.active.Reset()
	for _, l := range c.runs {
		m.active.WithLabelValues(l.Row.DAG).Inc()
	}
}
