package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestReadme runs the README's own shell blocks, in order, as a person would: the one that starts the server as the server, the one that runs
// the tests not at all, every other one in a shell beside it. Only ports and the directory are changed, so that tests do not meet.
func TestReadme(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile(filepath.Join(repoRoot(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, "dev")
	started := false
	var script []string
	for _, m := range shellBlock.FindAllStringSubmatch(string(src), -1) {
		switch block := strings.TrimSpace(m[1]); block {
		case "go run ./cmd/millrace dev":
			started = true
		case "make check":
		default:
			script = append(script, block)
		}
	}
	if !started || len(script) < 2 {
		t.Fatalf("the README has no block that starts the server, or only %d others", len(script))
	}
	begin := time.Now()
	s.start()
	var out string
	for _, block := range script {
		out += s.shell(block)
		s.waitFor(20*time.Second, "a run that succeeded", func() bool {
			text, _ := s.cli("runs", "ls", "--state", "success", "-o", "name")
			return text != ""
		})
	}
	t.Logf("measured: README from start to last block in %v", time.Since(begin).Round(time.Millisecond))
	for _, want := range []string{
		"HTTP/1.1 200 OK", `{"success":true}`, "X-Millrace-Receipt", // curl
		`"messageId":"order-1"`, // batches cat
		"SUCCESS", "success",    // runs ls
		"order-1", // where
	} {
		if !strings.Contains(strings.ToLower(out), strings.ToLower(want)) {
			t.Errorf("the README's lines did not print %q; they printed:\n%s", want, out)
		}
	}
}

// shell runs a block against the server, with the built binary in place of `go run`.
func (s *server) shell(block string) string {
	s.t.Helper()
	bin, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	block = strings.NewReplacer("go run ./cmd/millrace", bin, "localhost:8080", s.ingest, "localhost:8081", s.console).Replace(block)
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", block)
	token, _ := os.ReadFile(filepath.Join(s.dir, "console.token"))
	cmd.Env = append(os.Environ(), "MILLRACE_SERVER=http://"+s.console, "MILLRACE_TOKEN="+strings.TrimSpace(string(token)))
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Errorf("README block failed: %v\n%s\n%s\nserver:\n%s", err, block, out, s.stderr)
	}
	return string(out)
}
