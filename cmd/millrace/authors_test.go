package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"millrace/scheduler"
)

// fileBlock is a block of a page whose first line names the file that it is: "# /srv/dags/count.py".
var fileBlock = regexp.MustCompile("(?s)```[a-z]+\n(?:#|//) (/srv/\\S+)\n(.*?)```")

// pageFiles writes the files of a page, with /srv/dags as dir and /srv/millrace as the source tree, and returns how many there are.
func pageFiles(t *testing.T, page, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repoRoot(t), page))
	if err != nil {
		t.Fatal(err)
	}
	places := strings.NewReplacer("/srv/dags", dir, "/srv/millrace", repoRoot(t))
	files := fileBlock.FindAllStringSubmatch(string(text), -1)
	for _, m := range files {
		write(t, places.Replace(m[1]), places.Replace(m[2]))
	}
	return len(files)
}

// TestPythonPage runs docs/sdk-python.md: its tasks by the server, on an event, and its test by Python alone.
func TestPythonPage(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3, at least 3.9")
	}
	dir := t.TempDir()
	if n := pageFiles(t, "docs/sdk-python.md", dir); n != 6 {
		t.Fatalf("the page has %d files, want 6", n)
	}
	unit := exec.Command(python, "-m", "unittest", "-v", "test_count")
	unit.Dir, unit.Env = dir, append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH="+filepath.Join(repoRoot(t), "scheduler/sdk/python"))
	if out, err := unit.CombinedOutput(); err != nil || !strings.Contains(string(out), "Ran 2 tests") {
		t.Errorf("the task's own test: %v\n%s", err, out)
	}
	s := newServer(t, "dev", "--log-level", "error", "--dags", dir)
	s.env = append(s.env, "MILLRACE_BATCH__MAX_AGE=20ms")
	s.start()
	s.head("counts", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	s.head("export", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	if status, _, err := s.track("py-1"); err != nil || status != 200 {
		t.Fatalf("status %d, %v", status, err)
	}
	s.waitFor("done with a run", func() bool { return len(s.succeeded("counts")) == 1 })
	s.saysInRun("counts", 1, "1 events in 1 batches", "Tested: 1")

	s.triggered("export")
	s.saysInRun("export", 1, "submitted job-1", "ConnectionError: the warehouse went away")
	s.saysInRun("export", 2, "try 2 goes on with job-1")
	if jobs, err := os.ReadFile(filepath.Join(dir, "jobs.txt")); err != nil || strings.Count(string(jobs), "\n") != 1 {
		t.Errorf("jobs that were submitted: %q, %v, want one", jobs, err)
	}
}

// triggered starts a run by hand and waits until it has succeeded.
func (s *server) triggered(dag string, args ...string) {
	s.t.Helper()
	if text, code := s.cli(append([]string{"dags", "trigger", dag, "--wait"}, args...)...); code != exitOK {
		logs, _ := s.cli("runs", "logs", s.runs(dag)[0].ID)
		s.t.Fatalf("run of %s: exit %d\n%s\n%s", dag, code, text, logs)
	}
}

// saysInRun requires texts in the logs of one attempt of each task of the newest run of a DAG.
func (s *server) saysInRun(dag string, try int, want ...string) {
	s.t.Helper()
	logs, code := s.cli("runs", "logs", s.runs(dag)[0].ID, "--try", strconv.Itoa(try))
	for _, text := range want {
		if code != exitOK || !strings.Contains(logs, text) {
			s.t.Errorf("run of %s: exit %d, want %q in\n%s", dag, code, text, logs)
		}
	}
}
