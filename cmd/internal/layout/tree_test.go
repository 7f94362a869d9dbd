package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

const module = "millrace"

// source is one parsed file of the tree.
type source struct {
	path  string // slash-separated, relative to the root
	dir   string
	test  bool
	fset  *token.FileSet
	file  *ast.File
	lines int
	allow map[int]string // line → what "//layout:allow" says there
}

// offence is one broken rule.
type offence struct {
	at, rule, msg string
}

// load parses every Go file below root that is not generated or test data.
func load(t *testing.T, root string) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".gen.go") || name == "tools_tmp.go" {
			return nil
		}
		s, err := parse(root, path)
		out = append(out, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 10 {
		t.Fatalf("found %d Go files below %s: is this the root of the repository?", len(out), root)
	}
	return out
}

func parse(root, path string) (source, error) {
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return source{}, err
	}
	rel = filepath.ToSlash(rel)
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	s := source{
		path: rel, dir: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(rel, "_test.go"),
		fset: fset, file: f, lines: fset.File(f.Pos()).LineCount(), allow: map[int]string{},
	}
	for _, group := range f.Comments {
		for _, c := range group.List {
			if text, ok := strings.CutPrefix(c.Text, "//layout:allow "); ok {
				s.allow[fset.Position(c.Pos()).Line] = text
			}
		}
	}
	return s, nil
}

// check adds an offence unless a comment on its line or the one above permits the rule and gives a reason.
func (s *source) check(out *[]offence, pos token.Pos, rule, msg string) {
	p := s.fset.Position(pos)
	for _, line := range []int{p.Line, p.Line - 1} {
		if got, reason, _ := strings.Cut(s.allow[line], " "); got == rule && len(reason) > 10 {
			return
		}
	}
	p.Filename = s.path
	*out = append(*out, offence{at: p.String(), rule: rule, msg: msg})
}

// functions returns the names of the file's functions.
func (s *source) functions() []string {
	var out []string
	for _, decl := range s.file.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
			out = append(out, fn.Name.Name)
		}
	}
	return out
}
