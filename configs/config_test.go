package configs

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestShippedFile holds the annotated file to the code: it loads, is valid, says the defaults, and has every key with a comment near it.
func TestShippedFile(t *testing.T) {
	t.Parallel()
	l, err := Load(Config{}, "millrace.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	got, want := l.Config, Default()
	got.Sources, got.Notify, got.Roles, got.Console.Hosts = nil, nil, nil, nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults in millrace.yaml (-code +file):\n%s", diff)
	}
	for _, k := range Keys() {
		if k.Doc == "" && k.Path != "sources.*" && k.Path != "notify.*" {
			t.Errorf("millrace.yaml lacks %s, or a comment above it", k.Path)
		}
	}
	for path := range commentsOf(Example) {
		if !slices.ContainsFunc(Keys(), func(k Key) bool { return k.Path == path || k.Path+".*" == path }) {
			t.Errorf("millrace.yaml has %s, which is no key", path)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file string
		env        []string
		path       string
		want       any
		origin     string
		err        string
	}{
		{name: "default", path: "objects.kind", want: "dir", origin: "default"},
		{name: "file", file: "objects: {kind: s3}", path: "objects.kind", want: "s3", origin: "file"},
		{name: "what the file does not name stays", file: "objects: {kind: s3, s3: {bucket: b}}", path: "objects.dir.path", want: "objects", origin: "default"},
		{name: "neighbours stay", file: "batch: {max_age: 1s}", path: "batch.max_events", want: int64(50000), origin: "default"},
		{name: "only a comment", file: "# nothing", path: "batch.max_events", want: int64(50000), origin: "default"},
		{name: "env wins", file: "objects: {kind: s3}", env: []string{"MILLRACE_OBJECTS__KIND=dir"},
			path: "objects.kind", want: "dir", origin: "env MILLRACE_OBJECTS__KIND"},
		{name: "env size", env: []string{"MILLRACE_LOG__WAL__SEGMENT=8MiB"}, path: "log.wal.segment", want: "8MiB",
			origin: "env MILLRACE_LOG__WAL__SEGMENT"},
		{name: "env into a map", env: []string{"MILLRACE_SOURCES__WEB__WRITE_KEYS=[a, b]"}, path: "sources.web.write_keys",
			want: []string{"a", "b"}, origin: "env MILLRACE_SOURCES__WEB__WRITE_KEYS"},
		{name: "env without levels is not configuration", env: []string{"MILLRACE_SERVER=x"}, path: "store.kind", want: "sqlite", origin: "default"},
		{name: "unknown key", file: "objects:\n  kidn: s3\n", err: `did you mean "kind"?`},
		{name: "unknown key shows the line", file: "objects:\n  kidn: s3\n", err: "m.yaml:2:3: objects.kidn: there is no such key\n    2 |   kidn: s3\n      |   ^"},
		{name: "unknown env", env: []string{"MILLRACE_OBJECTS__S3__BUKET=b"}, err: `did you mean "bucket"?`},
		{name: "bad size", file: "ingest: {max_event: 1MB}", err: "KiB"},
		{name: "secret is hidden", file: "bus: {nats: {url: nats://u:hunter2@h}}", path: "bus.nats.url", want: "***", origin: "file"},
		{name: "reference is shown", file: "bus: {nats: {url: 'env:URL'}}", path: "bus.nats.url", want: "env:URL", origin: "file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := ""
			if tt.file != "" {
				file = filepath.Join(t.TempDir(), "m.yaml")
				if err := os.WriteFile(file, []byte(tt.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l, err := Load(Default(), file, tt.env)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error: got %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range l.Values() {
				if v.Path == tt.path && (!cmp.Equal(v.Value, tt.want) || v.Origin != tt.origin) {
					t.Errorf("%s: got %v (%s), want %v (%s)", tt.path, v.Value, v.Origin, tt.want, tt.origin)
				}
			}
			var out bytes.Buffer
			if err := l.Show(&out, true); err != nil || strings.Contains(out.String(), "hunter2") {
				t.Errorf("show: error %v, output:\n%s", err, out.String())
			}
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, file, want string }{
		{"defaults", "", ""},
		{"wal apart", "roles: [ingest]", "ingest and batch must be in one process"},
		{"embedded bus apart", "roles: [ingest, batch]", "bus.kind embedded"},
		{"apart with nats and s3", "roles: [ingest, batch]\nbus: {kind: nats, nats: {url: 'nats://h'}}\nobjects: {kind: s3, s3: {bucket: b}}", ""},
		{"unknown role", "roles: [cook]", `is "cook", want one of ingest, batch, schedule`},
		{"unsigned webhook", "sources: {a: {kind: webhook}}", "scheme: none"},
		{"signed without secret", "sources: {a: {kind: webhook, scheme: stripe}}", "needs secrets"},
		{"bad name", "sources: {A_b: {kind: webhook, scheme: none}}", "must match"},
		{"same key twice", "sources: {a: {kind: clickstream, write_keys: [k]}, b: {kind: clickstream, write_keys: [k]}}", "is also a key of source a"},
		{"age", "batch: {max_age: 2h}", "batch.max_age: is 2h, want 1ms to 1h"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "m.yaml")
			if err := os.WriteFile(file, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := Load(Default(), file, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = l.Validate()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
