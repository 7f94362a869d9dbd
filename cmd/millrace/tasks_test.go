package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"millrace/scheduler"
)

// longDAG is a task that says who it is in a file outside, and then counts until it is told to end. @DIR is replaced.
const longDAG = `dag: long
on: [{id: by_hand, manual: true}]
tasks:
  count:
    retry: {limit: 3}
    run: |
      echo "$$ $MILLRACE_TRY" >> "@DIR/$MILLRACE_RUN_ID"
      i=0
      while [ ! -e "@DIR/$MILLRACE_RUN_ID.end" ]; do
        echo "tick $i"
        i=$((i+1))
        sleep 0.05
      done
      echo "end $i"
`

// longTasks are running tasks of longDAG, and the directory where they say so.
type longTasks struct {
	s    *server
	dir  string
	runs []string
}

// TestKillWithTasks is row 51: millrace is killed three times while tasks run. Tasks go on without it, some end while it is away; after the restart
// all are known, none was executed twice, none was killed, and what each printed is in its log without a gap.
func TestKillWithTasks(t *testing.T) {
	t.Parallel()
	const tasks, kills = 8, 3
	x := &longTasks{dir: t.TempDir()}
	x.s = newServer(t, "dev", "--log-level", "error", "--dags",
		dagDir(t, map[string]string{"long.yaml": strings.ReplaceAll(longDAG, "@DIR", x.dir)}))
	s := x.s
	s.start()
	s.head("long", func(h scheduler.DAGHead) bool { return h.Version != "" })
	for i := range tasks {
		var r scheduler.Run
		s.cliJSON(&r, "dags", "trigger", "long", "--id", fmt.Sprintf("r%d", i))
		x.runs = append(x.runs, r.ID)
	}
	s.waitFor("running all tasks", func() bool { return len(x.alive()) == tasks })
	ended := 0
	for range kills {
		s.kill()
		before := x.ticks()
		s.waitFor("without millrace, but with tasks that count", func() bool { return x.ticks() >= before+10*(tasks-ended) })
		for range 2 { // these end while nobody is there to hear of it
			write(t, filepath.Join(x.dir, x.runs[ended]+".end"), "")
			ended++
		}
		s.waitFor("rid of two tasks", func() bool { return len(x.alive()) == tasks-ended })
		s.start()
		s.waitFor("told of two more ends", func() bool { return len(s.succeeded("long")) == ended })
		if got := len(x.alive()); got != tasks-ended {
			t.Errorf("%d tasks are alive after the restart, want %d", got, tasks-ended)
		}
	}
	for _, id := range x.runs[ended:] {
		write(t, filepath.Join(x.dir, id+".end"), "")
	}
	s.waitFor("done", func() bool { return len(s.succeeded("long")) == tasks })
	ticks := 0
	for _, id := range x.runs {
		ticks += x.complete(id)
	}
	t.Logf("measured: %d tasks over %d kills, each executed once, %d of them ended while millrace was away, %d lines of logs without a gap",
		tasks, kills, ended, ticks)
}

