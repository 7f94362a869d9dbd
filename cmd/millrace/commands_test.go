package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var updateReference = flag.Bool("update-reference", false, "write docs/cli")

// shown is the command tree as people see it.
func shown(t *testing.T) []*cobra.Command {
	t.Helper()
	root := newRoot(streams{})
	root.InitDefaultCompletionCmd("test")
	var out []*cobra.Command
	walk(root, func(c *cobra.Command) {
		if !c.Hidden && c.HasParent() {
			out = append(out, c)
		}
	})
	if len(out) < 20 {
		t.Fatalf("the tree has %d commands, which can not be all", len(out))
	}
	return out
}

// TestCommandTree: each command says what it does, in the same way, and shows how.
func TestCommandTree(t *testing.T) {
	t.Parallel()
	for _, c := range shown(t) {
		name := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short text %q, want a line without a full stop", name, c.Short)
		}
		if !c.HasSubCommands() && c.Long == "" && c.Example == "" {
			t.Errorf("%s has neither a long text nor an example", name)
		}
		if !c.HasSubCommands() && c.Args == nil {
			t.Errorf("%s does not say which arguments it takes", name)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || strings.HasSuffix(f.Usage, ".") || strings.ToLower(f.Name) != f.Name || strings.Contains(f.Name, "_") {
				t.Errorf("%s --%s: usage %q, want a name-with-dashes and a text without a full stop", name, f.Name, f.Usage)
			}
		})
	}
	known := map[string]bool{"millrace config init": true, "millrace config schema": true}
	for _, c := range shown(t) {
		known[c.CommandPath()] = true
	}
	for path := range examples {
		if !known[path] {
			t.Errorf("an example for %q, which does not exist", path)
		}
	}
}

// TestFlagsMeanOneThing: a flag of one name has one type and one shorthand everywhere.
func TestFlagsMeanOneThing(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, c := range shown(t) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if c.CommandPath() == "millrace bench ingest" && f.Name == "batch" {
				return // an SDK's batch, of so many events; everywhere else it is ours, by its id
			}
			is := f.Value.Type() + " -" + f.Shorthand
			if was, ok := seen[f.Name]; ok && was != is && c.Parent().Name() != "completion" {
				t.Errorf("%s --%s is %s, elsewhere %s", c.CommandPath(), f.Name, is, was)
			}
			seen[f.Name] = is
		})
	}
}

// TestNoDeadFlags reads the source: what a flag is stored in must be used by something else than its registration.
func TestNoDeadFlags(t *testing.T) {
	t.Parallel()
	var files []*ast.File
	fset := token.NewFileSet()
	for _, pattern := range []string{"*.go", "../internal/*/*.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(fset, path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
	}
	flags := 0
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name, target := registration(call)
			if target == nil {
				return true
			}
			flags++
			if !used(files, f, call, name, target) {
				t.Errorf("%v: nothing reads --%s", fset.Position(call.Pos()), name)
			}
			return true
		})
	}
	if flags < 40 {
		t.Errorf("found %d flags, which can not be all: are they registered in another way?", flags)
	}
}

// registration returns the name of a flag and where it is stored, if call is something like c.Flags().StringVar(&x, "name", …).
func registration(call *ast.CallExpr) (name string, target ast.Expr) {
	fun, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !strings.HasSuffix(fun.Sel.Name, "Var") && !strings.HasSuffix(fun.Sel.Name, "VarP") || len(call.Args) < 3 {
		return "", nil
	}
	addr, ok := call.Args[0].(*ast.UnaryExpr)
	lit, isName := call.Args[1].(*ast.BasicLit)
	if !ok || addr.Op != token.AND || !isName {
		return "", nil
	}
	name, err := strconv.Unquote(lit.Value)
	if err != nil {
		return "", nil
	}
	return name, addr.X
}

