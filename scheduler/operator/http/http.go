// Package http sends the request of a task that has `http`, in a process of its own, and judges the answer.
//
// It guarantees that a connection is only made to a public address, unless the server's operator has opened others: the address is checked
// when it is dialled, after the name was resolved, so neither a redirect nor a name that changes its mind leads inside. No proxy is used: it
// would dial in our place. Secrets are put into headers here and are not printed.
//
// It does not know whether a request had its effect when no answer came. Like any task it is then sent again, as `retry` says, with the same
// Idempotency-Key; so it is if the process is killed between the effect and the end.
package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"millrace/scheduler"
	"millrace/scheduler/operator"
)

const (
	maxRedirects = 5
	maxExcerpt   = 2 << 10 // of an answer that is a failure, in the log
	maxHeader    = 64 << 10
)

// Options are what the process has around it.
type Options struct {
	// Environ looks a variable of the task up.
	Environ func(name string) (string, bool)
	// Log gets what a person reads about the attempt.
	Log io.Writer
	// Agent is the User-Agent of requests that name none.
	Agent string
}

// Do sends the request of e and returns the answer's JSON, or nil if it has none that can be an output. The error says by its
// [operator.Failure] whether another try may succeed: yes for 408, 425, 429, 5xx and whatever the network does, no for any other status that is
// not expected.
func Do(ctx context.Context, e *operator.Envelope, opts Options) ([]byte, error) {
	c := &call{HTTP: e.HTTP, Options: opts}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := c.request(ctx)
	if err != nil {
		return nil, operator.Final(err)
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	if !e.AllowPrivate {
		dialer.Control = guard(net.InterfaceAddrs)
	}
	transport := &http.Transport{DialContext: dialer.DialContext, MaxResponseHeaderBytes: maxHeader, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: c.redirect}
	c.say("%s %s, %d bytes", req.Method, shown(req.URL), max(0, req.ContentLength))
	begin := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return nil, c.unanswered(err, time.Since(begin))
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, operator.MaxOutput+1))
	took := time.Since(begin).Round(time.Millisecond)
	if c.Expected(resp.StatusCode) && err != nil {
		return nil, operator.Again(fmt.Errorf("answer %d of %s was cut off after %d bytes and %v: %w", resp.StatusCode, shown(resp.Request.URL),
			len(body), took, bare(err)))
	}
	c.say("%s in %v", resp.Status, took)
	if !c.Expected(resp.StatusCode) {
		return nil, c.refused(resp, body)
	}
	return c.output(body), nil
}

// call is one request on its way.
type call struct {
	*scheduler.HTTP
	Options
	secrets []string
}

func (c *call) say(format string, args ...any) { _, _ = fmt.Fprintf(c.Log, format+"\n", args...) }

func (c *call) request(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	media := ""
	if raw := bytes.TrimSpace(c.Body); len(raw) > 0 {
		media = "application/json"
		if raw[0] == '"' {
			media = "text/plain; charset=utf-8"
			var text string
			if err := json.Unmarshal(raw, &text); err != nil {
				return nil, fmt.Errorf("read the body: %w", err)
			}
			raw = []byte(text)
		}
		body = bytes.NewReader(raw)
	}
	base, err := c.base()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, c.Method, base.URL+c.URL, body)
	if err != nil {
		return nil, bare(err)
	}
	for name, val := range base.Headers {
		req.Header.Set(name, val)
	}
	for name, val := range c.Headers {
		if operator.IsSecret(val) {
			if val, err = operator.Secret(val, c.Environ); err != nil {
				return nil, fmt.Errorf("header %s: %w", name, err)
			}
			c.secrets = append(c.secrets, val)
		}
		req.Header.Set(name, val)
	}
	absent := func(name, val string) {
		if req.Header.Get(name) == "" && val != "" {
			req.Header.Set(name, val)
		}
	}
	absent("Content-Type", media)
	absent("User-Agent", c.Agent)
	trace, _ := c.Environ("TRACEPARENT")
	absent("Traceparent", trace)
	if !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, req.Method) {
		key, _ := c.Environ("MILLRACE_IDEMPOTENCY_KEY")
		absent("Idempotency-Key", key)
	}
	return req, nil
}

