package expr

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"millrace/scheduler"
)

// mapVar is the variable that says which item of how many a mapped task has.
const mapVar = "map"

// ScopeItem is the task scope of a mapped task, where as is the item and `map` has its index, how many there are, and its key.
func ScopeItem(as string) Scope { return Scope{task: true, item: as} }

// ScopeOf returns the scope of the expressions of t.
func ScopeOf(t *scheduler.Task) Scope {
	if t.Foreach == nil {
		return ScopeTask
	}
	return ScopeItem(t.Foreach.Name())
}

// taken are the names that an item can not have: those of the other variables, and what CEL reserves.
var taken = []string{
	"params", "trigger", "run", "totals", "batch", "batches", "tasks", "inputs", mapVar, "vars", "secrets", "conns", "upstream",
	"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package",
	"namespace", "return", "var", "void", "while", "bool", "bytes", "double", "duration", "dyn", "int", "list", "string", "timestamp", "type",
	"uint", "null_type", "has", "all", "exists", "exists_one", "filter", "lists", "math", "sets", "strings", "size",
}

// CheckItemName reports whether an item can be called name.
func CheckItemName(name string) error {
	for i, c := range name {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return fmt.Errorf("%q must be a letter or _, and then letters, digits and _", name)
		}
	}
	switch {
	case name == "" || len(name) > 63:
		return fmt.Errorf("%q must have 1 to 63 characters", name)
	case slices.Contains(taken, name):
		return fmt.Errorf("%q is taken", name)
	}
	return nil
}

// itemEnvs has an environment for each name that an item has had; DAG files bound them.
var itemEnvs sync.Map

func itemEnv(as string) *cel.Env {
	if env, ok := itemEnvs.Load(as); ok {
		return env.(*cel.Env)
	}
	env, err := taskEnv().Extend(cel.Variable(as, cel.DynType), cel.Variable(mapVar, cel.MapType(cel.StringType, cel.DynType)))
	if err != nil {
		panic("expr: " + err.Error()) // CheckItemName lets names pass that can not be declared
	}
	known, _ := itemEnvs.LoadOrStore(as, env)
	return known.(*cel.Env)
}

// usedBy reports whether an expression of the scope names the item, or its place.
func (s Scope) usedBy(tree *ast.AST) bool {
	used := false
	if s.item == "" {
		return false
	}
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.IdentKind && (e.AsIdent() == s.item || e.AsIdent() == mapVar) {
			used = true
		}
	}))
	return used
}

// UsesItem reports whether the value may differ from item to item.
func (p *Program) UsesItem() bool { return p.each }

// CompileKeyText compiles the expression of an item's key: a string, a number, a bool or a time.
func CompileKeyText(scope Scope, src string) (*Program, error) { return compileScalar(scope, src) }

// String evaluates a program that yields a scalar, as it stands in a text.
func (p *Program) String(vars *Vars) (string, error) {
	val, err := p.eval(vars)
	if err != nil {
		return "", err
	}
	s, err := stringify(val)
	if err != nil {
		return "", fmt.Errorf("evaluate %q: %w", p.src, err)
	}
	return s, nil
}

// CompileItems compiles an expression, in the task scope, that yields a list or a map. Errors are [Error], joined.
func CompileItems(src string) (*Program, error) {
	return compileAs(ScopeTask, src, "a list or a map", func(got *cel.Type) bool {
		return got.Kind() == types.ListKind || got.Kind() == types.MapKind
	})
}

// Items evaluates a program of [CompileItems] and returns its elements as JSON, those of a map as {"key": …, "value": …} in the order of their
// keys. It fails if there are more than limit, or one is larger than [MaxValue].
func (p *Program) Items(vars *Vars, limit int) ([]json.RawMessage, error) {
	val, err := p.eval(vars)
	if err != nil {
		return nil, err
	}
	var list []any
	switch val := val.(type) {
	case traits.Mapper:
		list, err = entries(val, limit)
	case traits.Lister:
		list, err = elements(val, limit)
	default:
		err = fmt.Errorf("it yields %s, want a list or a map", kindOf(val))
	}
	if err != nil {
		return nil, fmt.Errorf("evaluate %q: %w", p.src, err)
	}
	out := make([]json.RawMessage, len(list))
	for i, v := range list {
		if out[i], err = marshal(v); err != nil {
			return nil, fmt.Errorf("evaluate %q: item %d: %w", p.src, i, err)
		}
		if len(out[i]) > MaxValue {
			return nil, fmt.Errorf("evaluate %q: item %d has %d bytes, and %d is the most that a task can be given", p.src, i, len(out[i]), MaxValue)
		}
	}
	return out, nil
}

func kindOf(val ref.Val) string {
	if val.Type() == types.NullType {
		return "null"
	}
	return val.Type().TypeName()
}

func tooMany(n, limit int) error {
	if n > limit {
		return fmt.Errorf("it yields %d items, and %d is the limit", n, limit)
	}
	return nil
}

