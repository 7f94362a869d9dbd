package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"millrace/cmd/internal/app"
	"millrace/scheduler"
)

// reload writes the configuration file and sends SIGHUP.
func (s *server) reload(text string) {
	s.t.Helper()
	write(s.t, s.config, text)
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
}

const reloaded = "millrace_config_last_reload_successful"

// TestReload: SIGHUP changes sources, limits and DAGs of a process that runs. A file with faults changes nothing, and log and metric say so; what
// takes a restart is named.
func TestReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "millrace.yaml")
	for _, name := range []string{"one", "two"} {
		write(t, filepath.Join(dir, name, name+".yaml"), "dag: "+name+"\ntasks:\n  t: {run: [\"true\"]}\n")
	}
	const first = `
ingest: {max_event: 2KiB}
dags: one
sources:
  old: {kind: webhook, scheme: none}
`
	second := strings.NewReplacer("2KiB", "8KiB", "dags: one", "dags: two", "old:", "new:").Replace(first)
	write(t, config, first)
	s := newServer(t, "serve", "--config", config)
	s.start()
	post := func(source string, size int) int {
		code, _, err := s.post("/hooks/"+source, strings.Repeat("x", size))
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	dags := func() string {
		var heads []scheduler.DAGHead
		s.cliJSON(&heads, "dags", "ls", "-o", "json")
		out := ""
		for _, h := range heads {
			if !h.Removed {
				out += h.ID + " "
			}
		}
		return out
	}
	state := func() string {
		return fmt.Sprint(post("old", 10), post("old", 4000), post("new", 10), post("new", 4000), " ", dags())
	}

	const before, after = "200 400 404 404 one ", "404 404 200 200 two "
	s.waitFor("as configured", func() bool { return state() == before })
	if got := s.metric(reloaded); got != 1 {
		t.Errorf("%s is %v at the start, want 1", reloaded, got)
	}

	s.reload(strings.Replace(second, "kind: webhook", "knid: webhook", 1))
	s.waitFor("aware of the fault", func() bool { return s.metric(reloaded) == 0 })
	if got := state(); got != before {
		t.Errorf("after a broken file the state is %q, want %q", got, before)
	}
	for _, want := range []string{"not reloaded", config + ":5:9: sources.new.knid: there is no such key", `did you mean "kind"?`} {
		if !strings.Contains(s.stderr.String(), want) {
			t.Errorf("the server does not say %q:\n%s", want, s.stderr)
		}
	}

	s.reload(second + "executors: {local: {slots: 3}}\n")
	s.waitFor("reloaded", func() bool { return s.metric(reloaded) == 1 && state() == after })
	if want := "keys=executors.local.slots"; !strings.Contains(s.stderr.String(), want) {
		t.Errorf("the server does not say %q:\n%s", want, s.stderr)
	}
	var status bytes.Buffer
	if s.dump(&status, "/api/v1/status"); !strings.Contains(status.String(), `"new"`) || strings.Contains(status.String(), `"old"`) {
		t.Errorf("the console shows other sources than the new one: %s", &status)
	}
}

// TestReloadTLS: both listeners show the certificate of the files as they are after SIGHUP; a pair that does not fit keeps the one before.
func TestReloadTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pair := func(name string) *x509.Certificate {
		files, err := app.SelfSigned(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf
	}
	install := func(name, file string) {
		b, err := os.ReadFile(filepath.Join(dir, name, "tls", file))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, file), string(b))
	}
	one, two := pair("one"), pair("two")
	install("one", "cert.pem")
	install("one", "key.pem")
	config := filepath.Join(dir, "millrace.yaml")
	const files = "tls: {cert: cert.pem, key: key.pem}"
	text := "sources: {old: {kind: webhook, scheme: none}}\ningest: {" + files + "}\nconsole: {" + files + "}\n"
	write(t, config, text)
	s := newServer(t, "serve", "--config", config)
	s.launch()
	shown := func(want *x509.Certificate) bool {
		for _, addr := range []string{s.ingest, s.console} {
			roots := x509.NewCertPool()
			roots.AddCert(want)
			c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
			resp, err := c.Get("https://" + addr + "/readyz")
			if err != nil {
				return false
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return false
			}
		}
		return true
	}
	s.waitFor("ready with the first certificate", func() bool { return shown(one) })
	if resp, err := http.Get("http://" + s.ingest + "/readyz"); err == nil && resp.StatusCode < 400 {
		t.Errorf("without TLS the answer is %d", resp.StatusCode)
	}

	install("two", "cert.pem") // and not its key
	s.reload(text)
	s.waitFor("aware of the fault", func() bool { return strings.Contains(s.stderr.String(), "private key does not match") })
	if !shown(one) {
		t.Error("a pair that does not fit has replaced the one before")
	}
	install("two", "key.pem")
	s.reload(text)
	s.waitFor("showing the second certificate", func() bool { return shown(two) })
}

// TestDevTLS: `dev --tls` makes a certificate once, which is good for the addresses of this machine and, on it, for the other commands.
func TestDevTLS(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--tls")
	for range 2 {
		s.launch()
		s.waitFor("ready", func() bool {
			var out bytes.Buffer
			code := run(t.Context(), []string{"dags", "ls", "--data-dir", s.dir, "--server", "https://" + s.console}, streams{out: &out, err: &out})
			return code == exitOK && strings.Contains(out.String(), "demo")
		})
		cert, err := os.ReadFile(filepath.Join(s.dir, app.SelfSignedCert))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(cert)
		c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
		_, port, _ := strings.Cut(s.ingest, ":")
		resp, err := c.Post("https://localhost:"+port+"/hooks/demo", "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("got %d", resp.StatusCode)
		}
		var sent bytes.Buffer
		if code := run(t.Context(), []string{"send", "demo", "--data-dir", s.dir, "--to", "https://" + s.ingest}, streams{out: &sent, err: &sent}); code != exitOK {
			t.Errorf("send: exit %d\n%s", code, &sent)
		}
		s.stop()
		if again, err := os.ReadFile(filepath.Join(s.dir, app.SelfSignedCert)); err != nil || string(again) != string(cert) {
			t.Errorf("the certificate was made anew: %v", err)
		}
	}
	if info, err := os.Stat(filepath.Join(s.dir, "tls/key.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v, %v", info.Mode(), err)
	}
}
