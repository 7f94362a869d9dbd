package mesosexec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/scheduler/mesos"
)

// maxStreamID is what the protocol permits, in bytes.
const maxStreamID = 128

// stream is one subscription. ctx ends with it, by end, which may be called by anybody and keeps its first reason.
type stream struct {
	ctx    context.Context
	end    context.CancelCauseFunc
	url    *url.URL // of the master that has it, for calls
	id     string
	body   io.ReadCloser
	silent *time.Timer // ends the stream; runs only while it is read
	limit  time.Duration
	joined sync.WaitGroup // the watch over the detector
}

// errOver is the reason for the end of a stream that is of no use any more.
var errOver = errors.New("the stream is over")

// errSilent is the reason for the end of a stream on which nothing comes, not even heartbeats.
var errSilent = fmt.Errorf("the master is silent: %w", ErrNotSubscribed)

// subscribe asks a master for a stream, and those to which it sends on.
func (c *Client) subscribe(ctx context.Context, master, id string, changed <-chan struct{}) (*stream, error) {
	at, err := url.Parse(master + mesos.SchedulerPath)
	if err != nil {
		return nil, fmt.Errorf("read the address of a master: %w", err)
	}
	sub := c.info()
	sub.FrameworkInfo.ID = mesos.ID{Value: id}
	body, err := json.Marshal(&mesos.Call{Type: mesos.CallSubscribe, FrameworkID: mesos.ID{Value: id}, Subscribe: &sub})
	if err != nil {
		return nil, fmt.Errorf("write SUBSCRIBE: %w", err)
	}
	inner, end := context.WithCancelCause(ctx)
	s := &stream{ctx: inner, end: end, limit: c.opt.ConnectTimeout}
	s.silent = time.AfterFunc(s.limit, func() { end(errSilent) })
	if err := c.ask(s, at, body); err != nil {
		s.silent.Stop()
		if cause := context.Cause(inner); cause != nil {
			err = cause
		}
		end(errOver)
		return nil, fmt.Errorf("subscribe at %s: %w", at.Host, err)
	}
	s.joined.Go(func() {
		select { // A nil channel never says anything.
		case <-changed:
			end(fmt.Errorf("another master leads: %w", ErrNotSubscribed))
		case <-inner.Done():
		}
	})
	return s, nil
}

// ask sends SUBSCRIBE until there is a stream, or an error.
func (c *Client) ask(s *stream, at *url.URL, body []byte) error {
	for range maxRedirects + 1 {
		resp, err := c.post(s.ctx, at, body, "")
		if err != nil {
			return err
		}
		if resp.StatusCode == http.StatusOK {
			s.url, s.body = resp.Request.URL, resp.Body
			return s.check(resp)
		}
		err = answer(resp)
		if resp.StatusCode != http.StatusTemporaryRedirect {
			return err
		}
		if at, err = redirected(at, resp.Header.Get("Location")); err != nil {
			return err
		}
	}
	return fmt.Errorf("was sent on %d times, at last to %s: %w", maxRedirects+1, at.Host, ErrNotSubscribed)
}

// check reports whether an answer is a stream.
func (s *stream) check(resp *http.Response) error {
	s.id = resp.Header.Get(mesos.StreamHeader)
	if typ := resp.Header.Get("Content-Type"); s.id == "" || len(s.id) > maxStreamID || !strings.HasPrefix(typ, "application/json") {
		_ = resp.Body.Close()
		return fmt.Errorf("the answer has the type %q and the stream id %.40q: %w", typ, s.id, ErrNotMesos)
	}
	return nil
}

// Read reads the body, and ends the stream if nothing comes for too long. Time that passes between two reads is ours, and does not count.
func (s *stream) Read(p []byte) (int, error) {
	s.silent.Reset(s.limit)
	defer s.silent.Stop()
	return s.body.Read(p)
}