// alive returns the processes of tasks that have begun and not ended, by what they wrote.
func (x *longTasks) alive() (pids []int) {
	for _, id := range x.runs {
		text, _ := os.ReadFile(filepath.Join(x.dir, id))
		for line := range strings.Lines(string(text)) {
			first, _, _ := strings.Cut(line, " ")
			if pid, err := strconv.Atoi(first); err == nil && syscall.Kill(pid, 0) == nil && !zombie(pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// ticks counts the lines that all tasks have in their log files, which needs no server.
func (x *longTasks) ticks() int {
	n := 0
	logs, _ := filepath.Glob(filepath.Join(x.s.dir, "tasks", "logs", "*", "*.log"))
	for _, path := range logs {
		text, _ := os.ReadFile(path)
		n += strings.Count(string(text), "tick ")
	}
	return n
}

// complete requires that a run's task was started once, by its first attempt, and that its log has every line; it returns how many.
func (x *longTasks) complete(id string) int {
	t := x.s.t
	t.Helper()
	starts, err := os.ReadFile(filepath.Join(x.dir, id))
	if err != nil || strings.Count(string(starts), "\n") != 1 || !strings.HasSuffix(string(starts), " 1\n") {
		t.Errorf("run %s: started as %q, %v, want once, by attempt 1", id, starts, err)
	}
	text, code := x.s.cli("runs", "logs", id)
	if code != exitOK {
		t.Errorf("runs logs %s: exit %d", id, code)
	}
	ticks := strings.Count(text, "tick ")
	var want strings.Builder
	for i := range ticks {
		fmt.Fprintf(&want, "tick %d\n", i)
	}
	fmt.Fprintf(&want, "end %d\n", ticks)
	if !strings.Contains(text, want.String()) {
		t.Errorf("run %s: the log has a gap:\n%s", id, text)
	}
	return ticks
}

// succeeded returns the runs of a DAG that have ended well; one that ended otherwise is an error.
func (s *server) succeeded(dag string) (out []scheduler.Run) {
	s.t.Helper()
	for _, r := range s.runs(dag) {
		switch {
		case r.State == scheduler.StateSuccess:
			out = append(out, r)
		case r.State.Terminal():
			s.t.Fatalf("run %s ended as %s: %s", r.ID, r.State, r.Reason)
		}
	}
	return out
}

// TestBrokenDAGFile is row 57: a file is broken while the server runs. Its last good version stays in force, also over a restart, and its
// neighbours are not concerned; `dags ls` and `dags show` say what is wrong and where. When the file is mended, the new version is in force.
func TestBrokenDAGFile(t *testing.T) {
	t.Parallel()
	const dag = "dag: d\non: [{id: every, batch: {source: web}}]\ntasks:\n  say: {run: [echo, %s]}\n"
	dir := dagDir(t, map[string]string{"d.yaml": fmt.Sprintf(dag, "first"), "count.yaml": countDAG})
	file := filepath.Join(dir, "d.yaml")
	s := newServer(t, "dev", "--log-level", "error", "--dags", dir)
	s.env = append(s.env, "MILLRACE_BATCH__MAX_AGE=20ms")
	s.start()
	first := s.head("d", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	s.nextSays("first", first.Version)
	for _, tt := range []struct{ name, text, fault string }{
		{"unknown key", strings.ReplaceAll(fmt.Sprintf(dag, "never"), "run:", "rnu:"), `did you mean "run"?`},
		{"cycle", fmt.Sprintf(dag, "never") + "  a: {needs: [b], run: [echo]}\n  b: {needs: [a], run: [echo]}\n", "a"},
		{"not YAML", "dag: d\ntasks: [", "d.yaml"},
	} {
		write(t, file, tt.text)
		broken := s.head("d", func(h scheduler.DAGHead) bool { return strings.Contains(h.Error, tt.fault) })
		if broken.Version != first.Version || !strings.Contains(broken.Error, "d.yaml") {
			t.Errorf("%s: version %s, want that of before, %s; error, which must name the file:\n%s", tt.name, broken.Version, first.Version, broken.Error)
		}
		if text, code := s.cli("dags", "ls"); code != exitOK || !strings.Contains(text, "broken file, last good version in force") {
			t.Errorf("%s: dags ls: exit %d\n%s", tt.name, code, text)
		}
		if text, code := s.cli("dags", "show", "d"); code != exitOK || !strings.Contains(text, tt.fault) {
			t.Errorf("%s: dags show: exit %d, want %q in\n%s", tt.name, code, tt.fault, text)
		}
		s.nextSays("first", first.Version)
		s.kill()
		s.start()
		if again := s.head("d", func(h scheduler.DAGHead) bool { return h.Error != "" }); again.Version != first.Version {
			t.Errorf("%s: version %s after a restart, want %s", tt.name, again.Version, first.Version)
		}
		s.nextSays("first", first.Version)
	}
	write(t, filepath.Join(dir, "new.yaml"), "dag: new\non: {}\n") // one that never had a good version is shown as well
	if h := s.head("new", func(h scheduler.DAGHead) bool { return h.Error != "" }); h.Version != "" {
		t.Errorf("a file without a good version: %+v", h)
	}
	if text := s.declined(exitNotFound, "dags", "trigger", "new"); !strings.Contains(text, "new.yaml") || !strings.Contains(text, "millrace dags show new") {
		t.Errorf("trigger of a DAG that never compiled does not point at its file:\n%s", text)
	}
	write(t, file, fmt.Sprintf(dag, "second"))
	second := s.head("d", func(h scheduler.DAGHead) bool { return h.Version != first.Version })
	if second.Error != "" {
		t.Errorf("the mended file has the error %s", second.Error)
	}
	s.nextSays("second", second.Version)
	if other := s.head("count", func(scheduler.DAGHead) bool { return true }); other.Error != "" || len(s.oneRunEach("count")) == 0 {
		t.Errorf("the neighbour: %+v", other)
	}
}

// head waits until the server says of a DAG what is expected.
func (s *server) head(dag string, ok func(scheduler.DAGHead) bool) (found scheduler.DAGHead) {
	s.t.Helper()
	s.waitFor("aware of the DAG file", func() bool {
		var list []scheduler.DAGHead
		s.cliJSON(&list, "dags", "ls")
		for _, h := range list {
			if h.ID == dag && ok(h) {
				found = h
				return true
			}
		}
		return false
	})
	return found
}

// nextSays posts an event and requires that DAG d's next run is of a version, and says a word.
func (s *server) nextSays(word, version string) {
	s.t.Helper()
	before := len(s.succeeded("d"))
	if status, _, err := s.track(fmt.Sprintf("n-%d", before)); err != nil || status != 200 {
		s.t.Fatalf("status %d, %v", status, err)
	}
	var runs []scheduler.Run
	s.waitFor("done with another run", func() bool {
		runs = s.succeeded("d")
		return len(runs) > before
	})
	text, code := s.cli("runs", "logs", runs[0].ID)
	if code != exitOK || !strings.Contains(text, word) || runs[0].Version != version {
		s.t.Errorf("run %s is of version %s, exit %d, and says %q; want %s and %s", runs[0].ID, runs[0].Version, code, text, version, word)
	}
}
