package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/labstack/echo/v4"
)

// The document that every client SDK asks for when it starts. analytics.js does not begin without it, React Native sends nothing before it,
// Swift and Kotlin take from it where to post.

// settings is the document. One integration only: for a second one analytics.js would load code.
type settings struct {
	Integrations struct {
		Segment integration `json:"Segment.io"`
	} `json:"integrations"`
	Plan       json.RawMessage `json:"plan"`
	Middleware json.RawMessage `json:"middlewareSettings"`
	Metrics    json.RawMessage `json:"metrics"`
	HTTPConfig json.RawMessage `json:"httpConfig"` // React Native reads it here
}

type integration struct {
	APIKey  string `json:"apiKey"`
	APIHost string `json:"apiHost"`
	// Protocol is read by analytics.js only, which takes https without it.
	Protocol   string          `json:"protocol"`
	HTTPConfig json.RawMessage `json:"httpConfig"`
}

var (
	// plan permits all events. analytics.js reads it.
	plan = json.RawMessage(`{"track":{"__default":{"enabled":true}},"identify":{"__default":{"enabled":true}},"group":{"__default":{"enabled":true}}}`)
	// retrying is what SDKs do with answers that are not 200: wait as long as Retry-After says, try for a week, and drop what is refused. Without
	// it Swift and Kotlin fall back to their old ways, in which Swift posts a file that is refused for ever. Values beyond what an SDK permits
	// are cut by it (analytics-next 1.84: 100 tries; analytics-swift and -kotlin of 2026: 1,000).
	retrying = json.RawMessage(`{"rateLimitConfig":{"enabled":true,"maxRetryCount":1000,"maxRetryInterval":300},` +
		`"backoffConfig":{"enabled":true,"maxRetryCount":1000,"baseBackoffInterval":0.5,"maxBackoffInterval":300,"maxTotalBackoffDuration":604800,` +
		`"jitterPercent":10,"default4xxBehavior":"drop","default5xxBehavior":"retry","unknownCodeBehavior":"drop",` +
		`"statusCodeOverrides":{"408":"retry","410":"retry","429":"retry","460":"retry","501":"drop","505":"drop","511":"drop"}}}`)
)

// settings answers with the document for a write key. A key that no source has gets one as well, as long as its events would be kept: an SDK
// without it never sends.
func (s *Server) settings(c echo.Context, prefix []string, key string) error {
	h, r := c.Response().Header(), c.Request()
	sources := s.sources.Load()
	sources.cors(h, r)
	if sources.keys[key] == nil && s.limits.Load().OrphanRate < 0 {
		writeFault(c.Response(), faultOf(errUnknownKey), 0)
		return nil
	}
	protocol, host := s.publicHost(r, prefix)
	doc := settings{Plan: plan, Middleware: json.RawMessage(`{"routingRules":[]}`), Metrics: json.RawMessage(`{"sampleRate":0}`), HTTPConfig: retrying}
	doc.Integrations.Segment = integration{APIKey: key, APIHost: host, Protocol: protocol, HTTPConfig: retrying}
	body, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	sum := sha256.Sum256(body)
	h.Set("Cache-Control", "public, max-age=300")
	return serve(c, "application/json", body, hex.EncodeToString(sum[:8]))
}

// publicHost returns the protocol and the host, with the path, where SDKs reach the listener: as configured, else as the request says.
func (s *Server) publicHost(r *http.Request, prefix []string) (protocol, host string) {
	if u, err := url.Parse(s.opts.PublicURL); err == nil && u.Host != "" {
		return u.Scheme, u.Host + strings.TrimSuffix(u.Path, "/") + "/v1"
	}
	protocol, host = "http", r.Host
	if r.TLS != nil {
		protocol = "https"
	}
	if said := forwarded(r.Header, "X-Forwarded-Proto", s.opts.TrustedProxies); said == "http" || said == "https" {
		protocol = said
	}
	if said := forwarded(r.Header, "X-Forwarded-Host", s.opts.TrustedProxies); said != "" {
		host = said
	}
	for _, part := range prefix {
		if part != "v1" {
			host += "/" + url.PathEscape(part)
		}
	}
	return protocol, host + "/v1"
}

// serve answers a GET or HEAD with body, or says that the client has it.
func serve(c echo.Context, contentType string, body []byte, tag string) error {
	h := c.Response().Header()
	h.Set("ETag", `"`+tag+`"`)
	if strings.Contains(c.Request().Header.Get("If-None-Match"), `"`+tag+`"`) {
		return c.NoContent(http.StatusNotModified)
	}
	return c.Blob(http.StatusOK, contentType, body)
}

// prologue tells analytics.js where it came from, which it finds out by itself only on https.
const prologue = `(function(s){var a=s&&window[s.dataset.globalSegmentAnalyticsKey||"analytics"];` +
	`if(a&&!a._cdn)a._cdn=s.src.replace(/\/analytics\.js\/v1\/.*/,"")})(document.currentScript);` + "\n"

// snippet answers with the script that Segment's snippet loads.
func (s *Server) snippet(c echo.Context) error { return s.script(c, "standalone.js", prologue) }

var scriptName = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.js(\.map)?$`)

// script answers with a file of Front.Scripts.
func (s *Server) script(c echo.Context, name, before string) error {
	h := c.Response().Header()
	s.sources.Load().cors(h, c.Request())
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	if s.opts.Scripts == "" || !scriptName.MatchString(name) {
		return echo.ErrNotFound
	}
	text, err := os.ReadFile(filepath.Join(s.opts.Scripts, name))
	if errors.Is(err, os.ErrNotExist) {
		return echo.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("read script %q: %w", name, err)
	}
	body := bytes.Join([][]byte{[]byte(before), text}, nil)
	sum := sha256.Sum256(body)
	h.Set("Cache-Control", "public, max-age=300")
	return serve(c, "text/javascript; charset=utf-8", body, hex.EncodeToString(sum[:8]))
}
