package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestEventsTail follows a source by a condition, through a restart of the server, and is ended by ^C with exit code 0. Secrets are masked.
func TestEventsTail(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error")
	s.start()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "events", "tail", "--from", "start", "--source", "web", "--where", "properties.plan=pro", "-o", "jsonl",
		"--server", "http://"+s.console, "--data-dir", s.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewReader(out)
	expect := func(id string) {
		t.Helper()
		for _, plan := range []string{"free", "pro"} {
			body := `{"userId":"u","event":"E","messageId":"` + id + "-" + plan + `","properties":{"plan":"` + plan + `","card_number":"4242"}}`
			if status, _, err := s.post("/v1/track", body); err != nil || status != 200 {
				t.Fatalf("status %d, %v", status, err)
			}
		}
		text, err := lines.ReadString('\n')
		var line tailedEvent
		if err != nil || json.Unmarshal([]byte(text), &line) != nil {
			t.Fatalf("got %q, %v, want an event", text, err)
		}
		if got, typ, _ := line.head(); got != id+"-pro" || typ != "track E" || strings.Contains(text, "4242") || !strings.Contains(text, `"***"`) {
			t.Errorf("got %s, want %s with its card masked", text, id+"-pro")
		}
	}
	expect("one")
	expect("two")
	s.stop()
	s.start()
	expect("three")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if rest, err := lines.ReadString('\n'); err == nil {
		t.Errorf("got %q, want nothing more", rest)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after ^C: %v, want exit code 0", err)
	}
}

// TestEventsTailText is for people: a line each, with what the sender said.
func TestEventsTailText(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error")
	s.start()
	if _, errs, code := millrace(t, t.TempDir(), nil, "send", "stripe", "--template", "stripe.invoice", "--to", "http://"+s.ingest); code != exitOK {
		t.Fatal(errs)
	}
	here := []string{"--server", "http://" + s.console, "--data-dir", s.dir}
	begin := time.Now()
	out, errs, code := millrace(t, t.TempDir(), nil, append([]string{"events", "tail", "--from", "start", "--limit", "1", "--where", "body.data.object.status=paid"}, here...)...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitOK || len(lines) != 2 || !strings.HasPrefix(lines[0], "RECEIVED") || !strings.Contains(lines[1], "invoice.paid") || len(lines[1]) > 250 {
		t.Errorf("exit code %d after %v, got\n%s%s, want a head and a line", code, time.Since(begin), out, errs)
	}
}
