package expr

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
)

// Limits of one expression.
const (
	MaxLength = 4096    // characters
	maxCost   = 200_000 // of cel-go's cost units: a simple pass over 10,000 batches takes less than half of it, and none takes a second
)

// Scope says which variables there are. [ScopeItem] makes those of mapped tasks.
type Scope struct {
	task bool
	item string
}

// The scopes.
var (
	ScopeRule = Scope{}
	ScopeTask = Scope{task: true}
)

// Error is a fault at a place of an expression, counted from 1.
type Error struct {
	Line, Col int
	Msg       string
}

func (e *Error) Error() string { return e.Msg }

// Ref is a name that an expression takes from `params`, `tasks`, `vars`, `secrets` or `conns`, with its place, counted from 1.
type Ref struct {
	// Root is one of these words.
	Root, Name string
	Line, Col  int
	// Field is what is taken of a connection. Secret says that the value is one. Optional says that has() only asks whether it is there.
	Field            string
	Secret, Optional bool
}

// Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	src  string
	prg  cel.Program
	refs []Ref
	each bool
}

// Refs returns the parameters, tasks and values of the installation that the expression names.
func (p *Program) Refs() []Ref { return p.refs }

// CompileBool compiles an expression that yields true or false. Errors are [Error], joined.
func CompileBool(scope Scope, src string) (*Program, error) {
	return compile(scope, src, "a bool", cel.BoolType)
}

// CompileKey compiles an expression that yields a string, a number or a bool.
func CompileKey(scope Scope, src string) (*Program, error) { return compileScalar(scope, src) }

// Bool evaluates a program of [CompileBool].
func (p *Program) Bool(vars *Vars) (bool, error) {
	out, err := p.eval(vars)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("evaluate %q: got %s, want a bool", p.src, out.Type().TypeName())
	}
	return bool(b), nil
}

// Key evaluates a program of [CompileKey], as text.
func (p *Program) Key(vars *Vars) (string, error) {
	out, err := p.eval(vars)
	if err != nil {
		return "", err
	}
	key, err := stringify(out)
	if err != nil {
		return "", fmt.Errorf("evaluate %q: %w", p.src, err)
	}
	return key, nil
}

func (p *Program) eval(vars *Vars) (ref.Val, error) {
	out, _, err := p.prg.Eval(vars)
	if err == nil {
		return out, nil
	}
	if spilled := p.spilled(vars, err); spilled != nil {
		return nil, spilled
	}
	if strings.Contains(err.Error(), "no such attribute(s): batch") && len(vars.batches) == 0 {
		return nil, fmt.Errorf("evaluate %q: this run has no batch", p.src)
	}
	return nil, fmt.Errorf("evaluate %q: %w", p.src, err)
}

func compileScalar(scope Scope, src string) (*Program, error) {
	return compile(scope, src, "a string, a number, a bool or a time", cel.StringType, cel.IntType, cel.UintType, cel.DoubleType,
		cel.BoolType, cel.TimestampType, cel.DurationType)
}

func compile(scope Scope, src, wantText string, want ...*cel.Type) (*Program, error) {
	return compileAs(scope, src, wantText, func(got *cel.Type) bool { return slices.ContainsFunc(want, got.IsExactType) })
}

// compileAs takes an expression whose type is known to fit, or not known.
func compileAs(scope Scope, src, wantText string, fits func(got *cel.Type) bool) (*Program, error) {
	if len(src) > MaxLength {
		return nil, &Error{Line: 1, Col: 1, Msg: fmt.Sprintf("expression is longer than %d characters", MaxLength)}
	}
	env := environment(scope)
	checked, issues := env.Compile(src)
	if issues.Err() != nil {
		return nil, issuesError(issues)
	}
	got := checked.OutputType()
	if !got.IsExactType(cel.DynType) && !fits(got) {
		return nil, &Error{Line: 1, Col: 1, Msg: fmt.Sprintf("expression yields %s, want %s", tidy(got.String()), wantText)}
	}
	prg, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, &Error{Line: 1, Col: 1, Msg: err.Error()}
	}
	refs, err := findRefs(checked.NativeRep())
	if err == nil {
		err = checkValues(checked.NativeRep(), refs)
	}
	if err != nil {
		return nil, err
	}
	return &Program{src: src, prg: prg, refs: refs, each: scope.usedBy(checked.NativeRep())}, nil
}

func issuesError(issues *cel.Issues) error {
	var errs []error
	for _, e := range issues.Errors() {
		// cel-go counts columns from 0.
		errs = append(errs, &Error{Line: max(1, e.Location.Line()), Col: max(1, e.Location.Column()+1), Msg: tidy(e.Message)})
	}
	return errors.Join(errs...)
}

