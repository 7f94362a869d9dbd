package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// authored is a file as its author has it while he writes: what the tools for authors are tried on.
const authored = `
dag: load
on: [{id: clicks, batch: {source: web}}]
tasks:
  check: {run: [check]}
  load: {needs: [check], run: ./load.sh, retry: {limit: 3}}
  report: {needs: [load, check], run: ./report.sh}
`

// TestDAGsSchema: the binary prints the schema that is in the repository.
func TestDAGsSchema(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile(filepath.Join(repoRoot(t), "scheduler/spec/schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	out, errs, code := millrace(t, t.TempDir(), nil, "dags", "schema")
	if code != exitOK || out != string(want) {
		t.Errorf("got %d, %s, and %d bytes, want the %d of scheduler/spec/schema.json", code, errs, len(out), len(want))
	}
	if !json.Valid(want) {
		t.Error("the schema is not JSON")
	}
}

// TestDAGsGraph draws the same from a file, without a server, and from a server.
func TestDAGsGraph(t *testing.T) {
	t.Parallel()
	dir := dagDir(t, map[string]string{"load.yaml": authored, "bad.yaml": "dag: bad\ntasks: {a: {rum: x}}\n"})
	file := filepath.Join(dir, "load.yaml")
	draw := func(args ...string) string {
		out, errs, code := millrace(t, dir, []string{"MILLRACE_SERVER=http://127.0.0.1:1"}, append([]string{"dags", "graph"}, args...)...)
		if code != exitOK {
			t.Fatalf("%v: exit %d: %s", args, code, errs)
		}
		return out
	}
	text := draw(file)
	want := `load
  on clicks: batches of web
└─ check
   └─ load
      └─ report  (also after check)
`
	if text != want {
		t.Errorf("got\n%swant\n%s", text, want)
	}
	for format, word := range map[string]string{"mermaid": "flowchart LR", "dot": "digraph \"load\" {"} {
		if out := draw(file, "--format", format); !strings.Contains(out, word) {
			t.Errorf("%s: got\n%s", format, out)
		}
	}
	for name, want := range map[string]struct {
		args []string
		code int
		text string
	}{
		"a file with a fault":      {[]string{filepath.Join(dir, "bad.yaml")}, exitFailed, "did you mean \"run\"?"},
		"a file that is not there": {[]string{"none/none.yaml"}, exitFailed, "no such file"},
		"no server":                {[]string{"load"}, exitUnreachable, "Is it running?"},
		"no such format":           {[]string{file, "--format", "mermaide"}, exitUsage, "did you mean \"mermaid\"?"},
	} {
		_, errs, code := millrace(t, dir, []string{"MILLRACE_SERVER=http://127.0.0.1:1"}, append([]string{"dags", "graph"}, want.args...)...)
		if code != want.code || !strings.Contains(errs, want.text) {
			t.Errorf("%s: got exit %d and %q, want %d and %q", name, code, errs, want.code, want.text)
		}
	}
	s := newServer(t, "dev", "--dags", dir)
	s.start()
	s.waitFor("with its DAG", func() bool { _, code := s.cli("dags", "show", "load"); return code == exitOK })
	if got, code := s.cli("dags", "graph", "load"); code != exitOK || got != text {
		t.Errorf("the server's DAG: exit %d, got\n%swant\n%s", code, got, text)
	}
	if _, code := s.cli("dags", "graph", "none"); code != exitNotFound {
		t.Errorf("a DAG that is not there: exit %d, want %d", code, exitNotFound)
	}
}

// TestDAGsDiff: what a deployment would change is what it changes.
func TestDAGsDiff(t *testing.T) {
	t.Parallel()
	old := "dag: old\ntasks: {a: {run: x}}\n"
	live := dagDir(t, map[string]string{"load.yaml": authored, "old.yaml": old})
	s := newServer(t, "dev", "--dags", live)
	s.start()
	s.waitFor("with its DAGs", func() bool { _, code := s.cli("dags", "show", "old"); return code == exitOK })
	if out, code := s.cli("dags", "diff", live); code != exitOK || out != "nothing would change\n" {
		t.Errorf("the same files: exit %d, got %s", code, out)
	}
	next := dagDir(t, map[string]string{
		"load.yaml": strings.Replace(strings.Replace(authored, "limit: 3", "limit: 5", 1), "[{id: clicks", "[manual, {id: clicks", 1),
		"new.yaml":  "dag: new\ntasks: {a: {run: y}}\n",
	})
	var all []dagChange
	out, code := s.cli("dags", "diff", next, "-o", "json")
	if decode(t, out, &all); code != exitFailed || len(all) != 3 {
		t.Fatalf("exit %d, got %s", code, out)
	}
	got := map[string]string{}
	for _, c := range all {
		got[c.Change+" "+c.DAG] = c.From + " " + c.To
		for _, f := range c.Fields {
			got[c.DAG+" "+f.Path] = f.Old + " → " + f.New
		}
	}
	for key, want := range map[string]string{
		"load tasks.load.retry.limit": "3 → 5", "load on.manual": " → kind: manual", "new tasks.a": " → kind: command; shell: y; infra_retry: 3",
	} {
		if got[key] != want {
			t.Errorf("%s: got %q, want %q, in %v", key, got[key], want, got)
		}
	}
	for _, key := range []string{"changed load", "added new", "removed old"} {
		if got[key] == "" {
			t.Errorf("nothing is %s in %v", key, got)
		}
	}
	text, code := s.cli("dags", "diff", next)
	if code != exitFailed || !strings.Contains(text, "    tasks.load.retry.limit: 3 → 5\n") || !strings.Contains(text, "- old removed (old.yaml, ") {
		t.Errorf("exit %d, got\n%s", code, text)
	}
	// A file stands for the server's file of its name, and says nothing of others.
	if out, code := s.cli("dags", "diff", filepath.Join(next, "new.yaml"), "-o", "name"); code != exitFailed || out != "new\n" {
		t.Errorf("one file: exit %d, got %s", code, out)
	}
	write(t, filepath.Join(next, "bad.yaml"), "dag: bad\ntasks: {a: {rum: x}}\n")
	if out, code := s.cli("dags", "diff", next); code != exitConfig || out != "" {
		t.Errorf("a file with a fault: exit %d, got %s", code, out)
	}
	// Deployed, there is nothing left to change.
	for name, text := range map[string]string{"load.yaml": readText(t, filepath.Join(next, "load.yaml")), "new.yaml": readText(t, filepath.Join(next, "new.yaml"))} {
		write(t, filepath.Join(live, name), text)
	}
	remove(t, filepath.Join(live, "old.yaml"))
	s.waitFor("deployed", func() bool { _, code := s.cli("dags", "diff", live); return code == exitOK })
	var shown dagDetail
	if s.cliJSON(&shown, "dags", "show", "load"); shown.Version != strings.Fields(got["changed load"])[1] {
		t.Errorf("deployed is version %s, said was %s", shown.Version, got["changed load"])
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDAGsLint: faults and warnings of files and directories, and what they do to the exit code.
func TestDAGsLint(t *testing.T) {
	t.Parallel()
	dir := dagDir(t, map[string]string{
		"load.yaml": authored, "good.yaml": "dag: good\ntasks: {a: {run: x}}\n", "sub.yml": "dag: by_hand\ntasks: {a: {run: x}}\n",
	})
	lint := func(args ...string) (string, int) {
		out, errs, code := millrace(t, dir, nil, append([]string{"dags", "lint"}, args...)...)
		if errs != "" {
			t.Errorf("%v: got %q beside the findings", args, errs)
		}
		return out, code
	}
	out, code := lint(".")
	want := `load.yaml:5:3: warning: one failed attempt fails the run: tasks check, report are not tried again [no-retry]
    5 |   check: {run: [check]}
      |   ^
set retry, here or in defaults: {limit: 3, delay: 10s}; retry: 0 says that this is meant

load.yaml:5:3: warning: an attempt that hangs holds its slot for ever: tasks check, load, report have no timeout [no-timeout]
    5 |   check: {run: [check]}
      |   ^
set timeout, here or in defaults: 1h; timeout: 0 says that this is meant

no errors, 2 warnings in 3 files
`
	if code != exitOK || out != want {
		t.Errorf("exit %d, got\n%swant\n%s", code, out, want)
	}
	if _, code := lint("--strict", "."); code != exitFailed {
		t.Errorf("strict: exit %d, want %d", code, exitFailed)
	}
	if out, code := lint("--strict", "--ignore", "no-retry,no-timeout", "."); code != exitOK || out != "ok: no errors, no warnings in 3 files\n" {
		t.Errorf("all ignored: exit %d, got %s", code, out)
	}
	write(t, filepath.Join(dir, "bad.yaml"), "dag: bad\ntasks: {a: {rum: x}}\n---\ndag: good\ntasks: {a: {run: x}}\n")
	var found []finding
	out, code = lint("bad.yaml", "good.yaml", "-o", "json")
	if decode(t, out, &found); code != exitFailed || len(found) != 2 {
		t.Fatalf("exit %d, got %s", code, out)
	}
	if f := found[0]; f.Severity != "error" || f.File != "bad.yaml" || f.Line != 2 || f.Col != 13 || f.Hint != `did you mean "run"?` {
		t.Errorf("got %+v", f)
	}
	if f := found[1]; f.Severity != "error" || f.File != "good.yaml" || f.Msg != `dag "good" stands in bad.yaml as well` {
		t.Errorf("got %+v", f)
	}
	if out, code := lint("bad.yaml"); code != exitFailed || !strings.Contains(out, "bad.yaml:2:13: unknown key") || !strings.HasSuffix(out, "\n1 error, no warnings in 1 file\n") {
		t.Errorf("exit %d, got\n%s", code, out)
	}
	// Validate is for what is wrong, and does not speak of what is only forgotten.
	if _, errs, code := millrace(t, dir, nil, "dags", "validate", "load.yaml"); code != exitOK || errs != "" {
		t.Errorf("validate: exit %d, got %s", code, errs)
	}
}

// TestDAGsToolsAskPrograms: a program that describes its DAGs is read like a file, below a directory as well.
func TestDAGsToolsAskPrograms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "gen.dag")
	write(t, program, "#!/bin/sh\nprintf 'dag: gen\\ntasks: {one: {run: echo one}}\\n'\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	out, errs, code := millrace(t, dir, nil, "dags", "graph", "gen.dag")
	if code != exitOK || !strings.HasSuffix(out, "└─ one\n") {
		t.Errorf("graph: exit %d, got %s%s", code, out, errs)
	}
	out, errs, code = millrace(t, dir, nil, "dags", "lint", ".")
	if code != exitOK || out != "ok: no errors, no warnings in 1 file\n" {
		t.Errorf("lint: exit %d, got %s%s", code, out, errs)
	}
}
