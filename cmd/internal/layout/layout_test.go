package layout

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// stages in the order in which data moves; imports point the other way.
var stages = []string{"ingest", "batcher", "trigger", "scheduler", "configs", "cmd"}

// shared is the one sub-package of a stage that later stages may import.
const shared = "ingest/vfs"

// standalone imports the standard library only: people build it into programs of their own.
const standalone = "scheduler/sdk"

// confined names the folders (with what is below them) that may import a third-party client. Tests may, anywhere, start a server to talk to.
var confined = map[string][]string{
	"github.com/labstack/echo":                                {"ingest/gateway", "scheduler/api"},
	"github.com/segmentio/kafka-go":                           {"ingest/kafkalog"},
	"github.com/aws/":                                         {"batcher/s3store"},
	"github.com/nats-io/":                                     {"trigger/natsbus"},
	"modernc.org/sqlite":                                      {"scheduler/sqlstore", "scheduler/operator/sql"},
	"github.com/jackc/pgx":                                    {"scheduler/sqlstore", "scheduler/operator/sql"},
	"github.com/pressly/goose":                                {"scheduler/sqlstore"},
	"database/sql":                                            {"scheduler/sqlstore", "scheduler/operator/sql"},
	"github.com/go-zookeeper/":                                {"scheduler/mesosexec/zkdetect"},
	"github.com/moby/moby/":                                   {"scheduler/dockerexec"},
	"github.com/spf13/cobra":                                  {"cmd"},
	"github.com/goccy/go-yaml":                                {"configs", "scheduler/spec", "cmd/millrace"},
	"cel.dev/cel-go":                                          {"trigger/rules", "scheduler/expr"},
	"github.com/google/go-containerregistry":                  {"scheduler/registry"},
	"github.com/prometheus/client_golang/prometheus/promhttp": {"scheduler/api", "cmd/internal/app"},
}

// forbidden are calls that must not be made, with the reason and where they may.
var forbidden = []struct {
	call, reason string
	ok           func(s *source) bool
}{
	{"time.Sleep", "wait for the thing itself: a channel, a condition, or testing/synctest", func(s *source) bool {
		return !s.test || s.uses("testing/synctest") // in a bubble it costs nothing and waits for everybody
	}},
	{"os.Exit", "return an error; only main ends the process", func(s *source) bool {
		return s.dir == "cmd/millrace" || s.dir == "cmd/millrace-task" || s.dir == standalone || s.test // its Main is the main of others
	}},
	{"log.Printf", "use the *slog.Logger from Options", nil},
	{"log.Fatal", "return an error", nil},
	{"fmt.Println", "print through the command's writer, log through slog", func(s *source) bool { return s.test }},
	{"fmt.Printf", "print through the command's writer, log through slog", func(s *source) bool { return s.test }},
	{"prometheus.MustRegister", "no global registry: take a prometheus.Registerer from Options", nil},
	{"context.TODO", "take ctx from the caller", nil},
	{"rand.Seed", "take a *rand.Rand", nil},
	{"os.Getenv", "configuration comes through configs", func(s *source) bool {
		return s.test || strings.HasPrefix(s.dir, "configs") || strings.HasPrefix(s.dir, "cmd") || strings.HasSuffix(s.dir, "test") ||
			s.dir == standalone // the task contract is one of variables
	}},
}

// Budgets for a file and a function.
const (
	maxFile    = 600
	maxFunc    = 80
	maxParams  = 5
	maxNesting = 4
)

