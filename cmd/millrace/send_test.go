package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/cmd/internal/send"
	"millrace/ingest/webhook"
)

// unsendable are schemes that only the provider can sign: the signature stands in the body, or is made with a key that the source does not have.
var unsendable = []string{"adyen", "sendgrid", "standard-ed25519", webhook.Custom}

// TestSendSigned posts to a source of every scheme, and to every other kind of source, as its senders do. All must be let through, and be found
// by their receipts. Where the signature can not be made, that is said.
func TestSendSigned(t *testing.T) {
	t.Parallel()
	var sources strings.Builder
	sources.WriteString("batch: {max_age: 200ms}\nsources:\n  web: {kind: clickstream, write_keys: [wk]}\n  load: {kind: events, tokens: [t0ken]}\n")
	names := []string{"web", "load"}
	for _, scheme := range webhook.Names() {
		if slices.Contains(unsendable, scheme) {
			continue
		}
		secret := map[string]string{"standard": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "svix": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "basic": "user:pass"}[scheme]
		if secret == "" {
			secret = "0123456789abcdef0123456789abcdef"
		}
		names = append(names, "s-"+scheme)
		fmt.Fprintf(&sources, "  s-%s: {kind: webhook, scheme: %s", scheme, scheme)
		if scheme != "none" {
			fmt.Fprintf(&sources, ", secrets: [%q]", secret)
		}
		sources.WriteString("}\n")
	}
	config := filepath.Join(t.TempDir(), "millrace.yaml")
	write(t, config, sources.String())
	s := newServer(t, "serve", "--config", config, "--log-level", "error")
	s.start()
	base := []string{"--config", config, "--to", "http://" + s.ingest, "-o", "name"}
	receipts := map[string]string{}
	for _, name := range names {
		out, errs, code := millrace(t, t.TempDir(), nil, append([]string{"send", name}, base...)...)
		if code != exitOK || strings.TrimSpace(out) == "" {
			t.Errorf("send %s: exit code %d, receipt %q\n%s", name, code, out, errs)
			continue
		}
		receipts[name] = strings.TrimSpace(out)
	}
	s.drained()
	for name, receipt := range receipts {
		var f found
		s.cliJSON(&f, "where", receipt)
		if want := map[bool]int{true: 3, false: 1}[name == "load"]; len(f.Events) != want || f.Events[0].Source != name {
			t.Errorf("send %s: the receipt leads to %+v", name, f.Events)
		}
	}
}

// TestTemplates: each template can be filled in, suits a source, and is accepted by one.
func TestTemplates(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "millrace.yaml")
	write(t, config, "sources:\n  web: {kind: clickstream, write_keys: [wk]}\n  any: {kind: webhook, scheme: none}\n  load: {kind: events, tokens: [t]}\n")
	s := newServer(t, "serve", "--config", config, "--log-level", "error")
	s.start()
	for _, name := range send.Templates() {
		source := "any"
		switch family, _, _ := strings.Cut(name, "."); family {
		case "clickstream":
			source = "web"
		case "events":
			source = "load"
		}
		out, errs, code := millrace(t, t.TempDir(), nil, "send", source, "--template", name, "--count", "2", "--config", config, "--to", "http://"+s.ingest, "-o", "json")
		var results []send.Result
		if err := json.Unmarshal([]byte(out), &results); err != nil || code != exitOK || len(results) != 2 {
			t.Errorf("%s: exit code %d, %v\n%s%s", name, code, err, out, errs)
			continue
		}
		if results[0].ID == "" || results[0].ID == results[1].ID || results[0].Receipt == results[1].Receipt {
			t.Errorf("%s: got %+v, want two events with ids of their own", name, results)
		}
	}
}

// TestSendManyRefused: the exit code says that not all were accepted, and the output which, and why.
func TestSendManyRefused(t *testing.T) {
	t.Parallel()
	var n int
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { // one connection: no two at a time
		if n++; n%3 == 0 {
			http.Error(w, "come back later", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("X-Millrace-Receipt", fmt.Sprint("r", n))
	})}
	go func() { _ = srv.Serve(ln) }() // ends with the test
	t.Cleanup(func() { _ = srv.Close() })
	begin := time.Now()
	out, errs, code := millrace(t, t.TempDir(), nil, "send", "web", "--to", "http://"+ln.Addr().String(), "--count", "9", "--connections", "1", "--rate", "20/s", "-o", "jsonl")
	if took := time.Since(begin); took < 350*time.Millisecond {
		t.Errorf("9 requests took %v, too short for 20/s", took)
	}
	if code != exitFailed || !strings.Contains(errs, "3 of 9 requests were not accepted") || strings.Count(out, "come back later") != 3 || strings.Count(out, `"receipt":"r`) != 6 {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

// TestSendData sends given bodies to the route that they are for, from an argument, a file and standard input.
func TestSendData(t *testing.T) {
	t.Parallel()
	s := newServer(t, "dev", "--log-level", "error")
	s.start()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "page.json"), `{"type":"page","messageId":"data-page","userId":"u"}`)
	for _, tt := range []struct{ source, data, id string }{
		{"web", `{"userId":"u","event":"E","messageId":"data-track"}`, "data-track"},
		{"web", "@page.json", "data-page"},
		{"web", `{"batch":[{"type":"track","userId":"u","event":"E","messageId":"data-batch"}]}`, "data-batch"},
		{"stripe", `{"id":"evt_data","type":"invoice.paid"}`, "evt_data"},
	} {
		if _, errs, code := millrace(t, dir, nil, "send", tt.source, "--data", tt.data, "--to", "http://"+s.ingest); code != exitOK {
			t.Errorf("%s: exit code %d\n%s", tt.data, code, errs)
		}
	}
	s.drained()
	for _, id := range []string{"data-track", "data-page", "data-batch", "evt_data"} {
		if out, code := s.cli("where", id, "-o", "json"); code != exitOK || !strings.Contains(out, `"uri"`) {
			t.Errorf("where %s: exit code %d, %s", id, code, out)
		}
	}
}
