package configs

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a file. The parser takes quadratic time for large mappings and is recursive.
const (
	maxFileBytes = 512 << 10
	maxTokens    = 64_000
	maxDepth     = 64
	maxExcerpt   = 120 // characters
)

// document is a configuration file: its lines for excerpts, and what in them must not be shown.
type document struct {
	file  string
	lines []string
	// secrets are values that no message may contain, hidden the places where they stand, by line.
	secrets []string
	hidden  map[int][]span
}

// span is a part of a line, in characters from 1; to is one past the end.
type span struct{ from, to int }

// place is where something stands, both from 1.
type place struct{ line, col int }

// read makes a document of src and parses it. The root is nil if the file is empty; else it is a mapping.
func read(file string, src []byte) (*document, ast.Node, *Fault) {
	d := &document{file: file, lines: strings.Split(strings.ReplaceAll(string(src), "\r\n", "\n"), "\n"), hidden: map[int][]span{}}
	if len(src) > maxFileBytes {
		return d, nil, &Fault{File: file, Msg: fmt.Sprintf("the file has %d bytes, the limit is %d", len(src), maxFileBytes)}
	}
	if !utf8.Valid(src) {
		return d, nil, &Fault{File: file, Msg: "the file is not UTF-8"}
	}
	tokens := lexer.Tokenize(string(src))
	d.hide(tokens)
	if f := d.tooComplex(tokens); f != nil {
		return d, nil, f
	}
	parsed, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return d, nil, d.syntaxFault(err)
	}
	var root ast.Node
	for _, doc := range parsed.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.DirectiveType {
			continue
		}
		if root != nil {
			return d, nil, d.fault(positionOf(doc.Body), "", "the file has more than one YAML document", `remove what follows the second "---"`)
		}
		root = doc.Body
	}
	return d, root, nil
}

// fault makes a fault at a place of the file.
func (d *document) fault(at place, path, msg, hint string) *Fault {
	f := &Fault{File: d.file, Line: at.line, Column: at.col, Path: path, Msg: d.clean(msg), Hint: d.clean(hint)}
	f.Excerpt, f.Column = d.excerpt(at), max(1, at.col)
	return f
}

func (d *document) syntaxFault(err error) *Fault {
	at, msg := place{1, 1}, err.Error()
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		msg = syntax.Message
		if syntax.Token != nil && syntax.Token.Position != nil {
			at = place{syntax.Token.Position.Line, max(1, syntax.Token.Position.Column)}
		}
	}
	msg, _, _ = strings.Cut(msg, "\n")
	hint := ""
	if strings.ContainsRune(msg, '\t') || at.line <= len(d.lines) && strings.HasPrefix(strings.TrimLeft(d.lines[at.line-1], " "), "\t") {
		msg, hint = strings.ReplaceAll(msg, "\t", `\t`), "indent with spaces, not tabs"
	}
	for _, vague := range []string{"not allowed in this context", "unexpected key name", "non-map value", "pre-defined"} {
		if hint == "" && strings.Contains(msg, vague) {
			hint = "look at the indentation of this line and the one before, and for a missing colon or space"
		}
	}
	d.hideRest(at.line)
	return d.fault(at, "", "not YAML: "+msg, hint)
}

// tooComplex bounds what the parser is given: tokens, and how deep they can nest.
func (d *document) tooComplex(tokens token.Tokens) *Fault {
	if len(tokens) > maxTokens {
		return &Fault{File: d.file, Msg: fmt.Sprintf("the file has more than %d YAML tokens", maxTokens)}
	}
	var flow, prefix, line int
	var columns []int // of the first tokens of the lines that the present one is nested in
	for _, tk := range tokens {
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow = max(0, flow-1)
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			prefix++
		default:
			prefix = 0
		}
		if pos := tk.Position; pos.Line != line {
			line, prefix = pos.Line, min(prefix, 1)
			for len(columns) > 0 && columns[len(columns)-1] >= pos.Column {
				columns = columns[:len(columns)-1]
			}
			columns = append(columns, pos.Column)
		}
		if flow > maxDepth || prefix > maxDepth || len(columns) > maxDepth {
			return d.fault(place{tk.Position.Line, tk.Position.Column}, "", fmt.Sprintf("nested more than %d deep", maxDepth), "")
		}
	}
	return nil
}

// secretName matches keys whose values are not shown in excerpts: those that hold secrets, and what people write in their stead.
var secretName = regexp.MustCompile(`(?i)secret|token|passw|private|credential|authorization|^headers$|(api|access|signing)_?key|\burl\b|dsn`)

func isSecretName(key string) bool {
	return secretName.MatchString(key) || slices.ContainsFunc([]string{"secrets", "tokens", "access_key", "secret_key", "url"}, func(name string) bool {
		return distance(strings.ToLower(key), name) <= len(name)/3
	})
}

