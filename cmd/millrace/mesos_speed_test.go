package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesossim"
)

// TestSoakMesosStart measures how soon a task runs on the double of a cluster after its batch is committed, one batch after the other, with offers that
// are held. The agents of the double start a process at once, a real one took 90 ms: what is measured is what millrace adds.
func TestSoakMesosStart(t *testing.T) {
	soak(t)
	const batches = 200
	_, env := onMesos(t, mesossim.Options{Agents: make([]mesossim.AgentOptions, 3)})
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{
		"each.yaml": "dag: each\non: [{batch: {}}]\ntasks: {a: {run: [\"true\"], executor: mesos, resources: {cpu: 0.1, mem: 16MiB}}}\n",
	}))
	s.env = append(append(s.env, env...), "MILLRACE_BATCH__MAX_AGE=20ms")
	s.start()
	s.head("each", func(h scheduler.DAGHead) bool { return h.Version != "" })
	acked := map[string]bool{}
	for i := range batches {
		s.send(acked, fmt.Sprintf("one-%d", i), 1)
		s.drained()
	}
	var handed, execed []time.Duration
	for _, b := range s.allBatches() {
		d := s.ranOnce(b.ID)
		handed = append(handed, d.Attempts[0].CreatedAt.Sub(b.CommittedAt))
		execed = append(execed, d.Attempts[0].StartedAt.Sub(b.CommittedAt))
	}
	slices.Sort(handed)
	slices.Sort(execed)
	for what, waits := range map[string][]time.Duration{"decided on the attempt": handed, "its process runs": execed} {
		t.Logf("measured: %d batches, committed → %s p50 %v, p90 %v, p99 %v, max %v", len(waits), what,
			quantile(waits, 0.5), quantile(waits, 0.9), quantile(waits, 0.99), quantile(waits, 1))
	}
}

// TestSoakMesosOverKills is TestMesosOverKills with 500 tasks under way and as many kills as the steps of launching and ending have in them.
func TestSoakMesosOverKills(t *testing.T) {
	soak(t)
	mesosOverKills(t, 500, 40)
}

// numbersTo writes the list of the numbers below n.
func numbersTo(n int) string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprint(i))
	}
	return strings.Join(out, ", ")
}
