package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"millrace/scheduler"
)

// TestForeachExample runs the example of docs/foreach.md: a task for each object of several batches, one of which fails as is tolerated, while
// millrace is killed in the middle. No item is executed twice.
func TestForeachExample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/foreach.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)```yaml\n(dag: fanout.*?)```").FindSubmatch(text)
	if example == nil {
		t.Fatal("docs/foreach.md has no example")
	}
	work := t.TempDir()
	write(t, filepath.Join(work, "reject"), "")
	dag := strings.NewReplacer(
		"params: {reject: /nonexistent}", "params: {reject: "+filepath.Join(work, "reject")+"}",
		"      echo \"object", fmt.Sprintf("      echo x >> '%s/ran-'$MILLRACE_MAP_INDEX\n      until [ -e '%s/go' ]; do sleep 0.02; done\n      echo \"object", work, work),
	).Replace(string(example[1]))
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"fanout.yaml": dag}))
	s.env = append(s.env, "MILLRACE_BATCH__MAX_AGE=20ms")
	s.start()
	s.head("fanout", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	for i := range 3 {
		if status, _, err := s.post("/hooks/demo", fmt.Sprintf(`{"n": %d}`, i)); err != nil || status != 200 {
			t.Fatalf("post: %d, %v", status, err)
		}
		s.waitFor("sealed", func() bool { return len(s.batches()) == i+1 })
	}
	var runs []scheduler.Run
	s.waitFor("started by three batches", func() bool { s.cliJSON(&runs, "runs", "ls", "--dag", "fanout"); return len(runs) == 1 })
	id := runs[0].ID
	var d scheduler.RunDetail
	show := func() { s.cliJSON(&d, "runs", "show", id) }
	s.waitFor("running two items", func() bool { show(); return d.Mapped["load"][scheduler.StateRunning] == 2 })
	if why, _ := s.cli("explain", "task", id+"/load/2"); !strings.Contains(why, "waits for max_concurrent of task load: 2 of 2 go on") {
		t.Errorf("explain says %s", why)
	}
	s.kill()
	write(t, filepath.Join(work, "go"), "") // they end while nobody looks
	s.start()
	s.waitFor("at the end", func() bool { show(); return d.Run.State.Terminal() })
	if d.Run.State != scheduler.StateSuccess || d.Mapped["load"][scheduler.StateFailed] != 1 || d.Mapped["load"][scheduler.StateSuccess] != 2 {
		t.Fatalf("the run is %s (%s), its items are %v", d.Run.State, d.Run.Reason, d.Mapped)
	}
	for i := range 3 {
		if got := lines(t, filepath.Join(work, fmt.Sprint("ran-", i))); len(got) != 1 {
			t.Errorf("item %d was executed %d times", i, len(got))
		}
	}
	var outputs []map[string]int
	if err := json.Unmarshal(d.Tasks[0].Output, &outputs); err != nil || len(outputs) != 3 || outputs[0]["events"] != 1 || outputs[1] != nil || outputs[2]["events"] != 1 {
		t.Errorf("the list of outputs is %s", d.Tasks[0].Output)
	}
	if logs, _ := s.cli("runs", "logs", id); !strings.Contains(logs, "loaded 2 of 3, 1 failed") || !strings.Contains(logs, "==> load/0 (try 1) <==") {
		t.Errorf("the logs are %s", logs)
	}
	var failed []scheduler.TaskRun
	if s.cliJSON(&failed, "tasks", "ls", id, "--task", "load", "--state", "failed"); len(failed) != 1 || failed[0].MapIndex != 1 || failed[0].Item.Key == "" {
		t.Errorf("those that failed are %+v", failed)
	}
	if text, _ := s.cli("runs", "show", id); !strings.Contains(text, "1 failed, 2 success") {
		t.Errorf("runs show prints %s", text)
	}
	if err := os.Remove(filepath.Join(work, "reject")); err != nil {
		t.Fatal(err)
	}
	if out, code := s.cli("runs", "clear", id, "--task", "load", "--map-index", "1"); code != 0 || !strings.Contains(out, "load/1") {
		t.Errorf("clear: exit code %d, %s", code, out)
	}
	s.waitFor("executed again", func() bool {
		show()
		return d.Mapped["load"][scheduler.StateSuccess] == 3 && d.Run.State == scheduler.StateSuccess
	})
}
