package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// Which pages may post and read the answer (Fetch, section 3.3). An answer has nothing that a stranger must not read, and no request is made
// with cookies, so Access-Control-Allow-Credentials is never sent. What the lists of origins guard is what gets in: a page whose origin is not
// on its source's list is refused even where browsers do not ask first. Whoever is no browser sends no Origin, and is not held up by this.

var errOrigin = errors.New("origin not permitted")

// origins are the permitted origins of one source, or of all together. The zero value permits all.
type origins struct {
	listed bool            // only these
	exact  map[string]bool // https://shop.example.com
	below  []family        // https://*.example.com
}

// family is the origins of all hosts below a domain: "https://" and ".example.com".
type family struct{ scheme, domain string }

// parseOrigins reads a source's list.
func parseOrigins(list []string) (origins, error) {
	o := noOrigins()
	var errs []error
	for _, text := range list {
		scheme, host, _ := strings.Cut(text, "://")
		domain, wild := strings.CutPrefix(host, "*")
		switch {
		case text == "*":
			return origins{}, nil
		case text != "null" && !isOrigin(scheme, strings.TrimPrefix(domain, ".")):
			errs = append(errs, fmt.Errorf("origin %q is not of the form https://shop.example.com or https://*.example.com, in lower case and without a path", text))
		case wild:
			o.below = append(o.below, family{scheme + "://", domain})
		default:
			o.exact[text] = true
		}
	}
	o.listed = len(list) > 0
	return o, errors.Join(errs...)
}

// noOrigins permits none.
func noOrigins() origins { return origins{listed: true, exact: map[string]bool{}} }

func isOrigin(scheme, host string) bool {
	text := scheme + "://" + host
	u, err := url.Parse(text)
	return err == nil && u.Scheme+"://"+u.Host == text && u.Host != "" && !strings.Contains(u.Host, "*") && text == strings.ToLower(text)
}

// permit reports whether a page of origin may post.
func (o *origins) permit(origin string) bool {
	if !o.listed || o.exact[origin] {
		return true
	}
	for _, f := range o.below {
		if strings.HasPrefix(origin, f.scheme) && strings.HasSuffix(origin, f.domain) && len(origin) > len(f.scheme)+len(f.domain) {
			return true
		}
	}
	return false
}

// join adds what other permits.
func (o *origins) join(other origins) {
	if !o.listed || !other.listed {
		*o = origins{}
		return
	}
	for origin := range other.exact {
		o.exact[origin] = true
	}
	o.below = append(o.below, other.below...)
}

var (
	anyOrigin   = []string{"*"}
	varyOrigin  = []string{"Origin"}
	varyRequest = []string{"Origin, Access-Control-Request-Headers"}
	exposed     = []string{"Retry-After, X-RateLimit-Reset, X-Millrace-Receipt"}
	methods     = []string{"GET, POST, HEAD, OPTIONS"}
	maxAge      = []string{"86400"}
)

// cors lets the page that made the request read its answer, whatever it will be, if any source takes events from there: which source it is for
// is known only later.
func (r *registry) cors(h http.Header, req *http.Request) {
	origin := req.Header["Origin"]
	if r.listed {
		h["Vary"] = varyOrigin
	}
	if len(origin) == 0 || !r.origins.permit(origin[0]) {
		return
	}
	h["Access-Control-Expose-Headers"] = exposed
	if r.listed {
		h["Access-Control-Allow-Origin"] = origin[:1]
	} else {
		h["Access-Control-Allow-Origin"] = anyOrigin
	}
}

// admit returns errOrigin if the request comes from a page that src takes nothing from; such a page can not read the answer either.
func (x *exchange) admit(src *source) error {
	if src == nil || !src.origins.listed {
		return nil
	}
	if origin := x.r.Header["Origin"]; len(origin) > 0 && !src.origins.permit(origin[0]) {
		delete(x.w.Header(), "Access-Control-Allow-Origin")
		return fmt.Errorf("take events of %q from a page of %q: %w", src.Name, origin[0], errOrigin)
	}
	return nil
}

// preflight answers what a browser asks before it sends a request with headers of its own. It mirrors the headers: SDKs and the proxies between
// add to them (analytics.js: Authorization always, X-Retry-Count on retries).
func (s *Server) preflight(c echo.Context) error {
	h, req := c.Response().Header(), c.Request()
	s.sources.Load().cors(h, req)
	if h["Access-Control-Allow-Origin"] != nil {
		h["Access-Control-Allow-Methods"] = methods
		h["Access-Control-Max-Age"] = maxAge
		if asked := req.Header["Access-Control-Request-Headers"]; len(asked) > 0 {
			h["Access-Control-Allow-Headers"] = slices.Clone(asked)
		}
		delete(h, "Access-Control-Expose-Headers")
	}
	h["Vary"] = varyRequest
	h["Allow"] = methods
	return c.NoContent(http.StatusNoContent)
}
