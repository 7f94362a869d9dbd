package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/scheduler"
)

// fillDAG notes each attempt with its batch, waits for a gate, and fails for the batch that a file names. @DIR is replaced.
const fillDAG = `dag: fill
on: [{id: clicks, batch: {source: web}}]
tasks:
  a:
    env: {DIR: "@DIR"}
    run: |
      echo "$MILLRACE_BATCH_IDS" >> "$DIR/ran"
      while [ ! -e "$DIR/gate" ]; do sleep 0.05; done
      [ "$(cat "$DIR/bad")" != "$MILLRACE_BATCH_IDS" ]
`

// TestBackfillOverKills: a DAG that is new runs on the batches that were there before it, two at a time, while the server is killed; each batch is
// run once. What failed is run again by a second backfill, and nothing else.
func TestBackfillOverKills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dags := dagDir(t, nil)
	s := newServer(t, "dev", "--log-level", "error", "--dags", dags)
	s.env = append(s.env, "MILLRACE_BATCH__MAX_AGE=20ms")
	s.start()
	acked := map[string]bool{}
	for i := range 5 {
		s.send(acked, fmt.Sprint("e", i), 1)
		s.drained()
	}
	batches := s.allBatches()
	write(t, filepath.Join(dir, "bad"), batches[2].ID+"\n")
	write(t, filepath.Join(dags, "fill.yaml"), strings.ReplaceAll(fillDAG, "@DIR", dir))
	s.head("fill", func(h scheduler.DAGHead) bool { return h.Version != "" })

	var plan scheduler.BackfillPlan
	s.cliJSON(&plan, "backfill", "fill", "--received", "24h..now", "--dry-run")
	if len(plan.Items) != len(batches) || plan.LeftTotal != 0 || len(s.runs("fill")) != 0 {
		t.Errorf("dry run: %d runs, %d left out, want one for each of %d batches", len(plan.Items), plan.LeftTotal, len(batches))
	}
	for range 2 { // the second is the same request
		if text, code := s.cli("backfill", "fill", "--received", "24h..now", "--id", "first", "--max-active-runs", "2"); code != exitOK ||
			!strings.Contains(text, "backfill first is running: "+fmt.Sprint(len(batches))+" runs") {
			t.Fatalf("backfill: exit %d\n%s", code, text)
		}
	}
	ran := func() (lines []string) {
		text, _ := os.ReadFile(filepath.Join(dir, "ran"))
		return strings.Fields(string(text))
	}
	s.waitFor("running two", func() bool { return len(ran()) == 2 })
	s.kill()
	s.start()
	if text, code := s.cli("backfill", "show", "first"); code != exitOK || !strings.Contains(text, "waits for a place: 2 of 2 runs are under way") {
		t.Errorf("backfill show: exit %d\n%s", code, text)
	}
	if text := s.declined(exitUsage, "replay", s.runs("fill")[0].ID); !strings.Contains(text, "is under way") {
		t.Errorf("a replay of what runs: %s", text)
	}
	write(t, filepath.Join(dir, "gate"), "")
	s.waitFor("running more", func() bool { return len(ran()) > 2 })
	s.kill()
	s.start()
	if text := s.declined(exitFailed, "backfill", "wait", "first"); !strings.Contains(text, fmt.Sprintf("%d succeeded, 1 failed", len(batches)-1)) {
		t.Errorf("backfill wait: %s", text)
	}
	s.onceEach(ran(), batches[0].ID, len(batches))

	write(t, filepath.Join(dir, "bad"), "")
	if text, code := s.cli("backfill", "fill", "--disposition", "failed", "--wait"); code != exitOK || !strings.Contains(text, "1 in all: 1 succeeded") {
		t.Errorf("backfill of what failed: exit %d\n%s", code, text)
	}
	again := ran()[len(batches):]
	if len(again) != 1 || again[0] != batches[2].ID {
		t.Errorf("ran %v again, want %s alone", again, batches[2].ID)
	}
	for _, r := range s.runs("fill") {
		if r.Backfill == "" || r.ReplayOf == "" || !r.NoEmit {
			t.Errorf("run %+v does not say that it is a backfill's", r)
		}
	}
}

// onceEach requires that so many batches, of which one is known, ran once.
func (s *server) onceEach(ran []string, known string, n int) {
	s.t.Helper()
	count := map[string]int{}
	for _, id := range ran {
		count[id]++
	}
	for id, n := range count {
		if n != 1 {
			s.t.Errorf("batch %s ran %d times", id, n)
		}
	}
	if len(count) != n || count[known] != 1 {
		s.t.Errorf("%d batches ran, want all %d: %v", len(count), n, ran)
	}
}