// used looks for another use: of the variable within its function, of the field anywhere, or of the flag by its name.
func used(files []*ast.File, in *ast.File, call *ast.CallExpr, name string, target ast.Expr) bool {
	found := false
	look := func(root ast.Node, is func(ast.Node) bool) {
		ast.Inspect(root, func(n ast.Node) bool {
			if n == ast.Node(call) || found {
				return false
			}
			found = is(n)
			return !found
		})
	}
	if field, ok := target.(*ast.SelectorExpr); ok {
		for _, f := range files {
			look(f, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				return ok && s.Sel.Name == field.Sel.Name
			})
		}
		return found
	}
	v, ok := target.(*ast.Ident)
	if !ok {
		return true // an expression is a use
	}
	for _, d := range in.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || call.Pos() < fn.Pos() || call.Pos() > fn.End() {
			continue
		}
		look(fn, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				return id.Name == v.Name && id.Obj == v.Obj && id.Pos() > v.Obj.Pos()
			}
			lit, ok := n.(*ast.BasicLit)
			return ok && lit.Value == strconv.Quote(name)
		})
	}
	return found
}

// TestReference: docs/cli is what the program says, and has a section for every command.
func TestReference(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(repoRoot(t), "docs", "cli")
	pages := reference(newRoot(streams{}))
	if *updateReference {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, page := range pages {
			if err := os.WriteFile(filepath.Join(dir, name), page, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	var all strings.Builder
	for name, page := range pages {
		all.Write(page)
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%v: run make docs", err)
		} else if diff := cmp.Diff(string(have), string(page)); diff != "" {
			t.Errorf("docs/cli/%s is stale, run make docs (-have +want):\n%s", name, diff)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if pages[e.Name()] == nil {
			t.Errorf("docs/cli/%s is of a command that is gone", e.Name())
		}
	}
	for _, c := range shown(t) {
		if !c.HasSubCommands() && !strings.Contains(all.String(), "\n"+c.UseLine()+"\n") {
			t.Errorf("%s has no entry", c.CommandPath())
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" && !strings.Contains(all.String(), "`--"+f.Name+"`") {
				t.Errorf("%s --%s has no entry", c.CommandPath(), f.Name)
			}
		})
	}
}

// TestUsage: a fault of the command line is exit code 2, says what was meant, prints nothing to stdout, and does nothing.
func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ line, want string }{
		{"bacthes", "batches"},
		{"batches lst", `did you mean "ls"?`},
		{"batches", ""}, // its help
		{"runs ls --dagg x", `did you mean "--dag"?`},
		{"runs show", "millrace runs show needs RUN; 'millrace runs ls' lists them\nUsage: millrace runs show RUN"},
		{"runs logs", "needs RUN; 'millrace runs ls'"},
		{"batches cat", "needs BATCH; 'millrace batches ls'"},
		{"dags trigger", "needs DAG; 'millrace dags ls'"},
		{"dags pause", "needs DAG...; 'millrace dags ls'"},
		{"where", "needs RECEIPT|ID; the receipt is in the answer"},
		{"send", "needs SOURCE; 'millrace config show'"},
		{"docs", "needs DIRECTORY\n"},
		{"runs show a b", "takes 1 argument, got 2"},
		{"runs ls -o jsno", `did you mean "json"?`},
		{"dags trigger x -o xml", "want table, json"},
		{"dags validate", "dags validate needs FILE..."},
		{"runs ls --limit many", "invalid argument"},
		{"doctor dsk", `did you mean "disk"?`},
		{"send web --template stripe.chrage", `did you mean "stripe.charge"?`},
		{"send web --rate fast", "such as 500/s"},
		{"backfill", "millrace backfill needs DAG; 'millrace dags ls'"},
		{"backfill load --received yesterday", "such as 2026-11-20..2026-11-23 or 48h..now"},
		{"backfill load --event-time 2026-11-20..tomorrow", "want a time such as"},
		{"backfill pause", "needs BACKFILL; 'millrace backfill ls'"},
		{"backfill ls --state dnoe", `did you mean "done"?`},
		{"replay r --pin orignal", `did you mean "original"?`},
		{"send web --count 0", "at least 1"},
		{"send web --progress bar", "auto, plain or none"},
		{"send web --template x.y --data {}", "no template"},
		{"send web --data @/no/such/file", "no such file"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			t.Parallel()
			out, errs, code := millrace(t, t.TempDir(), nil, strings.Fields(tt.line)...)
			if tt.want == "" {
				if code != exitOK || !strings.Contains(out, "Available Commands") {
					t.Errorf("exit code %d, %q, want the help", code, out)
				}
				return
			}
			if code != exitUsage || out != "" || !strings.Contains(errs, tt.want) {
				t.Errorf("exit code %d, stdout %q, stderr %q, want %d, nothing and %q", code, out, errs, exitUsage, tt.want)
			}
		})
	}
}

