package operator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

var _ scheduler.Configured = HTTP{}

// HTTP sends a request. A value can only be data in it: it can neither choose the server, nor leave its segment of the path or its parameter
// of the query, nor add a header, nor change the structure of the body.
type HTTP struct{ opts Options }

// Kind returns "http".
func (HTTP) Kind() string { return scheduler.KindHTTP }

// Methods are those that a task may use.
var Methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// ownHeaders are what the connection is made of, not the request.
var ownHeaders = []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Trailer", "Te", "Expect"}

// Validate implements scheduler.Operator.
func (HTTP) Validate(t *scheduler.Task) error {
	h := t.HTTP
	if h == nil {
		return errors.New("there is no http")
	}
	var errs []error
	if !slices.Contains(Methods, h.Method) {
		errs = append(errs, fmt.Errorf("method %q is not one of %s", h.Method, strings.Join(Methods, ", ")))
	}
	errs = append(errs, checkTarget(h))
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		canonical := http.CanonicalHeaderKey(name)
		if errs = append(errs, CheckHeader(name, h.Headers[name])); seen[canonical] {
			errs = append(errs, fmt.Errorf("header %s stands twice", canonical))
		}
		seen[canonical] = true
	}
	if len(h.Body) > 0 {
		errs = append(errs, CheckBody(h))
	}
	if len(h.Expect) == 0 || h.Timeout <= 0 {
		errs = append(errs, errors.New("expect and timeout have to be set"))
	}
	return errors.Join(errs...)
}

// CheckURL reports what is wrong with the URL of a request, in which there may be expressions.
func CheckURL(text string) error {
	_, err := splitURL(text)
	return err
}

// parts of a URL as it is written, with its expressions.
type parts struct{ origin, path, query string }

// splitURL takes a URL apart before its expressions are evaluated, so that no value can move a border, and reports what is wrong with it.
func splitURL(text string) (parts, error) {
	p, err := cutURL(text)
	if err != nil {
		return parts{}, err
	}
	if expr.HasExpr(p.origin) {
		return parts{}, errors.New("${{ }} can not stand in the host or the port of a url: a value could choose who gets the request; " +
			"write a task for each host, with when:")
	}
	u, err := url.Parse(p.origin)
	switch {
	case err != nil:
		return parts{}, fmt.Errorf("url: %w", errors.Unwrap(err))
	case u.Hostname() == "":
		return parts{}, fmt.Errorf("url %q names no host", text)
	case u.User != nil:
		return parts{}, errors.New("a url with a user is refused: it would be in logs; put it into headers, as Authorization: env:NAME")
	}
	path, query := outside(p.path), outside(p.query)
	if strings.Contains(path+query, "#") {
		return parts{}, errors.New("a url with # is refused: what comes after it is never sent")
	}
	if _, err := url.Parse(p.origin + path + "?" + query); err != nil {
		return parts{}, fmt.Errorf("url: %w", errors.Unwrap(err))
	}
	return p, nil
}

// cutURL cuts at the borders of origin, path and query.
func cutURL(text string) (parts, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme != "http" && scheme != "https" {
		return parts{}, fmt.Errorf("url %q does not start with http:// or https://", text)
	}
	host, path := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	p := parts{origin: scheme + "://" + host}
	p.path, p.query = cutQuery(path)
	return p, nil
}

// cutQuery cuts at the first question mark that is not within an expression.
func cutQuery(text string) (path, query string) {
	for i := 0; i < len(text); i++ {
		if n := expr.Span(text[i:]); n > 0 {
			i += n - 1
		} else if text[i] == '?' {
			return text[:i], text[i+1:]
		}
	}
	return text, ""
}

