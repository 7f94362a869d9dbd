package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"millrace/scheduler"
)

// fileBlock is a block of a page whose first line, but for "#!", names the file that it is: "# /srv/dags/count.py".
var fileBlock = regexp.MustCompile("(?s)```[a-z]+\n(#![^\n]*\n)?(?:#|//) (/srv/\\S+)\n(.*?)```")

// pageFiles writes the files of a page, with /srv/dags as dir, /srv/src beside it and /srv/millrace as the source tree, and returns how many there
// are. Those that begin with "#!" are executable.
func pageFiles(t *testing.T, page, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repoRoot(t), page))
	if err != nil {
		t.Fatal(err)
	}
	places := strings.NewReplacer("/srv/dags", dir, "/srv/src", dir+"-src", "/srv/millrace", repoRoot(t))
	files := fileBlock.FindAllStringSubmatch(string(text), -1)
	for _, m := range files {
		path := places.Replace(m[2])
		write(t, path, m[1]+places.Replace(m[3]))
		if m[1] != "" {
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
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

// TestGoPage runs docs/sdk-go.md: a program in a module of its own is tested, built without a network, and run by the server; so is the shell
// script. Then the program is replaced by a broken one and by a new one.
func TestGoPage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dags")
	if n := pageFiles(t, "docs/sdk-go.md", dir); n != 6 {
		t.Fatalf("the page has %d files, want 6", n)
	}
	src, program := dir+"-src/orders", filepath.Join(dir, "orders.dag")
	goRun(t, src, "vet", ".")
	goRun(t, src, "test", ".")
	s := newServer(t, "dev", "--log-level", "error", "--dags", dir)
	s.env = append(s.env, "MILLRACE_BATCH__MAX_AGE=20ms")
	s.start()
	goRun(t, src, "build", "-o", program, ".")
	first := s.head("orders", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" && h.File == "orders.dag" })
	if status, _, err := s.track("go-1"); err != nil || status != 200 {
		t.Fatalf("status %d, %v", status, err)
	}
	s.waitFor("done with a run", func() bool { return len(s.succeeded("orders")) == 1 })
	s.saysInRun("orders", 1, "msg=counted orders=1 batches=1", "error: the warehouse went away")
	s.saysInRun("orders", 2, "msg=loading orders=1 into=orders job=job-1 try=2")
	if jobs, err := os.ReadFile(filepath.Join(dir, "jobs.txt")); err != nil || strings.Count(string(jobs), "\n") != 1 {
		t.Errorf("jobs that were submitted: %q, %v, want one", jobs, err)
	}
	s.triggered("hello")
	s.saysInRun("hello", 1, "hello from say of run r")

	// The tools for authors ask the program, too; the copy that the server runs is no difference.
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"dags", "diff", dir}, "nothing would change"}, {[]string{"dags", "diff", program}, "nothing would change"},
		{[]string{"dags", "graph", program}, "load"},
	} {
		if text, code := s.cli(tt.args...); code != exitOK || !strings.Contains(text, tt.want) {
			t.Errorf("%v: exit %d, %s, want %q", tt.args, code, text, tt.want)
		}
	}
	if text, said, code := millrace(t, dir, nil, "dags", "test", "hello.dag"); code != exitOK || !strings.Contains(text+said, "hello from say of run") {
		t.Errorf("dags test: exit %d, %s%s", code, text, said)
	}

	// The program is broken: what was in force stays, and its copy runs.
	write(t, program+".tmp", "#!/bin/sh\necho no connection >&2; exit 3\n")
	if err := errors.Join(os.Chmod(program+".tmp", 0o755), os.Rename(program+".tmp", program)); err != nil {
		t.Fatal(err)
	}
	broken := s.head("orders", func(h scheduler.DAGHead) bool { return h.Error != "" })
	if broken.Version != first.Version || !strings.Contains(broken.Error, "exit code 3; it says:\nno connection") {
		t.Errorf("version %s, want %s; error:\n%s", broken.Version, first.Version, broken.Error)
	}
	if text, code := validated(t, program); code != exitFailed || !strings.Contains(text, "no connection") {
		t.Errorf("dags validate of the broken program: exit %d, %s", code, text)
	}
	if status, _, err := s.track("go-2"); err != nil || status != 200 {
		t.Fatalf("status %d, %v", status, err)
	}
	s.waitFor("done with another run", func() bool { return len(s.succeeded("orders")) == 2 })

	// A new one is in force; over a restart, too.
	text := readPage(t, src+"/main.go")
	write(t, src+"/main.go", strings.Replace(text, `"loading"`, `"reloading"`, 1))
	remove(t, program)
	goRun(t, src, "build", "-o", program, ".")
	second := s.head("orders", func(h scheduler.DAGHead) bool { return h.Error == "" && h.Version != first.Version })
	if text, code := validated(t, program); code != exitOK || !strings.Contains(text, "orders, 1 rule, 2 tasks") {
		t.Errorf("dags validate: exit %d, %s", code, text)
	}
	s.kill()
	s.start()
	if again := s.head("orders", func(scheduler.DAGHead) bool { return true }); again.Version != second.Version || again.Error != "" {
		t.Errorf("after a restart: %+v, want version %s", again, second.Version)
	}
	if status, _, err := s.track("go-3"); err != nil || status != 200 {
		t.Fatalf("status %d, %v", status, err)
	}
	s.waitFor("done with a third run", func() bool { return len(s.succeeded("orders")) == 3 })
	s.saysInRun("orders", 2, "msg=reloading orders=1")
}