// TestExitCodes: each code that the help lists, but for 130 and 124, by a command that gives it.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error")
	s.start()
	here := []string{"--server", "http://" + s.console, "--data-dir", s.dir}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	write(t, bad, "nonsense: 1\n")
	for _, tt := range []struct {
		want int
		args []string
	}{
		{exitOK, append([]string{"runs", "ls"}, here...)},
		{exitFailed, []string{"dags", "validate", bad}},
		{exitUsage, []string{"runs", "ls", "-o", "pdf"}},
		{exitConfig, []string{"config", "check", "--config", bad}},
		{exitNotFound, append([]string{"runs", "show", "nosuchrun"}, here...)},
		{exitNotFound, []string{"send", "nosuchsource"}},
		{exitAuth, []string{"runs", "ls", "--server", "http://" + s.console, "--token", "wrong"}},
		{exitUnreachable, []string{"runs", "ls", "--server", "http://" + freeAddr(t)}},
		{exitConflict, append([]string{"admin", "resume", "--since", "now"}, here...)},
		{exitUnreachable, []string{"send", "web", "--to", "http://" + freeAddr(t)}},
	} {
		out, errs, code := millrace(t, t.TempDir(), nil, tt.args...)
		if code != tt.want {
			t.Errorf("millrace %s: exit code %d, want %d\n%s%s", strings.Join(tt.args, " "), code, tt.want, out, errs)
		}
		if code != exitOK && code != exitUsage && errs == "" {
			t.Errorf("millrace %s: exit code %d without a word", strings.Join(tt.args, " "), code)
		}
	}
}

// TestOutputs asks every command that has -o for every format, of a server that has something to show: machines get what they can parse, and
// nothing else, on stdout.
func TestOutputs(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error")
	s.start()
	receipt, _, _ := millrace(t, t.TempDir(), nil, "send", "web", "--to", "http://"+s.ingest, "-o", "name")
	s.drained()
	var run, batch string
	s.waitFor("a run that succeeded", func() bool {
		run, _ = s.cli("runs", "ls", "--state", "success", "--limit", "1", "-o", "name")
		return run != ""
	})
	batch, _ = s.cli("batches", "ls", "--limit", "1", "-o", "name")
	dag, _ := s.cli("dags", "ls", "-o", "name")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "one.yaml"), "dag: one\non: [{manual: true}]\ntasks: {a: {run: [\"true\"]}}\n")
	first := func(s string) string { return firstLine(strings.TrimSpace(s)) }
	if text, code := s.cli("backfill", first(dag), "--batch", first(batch), "--reprocess", "all", "--id", "fill", "--wait"); code != exitOK {
		t.Errorf("backfill: exit code %d\n%s", code, text)
	}
	s.cli("vars", "set", "region", "eu")
	s.cli("conns", "set", "db", "sqlite:///x.db")
	args := map[string][]string{
		"millrace send": {"web", "--to", "http://" + s.ingest}, "millrace events tail": {"--from", "start", "--limit", "1"},
		"millrace batches show": {first(batch)}, "millrace where": {first(receipt)}, "millrace dags show": {first(dag)},
		"millrace dags validate": {"one.yaml"}, "millrace dags lint": {"one.yaml"}, "millrace dags test": {"one.yaml"},
		"millrace dags diff": {"one.yaml"}, "millrace dags trigger": {first(dag)}, "millrace runs show": {first(run)},
		"millrace explain run": {first(run)}, "millrace explain task": {first(run) + "/look"}, "millrace explain batch": {first(batch)},
		"millrace runs cancel": {first(run)}, "millrace doctor": {"config"},
		"millrace runs clear": {first(run), "--dry-run"}, "millrace runs retry": {first(run)}, "millrace runs mark": {first(run), "success"},
		"millrace tasks ls": {first(run)}, "millrace runs wait": {first(run)}, "millrace dags pause": {first(dag)}, "millrace dags unpause": {first(dag)},
		"millrace replay": {first(run), "--wait"}, "millrace backfill": {first(dag), "--batch", first(batch), "--dry-run"},
		"millrace backfill show": {"fill"}, "millrace backfill wait": {"fill"}, "millrace backfill pause": {"fill"},
		"millrace backfill resume": {"fill"}, "millrace backfill cancel": {"fill"},
		"millrace vars get": {"region"}, "millrace vars set": {"region", "eu"}, "millrace conns get": {"db"}, "millrace conns set": {"db", "sqlite:///x.db"},
	}
	// These are asked for elsewhere: they need another state, or take long.
	elsewhere := []string{"millrace tasks approve", "millrace tasks reject", "millrace batches tail", "millrace bench ingest", "millrace bench e2e", "millrace bench mesos", "millrace log accept-loss",
		"millrace notify test", "millrace notify retry", "millrace mesos status", "millrace mesos confirm", "millrace mesos register", "millrace mesos teardown"}
	want := map[string]int{"millrace dags diff": exitFailed} // the server does not have that DAG; the others succeed
	asked := 0
	for _, c := range shown(t) {
		path := c.CommandPath()
		if c.Flags().Lookup("output") == nil || slices.Contains(elsewhere, path) || strings.HasPrefix(path, "millrace admin") {
			continue
		}
		asked++
		line := append(append(strings.Fields(path)[1:], args[path]...), "--data-dir", s.dir)
		if c.Flags().Lookup("server") != nil {
			line = append(line, "--server", "http://"+s.console)
		}
		for _, format := range outputs {
			out, errs, code := millrace(t, dir, nil, append(line, "-o", format)...)
			if err := parses(format, out); err != nil || code != want[path] {
				t.Errorf("%s -o %s: exit code %d, %v\n%s%s", path, format, code, err, out, errs)
			}
		}
	}
	if asked < 14 {
		t.Errorf("%d commands were asked, want at least 14", asked)
	}
}

