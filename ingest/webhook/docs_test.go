package webhook

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestDocs: the table in docs/webhooks.md has a row for every scheme, and no other.
func TestDocs(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile("(?s)## Schemes\n(.*?)\n\n").Find(doc)
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllSubmatch(table, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllSubmatch(row[1], -1) {
			got = append(got, string(name[1]))
		}
	}
	slices.Sort(got)
	want := Names()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("docs/webhooks.md has %v, want %v", got, want)
	}
}
