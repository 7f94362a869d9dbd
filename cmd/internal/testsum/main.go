// Command testsum reads the output of `go test -json` and prints what a person wants to see of it: failures with their output, what each package
// took, and one closing line. It exits 1 if a test failed, and, with CI=true, if one was skipped: a test that does not run where everything
// is installed proves nothing.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// summary is what is known so far.
type summary struct {
	out                     io.Writer
	passed, failed, skipped int
	output                  map[string][]string
	skips                   []string
	brokenPackages          int
}

func main() {
	s := &summary{out: os.Stdout, output: map[string][]string{}}
	if err := s.read(os.Stdin); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2) //layout:allow call this is the main function of a tool
	}
	if !s.close(os.Getenv("CI") == "true") {
		os.Exit(1) //layout:allow call this is the main function of a tool
	}
}

func (s *summary) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			_, _ = fmt.Fprintln(s.out, lines.Text()) // compiler errors are not JSON
			continue
		}
		s.add(e)
	}
	return lines.Err()
}

func (s *summary) add(e event) {
	id := e.Package + "\x00" + e.Test
	switch e.Action {
	case "output", "build-output":
		s.output[id] = append(s.output[id], e.Output)
	case "pass":
		s.end(e, &s.passed, "ok  ")
	case "skip":
		if e.Test != "" {
			s.skips = append(s.skips, e.Package+" "+e.Test+": "+strings.TrimSpace(strings.Join(s.output[id], "")))
		}
		s.end(e, &s.skipped, "-   ")
	case "fail":
		_, _ = fmt.Fprint(s.out, strings.Join(s.output[id], ""))
		s.end(e, &s.failed, "FAIL")
		if e.Test == "" {
			s.brokenPackages++
		}
	case "build-fail":
		s.brokenPackages++
		for _, lines := range s.output {
			_, _ = fmt.Fprint(s.out, strings.Join(lines, ""))
		}
		clear(s.output)
	}
}

// end counts a test, or prints the line of a package; figures that tests print with the prefix "measured:" are kept.
func (s *summary) end(e event, count *int, word string) {
	id := e.Package + "\x00" + e.Test
	for _, line := range s.output[id] {
		if strings.Contains(line, "measured:") {
			_, _ = fmt.Fprint(s.out, line)
		}
	}
	delete(s.output, id)
	if e.Test == "" {
		_, _ = fmt.Fprintf(s.out, "%s %-44s %7.1fs\n", word, e.Package, e.Elapsed)
		return
	}
	*count++
}

func (s *summary) close(ci bool) bool {
	slices.Sort(s.skips)
	for _, skip := range s.skips {
		_, _ = fmt.Fprintln(s.out, "SKIP", skip)
	}
	_, _ = fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	if ci && s.skipped > 0 {
		_, _ = fmt.Fprintln(s.out, "with CI=true a skipped test is a failure")
	}
	return s.failed == 0 && s.brokenPackages == 0 && (!ci || s.skipped == 0)
}
