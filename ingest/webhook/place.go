package webhook

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"millrace/ingest"
)

// Delivery is one request to a webhook, its body read.
type Delivery struct {
	Method, Path, RawQuery string
	Header                 http.Header
	Body                   []byte
	// URL is the one that was requested, as far as the request tells, for schemes that sign it; see [Verifier.SignsURL].
	URL string
	// Rest is what follows the source's name in the path: the token of senders that can do no better.
	Rest string
	// Received is when the request came: UTC, microseconds.
	Received time.Time
}

// place is a compiled place of an [ingest.Scheme].
type place struct {
	kind, name string
	path       string // of json, as gjson has it
}

var placeKinds = []string{"header", "query", "form", "json", "bearer", "path", "part"}

func parsePlace(text string) (place, error) {
	kind, name, ok := strings.Cut(text, ":")
	switch {
	case !ok && (text == "bearer" || text == "path"):
		return place{kind: text}, nil
	case !ok:
		kind, name = "header", text
	}
	if name == "" || kind == "bearer" || kind == "path" {
		return place{}, fmt.Errorf("place %q names nothing; write for example header:X-Signature, json:/id, bearer or path", text)
	}
	p := place{kind: kind, name: name}
	switch kind {
	case "header":
		p.name = textproto.CanonicalMIMEHeaderKey(name)
	case "json":
		var err error
		p.path, err = parsePointer(name)
		return p, err
	case "query", "form", "part":
	default:
		return place{}, fmt.Errorf("place %q begins with none of %q", text, placeKinds)
	}
	return p, nil
}

func parsePlaces(texts ingest.Places) ([]place, error) {
	out := make([]place, len(texts))
	var errs []error
	for i, text := range texts {
		var err error
		out[i], err = parsePlace(text)
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// parsePointer turns a JSON pointer (RFC 6901) into a path of gjson.
func parsePointer(pointer string) (string, error) {
	rest, ok := strings.CutPrefix(pointer, "/")
	if !ok {
		return "", fmt.Errorf("JSON pointer %q does not begin with /", pointer)
	}
	parts := strings.Split(rest, "/")
	for i, part := range parts {
		if part == "" {
			return "", fmt.Errorf("JSON pointer %q has an empty part", pointer)
		}
		parts[i] = gjson.Escape(strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
	}
	return strings.Join(parts, "."), nil
}

// String is the place as people read it in answers.
func (p place) String() string {
	switch p.kind {
	case "header":
		return "header " + p.name
	case "bearer":
		return "header Authorization with a Bearer token"
	case "path":
		return "token at the end of the path"
	case "query":
		return "query parameter " + p.name
	case "form":
		return "form parameter " + p.name
	case "json":
		return "JSON member " + p.name
	}
	return "part " + p.name + " in the signature's header"
}

// request is a delivery while it is looked at: what several places need is parsed once.
type request struct {
	*Delivery
	v *Verifier
	// item is what "json:" places are within: one element of the body, or, if it is "", the body.
	item    string
	form    url.Values
	formErr error // of form
	query   url.Values
}

// value returns what stands at p, "" if nothing does.
func (r *request) value(p place) string {
	switch p.kind {
	case "header":
		return headerValue(r.Header, p.name)
	case "bearer":
		if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "bearer") {
			return strings.TrimSpace(token)
		}
	case "path":
		return r.Rest
	case "query":
		if !strings.Contains(r.RawQuery, p.name) && !strings.Contains(r.RawQuery, "%") {
			return ""
		}
		if r.query == nil {
			r.query, _ = url.ParseQuery(r.RawQuery)
		}
		return r.query.Get(p.name)
	case "form":
		return r.params().Get(p.name)
	case "json":
		if r.item != "" {
			return gjson.Get(r.item, p.path).String()
		}
		return gjson.GetBytes(r.Body, p.path).String()
	case "part":
		return r.part(p.name)
	}
	return ""
}

// headerValue returns the first value of a header, which is faster than Header.Get for a name that is canonical already.
func headerValue(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// part returns what follows prefix in the first part of a signature's header that begins with it.
func (r *request) part(prefix string) string {
	for _, p := range r.v.signature {
		for part := range strings.SplitSeq(r.value(p), r.v.scheme.Split) {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(part), prefix); ok {
				return rest
			}
		}
	}
	return ""
}

// first returns the first value that one of places has.
func (r *request) first(places []place) string {
	for _, p := range places {
		if text := r.value(p); text != "" {
			return text
		}
	}
	return ""
}

// isForm reports whether the body is a form of the kind that HTML posts.
func (r *request) isForm() bool {
	typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && typ == "application/x-www-form-urlencoded"
}

// params returns the parameters of a form, none if the body is no form. What can not be read is left out; checkBody asks whether anything was.
func (r *request) params() url.Values {
	if r.form == nil {
		r.form = url.Values{}
		if r.isForm() {
			r.form, r.formErr = url.ParseQuery(string(r.Body))
		}
	}
	return r.form
}
