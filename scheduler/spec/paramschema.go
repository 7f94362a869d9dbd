package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/scheduler/output"
)

// paramFormats are the formats of JSON Schema that are checked. Others would be ignored, and nobody would know.
var paramFormats = []string{"date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference", "uuid", "json-pointer", "regex", "semver"}

// paramWords are the words of JSON Schema that go with one type alone.
var paramWords = map[string][]string{
	"minimum": {"integer", "number"}, "maximum": {"integer", "number"}, "pattern": {"string"}, "format": {"string"}, "items": {"array"}, "properties": {"object"},
}

// paramFields read what JSON Schema says of a parameter beyond its type. at is filled in with where each of them stands.
func (b *builder) paramFields(p *scheduler.Param, what string, at map[string]ast.Node) fields {
	bound := func(v ast.Node, name string) *float64 {
		const most = 1 << 53
		n := b.float(v, name, -most, most)
		return &n
	}
	schema := func(v ast.Node, name string) json.RawMessage {
		switch b.resolve(v).(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
		default:
			b.errorf(v, "write it like "+name+": {type: string}", "%s of %s must be a mapping, got %s", name, what, kindOf(b.resolve(v)))
			return nil
		}
		raw, err := json.Marshal(b.element(v, name))
		b.check(v, err)
		return raw
	}
	known := fields{
		"title":   func(v ast.Node) { p.Title = b.str(v, "title") },
		"enum":    func(v ast.Node) { p.Enum = b.enum(v, what) },
		"minimum": func(v ast.Node) { p.Minimum = bound(v, "minimum") },
		"maximum": func(v ast.Node) { p.Maximum = bound(v, "maximum") },
		"pattern": func(v ast.Node) { p.Pattern = b.str(v, "pattern") },
		"format": func(v ast.Node) {
			if p.Format = b.str(v, "format"); p.Format != "" && !slices.Contains(paramFormats, p.Format) {
				b.errorf(v, suggest(p.Format, slices.Clone(paramFormats)), "format of %s is %q, want one of %s", what, p.Format, strings.Join(paramFormats, ", "))
			}
		},
		"items":      func(v ast.Node) { p.Items = schema(v, "items") },
		"properties": func(v ast.Node) { p.Properties = schema(v, "properties") },
	}
	for name, read := range known {
		known[name] = func(v ast.Node) { at[name] = v; read(v) }
	}
	return known
}

// enum reads the values that a parameter may have.
func (b *builder) enum(n ast.Node, what string) []json.RawMessage {
	var out []json.RawMessage
	nodes := b.list(n, "enum", false)
	for _, v := range nodes {
		raw, err := json.Marshal(b.element(v, "enum"))
		b.check(v, err)
		out = append(out, raw)
	}
	if _, list := b.resolve(n).(*ast.SequenceNode); list && len(out) == 0 {
		b.errorf(n, "write the values that it may have", "enum of %s is empty, so that no value fits", what)
	}
	return out
}

// impliedType is the type of a parameter that says what it has within.
func impliedType(p *scheduler.Param) string {
	switch {
	case p.Type != "":
		return p.Type
	case len(p.Properties) > 0:
		return "object"
	case len(p.Items) > 0:
		return "array"
	case len(p.Enum) > 0:
		return typeOf(p.Enum[0])
	}
	return ""
}

// checkParamSchema finds what can not be meant in the declaration of a parameter. It reports whether values can be checked by it.
func (b *builder) checkParamSchema(p *scheduler.Param, what string, at map[string]ast.Node) bool {
	before := len(b.errs)
	for _, name := range slices.Sorted(maps.Keys(at)) {
		if types, ok := paramWords[name]; ok && !slices.Contains(types, p.Type) {
			b.errorf(at[name], "", "%s of %s is for the type %s, and its type is %s", name, what, strings.Join(types, " or "), p.Type)
		}
	}
	for _, val := range p.Enum {
		if err := checkType(p.Type, val); err != nil {
			b.errorf(at["enum"], "", "enum of %s: %v", what, err)
		}
	}
	if p.Minimum != nil && p.Maximum != nil && *p.Minimum > *p.Maximum {
		b.errorf(at["maximum"], "", "minimum of %s is %g, more than its maximum, %g: no value fits", what, *p.Minimum, *p.Maximum)
	}
	if len(b.errs) > before || !narrow(p) {
		return len(b.errs) == before
	}
	if _, err := paramSchema(p); err != nil {
		for _, name := range []string{"pattern", "items", "properties"} {
			if at[name] != nil {
				b.errorf(at[name], "", "%s of %s: %v", name, what, err)
				return false
			}
		}
	}
	return true
}

// narrow reports whether more is said of a parameter than its type.
func narrow(p *scheduler.Param) bool {
	return len(p.Enum)+len(p.Pattern)+len(p.Format)+len(p.Items)+len(p.Properties) > 0 || p.Minimum != nil || p.Maximum != nil
}

// paramSchema is what the values of a parameter are held against.
func paramSchema(p *scheduler.Param) (*output.Schema, error) {
	said := *p // as it is, but for what is not said of values
	said.Title, said.Description, said.Default, said.Required = "", "", nil, false
	text, err := json.Marshal(said)
	if err != nil {
		return nil, err
	}
	return output.CompileSchema(text)
}

// checkParam reports why a value is none of the parameter's.
func checkParam(p *scheduler.Param, raw json.RawMessage) error {
	if err := checkType(p.Type, raw); err != nil || !narrow(p) {
		return err
	}
	schema, err := paramSchema(p)
	if err != nil {
		return err
	}
	fault := schema.Check(raw)
	if fault == "" {
		return nil
	}
	return fmt.Errorf("%s does not fit: %s", brief(raw), strings.ReplaceAll(fault, "at the top: ", ""))
}

// brief is the beginning of a value.
func brief(raw json.RawMessage) string {
	const most = 100
	text := strings.TrimSpace(string(raw))
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
