package spec

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler/expr"
)

// decoder reads one document. Its methods report what is wrong and return a zero value, so that reading goes on.
type decoder struct {
	*source
	dag     string
	anchors map[string]ast.Node
	visits  int
	merging int // depth of merge keys
	uses    []use
}

// fields says what to do with the value of each key of a mapping.
type fields map[string]func(v ast.Node)

func (d *decoder) errorf(n ast.Node, hint, format string, args ...any) {
	line, col := position(n)
	d.at(d.dag, line, col, fmt.Sprintf(format, args...), hint)
}

// position is where a node starts. A mapping's own token is its first colon; its first key is what people look for.
func position(n ast.Node) (line, col int) {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return position(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return position(n.Key)
	}
	tk := n.GetToken()
	if tk == nil || tk.Position == nil {
		return 0, 0
	}
	return tk.Position.Line, max(1, tk.Position.Column)
}

// anchorFinder notes all anchors of a document, so that it can be read in any order.
type anchorFinder struct{ d *decoder }

// Visit implements ast.Visitor.
func (f anchorFinder) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok {
		name := a.Name.GetToken().Value
		if _, dup := f.d.anchors[name]; dup {
			f.d.errorf(a, "", "anchor &%s stands twice", name)
		}
		f.d.anchors[name] = a.Value
	}
	return f
}

// resolve follows anchors, aliases and tags to the value. The number of steps is bounded, so a chain of aliases can not cost more than its
// file is long.
func (d *decoder) resolve(n ast.Node) ast.Node {
	for d.visits++; d.visits <= maxVisits; d.visits++ {
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			target, ok := d.anchors[v.Value.GetToken().Value]
			if !ok {
				d.errorf(v, "", "alias *%s has no anchor", v.Value.GetToken().Value)
				return ast.Null(v.GetToken())
			}
			n = target
		case *ast.TagNode:
			d.errorf(v, "", "tags (%s) are not supported", v.GetToken().Value)
			n = v.Value
		default:
			return n
		}
	}
	if d.visits <= maxVisits+2 {
		d.errorf(n, "", "the file has too many aliases")
	}
	return ast.Null(n.GetToken())
}

// pair is a key of a mapping with its value, not resolved.
type pair struct {
	key   string
	node  ast.Node // of the key
	value ast.Node
}

// pairs returns the entries of a mapping, those of merge keys (<<) after its own. what names it in messages, with an article.
func (d *decoder) pairs(n ast.Node, what string) []pair {
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
		d.errorf(n, "", "%s must be a mapping of keys and values, got %s", what, kindOf(n))
		return nil
	}
	var own []pair
	var merged []ast.Node
	seen := map[string]bool{}
	for _, kv := range values {
		if kv.Key.IsMergeKey() {
			merged = append(merged, kv.Value)
			continue
		}
		key := kv.Key.GetToken().Value
		if seen[key] {
			d.errorf(kv.Key, "", "key %q stands twice in %s", key, what)
			continue
		}
		seen[key] = true
		own = append(own, pair{key: key, node: kv.Key, value: kv.Value})
	}
	for _, m := range merged {
		for _, p := range d.mergedPairs(m, what) {
			if !seen[p.key] {
				seen[p.key] = true
				own = append(own, p)
			}
		}
	}
	return own
}

const maxMerges = 8

// mergedPairs reads the value of a merge key: a mapping, or a list of them, of which earlier ones win.
func (d *decoder) mergedPairs(n ast.Node, what string) []pair {
	if d.merging >= maxMerges {
		d.errorf(n, "", "merge keys are nested more than %d deep", maxMerges)
		return nil
	}
	d.merging++
	defer func() { d.merging-- }()
	list, ok := d.resolve(n).(*ast.SequenceNode)
	if !ok {
		return d.pairs(n, what)
	}
	var all []pair
	for _, v := range list.Values {
		all = append(all, d.pairs(v, what)...)
	}
	return all
}

