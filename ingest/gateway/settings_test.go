package gateway

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path      string
		o               Front
		headers         []string
		key, host, prot string
	}{
		{"documented", "/v1/projects/dev/settings", Front{}, nil, "dev", "example.com/v1", "http"},
		{"without v1", "/projects/dev/settings", Front{}, nil, "dev", "example.com/v1", "http"},
		{"with a slash", "/v1/projects/dev/settings/", Front{}, nil, "dev", "example.com/v1", "http"},
		{"below a path", "/a/b/v1/projects/dev/settings", Front{}, nil, "dev", "example.com/a/b/v1", "http"},
		{"a key that is no name", `/v1/projects/%22%7D%2F%3C/settings`, Front{}, nil, `"}/<`, "example.com/v1", "http"},
		{"a key that nobody has", "/v1/projects/nobody/settings", Front{}, nil, "nobody", "example.com/v1", "http"},
		{"behind a proxy", "/v1/projects/dev/settings", Front{TrustedProxies: 1},
			[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "in.example.org"}, "dev", "in.example.org/v1", "https"},
		{"behind nobody", "/v1/projects/dev/settings", Front{},
			[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "in.example.org"}, "dev", "example.com/v1", "http"},
		{"configured", "/v1/projects/dev/settings", Front{PublicURL: "https://in.example.org/x/", TrustedProxies: 1},
			[]string{"X-Forwarded-Host", "evil.example"}, "dev", "in.example.org/x/v1", "https"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := send(newServer(t, nullLog{}, Options{Front: tt.o}), http.MethodGet, tt.path, "", append(tt.headers, "Origin", "https://a.example")...)
			var got struct {
				Integrations map[string]struct {
					APIKey, APIHost, Protocol string
					HTTPConfig                map[string]map[string]any
				}
				Plan               map[string]map[string]map[string]bool
				MiddlewareSettings map[string][]string
				Metrics            map[string]float64
				HTTPConfig         map[string]any
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || len(got.Integrations) != 1 {
				t.Fatalf("got %d %s, %v, want 200 and one integration", w.Code, w.Body, err)
			}
			own := got.Integrations["Segment.io"]
			if own.APIKey != tt.key || own.APIHost != tt.host || own.Protocol != tt.prot {
				t.Errorf("got %+v, want %s, %s, %s", own, tt.key, tt.host, tt.prot)
			}
			backoff := own.HTTPConfig["backoffConfig"]
			if backoff["enabled"] != true || backoff["default4xxBehavior"] != "drop" || own.HTTPConfig["rateLimitConfig"]["enabled"] != true || got.HTTPConfig["backoffConfig"] == nil {
				t.Errorf("got %v, want smart retry on, here and at the top", own.HTTPConfig)
			}
			if !got.Plan["track"]["__default"]["enabled"] || got.MiddlewareSettings["routingRules"] == nil || got.Metrics["sampleRate"] != 0 {
				t.Errorf("got %s, want all events permitted and no metrics", w.Body)
			}
			h := w.Header()
			if h.Get("Cache-Control") != "public, max-age=300" || h.Get("Access-Control-Allow-Origin") != "*" || !strings.HasPrefix(h.Get("Content-Type"), "application/json") {
				t.Errorf("got headers %v", h)
			}
		})
	}
}

func TestSettingsAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t, nullLog{}, Options{})
	first := send(s, http.MethodGet, "/v1/projects/dev/settings", "")
	tag := first.Header().Get("ETag")
	if w := send(s, http.MethodGet, "/v1/projects/dev/settings", "", "If-None-Match", `"x", `+tag); w.Code != http.StatusNotModified || w.Body.Len() != 0 || tag == "" {
		t.Errorf("got %d with tag %q, want 304", w.Code, tag)
	}
	if w := send(s, http.MethodGet, "/v1/projects/app1/settings", "", "If-None-Match", tag); w.Code != http.StatusOK {
		t.Errorf("got %d for another key, want 200", w.Code)
	}
	if w := send(s, http.MethodHead, "/v1/projects/dev/settings", ""); w.Code != http.StatusOK || w.Header().Get("ETag") != tag {
		t.Errorf("HEAD: got %d, tag %q, want 200, %q", w.Code, w.Header().Get("ETag"), tag)
	}
	strict := newServer(t, nullLog{}, Options{Limits: Limits{OrphanRate: -1}})
	if w := send(strict, http.MethodGet, "/v1/projects/nobody/settings", ""); w.Code != http.StatusBadRequest {
		t.Errorf("got %d for a stranger where none is kept, want 400", w.Code)
	}
}

// TestScripts: the files of Segment's script are served from one directory and nothing else is, and the script learns where it came from.
func TestScripts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "umd")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"umd/standalone.js": "run()", "umd/407.bundle.61ef.js": "part()", "umd/.secret.js": "no", "outside.js": "no"} {
		if err := os.WriteFile(filepath.Join(dir, "..", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := newServer(t, nullLog{}, Options{Front: Front{Scripts: dir}})
	for _, tt := range []struct {
		path, want string
		code       int
	}{
		{"/analytics.js/v1/dev/analytics.min.js", prologue + "run()", 200},
		{"/x/analytics.js/v1/dev/analytics.min.js", prologue + "run()", 200},
		{"/analytics-next/bundles/407.bundle.61ef.js", "part()", 200},
		{"/analytics-next/bundles/nothing.js", "", 404},
		{"/analytics-next/bundles/.secret.js", "", 404},
		{"/analytics-next/bundles/..%2Foutside.js", "", 404},
		{"/analytics-next/bundles/../outside.js", "", 404},
		{"/analytics-next/bundles/standalone", "", 404},
	} {
		w := send(s, http.MethodGet, tt.path, "", "Origin", "https://a.example")
		if w.Code != tt.code || tt.code == 200 && w.Body.String() != tt.want {
			t.Errorf("%s: got %d %q, want %d %q", tt.path, w.Code, w.Body, tt.code, tt.want)
		}
		if got := w.Header().Get("Content-Type"); tt.code == 200 && got != "text/javascript; charset=utf-8" {
			t.Errorf("%s: got type %q", tt.path, got)
		}
	}
	if w := send(newServer(t, nullLog{}, Options{}), http.MethodGet, "/analytics.js/v1/dev/analytics.min.js", ""); w.Code != http.StatusNotFound {
		t.Errorf("got %d without a directory, want 404", w.Code)
	}
}