// validated runs `dags validate` on a file.
func validated(t *testing.T, file string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	code := run(t.Context(), []string{"dags", "validate", file}, streams{in: strings.NewReader(""), out: &out, err: &out})
	return out.String(), code
}

// goRun runs the go command in a module, without a network.
func goRun(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func readPage(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestStateOfShellTask runs the block of docs/tasks.md on MILLRACE_STATE: the first try submits a job and fails, the second waits for that job.
func TestStateOfShellTask(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, page, found := strings.Cut(readPage(t, filepath.Join(repoRoot(t), "docs/tasks.md")), "## What a try leaves to the next\n")
	m := shellBlock.FindStringSubmatch(page)
	if !found || m == nil {
		t.Fatal("docs/tasks.md has no block on state")
	}
	for name, text := range map[string]string{
		"submit": `echo "$2" >> "` + dir + `/jobs"; echo job-1`, "wait-for": `echo "waiting for $1"; test "$MILLRACE_TRY" = 2`, "task": m[1],
	} {
		path := filepath.Join(dir, "bin", name)
		write(t, path, "#!/bin/sh\n"+text)
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"d.yaml": "dag: d\ntasks: {a: {run: [task], retry: 2, env: {PATH: '" +
		dir + "/bin:/usr/bin:/bin'}}}\n"}))
	s.start()
	s.head("d", func(h scheduler.DAGHead) bool { return h.Version != "" })
	s.triggered("d")
	for try := range 2 {
		s.saysInRun("d", try+1, "waiting for job-1")
	}
	if jobs := readPage(t, dir+"/jobs"); jobs != s.runs("d")[0].ID+"/a\n" {
		t.Errorf("jobs that were submitted: %q, want one, under the idempotency key", jobs)
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

// TestOwnOperatorsPage runs docs/own-operators.md: an operator in Go and one in Python, used by a DAG; then settings that one does not take, and a
// new build of it.
func TestOwnOperatorsPage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dags")
	if n := pageFiles(t, "docs/own-operators.md", dir); n != 4 {
		t.Fatalf("the page has %d files, want 4", n)
	}
	src, file := dir+"-src/copy", filepath.Join(dir, "nightly.yaml")
	if text, code := validated(t, file); code != exitFailed || !strings.Contains(text, `operator "copy" is not known: there is no copy.op`) {
		t.Errorf("without the operator: exit %d, %s", code, text)
	}
	goRun(t, src, "vet", ".")
	goRun(t, src, "build", "-o", filepath.Join(dir, "copy.op"), ".")
	if text, code := validated(t, file); code != exitOK {
		t.Fatalf("dags validate: exit %d, %s", code, text)
	}
	s := newServer(t, "dev", "--log-level", "error", "--dags", dir)
	s.start()
	first := s.head("nightly", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	s.triggered("nightly", "--param", "day=2026-11-24")
	s.saysInRun("nightly", 1, "msg=copying table=orders day=2026-11-24 columns=2 try=1", "error: the table is locked", "to all: 42 rows of 2026-11-24 (run r")
	s.saysInRun("nightly", 2, "try=2")
	if text, code := s.cli("dags", "diff", dir); code != exitOK {
		t.Errorf("the copy that the server runs is a difference: exit %d, %s", code, text)
	}
	if text, said, code := millrace(t, dir, nil, "dags", "test", "nightly.yaml"); code != exitOK || !strings.Contains(text+said, "to all: 42 rows of 2026-11-23") {
		t.Errorf("dags test: exit %d, %s%s", code, text, said)
	}

	text := readPage(t, file)
	write(t, file, strings.Replace(text, "columns: [id, total]", "columns: id", 1))
	broken := s.head("nightly", func(h scheduler.DAGHead) bool { return h.Error != "" })
	if broken.Version != first.Version || !strings.Contains(broken.Error, "at /columns") || !strings.Contains(broken.Error, "nightly.yaml:6:") {
		t.Errorf("version %s, want %s; error:\n%s", broken.Version, first.Version, broken.Error)
	}
	write(t, file, text)
	s.head("nightly", func(h scheduler.DAGHead) bool { return h.Error == "" })
	write(t, src+"/main.go", strings.Replace(readPage(t, src+"/main.go"), `"rows": 42`, `"rows": 43`, 1))
	remove(t, filepath.Join(dir, "copy.op"))
	goRun(t, src, "build", "-o", filepath.Join(dir, "copy.op"), ".")
	s.head("nightly", func(h scheduler.DAGHead) bool { return h.Error == "" && h.Version != first.Version })
	s.kill()
	s.start()
	s.triggered("nightly")
	s.saysInRun("nightly", 1, "to all: 43 rows")
}

// TestProgramUsesOperator: the operators of a DAG that a program describes are asked as those of a DAG in a file.
func TestProgramUsesOperator(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		write(t, path, "#!/bin/sh\necho '"+text+"'\n")
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	program := script("p.dag", `{"dag": "p", "tasks": {"a": {"use": "copy", "with": {"rows": "many"}}}}`)
	if text, code := validated(t, program); code != exitFailed || !strings.Contains(text, `operator "copy" is not known`) {
		t.Errorf("without the operator: exit %d, %s", code, text)
	}
	script("copy.op", `{"settings": {"type": "object", "properties": {"rows": {"type": "integer"}}}}`)
	if text, code := validated(t, program); code != exitFailed || !strings.Contains(text, "at /rows: got string, want integer") {
		t.Errorf("settings that do not fit: exit %d, %s", code, text)
	}
	script("copy.op", `{"settings": {"type": "object", "properties": {"rows": {"type": "string"}}}}`)
	if text, code := validated(t, program); code != exitOK {
		t.Errorf("settings that fit: exit %d, %s", code, text)
	}
}