func elements(val traits.Lister, limit int) ([]any, error) {
	n := int(val.Size().(types.Int))
	if err := tooMany(n, limit); err != nil {
		return nil, err
	}
	out := make([]any, 0, n)
	for it := val.Iterator(); it.HasNext() == types.True; {
		v, err := native(it.Next())
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func entries(val traits.Mapper, limit int) ([]any, error) {
	if err := tooMany(int(val.Size().(types.Int)), limit); err != nil {
		return nil, err
	}
	all, err := native(val)
	if err != nil {
		return nil, err
	}
	of := all.(map[string]any)
	names := make([]string, 0, len(of))
	for name := range of {
		names = append(names, name)
	}
	slices.Sort(names)
	out := make([]any, len(names))
	for i, name := range names {
		out[i] = struct {
			Key   string `json:"key"`
			Value any    `json:"value"`
		}{name, of[name]}
	}
	return out, nil
}

// native turns a value into one that encoding/json writes: integers stay integers, and batches have the names that expressions see.
func native(val ref.Val) (any, error) {
	switch val := val.(type) {
	case types.Int:
		return int64(val), nil
	case types.Uint:
		return uint64(val), nil
	case types.Double:
		return float64(val), nil
	case types.Bool:
		return bool(val), nil
	case types.Null:
		return nil, nil
	case types.String, types.Timestamp, types.Duration:
		return stringify(val)
	case traits.Mapper:
		out := map[string]any{}
		for it := val.Iterator(); it.HasNext() == types.True; {
			k := it.Next()
			name, err := stringify(k)
			if err != nil {
				return nil, errors.New("a map has a key that is no scalar")
			}
			if out[name], err = native(val.Get(k)); err != nil {
				return nil, err
			}
		}
		return out, nil
	case traits.Lister:
		out := []any{}
		for it := val.Iterator(); it.HasNext() == types.True; {
			v, err := native(it.Next())
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	}
	switch v := val.Value().(type) {
	case Batch, Object, Trigger, Run, Totals, Inputs:
		return v, nil
	}
	return nil, fmt.Errorf("it yields %s, which JSON does not have", kindOf(val))
}

// rangeFunction is lists.range of cel-go's extensions, bounded: theirs takes as much memory as a person asks for.
var rangeFunction = cel.Function("lists.range", cel.Overload("lists_range", []*cel.Type{cel.IntType}, cel.ListType(cel.IntType),
	cel.UnaryBinding(func(arg ref.Val) ref.Val {
		n, ok := arg.(types.Int)
		switch {
		case !ok:
			return types.MaybeNoSuchOverloadErr(arg)
		case n < 0 || n > scheduler.MaxItems:
			return types.NewErr("lists.range(%d): want 0 to %d", int64(n), scheduler.MaxItems)
		}
		out := make([]int64, n)
		for i := range out {
			out[i] = int64(i)
		}
		return types.NewDynamicList(types.DefaultTypeAdapter, out)
	})))

// itemVars are the variables that a mapped task has besides the others.
type itemVars struct {
	name  string
	value any
	place map[string]any
}

func (v *itemVars) resolve(name string) (any, bool) {
	switch {
	case v.name == "":
	case name == v.name:
		return v.value, true
	case name == mapVar:
		return v.place, true
	}
	return nil, false
}

// SetItem makes the item of a mapped task visible under a name, with its place among the others; key is "" while it is not known.
func (v *Vars) SetItem(as string, item json.RawMessage, index, count int, key string) error {
	val, err := decodeJSON(item)
	if err != nil {
		return fmt.Errorf("read item %d: %w", index, err)
	}
	v.item = itemVars{name: as, value: val, place: map[string]any{"index": int64(index), "count": int64(count), "key": key}}
	return nil
}

// addCounts adds to what is seen of a task how its items ended, if it is mapped.
func (v *Vars) addCounts(task map[string]any, t *scheduler.TaskRun) {
	m := t.Map
	if m == nil {
		return
	}
	if m.Large > 0 {
		delete(task, "output") // who asks for it is told, see [Program.spilled]
		v.far = append(v.far, *t)
	}
	task["count"], task["succeeded"] = int64(m.Count), int64(m.Succeeded)
	task["failed"], task["skipped"] = int64(m.Failed), int64(m.Skipped)
}

// Object is the object of one batch of the run. Checksum is that of its content: equal content, equal checksum.
type Object struct {
	URI       string `json:"uri"`
	Key       string `json:"key"`
	Checksum  string `json:"checksum"`
	Batch     string `json:"batch"`
	Tenant    string `json:"tenant"`
	Source    string `json:"source"`
	Lane      string `json:"lane"`
	Partition int64  `json:"partition"`
	First     int64  `json:"first"`
	Last      int64  `json:"last"`
	Events    int64  `json:"events"`
	Bytes     int64  `json:"bytes"`
}

func (v *Vars) frozen() *Inputs {
	if v.inputs == nil {
		v.inputs = &Inputs{Digest: digest(v.batches), Objects: make([]Object, len(v.batches))}
		for i := range v.batches {
			b := &v.batches[i]
			v.inputs.Objects[i] = Object{
				URI: b.URI, Key: b.Key, Checksum: b.Checksum, Batch: b.ID, Tenant: b.Tenant, Source: b.Source, Lane: string(b.Lane),
				Partition: int64(b.Partition), First: b.First, Last: b.Last, Events: b.Events, Bytes: b.Bytes,
			}
		}
	}
	return v.inputs
}