// base is what the connection says; nothing if there is none.
func (c *call) base() (operator.HTTPBase, error) {
	if c.Connection == "" {
		return operator.HTTPBase{}, nil
	}
	uri, err := operator.Secret(c.Connection, c.Environ)
	if err != nil {
		return operator.HTTPBase{}, fmt.Errorf("connection: %w", err)
	}
	base, err := operator.ReadHTTPBase(uri)
	if err != nil {
		return operator.HTTPBase{}, fmt.Errorf("connection %w", err)
	}
	c.secrets = append(c.secrets, base.Secrets...)
	return base, nil
}

// redirect follows a GET or HEAD within one host, up to TLS and never down from it. Whatever else is left as it is, and judged by its status.
func (c *call) redirect(next *http.Request, via []*http.Request) error {
	first := via[0]
	read := first.Method == http.MethodGet || first.Method == http.MethodHead
	same := next.URL.Hostname() == first.URL.Hostname() && (next.URL.Scheme == first.URL.Scheme || next.URL.Scheme == "https")
	if c.Expected(next.Response.StatusCode) || !read || !same || len(via) > maxRedirects {
		return http.ErrUseLastResponse
	}
	c.say("%s, on to %s", next.Response.Status, shown(next.URL))
	return nil
}

// unanswered judges what came instead of an answer.
func (c *call) unanswered(err error, after time.Duration) error {
	var b *blocked
	if errors.As(err, &b) {
		return operator.Final(b)
	}
	after = after.Round(time.Millisecond)
	if errors.Is(err, context.DeadlineExceeded) {
		return operator.Again(fmt.Errorf("no answer within %v (http.timeout); whether the request had an effect is not known", c.Timeout))
	}
	if errors.Is(err, context.Canceled) {
		return operator.Again(fmt.Errorf("ended after %v, before there was an answer", after))
	}
	return operator.Again(fmt.Errorf("no answer after %v: %w", after, bare(err)))
}

// refused judges a status that is not expected.
func (c *call) refused(resp *http.Response, body []byte) error {
	if text := c.excerpt(body); text != "" {
		c.say("%s", text)
	}
	err := fmt.Errorf("%s answered %s", shown(resp.Request.URL), resp.Status)
	if to, lerr := resp.Location(); lerr == nil && resp.StatusCode/100 == 3 {
		return operator.Final(fmt.Errorf("%w and points to %s; only GET and HEAD are sent on, %d times, within one host: put that address into url",
			err, shown(to), maxRedirects))
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
	default:
		if resp.StatusCode < 500 {
			return operator.Final(fmt.Errorf("%w, and will again: exit code %d, never tried again; expect: names what is a success", err,
				scheduler.ExitNoRetry))
		}
	}
	if after := resp.Header.Get("Retry-After"); after != "" {
		err = fmt.Errorf("%w, with Retry-After: %q", err, after)
	}
	return operator.Again(fmt.Errorf("%w: exit code %d, tried again if the task has retry:", err, scheduler.ExitAgain))
}

// output takes the answer as the task's output if it can be one.
func (c *call) output(body []byte) []byte {
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return nil
	case len(body) > operator.MaxOutput:
		c.say("the answer has more than %d bytes: the task has no output", operator.MaxOutput)
		return nil
	case !json.Valid(body):
		c.say("the answer, %d bytes, is not JSON: the task has no output", len(body))
		return nil
	}
	c.say("%d bytes of JSON: the task's output", len(body))
	return body
}

// excerpt is the beginning of an answer as it can be shown: without what moves a cursor, and without our secrets, if the other side repeats
// them.
func (c *call) excerpt(body []byte) string {
	text := string(body)
	for _, secret := range c.secrets {
		if secret == "" {
			continue
		}
		text = strings.ReplaceAll(text, secret, "***")
		if _, credentials, ok := strings.Cut(secret, " "); ok && credentials != "" { // Bearer x
			text = strings.ReplaceAll(text, credentials, "***")
		}
	}
	cut := len(text) > maxExcerpt
	text = strings.ToValidUTF8(text[:min(len(text), maxExcerpt)], "?")
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return '?'
		}
		return r
	}, text))
	if cut {
		text += " …"
	}
	return text
}

// shown is a URL without the values of its query, which may be secrets.
func shown(u *url.URL) string {
	plain := *u
	plain.User, plain.RawQuery, plain.Fragment = nil, "", ""
	if u.RawQuery != "" {
		return plain.String() + "?…"
	}
	return plain.String()
}

// bare drops method and URL, which the text around it has, and whose query may hold a secret.
func bare(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
