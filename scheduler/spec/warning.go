package spec

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// Warning is something in a DAG file that is permitted and probably not meant. It refuses nothing: the DAG is good.
type Warning struct {
	// Code names the kind of warning: one of the Warn constants.
	Code string `json:"code"`
	// File is the name that was given to [ReadFile], DAG the id of the DAG.
	File string `json:"file"`
	DAG  string `json:"dag"`
	// Line and Col count from 1, Col in characters.
	Line int `json:"line,omitempty"`
	Col  int `json:"col,omitempty"`
	// Excerpt is the line with a caret under the place, or "".
	Excerpt string `json:"excerpt,omitempty"`
	// Msg says what will happen that may not be meant, Hint what to write instead (or "").
	Msg  string `json:"msg"`
	Hint string `json:"hint,omitempty"`
}

// The kinds of warnings.
const (
	// WarnJoinAfterBranch: a join that is skipped as soon as one of its parents is, of which some are skipped without the others.
	WarnJoinAfterBranch = "join-after-branch"
	// WarnFailureHidden: a task whose failure does not make the run fail.
	WarnFailureHidden = "failure-hidden"
	// WarnRuleWithoutNeeds: a join rule of a task that joins nothing.
	WarnRuleWithoutNeeds = "rule-without-needs"
)

func (w *Warning) fault() *Error {
	return &Error{File: w.File, DAG: w.DAG, Line: w.Line, Col: w.Col, Excerpt: w.Excerpt, Msg: "warning: " + w.Msg + " [" + w.Code + "]", Hint: w.Hint}
}

// String returns one line: "file:line:col: warning: message [code] (hint)".
func (w *Warning) String() string { return w.fault().Error() }

// Detail returns the warning as a person wants to see it, over several lines, without a line end.
func (w *Warning) Detail() string { return w.fault().Detail() }

// warnf adds a warning at the place of a node. At most maxErrors of a file are kept.
func (b *builder) warnf(n ast.Node, code, hint, format string, args ...any) {
	if len(b.warnings) >= maxErrors {
		return
	}
	line, col := position(n)
	b.warnings = append(b.warnings, Warning{
		Code: code, File: b.file, DAG: b.dag.ID, Line: line, Col: col, Excerpt: excerpt(b.lines, line, col), Msg: fmt.Sprintf(format, args...), Hint: hint,
	})
}