// mapping calls the function of each key.
func (d *decoder) mapping(n ast.Node, what string, known fields) {
	for _, p := range d.pairs(n, what) {
		if read, ok := known[p.key]; ok {
			read(p.value)
			continue
		}
		names := slices.Sorted(maps.Keys(known))
		hint := cmp.Or(elsewhere[p.key], suggest(p.key, names), belongs(p.key))
		if hint == "" {
			hint = "known keys: " + strings.Join(names, ", ")
		}
		d.errorf(p.node, hint, "unknown key %q in %s", p.key, what)
	}
}

// list returns the elements of a sequence, not resolved; a single value is a list of one if lone is permitted.
func (d *decoder) list(n ast.Node, what string, lone bool) []ast.Node {
	n = d.resolve(n)
	switch v := n.(type) {
	case *ast.SequenceNode:
		return v.Values
	case *ast.NullNode:
		return nil
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		if lone {
			return []ast.Node{n}
		}
	}
	d.errorf(n, "", "%s must be a list, got %s", what, kindOf(n))
	return nil
}

// atMost is list for one that must not be longer than most; what names its elements.
func (d *decoder) atMost(most int, n ast.Node, what string, lone bool) []ast.Node {
	list := d.list(n, what, lone)
	if len(list) > most {
		d.errorf(n, "", "there are %d %s, the limit is %d", len(list), what, most)
		return nil
	}
	return list
}

// str reads a string. Numbers and the like are refused: YAML has read them already, and "1.10" would have become 1.1.
func (d *decoder) str(n ast.Node, what string) string {
	n = d.resolve(n)
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value
	case *ast.LiteralNode:
		return v.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		d.errorf(n, fmt.Sprintf("write %q", n.GetToken().Value), "%s must be a string, got %s", what, kindOf(n))
	default:
		d.errorf(n, "", "%s must be a string, got %s", what, kindOf(n))
	}
	return ""
}

// scalar reads a string, or the text of a number or a bool as it stands in the file.
func (d *decoder) scalar(n ast.Node, what string) string {
	n = d.resolve(n)
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value
	case *ast.NullNode:
		d.errorf(n, `write "" for an empty one`, "%s has no value", what)
		return ""
	}
	return d.str(n, what)
}

// strs reads a list of strings, or one string.
func (d *decoder) strs(n ast.Node, what string) []string {
	var out []string
	for _, v := range d.list(n, what, true) {
		out = append(out, d.str(v, what))
	}
	return out
}

func (d *decoder) boolean(n ast.Node, what string) bool {
	n = d.resolve(n)
	if v, ok := n.(*ast.BoolNode); ok {
		return v.Value
	}
	d.errorf(n, "", "%s must be true or false, got %s", what, kindOf(n))
	return false
}

// integer reads a number of at least 0 and at most limit.
func (d *decoder) integer(n ast.Node, what string, limit int64) int64 {
	n = d.resolve(n)
	v, ok := n.(*ast.IntegerNode)
	if !ok {
		d.errorf(n, "", "%s must be a whole number, got %s", what, kindOf(n))
		return 0
	}
	num, err := strconv.ParseInt(fmt.Sprint(v.Value), 10, 64)
	if err != nil || num < 0 || num > limit {
		d.errorf(n, "", "%s must be from 0 to %d", what, limit)
		return 0
	}
	return num
}

func (d *decoder) float(n ast.Node, what string, low, high float64) float64 {
	n = d.resolve(n)
	var num float64
	switch v := n.(type) {
	case *ast.IntegerNode:
		num, _ = strconv.ParseFloat(fmt.Sprint(v.Value), 64)
	case *ast.FloatNode:
		num = v.Value
	default:
		d.errorf(n, "", "%s must be a number, got %s", what, kindOf(n))
		return low
	}
	if !(num >= low && num <= high) {
		d.errorf(n, "", "%s must be from %g to %g", what, low, high)
		return low
	}
	return num
}

