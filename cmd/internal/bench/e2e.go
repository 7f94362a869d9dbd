package bench

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

// E2EOptions say what to measure.
type E2EOptions struct {
	Self, Dir string
	// Tries is the number of events sent one by one, each after the run of the one before.
	Tries   int
	Notices io.Writer
}

// E2EReport is the result of [EndToEnd]. Times are in milliseconds, at these quantiles: p50, p90, p99, max.
type E2EReport struct {
	Tries int `json:"tries"`
	// Exec is from the object's time in the store to the start of the task's process, Created from there to the run's row.
	Exec    map[string]float64 `json:"committed_to_exec_ms"`
	Created map[string]float64 `json:"committed_to_run_created_ms"`
	// Event is from the receipt of the event to the start of the task; it has the batch's max_age in it.
	Event map[string]float64 `json:"received_to_exec_ms"`
	// Fsync is what a 4 KiB append and sync took on the same disk meanwhile.
	Fsync map[string]float64 `json:"fsync_ms"`
}

const e2eDAG = `dag: bench
on: [{id: every, batch: {source: web}}]
tasks:
  noop: {run: ["/bin/true"]}
`

// EndToEnd measures, on an idle server, how soon after its batch is committed a task runs.
func EndToEnd(ctx context.Context, o E2EOptions) (*E2EReport, error) {
	dags := filepath.Join(o.Dir, "dags")
	if err := os.MkdirAll(dags, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dags, "bench.yaml"), []byte(e2eDAG), 0o644); err != nil {
		return nil, err
	}
	config := filepath.Join(o.Dir, "millrace.yaml")
	if err := os.WriteFile(config, []byte("batch: {max_age: 50ms}\n"), 0o644); err != nil {
		return nil, err
	}
	p, err := start(ctx, o.Self, filepath.Join(o.Dir, "data"), "dev", "--config", config, "--data-dir", "DIR",
		"--listen", "INGEST", "--console", "CONSOLE", "--dags", dags, "--log-level", "error")
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.stop() }()
	_, _ = fmt.Fprintf(o.Notices, "%d events, one at a time …\n", o.Tries)
	stop := probeDisk(o.Dir)
	times, err := p.oneByOne(ctx, o.Tries)
	fsync := stop()
	if err != nil {
		return nil, err
	}
	r := &E2EReport{Tries: len(times), Fsync: millis(fsync)}
	column := func(f func(timing) time.Duration) map[string]float64 {
		out := make([]time.Duration, len(times))
		for i, t := range times {
			out[i] = f(t)
		}
		return millis(out)
	}
	r.Exec = column(func(t timing) time.Duration { return t.started.Sub(t.committed) })
	r.Created = column(func(t timing) time.Duration { return t.created.Sub(t.committed) })
	r.Event = column(func(t timing) time.Duration { return t.started.Sub(t.received) })
	return r, nil
}

type timing struct{ received, committed, created, started time.Time }

// oneByOne sends an event, waits for the end of its run, and goes on; the first is a warm-up.
func (p *process) oneByOne(ctx context.Context, tries int) ([]timing, error) {
	l := load{addr: p.ingest, writeKey: "dev", connections: 1, events: 1, duration: time.Nanosecond, next: new(atomic.Int64)}
	seen := map[string]bool{}
	var out []timing
	for i := range tries + 1 {
		l.duration = time.Microsecond // one request: the next one is due too late
		l.rate = 1
		ph, err := l.run(ctx)
		if err != nil || ph.Acked != 1 {
			return nil, fmt.Errorf("send event %d: acked %v, %w", i, ph, err)
		}
		t, err := p.awaitRun(ctx, seen)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, t)
		}
	}
	return out, nil
}

type runItem struct {
	ID        string    `json:"id"`
	State     string    `json:"state"`
	Batches   []string  `json:"batches"`
	CreatedAt time.Time `json:"created_at"`
}

// awaitRun waits for a run that was not seen before to succeed.
func (p *process) awaitRun(ctx context.Context, seen map[string]bool) (timing, error) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var runs struct {
			Items []runItem `json:"items"`
		}
		if err := p.get(ctx, "/runs", url.Values{"limit": {"1"}}, &runs); err != nil {
			return timing{}, err
		}
		if len(runs.Items) == 0 || seen[runs.Items[0].ID] || runs.Items[0].State != "success" {
			continue
		}
		seen[runs.Items[0].ID] = true
		return p.timingOf(ctx, runs.Items[0])
	}
	return timing{}, fmt.Errorf("no run after 30s:\n%s", p.stderr.String())
}

func (p *process) timingOf(ctx context.Context, r runItem) (timing, error) {
	var d struct {
		Tasks []struct {
			StartedAt time.Time `json:"started_at"`
		} `json:"tasks"`
		Batches []struct {
			ReceivedMin time.Time `json:"received_min"`
			CommittedAt time.Time `json:"committed_at"`
		} `json:"batches"`
	}
	if err := p.get(ctx, "/runs/"+r.ID, nil, &d); err != nil {
		return timing{}, err
	}
	if len(d.Tasks) == 0 || len(d.Batches) == 0 {
		return timing{}, fmt.Errorf("run %s has no tasks or batches", r.ID)
	}
	return timing{d.Batches[0].ReceivedMin, d.Batches[0].CommittedAt, r.CreatedAt, d.Tasks[0].StartedAt}, nil
}

// probeDisk appends and syncs 4 KiB every 10 ms until the returned function is called, which returns what each took.
func probeDisk(dir string) func() []time.Duration {
	quit, done := make(chan struct{}), make(chan []time.Duration)
	go func() { // ends with quit; stop waits
		var took []time.Duration
		defer func() { done <- took }()
		f, err := os.Create(filepath.Join(dir, "probe"))
		if err != nil {
			return
		}
		defer func() { _ = f.Close() }()
		block := make([]byte, 4096)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			at := time.Now()
			if _, err := f.Write(block); err != nil || f.Sync() != nil {
				return
			}
			took = append(took, time.Since(at))
		}
	}()
	return func() []time.Duration { close(quit); return <-done }
}

func millis(d []time.Duration) map[string]float64 {
	slices.Sort(d)
	p := phase{latencies: d}
	out := map[string]float64{}
	for name, q := range map[string]float64{"p50": .5, "p90": .9, "p99": .99, "max": 1} {
		out[name] = float64(p.quantile(q).Microseconds()) / 1000
	}
	return out
}
