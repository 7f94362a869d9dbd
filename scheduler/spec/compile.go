package spec

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
)

// formVersion is the version of the compiled form that this package writes: [scheduler.DAG.V].
const formVersion = 1

var idRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// takenID is a name below /api/v1/dags/ that is not a DAG's.
const takenID = "schema"

// CheckID reports whether id may name a DAG, a rule, a task or a parameter.
func CheckID(id string) error {
	if !idRule.MatchString(id) {
		return fmt.Errorf("id %q must start with a letter or a digit and have at most 63 letters, digits, _ and -", id)
	}
	return nil
}

// Compile reads a file, which is called file in messages. It returns the DAGs that have no fault, in the order of the file, also when others
// of the same file have some. The error is nil or [Errors]. [ReadFile] returns the warnings as well.
func Compile(file string, src []byte) ([]scheduler.DAG, error) {
	f := ReadFile(file, src)
	if len(f.Faults) == 0 {
		return f.DAGs, nil
	}
	return f.DAGs, f.Faults
}

// ReadFile is [Compile], with all that there is to say of the file.
func ReadFile(name string, src []byte) File { return read(name, src, reading{}) }

// reading is how a file is read.
type reading struct {
	lints bool // warn of more
	files readNamed
}

func read(name string, src []byte, how reading) File {
	f := File{Name: name}
	s := &source{file: name, reading: how, lines: strings.Split(strings.ReplaceAll(string(src), "\r\n", "\n"), "\n")}
	seen := map[string]bool{}
	roots := s.documents(src)
	for _, root := range roots {
		before := len(s.errs)
		d := &decoder{source: s, anchors: map[string]ast.Node{}}
		ast.Walk(anchorFinder{d}, root)
		dag, at := d.document(root)
		if seen[dag.ID] && dag.ID != "" {
			d.errorf(at, "", "dag %q stands twice in this file", dag.ID)
		}
		seen[dag.ID] = true
		if len(s.errs) == before {
			f.DAGs = append(f.DAGs, dag)
			if len(d.uses) > 0 {
				if f.uses == nil {
					f.uses = map[string][]use{}
				}
				f.uses[dag.ID] = d.uses
			}
		}
	}
	if len(roots) == 0 && len(s.errs) == 0 {
		s.at("", 0, 0, "there is no DAG in this file", `a DAG starts with "dag: <id>"`)
	}
	slices.SortStableFunc(s.errs, func(a, b *Error) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col)) })
	slices.SortStableFunc(s.warnings, func(a, b Warning) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col)) })
	f.Faults, f.Warnings = s.errs, s.warnings
	return f
}

// document reads one DAG, and returns the node of its id as well.
func (d *decoder) document(root ast.Node) (scheduler.DAG, ast.Node) {
	dag := scheduler.DAG{V: formVersion}
	at := root
	// The id comes first, so that every fault can name its DAG.
	for _, p := range d.pairs(root, "the file") {
		if p.key == "dag" {
			at = p.value
			dag.ID = d.id(p.value, "dag")
			if dag.ID == takenID {
				d.errorf(p.value, "take another id", "dag: the id %s is taken: the API has the schema of DAG files there", takenID)
			}
		}
	}
	d.dag = dag.ID
	before := len(d.errs)
	b := &builder{decoder: d, groups: map[string]*group{}, dag: &dag, defaults: taskDefaults{infra: defaultInfraRetry}}
	d.mapping(root, "the file", b.rootFields(root))
	if at == root {
		d.errorf(root, `add "dag: <id>"`, "the DAG has no id")
	}
	b.finish(root)
	if len(d.errs) == before {
		b.checkJoins()
		if d.lints {
			b.lint(root)
		}
	}
	return dag, at
}

// builder fills in one DAG.
type builder struct {
	*decoder
	dag      *scheduler.DAG
	defaults taskDefaults
	limits   dagLimits
	rules    []placed
	tasks    []placed
	parts    []placed // setups and teardowns
	groups   map[string]*group
	// groupOrder are their names in the order of the file.
	groupOrder []string
	exprs      []usedExpr
	stands     place  // of the texts that are read now
	item       string // what the task in hand calls its items, "" if it is not mapped
	// Where on_event and each of the deadlines stand.
	noticeAt    ast.Node
	deadlinesAt []ast.Node
}

// placed is an id with its place.
type placed struct {
	id string
	at ast.Node
	// value is the task's mapping.
	value ast.Node
	needs []ast.Node
	// part and pair are those of the task; covers is its `for`.
	part, pair string
	covers     []string
	coversAt   []ast.Node
	// rule are the parts of a rule.
	rule ruleNodes
	own  ownKeys
}

// ownKeys are where the keys of a task stand that go with another one, use or image, which may come after them.
type ownKeys struct {
	with, args, pull, container ast.Node
	box                         scheduler.Container // of container
}

func (b *builder) rootFields(root ast.Node) fields {
	known := with(with(b.dagLimitFields(), b.noticeFields()), fields{
		"dag":         func(ast.Node) {},
		"description": func(v ast.Node) { b.dag.Description = b.str(v, "description") },
		"owner":       func(v ast.Node) { b.dag.Owner = b.str(v, "owner") },
		"tags":        func(v ast.Node) { b.dag.Tags = b.strs(v, "tags") },
		"params":      func(v ast.Node) { b.dag.Params = b.params(v) },
		"on":          func(v ast.Node) { b.on(v) },
		"env":         func(v ast.Node) { b.dag.Env = b.env(v, "env") },
		"defaults":    func(v ast.Node) { b.readDefaults(v) },
		"tasks":       func(v ast.Node) { b.readTasks(v) },
		"groups":      func(v ast.Node) { b.readGroups(v) },
		"setup":       func(v ast.Node) { b.readPart(v, scheduler.PartSetup) },
		"teardown":    func(v ast.Node) { b.readPart(v, scheduler.PartTeardown) },
	})
	// x-… holds whatever the author wants to anchor, as in Compose files.
	for _, p := range b.pairs(root, "the file") {
		if strings.HasPrefix(p.key, "x-") {
			known[p.key] = func(ast.Node) {}
		}
	}
	return known
}

// finish does what needs the whole document.
func (b *builder) finish(root ast.Node) {
	if b.dag.On == nil {
		b.dag.On = b.manualOnly()
	}
	b.finishTasks(root)
	b.joinGroups()
	b.joinParts()
	b.checkRules()
	b.checkWaits()
	b.checkLimits()
	b.checkGraph()
	b.checkExprs()
}

func (d *decoder) id(v ast.Node, what string) string {
	id := d.scalar(v, what)
	if id == "" {
		return ""
	}
	if err := CheckID(id); err != nil {
		d.errorf(v, "", "%s: %v", what, err)
		return ""
	}
	return id
}
