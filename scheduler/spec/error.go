package spec

import (
	"fmt"
	"slices"
	"strings"
)

// Error is one fault of a DAG file.
type Error struct {
	// File is the name that was given to [Compile].
	File string `json:"file"`
	// DAG is the id of the DAG that the fault belongs to, or "" if it is not known.
	DAG string `json:"dag,omitempty"`
	// Line and Col count from 1, Col in characters; both are 0 for a fault of the file as a whole.
	Line int `json:"line,omitempty"`
	Col  int `json:"col,omitempty"`
	// Excerpt is the line with a caret under the place, or "".
	Excerpt string `json:"excerpt,omitempty"`
	// Msg says what is wrong, Hint what to do about it (or "").
	Msg  string `json:"msg"`
	Hint string `json:"hint,omitempty"`
}

// Error returns one line: "file:line:col: message (hint)".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Col)
	}
	b.WriteString(": " + e.Msg)
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Detail returns the fault as a person wants to see it, over several lines, without a line end.
func (e *Error) Detail() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Col)
	}
	b.WriteString(": " + e.Msg)
	if e.Excerpt != "" {
		b.WriteString("\n" + e.Excerpt)
	}
	if e.Hint != "" {
		b.WriteString("\n" + e.Hint)
	}
	return b.String()
}

// Errors are the faults of one file, in the order of their places. errors.As finds the first *Error.
type Errors []*Error

// Error returns one line for each fault.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes errors.Is and errors.As look at each fault.
func (es Errors) Unwrap() []error {
	errs := make([]error, len(es))
	for i, e := range es {
		errs[i] = e
	}
	return errs
}

// Detail joins the faults' details, with an empty line between them.
func (es Errors) Detail() string {
	parts := make([]string, len(es))
	for i, e := range es {
		parts[i] = e.Detail()
	}
	return strings.Join(parts, "\n\n")
}

// maxErrors bounds the faults that are reported of one file.
const maxErrors = 50

// maxExcerpt bounds an excerpt's line, in characters.
const maxExcerpt = 120

// excerpt shows line number line of src with a caret under column col, both from 1. Of a long line it shows the part around the column.
func excerpt(lines []string, line, col int) string {
	if line < 1 || line > len(lines) {
		return ""
	}
	text := []rune(strings.Map(printable, lines[line-1]))
	col = min(max(col, 1), len(text)+1)
	if len(text) > maxExcerpt {
		from := max(0, min(col-1-maxExcerpt/2, len(text)-maxExcerpt))
		text, col = text[from:from+maxExcerpt], col-from
	}
	number := fmt.Sprintf("%5d | ", line)
	return number + strings.TrimRight(string(text), " ") + "\n" + strings.Repeat(" ", 5) + " | " + strings.Repeat(" ", col-1) + "^"
}

// printable keeps an excerpt from moving the cursor of a terminal.
func printable(r rune) rune {
	if r == '\t' {
		return ' '
	}
	if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return '?'
	}
	return r
}

// suggest returns `did you mean "x"?` for the known word nearest to word, or "".
func suggest(word string, known []string) string {
	best, bestDist := "", max(1, len(word)/3)+1
	slices.Sort(known)
	for _, k := range known {
		if d := distance(strings.ToLower(word), k, bestDist); d < bestDist {
			best, bestDist = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// distance is the number of insertions, deletions, changes and swaps of neighbours between a and b, or at least limit if there are as many.
func distance(a, b string, limit int) int {
	if len(a) > 64 || len(b) > 64 || len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	var two, one, row [65]int
	for j := range len(b) + 1 {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(one[j]+1, row[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], two[j-2]+1)
			}
		}
		two, one = one, row
	}
	return one[len(b)]
}
