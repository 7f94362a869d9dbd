package configs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrInvalid is wrapped by every error about the configuration's content.
var ErrInvalid = errors.New("configuration invalid")

// Fault is one thing that is wrong with the configuration, at its place.
type Fault struct {
	// File, Line and Column are where it stands, Column in characters from 1. Line is 0 if it does not stand in a file.
	File         string
	Line, Column int
	// Excerpt is the line with a caret under the place, secrets hidden, or "".
	Excerpt string
	// Path is the key that is meant ("objects.s3.bucket"), or "" for the file as a whole; Origin what set it, if that was not a file
	// ("environment variable MILLRACE_OBJECTS__S3__BUCKET", "flag --listen"), or "".
	Path, Origin string
	// Msg says what is wrong, Hint what to do about it (or "").
	Msg, Hint string
}

// Error shows the fault as a person wants to see it, over several lines, without a line end.
func (f *Fault) Error() string {
	var b strings.Builder
	switch {
	case f.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", f.File, f.Line, f.Column)
	case f.Origin != "":
		b.WriteString(f.Origin + ": ")
	case f.File != "":
		b.WriteString(f.File + ": ")
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Msg)
	for _, more := range []string{f.Excerpt, f.Hint} {
		if more != "" {
			b.WriteString("\n" + more)
		}
	}
	return b.String()
}

// Faults are all that is wrong, in the order of their places. It is [ErrInvalid] to errors.Is.
type Faults []*Fault

// Error shows every fault.
func (fs Faults) Error() string {
	parts := []string{ErrInvalid.Error() + ":"}
	for _, f := range fs {
		parts = append(parts, f.Error())
	}
	return strings.Join(parts, "\n")
}

// Is makes the faults ErrInvalid.
func (fs Faults) Is(target error) bool { return target == ErrInvalid }

// or returns fs as an error: nil if there is none.
func (fs Faults) or() error {
	if len(fs) == 0 {
		return nil
	}
	slices.SortStableFunc(fs, func(a, b *Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return fs
}

// didYouMean returns `did you mean "x"?` for the known word nearest to word, or "".
func didYouMean(word string, known []string) string {
	best, at := "", max(1, len(word)/3)+1
	for _, k := range known {
		if d := distance(strings.ToLower(word), k); d < at {
			best, at = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// distance counts the insertions, deletions, changes and swaps of neighbours between two words; long ones are far from everything.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
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
