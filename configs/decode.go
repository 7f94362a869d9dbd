package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// decoder reads a file into a configuration. Its methods report what is wrong and go on, so that all faults of a file come together.
type decoder struct {
	*document
	faults Faults
	// places has where each value stands, by path; a mapping stands where its key does.
	places  map[string]place
	anchors map[string]ast.Node
	visits  int
}

// maxVisits bounds the nodes looked at, so that aliases can not make a small file large.
const maxVisits = 100_000

// decode reads src over c. What the file does not name stays, but a map or a list that it has replaces the one before.
func decode(file string, src []byte, c *Config) (*decoder, error) {
	doc, root, fault := read(file, src)
	d := &decoder{document: doc, places: map[string]place{}, anchors: map[string]ast.Node{}}
	if fault != nil {
		return d, Faults{fault}
	}
	if root == nil {
		return d, nil
	}
	ast.Walk(anchorFinder{d.anchors}, root)
	d.value(root, reflect.ValueOf(c).Elem(), "")
	return d, d.faults.or()
}

// anchorFinder notes the anchors of a file.
type anchorFinder struct{ found map[string]ast.Node }

// Visit implements ast.Visitor.
func (f anchorFinder) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok {
		f.found[a.Name.GetToken().Value] = a.Value
	}
	return f
}

func (d *decoder) errorf(n ast.Node, path, hint, format string, args ...any) {
	f := d.fault(positionOf(n), path, fmt.Sprintf(format, args...), hint)
	if len(d.faults) < 50 && !slices.ContainsFunc(d.faults, func(o *Fault) bool { return *o == *f }) { // an alias may lead there twice
		d.faults = append(d.faults, f)
	}
}

// resolve follows anchors and aliases to the value.
func (d *decoder) resolve(n ast.Node) ast.Node {
	for d.visits++; d.visits < maxVisits; d.visits++ {
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			target, ok := d.anchors[v.Value.GetToken().Value]
			if !ok {
				d.errorf(v, "", "", "alias *%s has no anchor", v.Value.GetToken().Value)
				return ast.Null(v.GetToken())
			}
			n = target
		case *ast.TagNode:
			d.errorf(v, "", "write the value alone", "tags (%s) are not supported", v.GetToken().Value)
			n = v.Value
		default:
			return n
		}
	}
	if d.visits == maxVisits {
		d.errorf(n, "", "", "the file has too many aliases")
	}
	return ast.Null(n.GetToken())
}

var (
	sizeType     = reflect.TypeFor[Size]()
	durationType = reflect.TypeFor[time.Duration]()
	secretType   = reflect.TypeFor[SecretRef]()
)

