package main

import (
	"strings"
	"testing"

	"millrace/scheduler"
	"millrace/trigger"
)

// TestPause: what arrives while a DAG is paused is held, over a kill -9, and starts one run for each batch when the pause ends. A person can
// start a run meanwhile.
func TestPause(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{
		"count.yaml": countDAG, "hand.yaml": "dag: hand\non: [{manual: true}]\ntasks: {a: {run: [\"true\"]}}\n",
	}))
	s.env = append(s.env, "MILLRACE_BATCH__MAX_AGE=20ms")
	s.start()
	s.head("hand", func(h scheduler.DAGHead) bool { return h.Version != "" })
	acked := map[string]bool{}
	s.send(acked, "before", 3)
	s.drained()
	before := len(s.oneRunEach("count"))

	if text, code := s.cli("dags", "pause", "count", "hand"); code != exitOK || text != "dag count is paused\ndag hand is paused\n" {
		t.Fatalf("dags pause: exit %d, %q", code, text)
	}
	s.send(acked, "paused", 5)
	s.drained()
	held := s.held("count/every")
	s.kill()
	s.start()
	if h := s.head("count", func(scheduler.DAGHead) bool { return true }); !h.Paused {
		t.Error("the pause is gone after a restart")
	}
	if text, code := s.cli("dags", "ls"); code != exitOK || !strings.Contains(text, "paused") {
		t.Errorf("dags ls: exit %d\n%s", code, text)
	}
	s.send(acked, "restarted", 2)
	s.drained()
	if again := s.held("count/every"); again <= held {
		t.Errorf("%d batches are held after a restart and more events, want more than %d", again, held)
	}
	if n := len(s.runs("count")); n != before {
		t.Errorf("%d runs, want the %d from before the pause", n, before)
	}
	var byHand scheduler.Run
	s.cliJSON(&byHand, "dags", "trigger", "hand")
	s.waitFor("done with the run by hand", func() bool { return len(s.succeeded("hand")) == 1 })

	for range 2 { // the second changes nothing
		if text, code := s.cli("dags", "unpause", "count"); code != exitOK || text != "dag count is active\n" {
			t.Fatalf("dags unpause: exit %d, %q", code, text)
		}
	}
	s.oneRunEach("count") // and none twice
	if n := s.fates("count/every")[trigger.FateHeld]; n != 0 {
		t.Errorf("%d batches are still held", n)
	}
	if text := s.declined(exitNotFound, "dags", "pause", "none"); !strings.Contains(text, "'millrace dags ls' lists all") {
		t.Errorf("pause of a DAG that does not exist: %s", text)
	}
}

// held waits until all batches have a disposition for the rule and returns how many are held.
func (s *server) held(rule string) int {
	s.t.Helper()
	var fates map[trigger.Fate]int
	s.waitFor("aware of all batches", func() bool {
		fates = s.fates(rule)
		return int64(fates[trigger.FateHeld]+fates[trigger.FateRun]) == s.committed()
	})
	return fates[trigger.FateHeld]
}

// fates counts what became of all batches for a rule.
func (s *server) fates(rule string) map[trigger.Fate]int {
	s.t.Helper()
	out := map[trigger.Fate]int{}
	for _, b := range s.batches() {
		var d scheduler.BatchDetail
		s.cliJSON(&d, "batches", "show", b.ID)
		for _, x := range d.Dispositions {
			if x.Rule == rule {
				out[x.Fate]++
			}
		}
	}
	return out
}
