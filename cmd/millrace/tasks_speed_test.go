package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/scheduler"
)

// The figures of the scheduler. They are behind a flag, since they say something on a quiet machine only; docs/benchmarks.md has them.

// taskSlots is how many tasks run at once, in millrace and in the bare loop.
const taskSlots = 8

// TestSoakTaskSpeed measures, in one run side by side: tasks of one run against a bare loop of fork and exec with the same concurrency; runs of one
// task that are asked for one by one; how soon a task follows its parent; and how soon a task runs after its batch at 200 runs a second.
func TestSoakTaskSpeed(t *testing.T) {
	soak(t)
	const tasks, chain = 2000, 200
	program, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	var wide, long strings.Builder
	wide.WriteString("dag: wide\ntasks:\n")
	for i := range tasks {
		fmt.Fprintf(&wide, "  t%d: {run: [%s]}\n", i, program)
	}
	long.WriteString("dag: long\ntasks:\n  t0: {run: [" + program + "]}\n")
	for i := 1; i < chain; i++ {
		fmt.Fprintf(&long, "  t%d: {run: [%s], needs: t%d}\n", i, program, i-1)
	}
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{
		"wide.yaml": wide.String(), "long.yaml": long.String(), "one.yaml": "dag: one\ntasks: {a: {run: [" + program + "]}}\n",
	}))
	s.env = append(s.env, fmt.Sprintf("MILLRACE_EXECUTORS__LOCAL__SLOTS=%d", taskSlots))
	s.start()
	s.head("wide", func(h scheduler.DAGHead) bool { return h.Version != "" })
	s.head("one", func(h scheduler.DAGHead) bool { return h.Version != "" })

	for round := range 3 {
		bare := bareTasks(t, program, tasks)
		s.triggered("wide")
		run := s.succeeded("wide")[0]
		own := float64(tasks) / run.EndedAt.Sub(run.StartedAt).Seconds()
		t.Logf("measured, round %d: %.0f tasks/s of one run, %.0f/s of a bare loop with %d at once: %.0f %%", round+1, own, bare, taskSlots, 100*own/bare)
	}
	s.triggered("long")
	var d scheduler.RunDetail
	s.cliJSON(&d, "runs", "show", s.succeeded("long")[0].ID)
	ends := map[string]time.Time{}
	for _, a := range d.Attempts {
		ends[a.Task] = a.EndedAt
	}
	var gaps []time.Duration
	for _, a := range d.Attempts {
		var n int
		if _, err := fmt.Sscanf(a.Task, "t%d", &n); err == nil && n > 0 {
			gaps = append(gaps, a.StartedAt.Sub(ends[fmt.Sprint("t", n-1)]))
		}
	}
	slices.Sort(gaps)
	t.Logf("measured: the next task starts %v after its parent's end (p50), %v (p99), of %d", quantile(gaps, 0.5), quantile(gaps, 0.99), len(gaps))
	if len(gaps) != chain-1 {
		t.Errorf("got %d steps of the chain, want %d", len(gaps), chain-1)
	}
	took := s.oneByOne("one", 1000)
	t.Logf("measured: 1000 runs of one task, each asked for by itself, in %v: %.0f runs/s", took.Round(time.Millisecond), 1000/took.Seconds())
}

// soak skips what is not asked for.
func soak(t *testing.T) {
	t.Helper()
	if os.Getenv("MILLRACE_SOAK") == "" {
		t.SkipNow()
	}
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(10 * time.Microsecond)
}

// bareTasks returns how many programs a second a loop starts and waits for.
func bareTasks(t *testing.T, program string, n int) float64 {
	t.Helper()
	begin := time.Now()
	together(t, n, func(int) error { return exec.Command(program).Run() })
	return float64(n) / time.Since(begin).Seconds()
}

// together calls do for 0 to n-1, as many at once as there are slots. What fails is an error of the test.
func together(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	work := make(chan int, n)
	for i := range n {
		work <- i
	}
	close(work)
	var wg sync.WaitGroup
	for range taskSlots {
		wg.Go(func() { // ends with the work
			for i := range work {
				if err := do(i); err != nil {
					t.Errorf("%d of %d: %v", i, n, err)
				}
			}
		})
	}
	wg.Wait()
}

// oneByOne asks for n runs of a DAG, eight at a time, and returns how long it took from the first request to the end of the last run.
func (s *server) oneByOne(dag string, n int) time.Duration {
	s.t.Helper()
	token, err := os.ReadFile(s.dir + "/console.token")
	if err != nil {
		s.t.Fatal(err)
	}
	begin := time.Now()
	together(s.t, n, func(i int) error {
		req, err := http.NewRequest(http.MethodPost, "http://"+s.console+"/api/v1/dags/"+dag+"/runs", strings.NewReader(fmt.Sprintf(`{"id": "n%d"}`, i)))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			return fmt.Errorf("status %s", resp.Status)
		}
		return nil
	})
	s.waitFor("done with all runs", func() bool { return len(s.succeeded(dag)) >= n })
	var last time.Time
	for _, r := range s.succeeded(dag) {
		if r.EndedAt.After(last) {
			last = r.EndedAt
		}
	}
	return last.Sub(begin)
}