// value reads a node into v, which is what path names.
func (d *decoder) value(n ast.Node, v reflect.Value, path string) {
	n = d.resolve(n)
	if _, marked := d.places[path]; !marked {
		d.places[path] = positionOf(n)
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.dictionary(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

// pair is a key of a mapping with its value, not resolved.
type pair struct {
	key   string
	node  ast.Node // of the key
	value ast.Node
}

// pairs returns the entries of a mapping, those of merge keys (<<) after its own.
func (d *decoder) pairs(n ast.Node, path string) []pair {
	n = d.resolve(n)
	var values []*ast.MappingValueNode
	switch v := n.(type) {
	case *ast.MappingNode:
		values = v.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{v}
	case *ast.NullNode:
		return nil
	default:
		what := "the file"
		if path != "" {
			what = "this"
		}
		d.errorf(n, path, "", "%s must be a mapping of keys and values, got %s", what, kindOf(n))
		return nil
	}
	var own, merged []pair
	seen := map[string]bool{}
	for _, kv := range values {
		if kv.Key.IsMergeKey() {
			merged = append(merged, d.merge(kv.Value, path)...)
			continue
		}
		key := kv.Key.GetToken().Value
		if seen[key] {
			d.errorf(kv.Key, join(path, key), "remove one of them", "the key stands twice")
			continue
		}
		seen[key] = true
		own = append(own, pair{key, kv.Key, kv.Value})
	}
	for _, p := range merged {
		if !seen[p.key] {
			seen[p.key] = true
			own = append(own, p)
		}
	}
	return own
}

// merge reads the value of a merge key: a mapping, or a list of them, of which earlier ones win.
func (d *decoder) merge(n ast.Node, path string) []pair {
	list, ok := d.resolve(n).(*ast.SequenceNode)
	if !ok {
		return d.pairs(n, path)
	}
	var all []pair
	for _, v := range list.Values {
		all = append(all, d.pairs(v, path)...)
	}
	return all
}

func (d *decoder) structure(n ast.Node, v reflect.Value, path string) {
	for _, p := range d.pairs(n, path) {
		at := join(path, p.key)
		field := fieldOf(v, p.key)
		if !field.IsValid() {
			d.errorf(p.node, at, hintFor(p.key, v.Type()), "there is no such key")
			continue
		}
		if isTree(field.Type()) {
			d.places[at] = positionOf(p.node)
		}
		d.value(p.value, field, at)
	}
}

func (d *decoder) dictionary(n ast.Node, v reflect.Value, path string) {
	fresh := reflect.MakeMap(v.Type())
	for _, p := range d.pairs(n, path) {
		at := join(path, p.key)
		elem := reflect.New(v.Type().Elem()).Elem()
		if isTree(elem.Type()) {
			d.places[at] = positionOf(p.node)
		}
		d.value(p.value, elem, at)
		fresh.SetMapIndex(reflect.ValueOf(p.key), elem)
	}
	if fresh.Len() > 0 {
		v.Set(fresh)
	} else {
		v.SetZero()
	}
}

func (d *decoder) list(n ast.Node, v reflect.Value, path string) {
	var values []ast.Node
	switch n := n.(type) {
	case *ast.SequenceNode:
		values = n.Values
	case *ast.NullNode:
	case *ast.MappingNode, *ast.MappingValueNode:
		d.errorf(n, path, "", "this must be a list, got %s", kindOf(n))
		return
	default:
		if v.Type().Name() == "" { // a list with a name of its own, like ingest.Places, takes one value, too
			d.errorf(n, path, "write ["+n.GetToken().Value+"]", "this must be a list, got %s", kindOf(n))
			return
		}
		values = []ast.Node{n}
	}
	v.SetZero()
	for i, value := range values {
		elem := reflect.New(v.Type().Elem()).Elem()
		d.value(value, elem, fmt.Sprintf("%s[%d]", path, i))
		v.Set(reflect.Append(v, elem))
	}
}

func (d *decoder) scalar(n ast.Node, v reflect.Value, path string) {
	text := n.GetToken().Value
	if glued, ok := glue(n); ok && v.Kind() == reflect.String {
		v.SetString(glued)
		return
	}
	switch n := n.(type) {
	case *ast.StringNode:
		text = n.Value
	case *ast.LiteralNode:
		text = n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		// YAML has read "1.10" and "0777" as numbers; what people meant as text must be quoted.
		if v.Kind() == reflect.String && v.Type() != secretType {
			d.errorf(n, path, fmt.Sprintf("write %q", text), "this must be text, got %s", kindOf(n))
			return
		}
	case *ast.NullNode:
		d.errorf(n, path, "write a value, or remove the key for the default", "there is no value")
		return
	default:
		d.errorf(n, path, "", "this must be %s, got %s", wantOf(v.Type()), kindOf(n))
		return
	}
	if msg, hint := parseScalar(text, v); msg != "" {
		d.errorf(n, path, hint, "%s", msg)
	}
}

// glue returns the text of a scalar like [env:NAME], which YAML has as one and the parser takes for a mapping.
func glue(n ast.Node) (string, bool) {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) == 1 && !strings.HasPrefix(m.GetToken().Value, "{") {
		n = m.Values[0]
	}
	pair, ok := n.(*ast.MappingValueNode)
	if !ok || pair.Value == nil {
		return "", false
	}
	key, value := pair.Key.GetToken(), pair.Value.GetToken()
	if isTree := pair.Value.Type() == ast.MappingType || pair.Value.Type() == ast.SequenceType || pair.Value.Type() == ast.MappingValueType; isTree ||
		value.Position.Line != key.Position.Line || value.Position.Column != key.Position.Column+len(key.Value)+1 {
		return "", false
	}
	return key.Value + ":" + value.Value, true
}

// parseScalar sets v to what text says, or tells what is wrong.
func parseScalar(text string, v reflect.Value) (msg, hint string) {
	switch {
	case v.Type() == sizeType:
		size, err := ParseSize(text)
		if err != nil {
			return fmt.Sprintf("%q is not a size", text), "write a number of bytes, or one with KiB, MiB, GiB or TiB, like 64MiB"
		}
		v.SetInt(int64(size))
	case v.Type() == durationType:
		dur, err := ParseDuration(text)
		if _, number := strconv.ParseInt(text, 10, 64); err != nil && number == nil {
			return fmt.Sprintf("%q has no unit", text), fmt.Sprintf("write %ss for seconds", text)
		}
		if err != nil {
			return fmt.Sprintf("%q is not a duration", text), "write it like 500ms, 10s, 5m, 1h30m or 7d"
		}
		v.SetInt(int64(dur))
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Sprintf("%q is neither true nor false", text), ""
		}
		v.SetBool(text == "true")
	default:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Sprintf("%q is not a whole number", text), ""
		}
		v.SetInt(n)
	}
	return "", ""
}

// fieldOf returns the field of a struct that has a key, or the zero Value.
func fieldOf(v reflect.Value, key string) reflect.Value {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == key {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// isTree reports whether values of a type have keys of their own.
func isTree(t reflect.Type) bool { return t.Kind() == reflect.Struct || t.Kind() == reflect.Map }

// hintFor helps with a key that a mapping of type t does not have: what is near, or where else such a key is, or what there is.
func hintFor(key string, t reflect.Type) string {
	known := keysOf(t)
	if hint := didYouMean(key, known); hint != "" {
		return hint
	}
	for _, k := range Keys() {
		if rest, ok := strings.CutSuffix(k.Path, "."+key); ok && !strings.Contains(rest, "*") {
			return fmt.Sprintf("it belongs below %q: did you mean %q?", rest, k.Path)
		}
	}
	return "known keys here: " + strings.Join(known, ", ")
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		keys = append(keys, t.Field(i).Tag.Get("yaml"))
	}
	return keys
}

// kindOf names a node's type for people.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	}
	return "text"
}

// wantOf names a type for people.
func wantOf(t reflect.Type) string {
	switch {
	case t == sizeType:
		return "a size"
	case t == durationType:
		return "a duration"
	case t == secretType:
		return "a secret"
	case t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Slice:
		return "a list of " + strings.TrimPrefix(strings.TrimPrefix(wantOf(t.Elem()), "a "), "an ")
	case isTree(t):
		return "a mapping"
	}
	return "a whole number"
}
