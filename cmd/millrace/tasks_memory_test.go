package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"millrace/scheduler"
)

// TestMemoryOfTasks: what a running task takes of millrace and of its runner. The goal is at most 2 MB and one exec: nothing of ours stands
// between the runner and what the task names, so 100 tasks are 100 children, and each is the program itself.
func TestMemoryOfTasks(t *testing.T) {
	t.Parallel()
	const tasks, goal = 100, 2e6
	var many strings.Builder
	many.WriteString("dag: many\non: [{id: by_hand, manual: true}]\ntasks:\n")
	for i := range tasks {
		fmt.Fprintf(&many, "  t%d: {run: [sleep, '600']}\n", i)
	}
	const one = "dag: one\non: [{id: by_hand, manual: true}]\ntasks: {one: {run: ['true']}}\n"
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"many.yaml": many.String(), "one.yaml": one}))
	s.env = append(s.env, fmt.Sprintf("MILLRACE_EXECUTORS__LOCAL__SLOTS=%d", tasks))
	s.start()
	for _, dag := range []string{"one", "many"} {
		s.head(dag, func(h scheduler.DAGHead) bool { return h.Version != "" })
	}
	s.cli("dags", "trigger", "one") // so that the runner is there
	s.waitFor("done with a run", func() bool { return len(s.succeeded("one")) == 1 })
	runner := s.runners()
	if len(runner) != 1 {
		t.Fatalf("%d runners, want 1", len(runner))
	}
	before := s.usage().rss + usageOf(t, runner[0]).rss
	s.cli("dags", "trigger", "many")
	var programs []string
	s.waitFor("running all tasks, each as the program that it names", func() bool {
		programs = children(runner[0])
		sleeping := 0
		for _, name := range programs {
			if name == "sleep" {
				sleeping++
			}
		}
		return sleeping >= tasks
	})
	each := (s.usage().rss + usageOf(t, runner[0]).rss - before) / tasks
	t.Logf("measured: %d running tasks, %d KiB each of millrace and its runner", tasks, each>>10)
	if each > goal {
		t.Errorf("%d bytes for each running task, want at most %d", each, int(goal))
	}
	if len(programs) != tasks {
		t.Errorf("the children of the runner are %q, want %d times sleep", programs, tasks)
	}
}

// children returns the names of the programs whose parent is a process; see proc_pid_stat(5).
func children(parent int) (names []string) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, _ := os.ReadFile(path)
		name, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			names = append(names, name[strings.IndexByte(name, '(')+1:])
		}
	}
	return names
}
