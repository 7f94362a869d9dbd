package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
)

// TestKillWithThousandTasks: millrace is killed while 1,000 tasks run, and started again. None is lost, doubled or killed: each appends its
// start and its end to a file of its own, and only those are counted.
func TestKillWithThousandTasks(t *testing.T) {
	t.Parallel()
	const tasks = 1000
	notes := t.TempDir()
	var wide strings.Builder
	wide.WriteString("dag: wide\non: [{id: by_hand, manual: true}]\ntasks:\n")
	for i := range tasks {
		fmt.Fprintf(&wide, "  t%d: {run: 'echo start >> %[2]s/%[1]d; while [ ! -e %[2]s/end ]; do sleep 1; done; echo end >> %[2]s/%[1]d'}\n", i, notes)
	}
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"wide.yaml": wide.String()}))
	s.env = append(s.env, fmt.Sprintf("MILLRACE_EXECUTORS__LOCAL__SLOTS=%d", tasks))
	s.start()
	s.head("wide", func(h scheduler.DAGHead) bool { return h.Version != "" })
	var run scheduler.Run
	s.cliJSON(&run, "dags", "trigger", "wide")
	s.waitFor("running all tasks", func() bool { return len(noted(notes)) == tasks })
	s.kill()
	began := time.Now()
	s.start()
	back := time.Since(began)
	if text := noted(notes); len(text) != tasks {
		t.Errorf("%d tasks have begun after the restart, want %d", len(text), tasks)
	}
	write(t, filepath.Join(notes, "end"), "")
	s.waitFor("done with the run", func() bool { return len(s.succeeded("wide")) == 1 })
	wrong := 0
	for name, text := range noted(notes) {
		if text != "start\nend\n" {
			wrong++
			t.Logf("task %s noted %q", name, text)
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d tasks were not executed once from start to end", wrong, tasks)
	}
	t.Logf("measured: killed with %d running tasks, ready again after %v, each executed once", tasks, back.Round(time.Millisecond))
}

// noted returns what the tasks have written, by the names of their files.
func noted(dir string) map[string]string {
	out := map[string]string{}
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if text, err := os.ReadFile(filepath.Join(dir, f.Name())); err == nil && f.Name() != "end" {
			out[f.Name()] = string(text)
		}
	}
	return out
}
