package registry

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	served "github.com/google/go-containerregistry/pkg/registry"

	"millrace/scheduler"
)

func client(t *testing.T, opts Options) *Client {
	t.Helper()
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// push puts a manifest under a tag, and returns its digest.
func push(t *testing.T, h http.Handler, image, tag, note string) string {
	t.Helper()
	body := fmt.Sprintf(`{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {}, "layers": [], "annotations": {"note": %q}}`, note)
	req := httptest.NewRequest(http.MethodPut, "/v2/"+image+"/manifests/"+tag, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	rec := httptest.NewRecorder()
	if h.ServeHTTP(rec, req); rec.Code != http.StatusCreated {
		t.Fatalf("push: %d %s", rec.Code, rec.Body)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(body)))
}

func newRegistry() http.Handler {
	return served.New(served.Logger(slog.NewLogLogger(slog.DiscardHandler, 0)))
}

// TestDigest: a tag is what it stands for now, and no longer.
func TestDigest(t *testing.T) {
	t.Parallel()
	h := newRegistry()
	srv := httptest.NewServer(h)
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	c := client(t, Options{})
	ask := func(image string) string {
		t.Helper()
		digest, err := c.Digest(t.Context(), host+"/"+image)
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}
	first := push(t, h, "team/load", "1.4", "first")
	if got := ask("team/load:1.4"); got != first {
		t.Errorf("got %s, want %s", got, first)
	}
	moved := push(t, h, "team/load", "1.4", "second")
	if got := ask("team/load:1.4"); got != moved || moved == first {
		t.Errorf("after the tag was moved: got %s, want %s", got, moved)
	}
	if got, latest := ask("team/load@"+first), push(t, h, "team/load", "latest", "third"); got != first || ask("team/load") != latest {
		t.Errorf("by digest %s, want %s; without a tag %s, want %s", got, first, ask("team/load"), latest)
	}
}

// TestRefused: what a registry says no to, and what only may be otherwise later.
func TestRefused(t *testing.T) {
	t.Parallel()
	h := newRegistry()
	push(t, h, "load", "1", "")
	for name, tt := range map[string]struct {
		image  string
		status int
		final  bool
		want   string
	}{
		"no such tag":      {"load:2", 0, true, "has no 127.0.0.1:"},
		"no such image":    {"other:1", 0, true, "(404)"},
		"not without":      {"load:1", 401, true, "without credentials, since Docker's configuration has none for it (401)"},
		"forbidden":        {"load:1", 403, true, "(403)"},
		"too many":         {"load:1", 429, false, "429"},
		"a fault":          {"load:1", 500, false, "500"},
		"a gateway's page": {"load:1", 502, false, "…"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tt.status != 0 {
					w.WriteHeader(tt.status)
					if tt.status == 502 {
						_, _ = io.WriteString(w, strings.Repeat("<p>\nout of order\n", 1000))
					}
					return
				}
				h.ServeHTTP(w, r)
			}))
			defer srv.Close()
			_, err := client(t, Options{}).Digest(t.Context(), strings.TrimPrefix(srv.URL, "http://")+"/"+tt.image)
			if err == nil || errors.Is(err, scheduler.ErrNoImage) != tt.final || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 2*maxText ||
				strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q, final %v", err, tt.want, tt.final)
			}
		})
	}
}

// TestDown: a registry that is not there may be there later.
func TestDown(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := newRegistry()
	want := push(t, h, "load", "1", "")
	var up atomic.Bool
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = c.Close()
			}
			return
		}
		h.ServeHTTP(w, r)
	}), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = srv.Serve(l) }() // ends with Close
	defer srv.Close()
	c := client(t, Options{})
	image := l.Addr().String() + "/load:1"
	if _, err := c.Digest(t.Context(), image); err == nil || errors.Is(err, scheduler.ErrNoImage) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("while it is down: got %v", err)
	}
	up.Store(true)
	if got, err := c.Digest(t.Context(), image); err != nil || got != want {
		t.Errorf("when it is up: got %s, %v, want %s", got, err, want)
	}
}

