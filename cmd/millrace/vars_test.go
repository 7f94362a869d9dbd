package main

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"millrace/scheduler"
)

// says runs a command, with standard input, and returns all that it said.
func (s *server) says(input string, args ...string) (string, int) {
	s.t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	args = append(args, "--data-dir", s.dir, "--server", "http://"+s.console)
	code := run(ctx, args, streams{in: strings.NewReader(input), out: &out, err: &out})
	return out.String(), code
}

// pageCommand is a line of a page: perhaps a text for standard input, the arguments, and what is said then.
var pageCommand = regexp.MustCompile(`(?m)^\$ (?:echo (\S+) \| )?millrace (.*)\n((?:[^$\n].*\n)*)`)

// TestVariablesPage runs docs/variables.md: its commands say what stands there, and the tasks of its DAG log what stands there.
func TestVariablesPage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if n := pageFiles(t, "docs/variables.md", dir); n != 2 {
		t.Fatalf("the page has %d files, want 2", n)
	}
	write(t, filepath.Join(dir, "ledger.db"), "")
	s := newServer(t, "dev", "--dags", dir)
	s.start()
	page := readPage(t, filepath.Join(repoRoot(t), "docs/variables.md"))
	console, _, _ := strings.Cut(page[strings.Index(page, "```console\n")+len("```console\n"):], "```")
	commands := pageCommand.FindAllStringSubmatch(console, -1)
	if len(commands) != 8 {
		t.Fatalf("the page has %d commands, want 8", len(commands))
	}
	places := strings.NewReplacer("/srv/dags", dir, "'", "")
	for _, c := range commands {
		args := strings.Fields(places.Replace(c[2]))
		if i := strings.Index(c[2], "'"); i >= 0 { // one argument in quotes, at the end
			args = append(strings.Fields(c[2][:i]), strings.Trim(c[2][i:], "'"))
		}
		if got, code := s.says(c[1]+"\n", args...); code != exitOK || squeeze(got) != squeeze(c[3]) {
			t.Errorf("millrace %s: got exit %d, %q, want %q", c[2], code, got, c[3])
		}
	}
	s.head("report", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	s.cli("dags", "trigger", "report", "--wait")
	run := s.runs("report")[0]
	want, _, _ := strings.Cut(page[strings.Index(page, "```text\n")+len("```text\n"):], "```")
	if got, _ := s.cli("runs", "logs", run.ID, "--task", "send"); got != want {
		t.Errorf("log: got %q, want %q", got, want)
	}
	if run.State != scheduler.StateSuccess {
		t.Errorf("got %s: %s", run.State, run.Reason)
	}
}

// api returns what the API answers, as it is.
func (s *server) api(path string) (string, error) {
	token, err := os.ReadFile(filepath.Join(s.dir, "console.token"))
	if err != nil {
		return "", err
	}
	c := &client{base: "http://" + s.console, token: strings.TrimSpace(string(token)), http: http.DefaultClient}
	body, err := c.do(s.t.Context(), http.MethodGet, path, nil, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = body.Close() }()
	text, err := io.ReadAll(body)
	return string(text), err
}

// squeeze makes runs of spaces one, and leaves out those at the end of a line.
func squeeze(text string) string {
	return strings.TrimSpace(regexp.MustCompile(` *\n`).ReplaceAllString(regexp.MustCompile(`[ \t]+`).ReplaceAllString(text, " "), "\n"))
}

// TestSecretsAreNowhere sets a secret, runs tasks that print it, kills the server with one of them in the middle, starts it again, and looks for the
// secret in every file that there is, and in what the API and the log of the server say.
func TestSecretsAreNowhere(t *testing.T) {
	t.Parallel()
	const secret, password = "sk_live_nowhere_51H8xAbCd", "hunter2-nowhere"
	dir := t.TempDir()
	dag := `dag: hush
tasks:
  print:
    run: 'echo "I have $TOKEN"; printf "{\"token\": \"%s\"}" "$TOKEN" > "$MILLRACE_OUTPUT"'
    env: {TOKEN: "${{ secrets.stripe }}", P: "${{ conns.pg.password }}"}
  long:
    needs: [print]
    run: 'echo "begun $TOKEN"; while [ ! -e "$GO" ]; do sleep 0.1; done; echo "ended $TOKEN $P"; exit 3'
    env: {TOKEN: "${{ secrets.stripe }}", P: "${{ conns.pg.password }}", GO: "` + filepath.Join(dir, "go") + `"}
  missing:
    run: x
    retry: 5
    env: {TOKEN: "${{ secrets.other }}"}
`
	write(t, filepath.Join(dir, "hush.yaml"), dag)
	s := newServer(t, "dev", "--dags", dir)
	s.start()
	if out, code := s.says(secret, "vars", "set", "--secret", "stripe", "-"); code != exitOK || strings.Contains(out, secret) {
		t.Fatalf("set: exit %d, %s", code, out)
	}
	if out, code := s.says("postgres://u:"+password+"@h/d\n", "conns", "set", "pg", "-"); code != exitOK || strings.Contains(out, password) {
		t.Fatalf("set: exit %d, %s", code, out)
	}
	s.head("hush", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	var r scheduler.Run
	s.cliJSON(&r, "dags", "trigger", "hush")
	logged := func(want string) func() bool {
		return func() bool { out, _ := s.cli("runs", "logs", r.ID); return strings.Contains(out, want) }
	}
	s.waitFor("in the middle", logged("begun ***"))
	s.kill()
	s.start()
	if got, err := s.api("/runs/" + r.ID); err != nil || !strings.Contains(got, `secret \"other\": is not set; set it with: millrace vars set --secret other -`) {
		t.Errorf("got %s, %v, want a sentence about the secret that is missing", got, err)
	}
	write(t, filepath.Join(dir, "go"), "")
	s.waitFor("ended", logged("ended *** ***"))
	s.waitFor("over", func() bool { return s.runs("hush")[0].State.Terminal() })
	if out, code := s.says("", "admin", "rotate-key", "--drop"); code != exitOK || !strings.Contains(out, "2 values encrypted") {
		t.Errorf("rotate: exit %d, %s", code, out)
	}
	if out, _ := s.says("", "admin", "audit"); !strings.Contains(out, "stripe") || !strings.Contains(out, "rotate") {
		t.Errorf("audit: got %s", out)
	}
	for _, path := range []string{"/runs/" + r.ID, "/explain/runs/" + r.ID, "/variables", "/connections", "/config", "/dags/hush", "/runs/" + r.ID + "/logs"} {
		if got, err := s.api(path); err != nil || strings.Contains(got, secret) || strings.Contains(got, password) {
			t.Errorf("%s: %v, or it has a secret: %s", path, err, got)
		}
	}
	var holder string
	clean := func() bool {
		holder = ""
		err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // attempts go away meanwhile
			}
			text, _ := os.ReadFile(path)
			if bytes.Contains(text, []byte(secret)) || bytes.Contains(text, []byte(password)) {
				holder = path
			}
			return nil
		})
		return err == nil && holder == ""
	}
	s.waitFor("free of the secrets", clean) // a task's own output is there until its end was taken
	if said := s.stderr.String(); strings.Contains(said, secret) || strings.Contains(said, password) {
		t.Errorf("the server's log has a secret:\n%s", said)
	} else if !strings.Contains(said, "a task uses a value that is not set") {
		t.Errorf("the server's log has no warning:\n%s", said)
	}
}
