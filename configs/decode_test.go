package configs

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDecode reads what YAML permits beyond plain keys and values.
func TestDecode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		got        func(c *Config) any
		want       any
	}{
		{"an alias", "batch: &b {max_age: 3s}\nsources: {web: {kind: clickstream, write_keys: [a], batch: *b}}",
			func(c *Config) any { return c.Sources["web"].Batch.MaxAge }, 3 * time.Second},
		{"a merge key", "sources:\n  a: &a {kind: webhook, scheme: none, tenant: t}\n  b:\n    <<: *a\n    tenant: u",
			func(c *Config) any { return c.Sources["b"].Scheme + c.Sources["b"].Tenant }, "noneu"},
		{"a list replaces a list", "roles: [batch]\nconsole: {hosts: []}", func(c *Config) any { return c.Roles }, []string{"batch"}},
		{"sources replace sources", "sources: {x: {kind: webhook, scheme: none}}", func(c *Config) any { return len(c.Sources) }, 1},
		{"null sources are none", "sources:\n", func(c *Config) any { return len(c.Sources) }, 0},
		{"days", "store: {retention: 1d12h}", func(c *Config) any { return c.Store.Retention }, 36 * time.Hour},
		{"zero needs no unit", "store: {retention: 0}", func(c *Config) any { return c.Store.Retention }, time.Duration(0)},
		{"a secret that is a number", "sources: {x: {kind: webhook, scheme: token, secrets: [0123]}}",
			func(c *Config) any { return string(c.Sources["x"].Secrets[0]) }, "0123"},
		{"a reference without quotes in a flow list", "sources: {x: {kind: webhook, scheme: token, secrets: [env:A, file:b.txt, \"c:d\"]}}",
			func(c *Config) any { return c.Sources["x"].Secrets }, []SecretRef{"env:A", "file:b.txt", "c:d"}},
		{"one place for a list", "sources: {x: {kind: webhook, scheme: custom, verify: {signature: X-Sig, id: [json:/id, X-Id]}}}",
			func(c *Config) any { v := c.Sources["x"].Verify; return append([]string(v.Signature), v.ID...) }, []string{"X-Sig", "json:/id", "X-Id"}},
		{"mappings in a list", "sources: {x: {kind: webhook, verify: {handshakes: [{method: GET, when: {\"query:a\": b}, reply: {status: 204}}]}}}",
			func(c *Config) any { return c.Sources["x"].Verify.Handshakes[0].Reply.Status }, 204},
		{"windows line ends", "data_dir: x\r\nbatch:\r\n  max_age: 5s\r\n", func(c *Config) any { return c.DataDir + c.Batch.MaxAge.String() }, "x5s"},
		{"a document mark", "---\ndata_dir: x\n", func(c *Config) any { return c.DataDir }, "x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := Dev()
			if _, err := decode("m.yaml", []byte(tt.text), &c); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, tt.got(&c)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestEnvironmentValues: lists are written with commas, with or without brackets, and text is taken as it is.
func TestEnvironmentValues(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		env  string
		want any
	}{
		{"MILLRACE_CONSOLE__HOSTS=a, b", []string{"a", "b"}},
		{"MILLRACE_CONSOLE__HOSTS=['a', \"b\"]", []string{"a", "b"}},
		{"MILLRACE_CONSOLE__HOSTS=[\"a,b\", c'd, 'e, f']", []string{"a,b", "c'd", "e, f"}},
		{"MILLRACE_CONSOLE__HOSTS=", []string(nil)},
		{"MILLRACE_OBJECTS__S3__BUCKET=2026", "2026"},
		{"MILLRACE_OBJECTS__S3__PREFIX=a: {b #c", "a: {b #c"},
		{"MILLRACE_DATA_DIR=/srv/x", "/srv/x"},
		{"MILLRACE_STORE__RETENTION=2d", "2d"},
	} {
		l, err := Load(Default(), "", []string{tt.env, "MILLRACE_SERVER=http://x", "MILLRACE_RUN_ID=1", "MILLRACE_CONFIG=y"})
		if err != nil {
			t.Errorf("%s: %v", tt.env, err)
			continue
		}
		for _, v := range l.Values() {
			if name, _, _ := strings.Cut(tt.env, "="); v.Origin == "env "+name && !cmp.Equal(v.Value, tt.want) {
				t.Errorf("%s: got %#v, want %#v", tt.env, v.Value, tt.want)
			}
		}
		if len(l.Origin) != 1 {
			t.Errorf("%s: origins are %v, want one", tt.env, l.Origin)
		}
	}
	for env, want := range map[string]string{
		"MILLRACE_OBJECTS__S3=x":                       "set one of those keys",
		"MILLRACE_BATCH__MAX_AGE=5":                    "write 5s for seconds",
		"MILLRACE_SOURCES__X__VERIFY__HANDSHAKES=x":    "write it in the file",
		"MILLRACE_SOURCES__X__SECRETS__Y=canary":       "what is above it has no keys",
		"MILLRACE_OBJECTS__S3__PATH_STYLE=yes":         "neither true nor false",
		"MILLRACE_INGEST__LISTEN__ADDRESS=127.0.0.1:1": "what is above it has no keys",
	} {
		_, err := Load(Default(), "", []string{env})
		name, _, _ := strings.Cut(env, "=")
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "environment variable "+name) {
			t.Errorf("%s: got %v, want the variable's name and %q", env, err, want)
		}
	}
}

// FuzzDecode: no file makes the decoder panic, or show a secret.
func FuzzDecode(f *testing.F) {
	f.Add("sources: {x: {kind: webhook, secrets: [%s], sceme: y}}")
	f.Add("sources:\n  x:\n    secrets:\n      - |\n        %s\n      - k: v\n    zzz: 1\n")
	f.Add("objects: {s3: {secret_key: \"%s}}")
	f.Add("bus: {nats: {url: &a '%s'}}\nx: *a\n")
	f.Add("a: [\n\t%s")
	f.Add("secrets: !!binary %s\n? %s\n: -")
	f.Fuzz(func(t *testing.T, form string) {
		const secret = "hunter2hunter2"
		text := strings.ReplaceAll(form, "%s", secret)
		c := Default()
		_, err := decode("m.yaml", []byte(text), &c)
		if err == nil {
			err = (&Loaded{Config: c, Origin: map[string]string{}}).Validate()
		}
		// Only where a key says that it is a secret can it be known to be one.
		if err != nil && strings.Contains(form, "secrets: [%s]") && strings.Contains(err.Error(), secret) && strings.Count(form, "%s") == 1 {
			t.Errorf("the secret is shown:\n%v", err)
		}
	})
}
