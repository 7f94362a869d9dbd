package dagfactory

import (
	"errors"
	"fmt"
	"strings"

	yaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

type kind int

const (
	null kind = iota
	scalar
	sequence
	mapping
)

// place is where something stands; a line of 0 is the file as a whole.
type place struct {
	file string
	line int
}

// node is a value with the place where it begins. Anchors, aliases and merge keys are resolved.
type node struct {
	kind kind
	at   place
	// text of a scalar as it stands in the file, without quotes; str says that it is a string to YAML.
	text   string
	str    bool
	items  []*node
	fields []field
}

type field struct {
	key   string
	at    place
	value *node
}

// get returns the value of a key, nil if there is none. The node may be nil.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	for _, f := range n.fields {
		if f.key == key {
			return f.value
		}
	}
	return nil
}

// is reports whether a scalar is one of the words, in any case.
func (n *node) is(words ...string) bool {
	if n == nil || n.kind != scalar {
		return false
	}
	for _, w := range words {
		if strings.EqualFold(n.text, w) {
			return true
		}
	}
	return false
}

// strings returns the scalars of a sequence, or a lone scalar.
func (n *node) strings() []string {
	switch {
	case n == nil:
		return nil
	case n.kind == scalar:
		return []string{n.text}
	}
	var out []string
	for _, item := range n.items {
		out = append(out, item.text)
	}
	return out
}

// Bounds of a file.
const (
	maxBytes = 512 << 10
	maxNodes = 100_000
	maxDepth = 64
)

// reader turns syntax into nodes.
type reader struct {
	file    string
	anchors map[string]ast.Node
	nodes   int
	depth   int
	err     error
}

// parse reads one document; an empty one is an empty mapping.
func parse(file string, src []byte) (*node, error) {
	if len(src) > maxBytes {
		return nil, fmt.Errorf("read %s: it has %d bytes, at most %d are read", file, len(src), maxBytes)
	}
	tree, err := parser.ParseBytes(src, 0)
	if err != nil {
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) && syntax.Token != nil {
			return nil, fmt.Errorf("read %s:%d: not YAML: %s", file, syntax.Token.Position.Line, syntax.Message)
		}
		return nil, fmt.Errorf("read %s: not YAML: %w", file, err)
	}
	root := &node{kind: mapping}
	for _, doc := range tree.Docs {
		if doc.Body == nil {
			continue
		}
		r := &reader{file: file, anchors: map[string]ast.Node{}}
		ast.Walk(r, doc.Body)
		n := r.read(doc.Body)
		if r.err != nil {
			return nil, fmt.Errorf("read %s: %w", file, r.err)
		}
		if n.kind != mapping && n.kind != null {
			return nil, fmt.Errorf("read %s:%d: want a mapping of DAGs by name", file, n.at.line)
		}
		root.fields = append(root.fields, n.fields...)
	}
	return root, nil
}

// Visit implements ast.Visitor: it notes anchors.
func (r *reader) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok {
		r.anchors[a.Name.GetToken().Value] = a.Value
	}
	return r
}

func (r *reader) read(n ast.Node) *node {
	r.nodes++
	r.depth++
	defer func() { r.depth-- }()
	if r.nodes > maxNodes || r.depth > maxDepth {
		r.err = errors.New("it is nested too deeply, or has too many aliases")
		return &node{}
	}
	out := &node{at: place{file: r.file}}
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		out.at.line = tk.Position.Line
	}
	switch v := n.(type) {
	case *ast.AnchorNode:
		return r.read(v.Value)
	case *ast.TagNode: // older files have !join and the like; what they mean is judged by where they stand
		return r.read(v.Value)
	case *ast.AliasNode:
		if target := r.anchors[v.Value.GetToken().Value]; target != nil {
			return r.read(target)
		}
	case *ast.NullNode:
	case *ast.SequenceNode:
		out.kind = sequence
		for _, item := range v.Values {
			out.items = append(out.items, r.read(item))
		}
	case *ast.MappingNode:
		out.kind = mapping
		r.fields(out, v.Values)
	case *ast.MappingValueNode:
		out.kind = mapping
		r.fields(out, []*ast.MappingValueNode{v})
	case *ast.StringNode:
		out.kind, out.text, out.str = scalar, v.Value, true
	case *ast.LiteralNode:
		out.kind, out.text, out.str = scalar, v.Value.Value, true
	default:
		out.kind, out.text = scalar, n.GetToken().Value
	}
	return out
}

// fields reads the pairs of a mapping; its own win over those of a merge key.
func (r *reader) fields(out *node, pairs []*ast.MappingValueNode) {
	for _, p := range pairs {
		if !p.Key.IsMergeKey() {
			key := p.Key.GetToken()
			out.fields = append(out.fields, field{key.Value, place{r.file, key.Position.Line}, r.read(p.Value)})
			continue
		}
		merged := r.read(p.Value)
		for _, m := range append([]*node{merged}, merged.items...) {
			for _, f := range m.fields {
				if out.get(f.key) == nil {
					out.fields = append(out.fields, f)
				}
			}
		}
	}
}

// merge lays a mapping over another, as dag-factory does with defaults: mappings key by key, everything else as a whole; lists of tasks are
// mappings by their ids.
func merge(over, base *node) *node {
	if over == nil || base == nil || over.kind != mapping || base.kind != mapping {
		if over == nil || over.kind == null && base != nil && base.kind == mapping {
			return base
		}
		return over
	}
	out := &node{kind: mapping, at: over.at}
	for _, f := range base.fields {
		if own := over.get(f.key); own != nil {
			f.value = merge(byID(f.key, own), byID(f.key, f.value))
		}
		out.fields = append(out.fields, f)
	}
	for _, f := range over.fields {
		if base.get(f.key) == nil {
			out.fields = append(out.fields, f)
		}
	}
	return out
}

// byID turns a list of tasks or groups into a mapping by id.
func byID(key string, n *node) *node {
	name := map[string]string{"tasks": "task_id", "task_groups": "group_name"}[key]
	if name == "" || n.kind != sequence {
		return n
	}
	out := &node{kind: mapping, at: n.at}
	for _, item := range n.items {
		if id := item.get(name); id != nil {
			out.fields = append(out.fields, field{id.text, item.at, item})
		} else {
			out.fields = append(out.fields, field{"", item.at, item})
		}
	}
	return out
}