func TestLayout(t *testing.T) {
	t.Parallel()
	var out []offence
	packages := map[string]bool{}
	for _, s := range load(t, "../../..") {
		s.checkImports(&out)
		s.checkCalls(&out)
		s.checkSizes(&out)
		s.checkDocs(&out)
		if !s.test {
			documented := s.file.Doc != nil && strings.HasPrefix(s.file.Doc.Text(), "Package ") || s.file.Name.Name == "main" && s.file.Doc != nil
			packages[s.dir] = packages[s.dir] || documented
		}
	}
	for dir, documented := range packages {
		if !documented {
			out = append(out, offence{dir, "doc", "no file has a package comment"})
		}
	}
	slices.SortFunc(out, func(a, b offence) int { return strings.Compare(a.at, b.at) })
	for _, o := range out {
		t.Errorf("%s: %s: %s", o.at, o.rule, o.msg)
	}
}

func stageOf(dir string) int {
	first, _, _ := strings.Cut(dir, "/")
	return slices.Index(stages, first)
}

func (s *source) checkImports(out *[]offence) {
	own := stageOf(s.dir)
	if own < 0 {
		s.check(out, s.file.Package, "folder", fmt.Sprintf("%s is not below one of %v", s.dir, stages))
		return
	}
	for _, spec := range s.file.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		if s.dir == standalone && !s.test && !standard(path) {
			s.check(out, spec.Pos(), "standalone", fmt.Sprintf("%s imports the standard library only, not %s", s.dir, path))
		}
		if rest, ok := strings.CutPrefix(path, module+"/"); ok {
			s.checkOwnImport(out, own, spec, rest)
			continue
		}
		for client, dirs := range confined {
			if strings.HasPrefix(path, client) && !s.test && !within(s.dir, dirs) && !strings.HasSuffix(s.dir, "test") {
				s.check(out, spec.Pos(), "client", fmt.Sprintf("%s may be imported by %v only", path, dirs))
			}
		}
		switch path {
		case "log", "math/rand", "io/ioutil":
			s.check(out, spec.Pos(), "import", path+" is not used here: log/slog, math/rand/v2, io and os are")
		}
	}
}

// standard reports whether path is of the standard library: there is no dot in its first element, and it is none of ours.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") && first != module
}

func (s *source) uses(path string) bool {
	for _, spec := range s.file.Imports {
		if strings.Trim(spec.Path.Value, `"`) == path {
			return true
		}
	}
	return false
}

func (s *source) checkOwnImport(out *[]offence, own int, spec *ast.ImportSpec, path string) {
	other := stageOf(path)
	switch {
	case other > own:
		s.check(out, spec.Pos(), "arrow", fmt.Sprintf("%s must not know the later stage %s", s.dir, path))
	case other == own, stages[own] == "configs", stages[own] == "cmd", path == shared:
	case strings.Contains(path, "/") && !(s.test && (strings.HasSuffix(path, "test") || strings.Contains(path, "/mem"))):
		s.check(out, spec.Pos(), "arrow", fmt.Sprintf("%s may import the root of an earlier stage, not %s", s.dir, path))
	}
}

func within(dir string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return dir == d || strings.HasPrefix(dir, d+"/") })
}

func (s *source) checkCalls(out *[]offence) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		for _, f := range forbidden {
			if pkg.Name+"."+sel.Sel.Name == f.call && (f.ok == nil || !f.ok(s)) {
				s.check(out, call.Pos(), "call", f.call+": "+f.reason)
			}
		}
		return true
	})
}

func (s *source) checkSizes(out *[]offence) {
	if s.lines > maxFile {
		s.check(out, s.file.Package, "size", fmt.Sprintf("%d lines, at most %d", s.lines, maxFile))
	}
	for _, decl := range s.file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		lines := s.fset.Position(fn.End()).Line - s.fset.Position(fn.Pos()).Line + 1
		if lines > maxFunc {
			s.check(out, fn.Pos(), "size", fmt.Sprintf("func %s has %d lines, at most %d", fn.Name.Name, lines, maxFunc))
		}
		if n := fn.Type.Params.NumFields(); n > maxParams && !s.test {
			s.check(out, fn.Pos(), "params", fmt.Sprintf("func %s has %d parameters, at most %d", fn.Name.Name, n, maxParams))
		}
		if n := nesting(fn.Body); n > maxNesting {
			s.check(out, fn.Pos(), "nesting", fmt.Sprintf("func %s nests %d deep, at most %d", fn.Name.Name, n, maxNesting))
		}
		if fn.Name.Name == "init" && fn.Recv == nil {
			s.check(out, fn.Pos(), "init", "no init functions: construct things where they are joined")
		}
	}
}

