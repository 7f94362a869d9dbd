package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// document is a page whose shell blocks people copy.
type document struct {
	file string
	// start is the block that starts the server; left are blocks that the test leaves out, since it has the binary or would run itself.
	start string
	left  []string
	// then is what a person sees happen before going on after each of the other blocks, as a command line that prints something; the last one
	// holds for the rest.
	then []string
	// want is in what the other blocks print.
	want []string
}

var documents = []document{
	{"README.md", "go run ./cmd/millrace dev", []string{"make check"}, []string{"runs ls --state success -o name"}, []string{
		"HTTP/1.1 200 OK", `{"success":true}`, "X-Millrace-Receipt", // curl
		`"messageId":"order-1"`, // batches cat
		"SUCCESS", "success",    // runs ls
		"order-1", // where
	}},
	{"docs/quickstart.md", "millrace dev", []string{"go build -o bin/millrace ./cmd/millrace\nexport PATH=$PWD/bin:$PATH"}, []string{
		"runs ls --state success -o name", "", "", "dags show invoices", "runs ls --dag invoices --state success -o name",
	}, []string{
		"invoice.paid",      // events tail
		"demo/every_batch",  // where
		"ok: dags/invoices", // dags validate
		"paid invoices in ", // runs logs
	}},
	{"docs/backfill.md", "millrace dev", nil, []string{"runs ls --dag demo --state success -o name", ""}, []string{
		"1 of r", "2 of r", // replay
		"at most 4 at once, as of rule every_batch; 0 left out", // backfill --dry-run
		"in all: ", "succeeded", // backfill show
		"(reprocess is none)", // what is left out
		"backfill slow is ",   // pause and resume
	}},
}

// TestPages runs the shell blocks of documents, in order, as a person would: the one that starts the server as the server, every other one in a
// shell beside it. Only ports and the directory are changed, so that tests do not meet. It prints how long that took.
func TestPages(t *testing.T) {
	t.Parallel()
	for _, p := range documents {
		t.Run(strings.TrimSuffix(filepath.Base(p.file), ".md"), func(t *testing.T) {
			t.Parallel()
			p.run(t)
		})
	}
}

func (d *document) run(t *testing.T) {
	src, err := os.ReadFile(filepath.Join(repoRoot(t), d.file))
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, "dev")
	s.cwd = t.TempDir()
	started, left := false, 0
	var script []string
	for _, m := range shellBlock.FindAllStringSubmatch(string(src), -1) {
		switch block := strings.TrimSpace(m[1]); {
		case block == d.start:
			started = true
		case slices.Contains(d.left, block):
			left++
		default:
			script = append(script, block)
		}
	}
	if !started || left != len(d.left) || len(script) < 2 {
		t.Fatalf("%s: started %v, %d of %d blocks left out, %d others", d.file, started, left, len(d.left), len(script))
	}
	begin := time.Now()
	s.start()
	var out string
	for i, block := range script {
		out += s.shell(block)
		if then := d.then[min(i, len(d.then)-1)]; then != "" {
			s.waitFor(then, func() bool {
				text, code := s.cli(strings.Fields(then)...)
				return code == exitOK && text != ""
			})
		}
	}
	t.Logf("measured: %s from start to last block in %v", d.file, time.Since(begin).Round(time.Millisecond))
	for _, want := range d.want {
		if !strings.Contains(strings.ToLower(out), strings.ToLower(want)) {
			t.Errorf("the lines of %s did not print %q; they printed:\n%s", d.file, want, out)
		}
	}
}

// shell runs a block beside and against the server, with the built binary in place of `go run` and of the millrace on the path.
func (s *server) shell(block string) string {
	s.t.Helper()
	bin, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	block = strings.NewReplacer("go run ./cmd/millrace", bin, "localhost:8080", s.ingest, "localhost:8081", s.console).Replace(block)
	if !strings.Contains(block, "millrace()") {
		block = "millrace() { " + bin + " \"$@\"; }\n" + block
	}
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", block)
	cmd.Dir = s.cwd
	token, _ := os.ReadFile(filepath.Join(s.dir, "console.token"))
	cmd.Env = append(os.Environ(), "MILLRACE_SERVER=http://"+s.console, "MILLRACE_TOKEN="+strings.TrimSpace(string(token)), "MILLRACE_INGEST__LISTEN="+s.ingest)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Errorf("block failed: %v\n%s\n%s\nserver:\n%s", err, block, out, s.stderr)
	}
	return string(out)
}
