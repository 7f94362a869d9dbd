package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/configs"
)

// defaultServer is where the console listens unless it is told otherwise.
const defaultServer = "http://127.0.0.1:8081"

// serverFlags adds what a command needs to reach a running server.
func (g *global) serverFlags(c *cobra.Command) {
	c.Flags().StringVar(&g.server, "server", "", "console of a running server (default $MILLRACE_SERVER, "+defaultServer+")")
	c.Flags().StringVar(&g.token, "token", "", "console token (default $MILLRACE_TOKEN, the file console.token of the data directory)")
}

// client calls the console's API.
type client struct {
	base  string
	token string
	http  *http.Client
}

// problem is the body of an error, RFC 9457.
type problem struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Status int    `json:"status"`
}

func (g *global) client() (*client, error) {
	base := g.server
	if base == "" {
		base = os.Getenv("MILLRACE_SERVER")
	}
	if base == "" {
		base = defaultServer
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return nil, &codeError{exitUsage, fmt.Errorf("server %q: want a URL such as %s", base, defaultServer)}
	}
	return &client{base: strings.TrimRight(base, "/"), token: g.findToken(), http: g.httpClient(u)}, nil
}

// findToken looks where a person on the server's machine has the token. A missing one is the server's to complain of.
func (g *global) findToken() string {
	if g.token != "" {
		return g.token
	}
	if t := os.Getenv("MILLRACE_TOKEN"); t != "" {
		return t
	}
	dir := g.dataDir
	if l, err := g.load(configs.Default()); err == nil {
		dir = l.Data(".")
	} else if dir == "" {
		return ""
	}
	b, err := os.ReadFile(filepath.Join(dir, "console.token"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// do sends a request and returns the answer's body, open, if the status is 2xx.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body any) (io.ReadCloser, error) {
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(b)
	}
	target := c.base + "/api/v1" + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, payload)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &codeError{exitUnreachable, fmt.Errorf("reach %s: %w\nIs it running? 'millrace dev' starts one; --server points elsewhere", c.base, errors.Unwrap(err))}
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, c.fault(resp)
}

func (c *client) fault(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var p problem
	if json.Unmarshal(b, &p) != nil || p.Title == "" {
		p = problem{Title: resp.Status, Detail: strings.TrimSpace(string(b))}
	}
	text := p.Title
	if p.Detail != "" {
		text = p.Detail
	}
	if p.Code == "not_here" {
		text += "\nPass --server or $MILLRACE_SERVER; this was " + c.base
	}
	code := exitFailed
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		code = exitAuth
		text += "\nThe token is in the file console.token of the server's data directory: pass --data-dir, --token or $MILLRACE_TOKEN"
	case http.StatusNotFound:
		code = exitNotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		code = exitConflict
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		code = exitUsage
	}
	return &codeError{code, errors.New(text)}
}

// get decodes a JSON answer into out.
func (c *client) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.call(ctx, http.MethodGet, path, query, nil, out)
}

func (c *client) call(ctx context.Context, method, path string, query url.Values, in, out any) error { //layout:allow params it is one HTTP call
	body, err := c.do(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("decode answer of %s: %w", path, err)
	}
	return nil
}

// answer is something of the API: as it was sent, which is what machines get, and decoded, for people.
type answer[T any] struct {
	raw json.RawMessage
	v   T
}

// UnmarshalJSON keeps both.
func (a *answer[T]) UnmarshalJSON(b []byte) error {
	a.raw = bytes.Clone(b)
	return json.Unmarshal(b, &a.v)
}

// MarshalJSON returns what was sent.
func (a answer[T]) MarshalJSON() ([]byte, error) { return a.raw, nil }

// page is a list answer.
type page[T any] struct {
	Items []answer[T] `json:"items"`
	Next  string      `json:"next"`
}

// list follows pages until limit items are there.
func list[T any](ctx context.Context, c *client, path string, query url.Values, limit int) ([]answer[T], error) {
	var out []answer[T]
	for {
		query.Set("limit", fmt.Sprint(min(limit-len(out), 1000)))
		var p page[T]
		if err := c.get(ctx, path, query, &p); err != nil {
			return nil, err
		}
		out = append(out, p.Items...)
		if p.Next == "" || len(out) >= limit {
			return out, nil
		}
		query.Set("before", p.Next)
	}
}

// stream copies an endless answer to out as it comes.
func (c *client) stream(ctx context.Context, path string, query url.Values, out io.Writer) error {
	body, err := c.do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	_, err = io.Copy(out, body)
	if ctx.Err() != nil {
		return nil // the person pressed ^C
	}
	return err
}

// every calls f at once and then each d until it says that it is done.
func every(ctx context.Context, d time.Duration, f func() (bool, error)) error {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		done, err := f()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
