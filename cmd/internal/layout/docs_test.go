package layout

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// faultRows are the rows that docs/faults.md must have.
func faultRows() []int {
	var rows []int
	for _, r := range [][2]int{{1, 36}, {43, 46}, {50, 53}, {57, 58}} {
		for n := r[0]; n <= r[1]; n++ {
			rows = append(rows, n)
		}
	}
	return rows
}

var testName = regexp.MustCompile("`([a-z/0-9]+)\\.(Test\\w+|Fuzz\\w+)(/[^`]*)?`")

// result is how the last column of docs/faults.md begins where there is a result: the day on which the tests were last run for it.
var result = regexp.MustCompile(`^(\d{4}-\d{2}-\d{2}): (passes|fails)`)

// checkResult says what is wrong with a cell that should have a test's last result, or "".
func checkResult(cell string, today time.Time) string {
	if strings.HasPrefix(cell, "not tested") || strings.HasPrefix(cell, "not run yet") {
		return ""
	}
	m := result.FindStringSubmatch(cell)
	if m == nil {
		return fmt.Sprintf("last result is %q, want \"YYYY-MM-DD: passes\" or fails, and what was measured; or \"not tested\", or \"not run yet\"", cell)
	}
	if day, err := time.Parse(time.DateOnly, m[1]); err != nil || day.After(today.AddDate(0, 0, 1)) {
		return fmt.Sprintf("last result is of %s, which is no day that has been", m[1])
	}
	return ""
}

func TestCheckResult(t *testing.T) {
	t.Parallel()
	today := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for cell, ok := range map[string]bool{
		"2026-11-23: passes; 50 kills": true, "2026-11-22: fails at sync 7": true, "not tested": true, "not run yet: needs a bucket": true,
		"": false, "passes": false, "2026-11-23": false, "2026-11-31: passes": false, "2027-11-23: passes": false,
	} {
		if got := checkResult(cell, today); (got == "") != ok {
			t.Errorf("%q: got %q, want a complaint: %v", cell, got, !ok)
		}
	}
}

// TestFaultTable holds docs/faults.md to the code: every row is there, each names tests that exist, or says in words that there is none, and has
// the result of their last run.
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
		if len(cells) < 2 {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue
		}
		rows = append(rows, n)
		if len(cells) != 8 {
			t.Errorf("row %d has %d columns, want 6", n, len(cells)-2)
			continue
		}
		if fault := checkResult(strings.TrimSpace(cells[6]), time.Now()); fault != "" {
			t.Errorf("row %d: %s", n, fault)
		}
		named := testName.FindAllStringSubmatch(line, -1)
		if len(named) == 0 && !strings.HasPrefix(strings.TrimSpace(cells[6]), "not tested") {
			t.Errorf("row %d names no test and does not say \"not tested\"", n)
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

var target = regexp.MustCompile(`(?m)^([a-z0-9]+):.*##`)

// TestTestingDoc holds docs/testing.md to the code: it names every target of the Makefile, and every test that runs with MILLRACE_SOAK alone
// with the result of its last run.
func TestTestingDoc(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../../docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("../../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range target.FindAllStringSubmatch(string(makefile), -1) {
		if !strings.Contains(string(doc), "`make "+m[1]+"`") {
			t.Errorf("docs/testing.md does not say what `make %s` does", m[1])
		}
	}
	results := map[string]string{} // by test
	for line := range strings.Lines(string(doc)) {
		if m := testName.FindStringSubmatch(line); m != nil && strings.HasPrefix(m[2], "TestSoak") {
			cells := strings.Split(line, "|")
			results[m[1]+"."+m[2]] = strings.TrimSpace(cells[max(len(cells)-2, 0)])
		}
	}
	for _, s := range load(t, "../../..") {
		for _, name := range s.functions() {
			if !s.test || !strings.HasPrefix(name, "TestSoak") {
				continue
			}
			cell, ok := results[s.dir+"."+name]
			if !ok {
				t.Errorf("docs/testing.md does not list %s.%s", s.dir, name)
			} else if fault := checkResult(cell, time.Now()); fault != "" {
				t.Errorf("docs/testing.md, %s.%s: %s", s.dir, name, fault)
			}
		}
	}
}
