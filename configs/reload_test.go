package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReloaded: what can change while a process runs is the next file's, what can not is the one before's, and is named; origins go with it.
func TestReloaded(t *testing.T) {
	t.Parallel()
	load := func(text string) *Loaded {
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
	base := "sources: {web: {kind: clickstream, write_keys: [a]}}\ningest: {max_event: 2KiB, tls: {cert: a.pem, key: a.key}}\nroles: []\n"
	tests := []struct{ name, next, restart, path, want, origin string }{
		{"nothing", base, "", "ingest.max_event", "2KiB", "file"},
		{"a source", "sources: {app: {kind: clickstream, write_keys: [b]}}\ningest: {tls: {cert: a.pem, key: a.key}}", "", "sources.app.kind", "clickstream", "file"},
		{"a limit goes back to its default", strings.Replace(base, "max_event: 2KiB, ", "", 1), "", "ingest.max_event", "1MiB", "default"},
		{"an address", strings.Replace(base, "max_event", "listen: ':1', max_event", 1), "ingest.listen", "ingest.listen", "127.0.0.1:8080", "default"},
		{"a store and a path", base + "objects: {kind: s3, s3: {bucket: b}}\ndata_dir: x\n", "data_dir objects.kind objects.s3.bucket",
			"objects.kind", "dir", "default"},
		{"the policy, but not the window", base + "batch: {max_age: 1m, dedupe_window: 1h}\n", "batch.dedupe_window", "batch.max_age", "1m", "file"},
		{"other files of a certificate", strings.Replace(base, "a.pem", "b.pem", 1), "", "ingest.tls.cert", "b.pem", "file"},
		{"TLS is switched off", "ingest: {max_event: 2KiB}\n", "ingest.tls", "ingest.tls.cert", "a.pem", "file"},
		{"TLS is switched on", base + "console: {tls: {cert: a.pem, key: a.key}}\n", "console.tls", "console.tls.cert", "", "default"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			old, next := load(base), load(tt.next)
			merged, restart := old.Reloaded(next)
			if got := strings.Join(restart, " "); got != tt.restart {
				t.Errorf("restart for %q, want %q", got, tt.restart)
			}
			found := false
			for _, v := range merged.Values() {
				if v.Path == tt.path {
					found = true
					if v.Value != tt.want || v.Origin != tt.origin {
						t.Errorf("%s is %v (%s), want %v (%s)", v.Path, v.Value, v.Origin, tt.want, tt.origin)
					}
				}
			}
			if !found {
				t.Errorf("%s is not there", tt.path)
			}
			if again, more := merged.Reloaded(next); len(more) != len(restart) || again.Validate() != nil && next.Validate() == nil {
				t.Errorf("a second reload of the same file names %v, want what the first did", more)
			}
		})
	}
}
