package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"millrace/scheduler"
	"millrace/scheduler/spec"
)

// gateDAGs have a task that asks before another is executed, and one that starts a run of the second DAG, which asks as well.
const gateDAGs = `dag: gate
tasks:
  count: {run: "echo '{\"rows\": 12}' > $MILLRACE_OUTPUT"}
  ask:
    needs: count
    approval: {message: "Load ${{ tasks.count.output.rows }} rows?", by: [ops], options: [append, replace], params: {limit: 10}}
  load: {needs: ask, run: ["sh", "@FILE", "${{ tasks.ask.output.option }}", "${{ tasks.ask.output.input.limit }}"]}
---
dag: up
tasks:
  sub: {dag: {id: down, params: {n: 3}}}
  after: {needs: sub, run: ["sh", "@FILE", "${{ tasks.sub.output.outputs.last.n }}"]}
---
dag: down
params: {n: 1}
tasks:
  ask: {approval: "Go on?"}
  last: {needs: ask, run: "echo \"{\\\"n\\\": $N}\" > $MILLRACE_OUTPUT", env: {N: "${{ params.n }}"}}
`

// TestApprovals: what waits for a person waits through a kill, is decided once and by those who may, and what follows has the decision.
func TestApprovals(t *testing.T) {
	t.Parallel()
	s, file := startGates(t)
	var r scheduler.Run
	s.cliJSON(&r, "dags", "trigger", "gate")
	s.waitFor("the question", func() bool { return s.asks(r.ID) == r.ID+"/ask" })
	s.kill()
	s.start()
	var list []scheduler.Question
	s.cliJSON(&list, "approvals", "ls", "--run", r.ID)
	if len(list) != 1 || list[0].Message != "Load 12 rows?" || list[0].OnReject != "skip" {
		t.Fatalf("got %+v", list)
	}
	for _, tt := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"tasks", "approve", r.ID, "ask", "--option", "append"}, "Say who decides with --by", exitUsage},
		{[]string{"tasks", "approve", r.ID, "ask", "--by", "ops"}, "want one of append, replace", exitUsage},
		{[]string{"tasks", "approve", r.ID, "--by", "ops"}, "want RUN TASK", exitUsage},
		{[]string{"tasks", "reject", r.ID, "count", "--by", "ops"}, "it is no approval", exitUsage},
		{[]string{"tasks", "approve", r.ID + "/ask", "--by", "ops", "--option", "append", "--input", "limit=5", "--comment", "fine"}, "approved by ops, option append: fine", exitOK},
		{[]string{"tasks", "reject", r.ID, "ask", "--by", "ops"}, "was decided already: approved by ops, option append: fine at 2", exitConflict},
	} {
		out, errs, code := millrace(t, s.dir, nil, append(tt.args, "--data-dir", s.dir, "--server", "http://"+s.console)...)
		if code != tt.code || !strings.Contains(out+errs, tt.want) {
			t.Errorf("%v: exit %d: %s%s", tt.args, code, out, errs)
		}
	}
	s.waitFor("the end", func() bool { return s.runState(r.ID) == scheduler.StateSuccess })
	if got := given(t, file); got != "append 5\n" {
		t.Errorf("what follows was given %q", got)
	}
	if text, _ := s.cli("explain", "task", r.ID+"/ask"); !strings.Contains(text, "ended: success, approved by ops") {
		t.Errorf("explain: %s", text)
	}
}

// TestSubDAGs: a run of another DAG is started once, whatever is killed meanwhile, and the task ends as that does; a cancel reaches it.
func TestSubDAGs(t *testing.T) {
	t.Parallel()
	s, file := startGates(t)
	var r scheduler.Run
	s.cliJSON(&r, "dags", "trigger", "up")
	child := ""
	s.waitFor("the question of the other run", func() bool {
		child, _, _ = strings.Cut(s.asks(""), "/")
		return child != ""
	})
	if text, _ := s.cli("explain", "run", r.ID); !strings.Contains(text, "task sub waits for run "+child+" of dag down (running): task ask waits since") {
		t.Errorf("explain: %s", text)
	}
	if text, _ := s.cli("runs", "show", child); !strings.Contains(text, "parent   "+r.ID+"/sub") || !strings.Contains(text, `{"n":3}`) {
		t.Errorf("runs show of it: %s", text)
	}
	s.kill()
	s.start()
	var row scheduler.TaskRun
	if s.cliJSON(&row, "tasks", "approve", child, "ask"); row.State != scheduler.StateSuccess || row.Task != "ask" {
		t.Fatalf("approve: %+v", row)
	}
	s.waitFor("the end", func() bool { return s.runState(r.ID) == scheduler.StateSuccess })
	if got := given(t, file); got != "3\n" {
		t.Errorf("what follows was given %q", got)
	}
	if text, _ := s.cli("runs", "show", r.ID); !strings.Contains(text, "sub   "+child) {
		t.Errorf("runs show: %s", text)
	}
	var all []scheduler.Run
	if s.cliJSON(&all, "runs", "ls", "--dag", "down"); len(all) != 1 {
		t.Errorf("there are %d runs of the other DAG", len(all))
	}
	s.cliJSON(&r, "dags", "trigger", "up")
	s.waitFor("another question", func() bool { child = s.asks(""); return child != "" })
	child, _, _ = strings.Cut(child, "/")
	if text, code := s.cli("runs", "cancel", r.ID); code != exitOK {
		t.Fatalf("cancel: %s", text)
	}
	s.waitFor("both cancelled", func() bool {
		return s.runState(r.ID) == scheduler.StateCancelled && s.runState(child) == scheduler.StateCancelled
	})
}

// startGates starts a server with the DAGs above, and returns the program that writes its arguments into a file.
func startGates(t *testing.T) (s *server, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "note.sh")
	write(t, file, "echo \"$@\" > \"$0.out\"\n")
	s = newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"gates.yaml": strings.ReplaceAll(gateDAGs, "@FILE", file)}))
	s.start()
	for _, dag := range []string{"gate", "up", "down"} {
		s.head(dag, func(h scheduler.DAGHead) bool { return h.Version != "" })
	}
	return s, file
}

// asks returns the first task that waits for a decision, of a run or of all for "", or "".
func (s *server) asks(run string) string {
	text, code := s.cli("approvals", "ls", "--run", run, "-o", "name")
	if code != exitOK {
		return ""
	}
	return firstLine(strings.TrimSpace(text))
}

func (s *server) runState(id string) scheduler.State {
	s.t.Helper()
	text, code := s.cli("runs", "show", id, "-o", "json")
	var d scheduler.RunDetail
	if code != exitOK || json.Unmarshal([]byte(text), &d) != nil {
		return ""
	}
	return d.Run.State
}

// given returns the arguments that the program was given last.
func given(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file + ".out")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestParkedDocs: the DAG files of the pages about tasks that take no slot have no fault, and no warning about each other.
func TestParkedDocs(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"approval.md", "subdags.md"} {
		text, err := os.ReadFile(filepath.Join(repoRoot(t), "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "```yaml\n")
		src, _, _ := strings.Cut(rest, "```")
		f := spec.ReadFile(page, []byte(src))
		if w := spec.SubDAGs([]spec.File{f}); len(f.DAGs) == 0 || len(f.Faults)+len(f.Warnings)+len(w) > 0 {
			t.Errorf("%s: %d DAGs, %v, %v, %v", page, len(f.DAGs), f.Faults, f.Warnings, w)
		}
	}
}
