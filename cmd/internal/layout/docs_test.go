package layout

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// faultRows are the rows that docs/faults.md must have.
func faultRows() []int {
	var rows []int
	for _, r := range [][2]int{{1, 18}, {21, 21}, {24, 36}, {43, 46}, {50, 53}, {57, 58}} {
		for n := r[0]; n <= r[1]; n++ {
			rows = append(rows, n)
		}
	}
	return rows
}

var testName = regexp.MustCompile("`([a-z/0-9]+)\\.(Test\\w+|Fuzz\\w+)(/[^`]*)?`")

// TestFaultTable holds docs/faults.md to the code: every row is there, and each names tests that exist, or says in words that there is none.
func TestFaultTable(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, s := range load(t, "../../..") {
		if s.test {
			for _, name := range s.functions() {
				tests[s.dir+"."+name] = true
			}
		}
	}
	var rows []int
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(line, "|")
		if len(cells) < 6 {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue
		}
		rows = append(rows, n)
		named := testName.FindAllStringSubmatch(line, -1)
		if len(named) == 0 && !strings.Contains(line, "**not tested**") {
			t.Errorf("row %d names no test and does not say **not tested**", n)
		}
		for _, m := range named {
			if !tests[m[1]+"."+m[2]] {
				t.Errorf("row %d names %s.%s, which does not exist", n, m[1], m[2])
			}
		}
	}
	if want := faultRows(); !slices.Equal(rows, want) {
		t.Errorf("rows of docs/faults.md: got %v, want %v", rows, want)
	}
}