// maxDuration bounds every duration of a file.
const maxDuration = 366 * 24 * time.Hour

// duration reads "10s", "1h30m" or "2d".
func (d *decoder) duration(n ast.Node, what string) time.Duration {
	n = d.resolve(n)
	if _, ok := n.(*ast.IntegerNode); ok && n.GetToken().Value != "0" {
		d.errorf(n, fmt.Sprintf("write %ss for seconds", n.GetToken().Value), "%s has no unit", what)
		return 0
	}
	text := d.scalar(n, what)
	if text == "" {
		return 0
	}
	dur, err := parseDuration(text)
	if err != nil {
		d.errorf(n, `write it like "500ms", "10s", "5m", "1h30m" or "7d"`, "%s is not a duration: %q", what, text)
		return 0
	}
	if dur < 0 || dur > maxDuration {
		d.errorf(n, "", "%s must be from 0 to %s", what, "366d")
		return 0
	}
	return dur
}

func parseDuration(text string) (time.Duration, error) {
	days, rest, found := strings.Cut(text, "d")
	if !found {
		return time.ParseDuration(text)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, err
	}
	dur := time.Duration(n) * 24 * time.Hour
	if rest == "" {
		return dur, nil
	}
	more, err := time.ParseDuration(rest)
	return dur + more, err
}

var units = map[string]float64{
	"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// size reads a number of bytes: "1GiB", "500MB", 4096.
func (d *decoder) size(n ast.Node, what string) int64 {
	n = d.resolve(n)
	text := d.scalar(n, what)
	if text == "" {
		return 0
	}
	end := strings.IndexFunc(text, unicode.IsLetter)
	if end < 0 {
		end = len(text)
	}
	unit, ok := units[text[end:]]
	num, err := strconv.ParseFloat(strings.TrimSpace(text[:end]), 64)
	if !ok || err != nil || !(num >= 0 && num*unit < 1<<60) {
		d.errorf(n, `write it like "64MiB", "1GiB" or 4096`, "%s is not a size: %q", what, text)
		return 0
	}
	return int64(num * unit)
}

// exprErrors reports faults of an expression, whose places count from the start of the scalar n.
func (d *decoder) exprErrors(n ast.Node, what string, err error) {
	var joined interface{ Unwrap() []error }
	list := []error{err}
	if errors.As(err, &joined) {
		list = joined.Unwrap()
	}
	for _, err := range list {
		var e *expr.Error
		if !errors.As(err, &e) {
			e = &expr.Error{Line: 1, Col: 1, Msg: err.Error()}
		}
		line, col := d.within(n, e.Line, e.Col)
		d.at(d.dag, line, col, what+": "+e.Msg, "")
	}
}

// within turns a place in a scalar's value into one in the file, as well as can be told: exactly for a scalar on one line.
func (d *decoder) within(n ast.Node, line, col int) (int, int) {
	n = d.resolve(n)
	startLine, startCol := position(n)
	if lit, ok := n.(*ast.LiteralNode); ok {
		textLine := startLine + line
		if textLine > len(d.lines) || !strings.HasPrefix(lit.GetToken().Value, "|") {
			return startLine, startCol
		}
		text := d.lines[textLine-1]
		return textLine, len(text) - len(strings.TrimLeft(text, " ")) + col
	}
	value, ok := n.(*ast.StringNode)
	if !ok || line > 1 || startLine > len(d.lines) {
		return startLine, startCol
	}
	text := []rune(d.lines[startLine-1])
	if startCol > len(text) {
		return startLine, startCol
	}
	from := startCol - 1
	if text[from] == '"' || text[from] == '\'' {
		from++
	}
	if !strings.HasPrefix(string(text[from:]), value.Value) {
		return startLine, startCol // folded or escaped
	}
	return startLine, from + col
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
	case *ast.StringNode, *ast.LiteralNode:
		return "a string"
	case *ast.BoolNode:
		return "a bool"
	}
	return "the number " + n.GetToken().Value
}