// hide notes what the file has as secrets. It goes by tokens and by the names of keys, not by the tree and the types, because a file with
// faults must not show them either.
func (d *document) hide(tokens token.Tokens) {
	var flow int
	var under struct { // the key that makes what is below it secret
		secret    bool
		flow, col int
	}
	for i, tk := range tokens {
		if tk.Position == nil {
			continue
		}
		if i+1 < len(tokens) && tokens[i+1].Type == token.MappingValueType {
			below := flow > under.flow || flow == 0 && tk.Position.Column > under.col
			if !under.secret || !below {
				under.secret, under.flow, under.col = isSecretName(tk.Value), flow, tk.Position.Column
			}
			continue
		}
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.CollectEntryType, token.MappingValueType, token.CommentType, token.LiteralType, token.FoldedType:
		default:
			glued := i > 1 && (tokens[i-2].Value == "env" || tokens[i-2].Value == "file") // as glue has it
			if text := strings.TrimSpace(tk.Value); under.secret && text != "" && !isReference(text) && !glued {
				d.hideToken(tk, text)
			}
		}
	}
}

// hideRest hides what follows a word like secrets in a line that is not YAML: its tokens may be anything.
func (d *document) hideRest(line int) {
	if line < 1 || line > len(d.lines) {
		return
	}
	text := d.lines[line-1]
	word := secretName.FindStringIndex(text)
	if word == nil {
		return
	}
	if colon := strings.IndexByte(text[word[1]:], ':'); colon >= 0 {
		from := utf8.RuneCountInString(text[:word[1]+colon+1]) + 2 // after the space
		d.hidden[line] = append([]span{{from, 1 << 20}}, d.hidden[line]...)
	}
}

// hideToken hides a value; of one over several lines, the lines that have a part of it.
func (d *document) hideToken(tk *token.Token, text string) {
	d.secrets = append(d.secrets, strings.Fields(text)...)
	at := tk.Position
	if !strings.Contains(strings.TrimSpace(tk.Origin), "\n") && at.Line <= len(d.lines) && strings.Contains(d.lines[at.Line-1], text) {
		d.hidden[at.Line] = append(d.hidden[at.Line], span{at.Column, at.Column + utf8.RuneCountInString(strings.TrimSpace(tk.Origin))})
		return
	}
	for n, line := range d.lines {
		if slices.ContainsFunc(strings.Fields(text), func(part string) bool { return strings.Contains(line, part) }) {
			d.hidden[n+1] = append(d.hidden[n+1], span{1, 1 << 20})
		}
	}
}

const stars = "***"

// clean removes secrets from a message.
func (d *document) clean(msg string) string {
	for _, s := range d.secrets {
		if len(s) >= 4 {
			msg = strings.ReplaceAll(msg, s, stars)
		}
	}
	return msg
}

// excerpt shows a line with a caret under a place. Of a long line it shows the part around the place.
func (d *document) excerpt(at place) string {
	if at.line < 1 || at.line > len(d.lines) {
		return ""
	}
	text, col := d.masked(at)
	if len(text) > maxExcerpt {
		from := max(0, min(col-1-maxExcerpt/2, len(text)-maxExcerpt))
		text, col = text[from:from+maxExcerpt], col-from
	}
	number := fmt.Sprintf("%5d | ", at.line)
	return number + strings.TrimRight(string(text), " ") + "\n" + strings.Repeat(" ", 5) + " | " + strings.Repeat(" ", col-1) + "^"
}

// masked returns a line without its secrets, and where the column is in it.
func (d *document) masked(at place) (text []rune, col int) {
	line := []rune(strings.Map(printableRune, d.lines[at.line-1]))
	at.col = min(max(at.col, 1), len(line)+1)
	col = at.col
	for i := 1; i <= len(line); i++ {
		to := 0
		for _, s := range d.hidden[at.line] {
			if s.from == i {
				to = min(s.to, len(line)+1)
			}
		}
		if to == 0 {
			text = append(text, line[i-1])
			continue
		}
		switch {
		case at.col >= to:
			col += len(stars) - (to - i)
		case at.col > i:
			col = len(text) + 1
		}
		text = append(text, []rune(stars)...)
		i = to - 1
	}
	return text, col
}

// printableRune keeps an excerpt from moving the cursor of a terminal.
func printableRune(r rune) rune {
	switch {
	case r == '\t':
		return ' '
	case r < ' ', r >= 0x7f && r < 0xa0:
		return '?'
	}
	return r
}

// positionOf is where a node starts. A mapping's own token is its first colon; its first key is what people look for.
func positionOf(n ast.Node) place {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return positionOf(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return positionOf(n.Key)
	}
	tk := n.GetToken()
	if tk == nil || tk.Position == nil {
		return place{}
	}
	return place{tk.Position.Line, max(1, tk.Position.Column)}
}
