package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
)

// paramTypes are the types of JSON Schema that a parameter may have.
var paramTypes = []string{"string", "integer", "number", "boolean", "array", "object"}

// params reads declarations of parameters.
func (b *builder) params(n ast.Node) map[string]scheduler.Param {
	out := map[string]scheduler.Param{}
	for _, p := range b.pairs(n, "params") {
		if err := CheckID(p.key); err != nil {
			b.errorf(p.node, "", "parameter: %v", err)
			continue
		}
		out[p.key] = b.param(p)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// param reads {type, default, …}, or a plain value: the default, whose type is the parameter's.
func (b *builder) param(p pair) scheduler.Param {
	var out scheduler.Param
	what := fmt.Sprintf("parameter %q", p.key)
	switch v := b.resolve(p.value).(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	case *ast.NullNode:
		b.errorf(p.node, "write {type: string}, or a default", "%s has neither a type nor a default", what)
		return out
	default:
		out.Type, out.Default = b.constant(v, what)
		return out
	}
	var def ast.Node
	at := map[string]ast.Node{}
	b.mapping(p.value, what, with(b.paramFields(&out, what, at), fields{
		"type":        func(v ast.Node) { out.Type = b.str(v, "type") },
		"description": func(v ast.Node) { out.Description = b.str(v, "description") },
		"required":    func(v ast.Node) { out.Required = b.boolean(v, "required") },
		"default":     func(v ast.Node) { def = v },
	}))
	out.Type = impliedType(&out)
	if def != nil {
		var kind string
		kind, out.Default = b.constant(b.resolve(def), what)
		if out.Type == "" {
			out.Type = kind
		}
	}
	if !slices.Contains(paramTypes, out.Type) {
		b.errorf(p.node, suggest(out.Type, slices.Clone(paramTypes)), "%s has the type %q, want one of %s", what, out.Type,
			strings.Join(paramTypes, ", "))
		return out
	}
	if b.checkParamSchema(&out, what, at) && out.Default != nil {
		if err := checkParam(&out, out.Default); err != nil {
			b.errorf(def, "", "default of %s: %v", what, err)
		}
	}
	return out
}

// constant returns a value's type and JSON.
func (b *builder) constant(n ast.Node, what string) (string, json.RawMessage) {
	kind := "string"
	var val any
	switch v := n.(type) {
	case *ast.BoolNode:
		kind, val = "boolean", v.Value
	case *ast.IntegerNode:
		kind, val = "integer", v.Value
	case *ast.FloatNode:
		kind, val = "number", v.Value
	case *ast.SequenceNode:
		kind, val = "array", b.element(n, what)
	case *ast.MappingNode, *ast.MappingValueNode:
		kind, val = "object", b.element(n, what)
	default:
		val = b.str(n, what)
	}
	raw, err := json.Marshal(val)
	if err != nil {
		b.errorf(n, "", "%s: %v", what, err)
		return kind, nil
	}
	return kind, raw
}

// element reads a value within a list as it stands: nothing is evaluated in it.
func (b *builder) element(n ast.Node, what string) any {
	n = b.resolve(n)
	switch v := n.(type) {
	case *ast.NullNode:
		return nil
	case *ast.SequenceNode:
		out := []any{}
		for _, e := range v.Values {
			out = append(out, b.element(e, what))
		}
		return out
	case *ast.MappingNode, *ast.MappingValueNode:
		out := map[string]any{}
		for _, p := range b.pairs(n, what) {
			out[p.key] = b.element(p.value, what+"."+p.key)
		}
		return out
	}
	_, raw := b.constant(n, what)
	return raw
}

// typeOf returns the type of a JSON value as JSON Schema calls it.
func typeOf(raw json.RawMessage) string {
	var val any
	if json.Unmarshal(raw, &val) != nil {
		return "no JSON"
	}
	switch v := val.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "null"
}

// checkType reports whether the JSON value has the type.
func checkType(kind string, raw json.RawMessage) error {
	got := typeOf(raw)
	if got == kind || got == "integer" && kind == "number" {
		return nil
	}
	return fmt.Errorf("%s is %s, want %s", brief(raw), got, kind)
}

// Params checks a run's parameters, a JSON object or nil, against what a DAG declares, and returns them with defaults filled in, as
// canonical JSON. The error names every fault.
func Params(declared map[string]scheduler.Param, given json.RawMessage) (json.RawMessage, error) {
	values := map[string]json.RawMessage{}
	if len(given) > 0 {
		if err := json.Unmarshal(given, &values); err != nil {
			return nil, fmt.Errorf("params must be a JSON object: %w", err)
		}
	}
	var errs []error
	names := slices.Sorted(maps.Keys(declared))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		p, ok := declared[name]
		if !ok {
			errs = append(errs, fmt.Errorf("unknown parameter %q %s", name, suggest(name, slices.Clone(names))))
			continue
		}
		if err := checkParam(&p, values[name]); err != nil {
			errs = append(errs, fmt.Errorf("parameter %q: %w", name, err))
		}
	}
	for _, name := range names {
		p := declared[name]
		if _, ok := values[name]; ok {
			continue
		}
		if p.Default != nil {
			values[name] = p.Default
		} else if p.Required {
			errs = append(errs, fmt.Errorf("parameter %q is required", name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return json.Marshal(values)
}
