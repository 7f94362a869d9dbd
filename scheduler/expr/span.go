package expr

import "strings"

// Span returns the length of the expression that s starts with, its ${{ and }} included, or 0 if s starts with something else. One that has no
// end reaches to that of s.
func Span(s string) int {
	if !strings.HasPrefix(s, opener) {
		return 0
	}
	n := closer(s[len(opener):])
	if n < 0 {
		return len(s)
	}
	return len(opener) + n + 2
}