// nesting counts control structures within each other; a function literal starts anew.
func nesting(n ast.Node) int {
	deepest := 0
	var walk func(n ast.Node, depth int)
	walk = func(n ast.Node, depth int) {
		deepest = max(deepest, depth)
		ast.Inspect(n, func(c ast.Node) bool {
			if c == n {
				return true
			}
			switch c := c.(type) {
			case *ast.FuncLit:
				walk(c.Body, 0)
				return false
			case *ast.IfStmt:
				if parent, ok := n.(*ast.IfStmt); ok && parent.Else == c {
					walk(c, depth) // "else if" is a chain, not a level
				} else {
					walk(c, depth+1)
				}
				return false
			case *ast.ForStmt, *ast.RangeStmt, *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt:
				walk(c, depth+1)
				return false
			}
			return true
		})
	}
	walk(n, 0)
	return deepest
}

func (s *source) checkDocs(out *[]offence) {
	if s.test {
		return
	}
	for _, decl := range s.file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && exportedRecv(d) && !plumbing[d.Name.Name] {
				s.check(out, d.Pos(), "doc", "func "+d.Name.Name+" has no comment")
			}
		case *ast.GenDecl:
			s.checkGenDocs(out, d)
		}
	}
}

// plumbing are methods that satisfy an interface everybody knows.
var plumbing = map[string]bool{"Len": true, "Less": true, "Swap": true, "Push": true, "Pop": true, "Error": true, "Unwrap": true, "String": true}

func (s *source) checkGenDocs(out *[]offence, d *ast.GenDecl) {
	if d.Tok == token.IMPORT || d.Doc != nil {
		return
	}
	for _, spec := range d.Specs {
		switch sp := spec.(type) {
		case *ast.TypeSpec:
			if sp.Name.IsExported() && sp.Doc == nil {
				s.check(out, sp.Pos(), "doc", "type "+sp.Name.Name+" has no comment")
			}
		case *ast.ValueSpec:
			if sp.Names[0].IsExported() && sp.Doc == nil && sp.Comment == nil {
				s.check(out, sp.Pos(), "doc", sp.Names[0].Name+" has no comment")
			}
		}
	}
}

// exportedRecv reports whether fn can be called from outside: a function, or a method of an exported type.
func exportedRecv(fn *ast.FuncDecl) bool {
	if fn.Recv == nil {
		return true
	}
	typ := fn.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if idx, ok := typ.(*ast.IndexExpr); ok {
		typ = idx.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

// TestRulesBite shows that the checks above can fail.
func TestRulesBite(t *testing.T) {
	t.Parallel()
	var out []offence
	s, err := parse("testdata", "testdata/ingest/bad.go")
	if err != nil {
		t.Fatal(err)
	}
	s.dir, s.path = "ingest/bad", "ingest/bad/bad.go"
	s.checkImports(&out)
	s.checkCalls(&out)
	s.checkSizes(&out)
	s.checkDocs(&out)
	var got []string
	for _, o := range out {
		got = append(got, o.rule)
	}
	slices.Sort(got)
	want := []string{"arrow", "call", "client", "doc", "import", "init", "nesting", "params"}
	if !slices.Equal(slices.Compact(got), want) {
		t.Errorf("rules that bit: got %v, want %v", got, want)
	}
	s.dir, out = standalone, nil
	s.checkImports(&out)
	if !slices.ContainsFunc(out, func(o offence) bool { return o.rule == "standalone" }) {
		t.Errorf("%s may import anything: %v", standalone, out)
	}
}
