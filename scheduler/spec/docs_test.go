package spec

import (
	"os"
	"strings"
	"testing"
)

// The example of docs/joins.md is good as it stands, and without its rule has the warning that the page quotes.
func TestJoinsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/joins.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	src, rest, _ := strings.Cut(rest, "```")
	if f := ReadFile("orders.yaml", []byte(src)); len(f.DAGs) != 1 || len(f.Warnings) > 0 {
		t.Errorf("the example: got %v and %v", f.Faults, f.Warnings)
	}
	f := ReadFile("orders.yaml", []byte(strings.Replace(src, "rule: none_failed_min_one_success, ", "", 1)))
	if len(f.Warnings) != 1 {
		t.Fatalf("without the rule: got %v, want one warning", f.Warnings)
	}
	if line, _, _ := strings.Cut(f.Warnings[0].String(), " (write"); !strings.Contains(rest, "\n"+line+"\n") {
		t.Errorf("the page does not quote %s", line)
	}
}