// serve hands on the events of a stream until it ends.
func (c *Client) serve(s *stream, handle Handler) (lived time.Duration, err error) {
	defer s.joined.Wait()
	defer s.end(errOver)
	defer s.silent.Stop()
	defer func() { _ = s.body.Close() }()
	in := mesos.NewReader(s)
	var begun time.Time
	for {
		e, err := c.next(s, in)
		switch {
		case err != nil:
		case e.Type == mesos.EventError && e.Error != nil:
			err = said(e.Error.Message)
		case begun.IsZero() && slices.Contains(handed, e.Type):
			err = fmt.Errorf("the first event is %q: %w", e.Type, ErrNotMesos)
		case begun.IsZero() && e.Type == mesos.EventSubscribed && e.Subscribed != nil:
			if err = c.begin(s, e.Subscribed); err == nil {
				begun = time.Now()
				err = hand(s, handle, e)
			}
		case slices.Contains(handed, e.Type):
			err = hand(s, handle, e)
		}
		if err != nil {
			if !begun.IsZero() {
				lived = time.Since(begun)
			}
			return lived, fmt.Errorf("stream of %s: %w", s.url.Host, err)
		}
	}
}

// handed are the types of events that a handler gets.
var handed = []string{
	mesos.EventOffers, mesos.EventInverseOffers, mesos.EventRescind, mesos.EventRescindInverse, mesos.EventUpdate, mesos.EventUpdateOp, mesos.EventMessage,
	mesos.EventFailure,
}

func hand(s *stream, handle Handler, e *mesos.Event) error {
	if err := handle(s.ctx, e); err != nil {
		return fmt.Errorf("%s was not taken: %w", e.Type, err)
	}
	return nil
}

// next reads the next event. One that can not be decoded is left out: the records after it can be read, and it would come again.
func (c *Client) next(s *stream, in *mesos.Reader) (*mesos.Event, error) {
	for {
		record, err := in.Next()
		if cause := context.Cause(s.ctx); err != nil && cause != nil {
			return nil, cause
		}
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the master has ended it: %w", ErrNotSubscribed)
		}
		if err != nil {
			return nil, err
		}
		c.change(func(s *Status) { s.Heard = time.Now().UTC() })
		var e mesos.Event
		if err := json.Unmarshal(record, &e); err != nil {
			c.metrics.broken.WithLabelValues("json").Inc()
			c.opt.Logger.Error("an event of the mesos master can not be read and is left out", "bytes", len(record), "err", err)
			continue
		}
		c.count(&e)
		return &e, nil
	}
}

func (c *Client) count(e *mesos.Event) {
	switch e.Type {
	case mesos.EventSubscribed, mesos.EventHeartbeat, mesos.EventError:
		c.metrics.events.WithLabelValues(e.Type).Inc()
	default:
		if slices.Contains(handed, e.Type) {
			c.metrics.events.WithLabelValues(e.Type).Inc()
			return
		}
		c.metrics.events.WithLabelValues("other").Inc()
	}
}

// begin makes the stream that of the client: from now on there can be calls. The id is kept first.
func (c *Client) begin(s *stream, e *mesos.Subscribed) error {
	if err := c.keep(s.ctx, e.FrameworkID.Value); err != nil {
		return err
	}
	interval := time.Duration(e.HeartbeatIntervalSeconds * float64(time.Second))
	if interval <= 0 {
		interval = 15 * time.Second
	}
	s.limit = time.Duration(c.opt.MissedHeartbeats) * interval
	c.metrics.subscribed.Set(1)
	c.metrics.streams.Inc()
	c.opt.Logger.Info("subscribed at a mesos master", "master", s.url.Host, "framework", e.FrameworkID.Value)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream = s
	c.status.Subscribed, c.status.Master, c.status.Info, c.status.Err, c.status.Since = true, s.url.Host, e.MasterInfo, nil, time.Now().UTC()
	return nil
}

// said returns the error for the message of an ERROR event.
func said(message string) error {
	switch message {
	case "Framework has been removed":
		return fmt.Errorf("%w; only a person can register it anew", ErrRemoved)
	case "Framework failed over":
		return ErrSuperseded
	}
	return fmt.Errorf("%w: %s", ErrRefused, message)
}
