package spec

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	yaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of one file. The parser takes quadratic time for large mappings; within these limits the worst file costs about a second.
const (
	MaxBytes  = 512 << 10
	maxTokens = 64_000
	maxDepth  = 64
	maxVisits = 200_000 // nodes looked at, aliases included
)

// source is a file as the decoders see it.
type source struct {
	file string
	reading
	lines []string
	errs  Errors
	// warnings are those of documents without a fault.
	warnings []Warning
}

// at adds a fault at a place. The same fault at the same place is reported once: an alias may lead there twice.
func (s *source) at(dag string, line, col int, msg, hint string) {
	if len(s.errs) >= maxErrors {
		return
	}
	for _, e := range s.errs {
		if e.Line == line && e.Col == col && e.Msg == msg {
			return
		}
	}
	s.errs = append(s.errs, &Error{File: s.file, DAG: dag, Line: line, Col: col, Excerpt: excerpt(s.lines, line, col), Msg: msg, Hint: hint})
}

// documents splits a file into the roots of its documents; empty documents are left out. Faults of syntax are added to s. A document that
// can not be parsed does not take its neighbours with it: the tokens are split first, since the parser stops at the first fault.
func (s *source) documents(src []byte) []ast.Node {
	if len(src) > MaxBytes {
		s.at("", 0, 0, fmt.Sprintf("the file has %d bytes, the limit is %d", len(src), MaxBytes), "split it into several files")
		return nil
	}
	if !utf8.Valid(src) {
		s.at("", 0, 0, "the file is not UTF-8", "")
		return nil
	}
	tokens := lexer.Tokenize(string(src))
	if !s.withinLimits(tokens) {
		return nil
	}
	var roots []ast.Node
	for _, doc := range splitDocuments(tokens) {
		if root := s.parse(doc); root != nil {
			roots = append(roots, root)
		}
	}
	return roots
}

func splitDocuments(tokens token.Tokens) []token.Tokens {
	docs := []token.Tokens{nil}
	for _, tk := range tokens {
		if tk.Type == token.DocumentHeaderType || tk.Type == token.DocumentEndType {
			docs = append(docs, nil)
			continue
		}
		last := len(docs) - 1
		docs[last] = append(docs[last], tk)
	}
	return docs
}

func (s *source) parse(tokens token.Tokens) ast.Node {
	if len(tokens) == 0 {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		s.syntaxError(tokens, err)
		return nil
	}
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.NullType {
			return doc.Body
		}
	}
	return nil
}

func (s *source) syntaxError(tokens token.Tokens, err error) {
	line, col := tokens[0].Position.Line, tokens[0].Position.Column
	msg := err.Error()
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) {
		msg = syntax.Message
		if syntax.Token != nil && syntax.Token.Position != nil {
			line, col = syntax.Token.Position.Line, syntax.Token.Position.Column
		}
	}
	msg, _, _ = strings.Cut(msg, "\n")
	hint := ""
	if strings.ContainsRune(msg, '\t') {
		msg, hint = strings.ReplaceAll(msg, "\t", `\t`), "indent with spaces"
	}
	s.at("", line, max(col, 1), "not YAML: "+msg, hint)
}

// withinLimits bounds what the parser, which is recursive, is given: tokens, and how deep they can nest.
func (s *source) withinLimits(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		s.at("", 0, 0, fmt.Sprintf("the file has more than %d YAML tokens", maxTokens), "split it into several files")
		return false
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
			s.at("", tk.Position.Line, tk.Position.Column, fmt.Sprintf("nested more than %d deep", maxDepth), "")
			return false
		}
	}
	return true
}