// tidy makes a parser's message bearable: the list of all tokens that would have fitted helps nobody.
func tidy(msg string) string {
	if head, _, ok := strings.Cut(msg, " expecting {"); ok {
		msg = head
	}
	msg = strings.ReplaceAll(msg, "mismatched input '<EOF>'", "unexpected end")
	return strings.ReplaceAll(msg, "expr.", "")
}

// findRefs collects params.x, params["x"], tasks.x and tasks["x"], and checks the fields of tasks, which CEL sees as untyped because an
// output may be anything.
func findRefs(tree *ast.AST) ([]Ref, error) {
	var refs []Ref
	var errs []error
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if root, name, ok := refOf(e); ok {
			at := tree.SourceInfo().GetStartLocation(e.ID())
			ref := Ref{Root: root, Name: name, Line: max(1, at.Line()), Col: max(1, at.Column()-len(root)+1)}
			refs = append(refs, valueRef(ref, e))
		}
		if e.Kind() != ast.SelectKind {
			return
		}
		root, _, ok := refOf(e.AsSelect().Operand())
		if field := e.AsSelect().FieldName(); ok && root == "tasks" && !slices.Contains(taskFields, field) {
			at := tree.SourceInfo().GetStartLocation(e.ID())
			errs = append(errs, &Error{Line: max(1, at.Line()), Col: max(1, at.Column()+2),
				Msg: fmt.Sprintf("a task has no field '%s', only %s", field, strings.Join(taskFields, ", "))})
		}
	}))
	return refs, errors.Join(errs...)
}

var taskFields = []string{"state", "exit", "output", "output_ref", "count", "succeeded", "failed", "skipped"}

// refOf takes params.x or params["x"], and the same of tasks, apart.
func refOf(e ast.Expr) (root, name string, ok bool) {
	var operand ast.Expr
	switch e.Kind() {
	case ast.SelectKind:
		operand, name = e.AsSelect().Operand(), e.AsSelect().FieldName()
	case ast.CallKind:
		args := e.AsCall().Args()
		if e.AsCall().FunctionName() != operators.Index || len(args) != 2 || args[1].Kind() != ast.LiteralKind {
			return "", "", false
		}
		if name, ok = args[1].AsLiteral().Value().(string); !ok {
			return "", "", false
		}
		operand = args[0]
	default:
		return "", "", false
	}
	if operand.Kind() != ast.IdentKind {
		return "", "", false
	}
	root = operand.AsIdent()
	return root, name, root == "params" || root == "tasks" || isValue(root)
}

// environment returns the scope's environment. They are made once: making one takes longer than compiling most expressions.
func environment(scope Scope) *cel.Env {
	switch {
	case !scope.task:
		return ruleEnv()
	case scope.item != "":
		return itemEnv(scope.item)
	}
	return taskEnv()
}

var ruleEnv = sync.OnceValue(func() *cel.Env {
	return mustEnv(cel.Variable("batch", cel.ObjectType("expr.Batch")))
})

var taskEnv = sync.OnceValue(func() *cel.Env {
	return mustEnv(
		cel.Variable("params", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("trigger", cel.ObjectType("expr.Trigger")),
		cel.Variable("run", cel.ObjectType("expr.Run")),
		cel.Variable("totals", cel.ObjectType("expr.Totals")),
		cel.Variable("batch", cel.ObjectType("expr.Batch")),
		cel.Variable("batches", cel.ListType(cel.ObjectType("expr.Batch"))),
		cel.Variable("tasks", cel.MapType(cel.StringType, cel.MapType(cel.StringType, cel.DynType))),
		cel.Variable("vars", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("secrets", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("conns", cel.MapType(cel.StringType, cel.MapType(cel.StringType, cel.DynType))),
		cel.Variable("inputs", cel.ObjectType("expr.Inputs")), rangeFunction,
	)
})

func mustEnv(vars ...cel.EnvOption) *cel.Env {
	opts := []cel.EnvOption{
		ext.NativeTypes(reflect.TypeFor[Batch](), reflect.TypeFor[Trigger](), reflect.TypeFor[Run](), reflect.TypeFor[Totals](), reflect.TypeFor[Inputs](),
			reflect.TypeFor[Object](), ext.ParseStructTag("json")),
		ext.Strings(), ext.Sets(), cel.CrossTypeNumericComparisons(true), cel.DefaultUTCTimeZone(true),
		cel.ParserRecursionLimit(64), cel.ParserExpressionSizeLimit(MaxLength),
	}
	env, err := cel.NewEnv(append(opts, vars...)...)
	if err != nil {
		panic("expr: " + err.Error()) // the declarations above are wrong
	}
	return env
}
