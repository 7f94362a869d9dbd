package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
)

// TestGoPageAsks runs the second program of docs/sdk-go.md, built in a module of its own: its setup, what that covers, a question that waits through
// a kill, what was filled in, the teardown, and a deadline. Who rejects leaves nothing behind but the teardown's work.
func TestGoPageAsks(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dags")
	pageFiles(t, "docs/sdk-go.md", dir)
	src, program := dir+"-src/nightly", filepath.Join(dir, "nightly.dag")
	goRun(t, src, "vet", ".")
	goRun(t, src, "build", "-o", program, ".")
	if text, code := validated(t, program); code != exitOK || !strings.Contains(text, "nightly, no rules, 6 tasks") {
		t.Fatalf("dags validate: exit %d, %s", code, text)
	}
	s := newServer(t, "dev", "--log-level", "error", "--dags", dir)
	s.start()
	s.head("nightly", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })

	id := s.asked("nightly")
	s.kill()
	s.start()
	if text, code := s.cli("approvals", "ls", "--run", id); code != exitOK || !strings.Contains(text, "Publish 12 clicks?") || !strings.Contains(text, "then reject") {
		t.Errorf("approvals ls: exit %d, %s", code, text)
	}
	var d scheduler.RunDetail
	s.cliJSON(&d, "runs", "show", id)
	if len(d.Run.Deadlines) != 1 || d.Run.Deadlines[0].At.Sub(d.Run.CreatedAt).Round(time.Second) != 6*time.Hour {
		t.Errorf("deadlines %+v of a run of %v, want one after 6h", d.Run.Deadlines, d.Run.CreatedAt)
	}
	if text, code := s.cli("tasks", "approve", id+"/ask", "--by", "ops", "--input", "table=monday"); code != exitOK {
		t.Fatalf("tasks approve: exit %d, %s", code, text)
	}
	s.waitFor("the end", func() bool { return s.runState(id) == scheduler.StateSuccess })
	s.saysInRun("nightly", 1, "msg=loading what=clicks into=load_"+id, "msg=loading what=orders into=load_"+id,
		"msg=published schema=load_"+id+" as=monday by=ops", "msg=dropped schema=load_"+id)

	id = s.asked("nightly")
	if text, code := s.cli("tasks", "reject", id+"/ask", "--by", "ops"); code != exitOK {
		t.Fatalf("tasks reject: exit %d, %s", code, text)
	}
	s.waitFor("the end", func() bool { return s.runState(id).Terminal() })
	s.cliJSON(&d, "runs", "show", id)
	for task, want := range map[string]scheduler.State{"publish": scheduler.StateSkipped, "schema_teardown": scheduler.StateSuccess} { // what follows a rejection is skipped, and all is taken down
		i := slices.IndexFunc(d.Tasks, func(r scheduler.TaskRun) bool { return r.Task == task })
		if i < 0 || d.Tasks[i].State != want {
			t.Errorf("task %s of the run that was rejected: %+v, want %s", task, d.Tasks, want)
		}
	}
}

// asked starts a run and returns its id when its task "ask" waits for a person.
func (s *server) asked(dag string) string {
	s.t.Helper()
	var r scheduler.Run
	s.cliJSON(&r, "dags", "trigger", dag)
	s.waitFor("the question", func() bool { return s.asks(r.ID) == r.ID+"/ask" })
	return r.ID
}