// parses reports why text is not what a format promises.
func parses(format, text string) error {
	var v any
	switch format {
	case "json":
		return json.Unmarshal([]byte(text), &v)
	case "jsonl":
		for line := range strings.Lines(text) {
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				return fmt.Errorf("%w in line %s", err, line)
			}
		}
	case "yaml":
		return yaml.Unmarshal([]byte(text), &v)
	case "name":
		if strings.ContainsAny(strings.TrimSuffix(text, "\n"), " \t{") {
			return fmt.Errorf("%q is not names line by line", text)
		}
	case "table":
		if strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") {
			return fmt.Errorf("JSON in %q", text)
		}
	}
	return nil
}

// TestCompletion: words are proposed for what people can not remember.
func TestCompletion(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error")
	s.start()
	here := []string{"--server", "http://" + s.console, "--data-dir", s.dir}
	s.waitFor("knowing its DAG", func() bool {
		out, _ := s.cli("dags", "ls", "-o", "name")
		return out == "demo\n"
	})
	for _, tt := range []struct {
		want string
		line []string
	}{
		{"stripe\n", []string{"send", "st"}},
		{"stripe.invoice\n", []string{"send", "stripe", "--template", "stripe.i"}},
		{"jsonl\n", append([]string{"runs", "ls"}, append(here, "-o", "jsonl")...)},
		{"demo\n", append(append([]string{"dags", "show"}, here...), "de")},
		{"data_dir\n", []string{"doctor", "da"}},
		{"schedule\n", []string{"serve", "--roles", "s"}},
	} {
		out, errs, code := millrace(t, t.TempDir(), nil, append([]string{"__complete"}, tt.line...)...)
		if code != exitOK || !strings.HasPrefix(out, tt.want) {
			t.Errorf("%q: exit code %d, got %q, want it to start with %q\n%s", tt.line, code, out, tt.want, errs)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out, _, code := millrace(t, t.TempDir(), nil, "completion", shell); code != exitOK || !strings.Contains(out, "millrace") {
			t.Errorf("completion %s: exit code %d, %d bytes", shell, code, len(out))
		}
	}
}
