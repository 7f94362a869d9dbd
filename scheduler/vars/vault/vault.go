// Package vault reads secrets of HashiCorp Vault, or of what speaks its API: the KV secrets engine, version 2, over HTTP.
//
//	GET <address>/v1/<mount>/data/<path>   X-Vault-Token, X-Vault-Namespace   ─▶ {"data": {"data": {key: value}}}
//
// It guarantees that one read takes no longer than the timeout, that a secret which was read stays in memory for Options.Cache and no longer, and that
// a server which did not answer is left alone for a moment, so that a thousand tasks do not wait one after the other. It does not renew its
// token, and writes nothing. It keeps nothing on the disk.
package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"millrace/scheduler"
)

// Options tune a [Client]. Address and Token are required.
type Options struct {
	// Address is http:// or https:// and the host; Mount is where the engine is mounted, default "secret".
	Address, Mount string
	Namespace      string
	// Token returns the token; it is asked at each read, since a file may have been written anew by an agent.
	Token func() (string, error)
	// Timeout bounds one read, default 5 s; Cache is how long a secret stays in memory, default 30 s, negative: not at all.
	Timeout, Cache time.Duration
	// Client is the HTTP client; nil: one of its own.
	Client *http.Client
}

func (o Options) withDefaults() Options {
	if o.Mount == "" {
		o.Mount = "secret"
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Cache == 0 {
		o.Cache = 30 * time.Second
	}
	if o.Client == nil {
		o.Client = &http.Client{CheckRedirect: sameOrigin}
	}
	return o
}

// sameOrigin follows redirects of a standby to the active node of the same scheme and name only: the token goes with them.
func sameOrigin(req *http.Request, via []*http.Request) error {
	if len(via) > 3 || req.URL.Scheme != via[0].URL.Scheme || req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	return nil
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	var errs []error
	if u, err := url.Parse(o.Address); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
		errs = append(errs, fmt.Errorf("address is %q, want it like https://vault.example.com:8200", o.Address))
	}
	if o.Token == nil {
		errs = append(errs, errors.New("there is no token"))
	}
	if o.Timeout < 0 {
		errs = append(errs, errors.New("timeout is negative"))
	}
	return errors.Join(errs...)
}

// pause is how long a server that did not answer is left alone.
const pause = 2 * time.Second

// maxBody bounds an answer: Vault takes 1 MiB for a secret at most.
const maxBody = 2 << 20

// Client reads secrets. Safe for concurrent use.
type Client struct {
	o Options

	mu    sync.Mutex // guards the rest
	known map[string]entry
	down  error     // why the server did not answer
	until time.Time // until then it is not asked
}

type entry struct {
	fields map[string]string
	until  time.Time
}

// New returns a client; it opens nothing.
func New(o Options) (*Client, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return &Client{o: o.withDefaults(), known: map[string]entry{}}, nil
}

// Read returns the field key of the newest version of the secret at path, which has neither the mount nor "data" in it. A field that is no text
// is returned as JSON. scheduler.ErrNoValue if there is none, scheduler.ErrValueBusy if Vault does not answer, or is sealed.
func (c *Client) Read(ctx context.Context, path, key string) (string, error) {
	fields, err := c.secret(ctx, strings.Trim(path, "/"))
	if err != nil {
		return "", fmt.Errorf("read %s of vault: %w", path, err)
	}
	val, ok := fields[key]
	if !ok {
		return "", fmt.Errorf("read %s of vault: %w: the secret has no field %q", path, scheduler.ErrNoValue, key)
	}
	return val, nil
}

func (c *Client) secret(ctx context.Context, path string) (map[string]string, error) {
	now := time.Now()
	c.mu.Lock()
	e, ok := c.known[path]
	down, until := c.down, c.until
	c.mu.Unlock()
	if ok && now.Before(e.until) {
		return e.fields, nil
	}
	if down != nil && now.Before(until) {
		return nil, down
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	fields, err := c.fetch(ctx, path)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = nil
	switch {
	case err == nil && c.o.Cache > 0:
		c.forget(now)
		c.known[path] = entry{fields, time.Now().Add(c.o.Cache)}
	case errors.Is(err, scheduler.ErrValueBusy):
		c.down, c.until = err, time.Now().Add(pause)
	}
	return fields, err
}

// forget drops what is too old.
func (c *Client) forget(now time.Time) {
	for path, e := range c.known {
		if !now.Before(e.until) {
			delete(c.known, path)
		}
	}
}

func (c *Client) fetch(ctx context.Context, path string) (map[string]string, error) {
	token, err := c.o.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: its token can not be read: %w", scheduler.ErrValueBusy, err)
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if segments[i] = url.PathEscape(s); s == "" || s == "." || s == ".." {
			return nil, fmt.Errorf("%w: the path has an empty segment, or dots", scheduler.ErrNoValue)
		}
	}
	target := strings.TrimRight(c.o.Address, "/") + "/v1/" + strings.Trim(c.o.Mount, "/") + "/data/" + strings.Join(segments, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Token", token)
	req.Header.Set("X-Vault-Request", "true")
	if c.o.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", c.o.Namespace)
	}
	resp, err := c.o.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", scheduler.ErrValueBusy, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", scheduler.ErrValueBusy, err)
	}
	return decode(resp.StatusCode, body)
}

// decode reads an answer of Vault.
func decode(status int, body []byte) (map[string]string, error) {
	var answer struct {
		Data struct {
			Data map[string]json.RawMessage `json:"data"`
		} `json:"data"`
		Errors []string `json:"errors"`
	}
	err := json.Unmarshal(body, &answer)
	switch {
	case status == http.StatusNotFound:
		return nil, fmt.Errorf("%w: there is no such secret, or its newest version is deleted (%s)", scheduler.ErrNoValue, said(status, answer.Errors))
	case status == http.StatusForbidden || status == http.StatusBadRequest:
		return nil, fmt.Errorf("it is refused: %s; look at the token's policy, the mount and the namespace", said(status, answer.Errors))
	case status != http.StatusOK:
		return nil, fmt.Errorf("%w: %s", scheduler.ErrValueBusy, said(status, answer.Errors))
	case err != nil || answer.Data.Data == nil:
		return nil, errors.New("the answer has no secret in it: is the mount a KV engine of version 2?")
	}
	out := map[string]string{}
	for key, raw := range answer.Data.Data {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		out[key] = text
	}
	return out, nil
}

// said is the status with what Vault says of it: never a part of a secret.
func said(status int, errs []string) string {
	text := fmt.Sprintf("%d %s", status, http.StatusText(status))
	if len(errs) > 0 {
		text += ": " + strings.Join(errs, ", ")
	}
	return text
}
