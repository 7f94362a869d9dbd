package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"millrace/ingest/clickstream"
)

// Front is what lies between senders and the listener. The zero value works.
type Front struct {
	// TrustedProxies is how many proxies in front of the listener are ours: that many of the last entries in X-Forwarded-* are believed.
	TrustedProxies int
	// PublicURL is where SDKs reach the listener ("https://ingest.example.com/a"), for the settings document. "": what the request for it says.
	PublicURL string
	// Scripts is a directory with the files of dist/umd of the package @segment/analytics-next, for pages with Segment's snippet. "": none.
	Scripts string
}

func (o Front) validate() error {
	var errs []error
	if o.TrustedProxies < 0 {
		errs = append(errs, fmt.Errorf("trusted_proxies %d must not be negative", o.TrustedProxies))
	}
	if u, err := url.Parse(o.PublicURL); o.PublicURL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "") {
		errs = append(errs, fmt.Errorf("public_url %q is not of the form https://ingest.example.com", o.PublicURL))
	}
	return errors.Join(errs...)
}

// verbs are the names that end the paths of posts.
//
//	/v1/track  /v1/t  /v1/batch  /v1/b  /v1/import     as documented; found without a detour
//	/any/v1/track/  //v1/track  /v1/v1/b  /v1/batch/b  what SDKs make of a host setting with a path, with a slash, or with too much of a path
//	/t  /b                                             or without it
//
// So the last segment of a path counts, whatever comes before it, unless that is the place of something else.
func (s *Server) verbs() map[string]echo.HandlerFunc {
	verbs := map[string]echo.HandlerFunc{"m": s.selfMetrics}
	for typ := clickstream.Identify; typ < clickstream.NumTypes; typ++ {
		work := s.handle(shareSDK, s.clickstream(typ))
		verbs[typ.String()] = work
		if typ != clickstream.Merge { // Segment's have short names: analytics.js posts to the first letter
			verbs[typ.String()[:1]] = work
		}
	}
	for _, name := range []string{"batch", "import", "b"} {
		verbs[name] = s.handle(shareSDK, s.clickstream(0))
	}
	return verbs
}

// clickstreamRoutes lists what SDKs ask for, and leaves to alias what no route was found for.
func (s *Server) clickstreamRoutes(e *echo.Echo) {
	verbs := s.verbs()
	for name, work := range verbs {
		e.POST("/v1/"+name, work)
		e.OPTIONS("/v1/"+name, s.preflight)
	}
	pixels := map[string]echo.HandlerFunc{}
	for typ := clickstream.Identify; typ < clickstream.NumTypes; typ++ {
		pixels[typ.String()] = s.handle(shareSDK, s.pixel(typ))
	}
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		if errors.Is(err, echo.ErrNotFound) {
			err = s.alias(c, verbs, pixels)
		}
		if err != nil {
			writeFault(c.Response(), faultOf(err), 0)
		}
	}
}

// alias answers all paths that have no route of their own.
func (s *Server) alias(c echo.Context, verbs, pixels map[string]echo.HandlerFunc) error {
	path := splitPath(c.Request().URL)
	work, methods := s.resolve(path, verbs, pixels)
	switch method := c.Request().Method; {
	case work == nil:
		return echo.ErrNotFound
	case method == http.MethodOptions:
		return s.preflight(c)
	case !strings.Contains(methods, method):
		return echo.ErrMethodNotAllowed
	}
	return work(c)
}

// splitPath returns the segments of a path that are not empty, unescaped.
func splitPath(u *url.URL) []string {
	var path []string
	for part := range strings.SplitSeq(u.EscapedPath(), "/") {
		if text, err := url.PathUnescape(part); err == nil && text != "" {
			path = append(path, text)
		}
	}
	return path
}

// resolve returns who answers a path, and to which methods; nobody: nil.
func (s *Server) resolve(path []string, verbs, pixels map[string]echo.HandlerFunc) (work echo.HandlerFunc, methods string) {
	n := len(path)
	if n == 0 {
		return nil, ""
	}
	switch path[0] {
	case "hooks", "events", "bulk": // their senders do not speak this protocol
		return nil, ""
	}
	last, before := path[n-1], func(back int) string { return path[max(n-1-back, 0)] }
	switch {
	case n >= 3 && last == "settings" && before(2) == "projects":
		return func(c echo.Context) error { return s.settings(c, path[:n-3], before(1)) }, "GET HEAD"
	case n >= 4 && last == "analytics.min.js" && before(3) == "analytics.js":
		return s.snippet, "GET HEAD"
	case n >= 3 && before(1) == "bundles" && before(2) == "analytics-next":
		return func(c echo.Context) error { return s.script(c, last, "") }, "GET HEAD"
	case n >= 2 && (before(1) == "pixel" || n >= 3 && before(1) == "v1" && before(2) == "pixel"): // Segment's, Rudder's
		return pixels[last], http.MethodGet
	}
	return verbs[last], http.MethodPost
}

// selfMetrics takes what analytics.js tells of itself, which nobody asked for. The settings document switches it off.
func (s *Server) selfMetrics(c echo.Context) error {
	h := c.Response().Header()
	s.sources.Load().cors(h, c.Request())
	h["Content-Type"] = jsonType
	c.Response().WriteHeader(http.StatusOK)
	_, err := c.Response().Write(success)
	return err
}
