package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// canary begins every secret of TestSecretsStaySecret.
const canary = "canary-"

// TestSecretsStaySecret looks for secrets in all that a process and its commands write: logs at debug, answers, the API, metrics, messages about
// files with faults, and every file of the data directory, objects and databases among them.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "millrace.yaml")
	write(t, filepath.Join(dir, "secret.txt"), canary+"file-51aae\n")
	text := `
batch: {max_age: 100ms}
dags: dags
objects:
  s3: {bucket: unused, access_key: ` + canary + `access-0d2, secret_key: "` + canary + `secret-77c"}
bus: {nats: {url: "nats://user:` + canary + `nats-1b9@unused:4222"}}
sources:
  pay: {kind: webhook, scheme: stripe, secrets: ["` + canary + `stripe-e41", "env:CANARY_STRIPE"]}
  code: {kind: webhook, scheme: github, secrets: ["file:secret.txt"], verify_token: "` + canary + `verify-c3c"}
  door: {kind: webhook, scheme: token, secrets: ["` + canary + `token-9f0"]}
  load: {kind: events, tokens: ["` + canary + `bearer-ab1"]}
`
	write(t, config, text)
	write(t, filepath.Join(dir, "dags", "all.yaml"), "dag: all\non: [{id: a, batch: {source: door}}, {id: b, batch: {source: load}}]\ntasks:\n"+
		"  t: {run: 'env; cat \"$MILLRACE_INPUT\"'}\n")
	s := newServer(t, "serve", "--config", config, "--log-level", "debug")
	s.env = append(s.env, "CANARY_STRIPE="+canary+"env-3d8")
	s.start()
	var seen bytes.Buffer // all that is shown, by what showed it
	s.provoke(&seen)
	s.waitFor("done with a run", func() bool { return s.metric("millrace_runs_total") > 0 || len(s.runs("all")) >= 2 })
	for _, args := range [][]string{
		{"config", "show"}, {"config", "show", "--origin"}, {"config", "show", "-o", "json"}, {"config", "check"}, {"dags", "ls", "-o", "json"},
		{"runs", "ls", "-o", "json"}, {"batches", "ls", "-o", "json"},
	} {
		out, _ := s.cli(args...)
		fmt.Fprintf(&seen, "%v\n%s\n", args, out)
	}
	for _, run := range s.runs("all") {
		out, _ := s.cli("runs", "logs", run.ID)
		fmt.Fprintf(&seen, "logs of %s\n%s\n", run.ID, out)
	}
	s.dump(&seen, "/api/v1/config", "/api/v1/status", "/metrics", "/", "/api/v1/batches", "/api/v1/runs")
	for i, broken := range []string{
		strings.Replace(text, "kind: webhook, scheme: token", "knid: webhook, scheme: token", 1),
		strings.Replace(text, "secrets: [\""+canary+"token", "secrets: [[\""+canary+"token", 1),
		strings.Replace(text, "tokens: [\""+canary+"bearer-ab1\"]", "tokens: \""+canary+"bearer-ab1\"", 1),
		strings.Replace(text, "scheme: stripe, secrets", "scheme: strippe, secret", 1),
	} {
		before := strings.Count(s.stderr.String(), "configuration not reloaded, the one before stays in force: ")
		s.reload(broken)
		s.waitFor(fmt.Sprintf("aware of fault %d", i), func() bool {
			return strings.Count(s.stderr.String(), "configuration not reloaded, the one before stays in force: ") > before
		})
		out, code := s.cli("config", "check")
		fmt.Fprintf(&seen, "config check %d: %d\n%s\n", i, code, out)
	}
	s.stop()
	fmt.Fprintf(&seen, "log\n%s\n", s.stderr)
	if at := strings.Index(seen.String(), canary); at >= 0 {
		t.Errorf("a secret is shown:\n…%s…", around(seen.String(), at))
	}
	if seen.Len() < 10_000 || !strings.Contains(seen.String(), "***") {
		t.Errorf("only %d bytes were looked at, or nothing is hidden in them", seen.Len())
	}
	s.searchFiles()
}

func around(text string, at int) string { return text[max(0, at-200):min(len(text), at+200)] }

// provoke sends to each source what is right and what is wrong, with secrets where senders put them, and keeps the answers.
func (s *server) provoke(seen io.Writer) {
	s.t.Helper()
	for _, p := range []struct{ path, header, value string }{
		{"/hooks/pay", "Stripe-Signature", "t=1,v1=00"},
		{"/hooks/pay", "Stripe-Signature", "nonsense"},
		{"/hooks/code", "X-Hub-Signature-256", "sha256=00"},
		{"/hooks/door", "Authorization", "Bearer " + canary + "token-9f0"},
		{"/hooks/door/" + canary + "token-9f0", "X-Other", "1"},
		{"/hooks/door", "Authorization", "Bearer wrong"},
		{"/bulk/load", "Authorization", "Bearer " + canary + "bearer-ab1"},
		{"/bulk/load", "Authorization", "Bearer wrong"},
	} {
		r, err := http.NewRequest(http.MethodPost, "http://"+s.ingest+p.path, strings.NewReader(`{"id": "e1", "type": "t"}`))
		if err != nil {
			s.t.Fatal(err)
		}
		r.Header.Set(p.header, p.value)
		s.answer(seen, r)
	}
}

// dump keeps what the console answers.
func (s *server) dump(seen io.Writer, paths ...string) {
	s.t.Helper()
	token, err := os.ReadFile(filepath.Join(s.dir, "console.token"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, path := range paths {
		r, err := http.NewRequest(http.MethodGet, "http://"+s.console+path, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		s.answer(seen, r)
	}
}

func (s *server) answer(seen io.Writer, r *http.Request) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	resp, err := http.DefaultClient.Do(r.WithContext(ctx))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	fmt.Fprintf(seen, "%s\n", r.URL.Host)
	if err := resp.Write(seen); err != nil {
		s.t.Fatal(err)
	}
}

// searchFiles looks into every file of the data directory, decompressed if it is an object.
func (s *server) searchFiles() {
	s.t.Helper()
	objects := 0
	err := filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".gz") {
			objects++
			r, err := gzip.NewReader(bytes.NewReader(text))
			if err != nil {
				return err
			}
			if text, err = io.ReadAll(r); err != nil {
				return err
			}
		}
		if at := bytes.Index(text, []byte(canary)); at >= 0 {
			s.t.Errorf("a secret is in %s:\n…%s…", path, around(string(text), at))
		}
		return nil
	})
	if err != nil || objects < 2 {
		s.t.Errorf("looked into %d objects, %v, want some of door and load", objects, err)
	}
}