// TestSilent: a registry that takes connections and says nothing does not hold anybody.
func TestSilent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = client(t, Options{Timeout: 50 * time.Millisecond}).Digest(t.Context(), l.Addr().String()+"/load:1")
	if err == nil || errors.Is(err, scheduler.ErrNoImage) || !strings.Contains(err.Error(), "did not answer within 50ms") {
		t.Errorf("got %v", err)
	}
}

// TestCredentials: they come from Docker's configuration, go to where the registry says tokens are made, and are not in what people are told.
func TestCredentials(t *testing.T) { // not parallel: it sets the environment
	h := newRegistry()
	want := push(t, h, "load", "1", "")
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch user, password, _ := r.BasicAuth(); {
		case r.URL.Path == "/token" && user == "etl" && password == "s3cret":
			if got := r.URL.Query().Get("scope"); got != "repository:load:pull" {
				t.Errorf("scope is %q", got)
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"token": "tok"})
		case r.URL.Path == "/token":
			w.WriteHeader(http.StatusUnauthorized)
		case r.Header.Get("Authorization") == "Bearer tok":
			h.ServeHTTP(w, r)
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+srv.URL+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
	c := client(t, Options{})
	login := func(password string) {
		t.Helper()
		auth := base64.StdEncoding.EncodeToString([]byte("etl:" + password))
		text := fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, auth)
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(text string) {
		t.Helper()
		if _, err := c.Digest(t.Context(), host+"/load:1"); !errors.Is(err, scheduler.ErrNoImage) || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("got %v, want %q", err, text)
		}
	}
	refused("without credentials")
	login("wr0ng")
	refused("with the credentials of Docker's configuration (401)")
	login("s3cret")
	if got, err := c.Digest(t.Context(), host+"/load:1"); err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Digest(t.Context(), host+"/load:1"); err == nil || errors.Is(err, scheduler.ErrNoImage) || !strings.Contains(err.Error(), "Docker's configuration") {
		t.Errorf("of a configuration with a fault: %v", err)
	}
}

// TestPlain: nothing goes out in the clear, but to hosts that are named and to loopback addresses.
func TestPlain(t *testing.T) {
	t.Parallel()
	h := newRegistry()
	want := push(t, h, "load", "1", "")
	srv := httptest.NewServer(h)
	defer srv.Close()
	port := srv.URL[strings.LastIndexByte(srv.URL, ':')+1:]
	dial := func(c *Client) *Client { // the names lead here
		c.transport.Proxy = nil
		c.transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
		}
		return c
	}
	for _, host := range []string{"registry.example:" + port, "10.9.8.7:" + port} { // of the second the library thinks that it needs no TLS
		image := host + "/load:1"
		if _, err := dial(client(t, Options{})).Digest(t.Context(), image); err == nil || !strings.Contains(err.Error(), "images.insecure") || errors.Is(err, scheduler.ErrNoImage) {
			t.Errorf("of %s, which is not named: %v", host, err)
		}
		if got, err := dial(client(t, Options{Insecure: []string{host}})).Digest(t.Context(), image); err != nil || got != want {
			t.Errorf("of %s, which is: %s, %v", host, got, err)
		}
	}
	for _, host := range []string{"http://a", "a/b", "", "a b"} {
		if _, err := New(Options{Insecure: []string{host}}); err == nil {
			t.Errorf("%q was taken as a registry", host)
		}
	}
}

func TestEngineAuth(t *testing.T) { // not parallel: it sets the environment
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	conf := `{"auths": {"registry.example": {"username": "me", "password": "secret"}}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	c := client(t, Options{})
	text, err := c.EngineAuth(t.Context(), "registry.example/load:1")
	body, failed := base64.URLEncoding.DecodeString(text)
	if want := `"password":"secret","registrytoken":"","serveraddress":"registry.example","username":"me"`; err != nil || failed != nil || !strings.Contains(string(body), want) {
		t.Errorf("got %s (%v, %v), want %s", body, err, failed, want)
	}
	if text, err := c.EngineAuth(t.Context(), "elsewhere.example/load:1"); text != "" || err != nil {
		t.Errorf("without credentials: got %q, %v", text, err)
	}
	if _, err := c.EngineAuth(t.Context(), "No Reference"); err == nil {
		t.Error("got no error for what is no reference")
	}
}