// outside returns text with an x for each expression.
func outside(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if n := expr.Span(text[i:]); n > 0 {
			b.WriteByte('x')
			i += n - 1
		} else {
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

// CheckHeader reports what is wrong with a header of a request. The value may have expressions.
func CheckHeader(name, val string) error {
	canonical := http.CanonicalHeaderKey(name)
	switch {
	case name == "" || strings.ContainsFunc(name, func(r rune) bool { return !token(r) }):
		return fmt.Errorf("header %q: this can not be the name of one", name)
	case slices.Contains(ownHeaders, canonical):
		return fmt.Errorf("header %s can not be set: it belongs to the connection", canonical)
	case canonical == "Content-Type" && expr.HasExpr(val):
		return errors.New("header Content-Type: ${{ }} can not stand in it, since it decides how the values of the body are written")
	}
	if _, err := headerValue(outside(val)); err != nil {
		return fmt.Errorf("header %s: %w", canonical, err)
	}
	return nil
}

// token is tchar of RFC 9110.
func token(r rune) bool {
	return r < 0x7f && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
}

func headerValue(val string) (string, error) {
	for _, r := range val {
		if r < ' ' && r != '\t' || r == 0x7f {
			return "", fmt.Errorf("the value has the control character %q, which could begin another header", r)
		}
	}
	return val, nil
}

// contentType returns the media type of the body as the headers have it, or what is assumed.
func contentType(h *scheduler.HTTP) string {
	for name, val := range h.Headers {
		if http.CanonicalHeaderKey(name) == "Content-Type" {
			media, _, err := mime.ParseMediaType(val)
			if err != nil {
				return val
			}
			return media
		}
	}
	if isText(h.Body) {
		return "text/plain"
	}
	return "application/json"
}

func isText(raw json.RawMessage) bool { return bytes.HasPrefix(bytes.TrimSpace(raw), []byte(`"`)) }

// CheckBody reports what is wrong with the body of a request. A text with expressions has to be of a type in which values can be escaped.
func CheckBody(h *scheduler.HTTP) error {
	if h.Method == "GET" || h.Method == "HEAD" {
		return fmt.Errorf("a request with the method %s has no body", h.Method)
	}
	media := contentType(h)
	if !isText(h.Body) {
		if media != "application/json" && !strings.HasSuffix(media, "+json") {
			return fmt.Errorf("a body that is a mapping is sent as JSON, and the headers say that it is %s", media)
		}
		return nil
	}
	var text string
	if err := json.Unmarshal(h.Body, &text); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if _, err := bodyEscape(media); err != nil && expr.HasExpr(text) {
		return err
	}
	return nil
}

// bodyEscape returns how a value stands in a text of a media type.
func bodyEscape(media string) (func(string) (string, error), error) {
	switch media {
	case "text/plain":
		return nil, nil
	case "application/x-www-form-urlencoded":
		return queryValue, nil
	}
	if media == "application/json" || strings.HasSuffix(media, "+json") {
		return nil, errors.New("${{ }} can not stand in a body that is JSON text: the value would be read as JSON; write the body as a mapping")
	}
	return nil, fmt.Errorf("${{ }} can not stand in a body of type %s: millrace does not know how to escape a value there; write the body as "+
		"a mapping (sent as JSON), or as text/plain or application/x-www-form-urlencoded", media)
}

// Compile implements scheduler.Operator.
func (o HTTP) Compile(t *scheduler.Task) ([]string, error) {
	if err := o.Validate(t); err != nil {
		return nil, err
	}
	return o.opts.argv(o.Kind()), nil
}

// Settings implements scheduler.Configured.
func (o HTTP) Settings(t *scheduler.Task, eval scheduler.Eval) ([]string, error) {
	if err := o.Validate(t); err != nil {
		return nil, err
	}
	h := *t.HTTP
	vars, err := address(&h, eval)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	h.Headers = maps.Clone(h.Headers)
	for name, val := range h.Headers {
		if h.Headers[name], err = fillHeader(val, eval); err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
	}
	if h.Body, err = fillBody(&h, eval); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	packed, err := pack(Envelope{HTTP: &h, AllowPrivate: o.opts.AllowPrivate})
	return append(packed, vars...), err
}

// fillURL evaluates the whole text with a mark in place of each value, and then writes the values as path and query want them. What is before the
// text has no expression.
func fillURL(before, text string, eval scheduler.Eval) (string, error) {
	const mark = "\x01" // splitURL refuses a text with it
	if _, err := splitURL(before + text); err != nil {
		return "", err
	}
	var vals []string
	marked, err := eval.Text(text, func(val string) (string, error) {
		vals = append(vals, val)
		return mark, nil
	})
	if err != nil {
		return "", err
	}
	p, err := cutURL(before + marked)
	if err != nil {
		return "", err
	}
	fill := func(text string, escape func(string) (string, error)) (string, error) {
		for err == nil && strings.Contains(text, mark) {
			var val string
			val, err = escape(vals[0])
			text, vals = strings.Replace(text, mark, val, 1), vals[1:]
		}
		return text, err
	}
	if p.path, err = fill(p.path, pathValue); err != nil {
		return "", err
	}
	// Dots are not escaped: only together with what is around it does a value become a segment that leads upwards.
	for _, segment := range strings.Split(p.path, "/") {
		if plain, err := url.PathUnescape(segment); err != nil || plain == "." || plain == ".." {
			return "", fmt.Errorf("its path has the segment %q, which leads elsewhere", segment)
		}
	}
	if p.query == "" {
		return p.origin + p.path, nil
	}
	p.query, err = fill(p.query, queryValue)
	return p.origin + p.path + "?" + p.query, err
}

// pathValue refuses what is empty: DELETE /items/${{ id }} must not become DELETE /items/.
func pathValue(val string) (string, error) {
	if val == "" {
		return "", errors.New("it yields nothing, and the path would be another one")
	}
	return url.PathEscape(val), nil
}

func queryValue(val string) (string, error) { return url.QueryEscape(val), nil }

// fillHeader leaves references to secrets alone: a value must not be able to become one.
func fillHeader(val string, eval scheduler.Eval) (string, error) {
	out, err := eval.Text(val, headerValue)
	if err == nil && IsSecret(out) && out != val {
		return "", errors.New("a value of an expression can not name a secret (env: or file:)")
	}
	return out, err
}

func fillBody(h *scheduler.HTTP, eval scheduler.Eval) (json.RawMessage, error) {
	if len(h.Body) == 0 {
		return nil, nil
	}
	if !isText(h.Body) {
		return FillJSON(h.Body, eval)
	}
	var text string
	if err := json.Unmarshal(h.Body, &text); err != nil {
		return nil, err
	}
	if !expr.HasExpr(text) {
		return h.Body, nil
	}
	escape, err := bodyEscape(contentType(h))
	if err != nil {
		return nil, err
	}
	if text, err = eval.Text(text, escape); err != nil {
		return nil, err
	}
	return marshal(text)
}

// FillJSON evaluates the texts within a JSON value. Keys are as they are written.
func FillJSON(raw json.RawMessage, eval scheduler.Eval) (json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var val any
	if err := dec.Decode(&val); err != nil {
		return nil, err
	}
	filled, err := fillValue(val, eval)
	if err != nil {
		return nil, err
	}
	return marshal(filled)
}

func fillValue(val any, eval scheduler.Eval) (any, error) {
	var err error
	switch v := val.(type) {
	case string:
		if expr.HasExpr(v) {
			return eval.JSON(v)
		}
	case []any:
		for i := range v {
			if v[i], err = fillValue(v[i], eval); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if v[k], err = fillValue(v[k], eval); err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
		}
	}
	return val, nil
}
