package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// didYouMean names the word that was probably meant, or "" if none is near.
func didYouMean(word string, known []string) string {
	best, at := "", 3
	for _, k := range known {
		d := distance(strings.ToLower(word), k)
		if word != "" && strings.HasPrefix(k, strings.ToLower(word)) {
			d = min(d, 1)
		}
		if d < at {
			best, at = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diag+cost)
		}
	}
	return row[len(b)]
}

var unknownFlag = regexp.MustCompile(`^unknown flag: --([A-Za-z0-9_-]+)`)

// suggestFlag names the flag of c that was meant by an unknown one.
func suggestFlag(c *cobra.Command, err error) string {
	m := unknownFlag.FindStringSubmatch(err.Error())
	if m == nil {
		return ""
	}
	var names []string
	add := func(f *pflag.Flag) { names = append(names, f.Name) }
	c.Flags().VisitAll(add)
	c.InheritedFlags().VisitAll(add)
	if hint := didYouMean(strings.ToLower(m[1]), names); hint != "" {
		return strings.Replace(hint, `"`, `"--`, 1)
	}
	return ""
}
