package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest"
	"millrace/scheduler/notify"
)

func loadText(t *testing.T, text string) *Loaded {
	t.Helper()
	file := filepath.Join(t.TempDir(), "m.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Load(Default(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestNotifiers(t *testing.T) {
	t.Parallel()
	l := loadText(t, "notify:\n  ops: {kind: slack, url: 'file:url'}\n  hook: {kind: http, url: 'http://h/x', headers: {X-A: b}, timeout: 3s}\n  page: {kind: command, run: [page, now]}\n")
	if err := os.WriteFile(filepath.Join(l.Dir(), "url"), []byte("https://hooks.slack.com/services/x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	got, err := l.Notifiers(l.Dir())
	if err != nil {
		t.Fatal(err)
	}
	want := []notify.Notifier{
		{Name: "hook", Kind: "http", URL: "http://h/x", Headers: map[string]ingest.Secret{"X-A": "b"}, Timeout: 3e9},
		{Name: "ops", Kind: "slack", URL: "https://hooks.slack.com/services/x"},
		{Name: "page", Kind: "command", Run: []string{"page", "now"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadNotifiers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{url: 'https://h'}":                                           "notify.a.kind: has no value, want one of http, slack, command",
		"{kind: slak, url: 'https://h'}":                               `did you mean "slack"?`,
		"{kind: http}":                                                 "a notifier of kind http needs url",
		"{kind: command}":                                              "a notifier of kind command needs run",
		"{kind: command, run: [x], url: 'https://h'}":                  "a notifier of kind command has no url",
		"{kind: slack, url: 'https://h', secret: x}":                   "a notifier of kind slack has no secret",
		"{kind: http, url: 'https://h', headers: {webhook-id: x}}":     `"webhook-id" can not be set`,
		"{kind: http, url: 'https://h', timeout: 1h}":                  "want 0s to 10m",
		"{kind: http, url: 'ftp://secret-host'}":                       "url is not an address of http or https",
		"{kind: http, url: 'https://h', secret: abc}":                  "secret is not whsec_",
		"{kind: http, url: 'env:MILLRACE_TEST_NOT_SET'}":               "environment variable MILLRACE_TEST_NOT_SET is not set",
		"{kind: http, url: 'https://h', headers: {A: \"secret\\nx\"}}": "has a line end in it",
	} {
		l := loadText(t, "notify:\n  a: "+text+"\n")
		err := l.Validate()
		if err == nil {
			_, err = l.Notifiers(l.Dir())
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret-host") {
			t.Errorf("%s: got %v, want %q and no secret", text, err, want)
		}
	}
}
