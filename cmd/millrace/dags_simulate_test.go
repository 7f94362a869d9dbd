package main

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"millrace/trigger/whatif"
)

const coalescing = `dag: load
on: [{id: hooks, batch: {source: demo}, coalesce: {quiet: 100ms, max_wait: 400ms}}]
tasks: {a: {run: "true"}}
`

// TestDAGsSimulate: the rules in force yield the runs that happened, also over a kill; a new filter yields those that it would have let through.
func TestDAGsSimulate(t *testing.T) {
	t.Parallel()
	live := dagDir(t, map[string]string{"load.yaml": coalescing})
	s := newServer(t, "dev", "--dags", live)
	s.start()
	s.waitFor("with its DAG", func() bool { _, code := s.cli("dags", "show", "load"); return code == exitOK })
	inRuns := func() (events int64) {
		for _, r := range s.runs("load") {
			events += r.Events
		}
		return events
	}
	const posts = 40
	for n := range posts {
		if code, body, err := s.post("/hooks/demo", `{"n":1}`); err != nil || code != 200 {
			t.Fatalf("post: %d %s %v", code, body, err)
		}
		if n == posts/2 {
			s.waitFor("in runs", func() bool { return inRuns() == posts/2+1 })
			s.kill()
			s.start()
		}
	}
	s.waitFor("in runs", func() bool { return inRuns() == posts })

	simulate := func(path string, want int) *whatif.Report {
		t.Helper()
		var all []dagChange
		out, code := s.cli("dags", "diff", path, "--simulate", "24h", "-o", "json")
		if decode(t, out, &all); code != want || len(all) != 1 || all[0].Simulation == nil || len(all[0].Simulation.Rules) != 1 {
			t.Fatalf("exit %d, got %s", code, out)
		}
		return all[0].Simulation
	}
	report := simulate(live, exitOK)
	r := report.Rules[0]
	if r.Checked == 0 || r.Reproduced != r.Checked || len(r.Unlike) > 0 || r.Checked != len(s.runs("load")) || r.After.Events != posts {
		t.Errorf("%d of %d reproduced, unlike %v, events %d", r.Reproduced, r.Checked, r.Unlike, r.After.Events)
	}
	if r.After.Delay == nil || r.After.Delay.Max < 0.1 {
		t.Errorf("delay is %+v, want at least the 100 ms without a batch that close a group", r.After.Delay)
	}

	next := filepath.Join(dagDir(t, nil), "load.yaml")
	write(t, next, strings.Replace(coalescing, "coalesce: {quiet: 100ms, max_wait: 400ms}", "if: batch.events < 0", 1))
	r = simulate(next, exitFailed).Rules[0]
	if r.After.Runs != 0 || r.After.Fates["filtered: if"] != report.Batches || r.Lost.Count != report.Batches || r.Before.Runs != r.Checked {
		t.Errorf("a filter that lets nothing through: %+v, after %+v", r, r.After)
	}
	text, _ := s.cli("dags", "diff", next, "--simulate", "24h")
	if !strings.Contains(text, "would be in no run any more") || !strings.Contains(text, "of the "+strconv.Itoa(r.Checked)+" runs that happened") {
		t.Errorf("got\n%s", text)
	}
	if out, code := s.cli("dags", "diff", next, "--simulate", "yesterday"); code != exitUsage {
		t.Errorf("a time that is none: exit %d, %s", code, out)
	}
}
