package mesosexec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

// Call tells the master something, and returns nil when it has read it: what comes of it comes as events, or not at all. The framework's id is filled in.
//
// Safe for concurrent use. Calls reach the master in the order in which they return; those that are under way together in any. Errors: [ErrNotSubscribed],
// [ErrUnauthorised] and others that wrap [scheduler.ErrUnavailable] leave open whether the master has read the call, except that
// ErrNotSubscribed without a stream says that it has not; [ErrRefused] says that it never will.
func (c *Client) Call(ctx context.Context, call *mesos.Call) error {
	begun := time.Now()
	err := c.call(ctx, call)
	result := "ok"
	switch {
	case errors.Is(err, ErrRefused):
		result = "refused"
	case err != nil:
		result = "unavailable"
	}
	c.metrics.calls.WithLabelValues(call.Type, result).Observe(time.Since(begun).Seconds())
	if err != nil {
		return fmt.Errorf("call %s: %w", call.Type, err)
	}
	return nil
}

func (c *Client) call(ctx context.Context, call *mesos.Call) error {
	c.mu.Lock()
	s, id := c.stream, c.status.FrameworkID
	c.mu.Unlock()
	if s == nil {
		return ErrNotSubscribed
	}
	own := *call
	own.FrameworkID = mesos.ID{Value: id}
	body, err := json.Marshal(&own)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.opt.CallTimeout)
	defer cancel()
	resp, err := c.post(ctx, s.url, body, s.id)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusAccepted || resp.StatusCode == http.StatusOK {
		return drain(resp)
	}
	err = answer(resp)
	if gone(resp.StatusCode, err) {
		s.end(err) // The stream of a master that does not know us says nothing for ever: do not wait for the heartbeats that do not come.
	}
	return err
}

// gone reports whether an answer to a call says that its stream has ended. A stream id that is not the right one does not: then another process has
// subscribed, and the stream will say so; to subscribe again would take the framework away from it.
func gone(status int, err error) bool {
	return status == http.StatusTemporaryRedirect || status == http.StatusForbidden && errors.Is(err, ErrNotSubscribed)
}

// post sends one request; if the credentials are not accepted, once more with those that are read anew. The caller closes the body.
func (c *Client) post(ctx context.Context, to *url.URL, body []byte, stream string) (*http.Response, error) {
	used := ""
	for {
		header, err := c.opt.Credentials.authorization(used)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnauthorised, err)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json")
		if stream != "" {
			req.Header.Set(mesos.StreamHeader, stream)
		}
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", scheduler.ErrUnavailable, err)
		}
		if resp.StatusCode != http.StatusUnauthorized || header == "" || used != "" {
			return resp, nil
		}
		_ = drain(resp)
		used = header
	}
}

// maxAnswer bounds what is read of an answer that is no stream.
const maxAnswer = 4 << 10

// drain reads a short answer, so that its connection can be used again.
func drain(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrUnavailable, err)
	}
	return nil
}

// answer returns the error for an answer that is not the one hoped for, and closes it.
//
//	307              another master leads
//	400              the call is wrong, or its framework or stream is not known
//	401, 403         the credentials; 403 also without a stream
//	404, 405, 406 …  no master, or none of this protocol
//	503, other 5xx   no leader, or not yet
func answer(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	text := strings.TrimSpace(string(raw))
	with := func(err error) error {
		if text == "" {
			return fmt.Errorf("%w (%s)", err, resp.Status)
		}
		return fmt.Errorf("%w (%s: %s)", err, resp.Status, text)
	}
	switch resp.StatusCode {
	case http.StatusTemporaryRedirect:
		return fmt.Errorf("another master leads: %w", ErrNotSubscribed)
	case http.StatusBadRequest:
		if strings.HasPrefix(text, "The stream ID") || text == "Framework cannot be found" {
			return with(ErrNotSubscribed)
		}
		return with(ErrRefused)
	case http.StatusUnauthorized:
		return with(ErrUnauthorised)
	case http.StatusForbidden:
		if text == "Framework is not subscribed" {
			return with(ErrNotSubscribed)
		}
		return with(ErrUnauthorised)
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		return with(scheduler.ErrUnavailable)
	}
	return with(ErrNotMesos)
}
