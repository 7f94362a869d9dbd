package mesosexec

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"millrace/scheduler/mesos"
)

// IDs keeps the framework's id.
type IDs interface {
	// FrameworkID returns the id that is kept, "" if there is none.
	FrameworkID(ctx context.Context) (string, error)
	// KeepFrameworkID keeps an id, durably. It is called again with the same one until it succeeds.
	KeepFrameworkID(ctx context.Context, id string) error
}

// Handler takes an event; the first of each stream is SUBSCRIBED. There are no heartbeats, and none of types that package mesos does not know. ctx
// ends with the stream. An error drops the stream: what was not acknowledged comes again on the next one.
type Handler func(ctx context.Context, e *mesos.Event) error

// Status is how a client is at a moment.
type Status struct {
	// Subscribed says that there is a stream, Master to which master, as host and port; Since when that began or ended.
	Subscribed bool
	Master     string
	Since      time.Time
	// Info is what the master says of itself; nil before the first stream.
	Info *mesos.MasterInfo
	// FrameworkID is "" before there is one.
	FrameworkID string
	// Heard is when the last event came, heartbeats included.
	Heard time.Time
	// Err is why there is no stream; nil while there is one, and before the first try.
	Err error
}

// Client is a framework's connection to the master that leads. Make it with [New].
type Client struct {
	detector Detector
	ids      IDs
	info     func() mesos.Subscribe
	opt      Options
	http     *http.Client
	metrics  *metrics

	mu     sync.Mutex // guards stream and status
	stream *stream    // nil while there is none
	status Status
}

// New makes a client. info is asked before each SUBSCRIBE for what the framework is and wants at that moment, without an id. It has to have a user
// and a name, and be safe to be called by the goroutine of Run.
func New(d Detector, ids IDs, info func() mesos.Subscribe, opt Options) (*Client, error) {
	if err := opt.Validate(); err != nil {
		return nil, err
	}
	opt = opt.withDefaults()
	m, err := newMetrics(opt.Registerer)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		// No proxy of the environment: masters are beside us.
		DialContext:         (&net.Dialer{Timeout: opt.ConnectTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     opt.TLS,
		TLSHandshakeTimeout: opt.ConnectTimeout,
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     30 * time.Second,
		DisableCompression:  true, // A stream is never compressed, and answers to calls are empty.
	}
	return &Client{
		detector: d, ids: ids, info: info, opt: opt, metrics: m,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// Status returns how the client is. Safe for concurrent use.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Run keeps the framework subscribed and hands the events on, until ctx ends; then it returns nil. It returns an error that wraps [ErrRemoved],
// [ErrSuperseded] or [ErrRefused] if it must not go on. Call it once at a time.
func (c *Client) Run(ctx context.Context, handle Handler) error {
	defer c.http.CloseIdleConnections()
	tries := 0
	for ctx.Err() == nil {
		lived, err := c.round(ctx, handle)
		switch {
		case ctx.Err() != nil:
			c.lost(nil)
			return nil
		case final(err):
			c.lost(err)
			return err
		}
		c.lost(err)
		if tries++; lived >= c.opt.MaxPause {
			tries = 1
		}
		pause := c.pause(tries)
		c.opt.Logger.Warn("not subscribed at a mesos master", "err", err, "pause", pause)
		wait(ctx, pause)
	}
	return nil
}

// pause returns how long to wait before a try.
func (c *Client) pause(tries int) time.Duration {
	d := min(c.opt.MinPause<<min(tries-1, 20), c.opt.MaxPause)
	if d <= 0 { // it has overflowed
		d = c.opt.MaxPause
	}
	return d/2 + time.Duration(c.opt.Rand.Int64N(int64(d/2)+1))
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// round tries the masters, one after the other, until one has a stream for us, and returns when that has ended, with how long it lived. The error is never nil.
func (c *Client) round(ctx context.Context, handle Handler) (time.Duration, error) {
	id, err := c.id(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the framework's id: %w", err)
	}
	find, cancel := context.WithTimeout(ctx, c.opt.ConnectTimeout) // Status is to say what is waited for.
	masters, changed, err := c.detector.Masters(find)
	cancel()
	if err == nil && len(masters) == 0 {
		err = errors.New("none is known")
	}
	if err != nil {
		return 0, fmt.Errorf("find a mesos master: %w", err)
	}
	var errs []error
	for _, master := range masters {
		s, err := c.subscribe(ctx, master, id, changed)
		if err == nil {
			return c.serve(s, handle)
		}
		if errs = append(errs, err); final(err) {
			return 0, err
		}
	}
	return 0, errors.Join(errs...)
}

// id returns the framework's id. One that could not be kept yet counts, too: another would leave a framework behind.
func (c *Client) id(ctx context.Context) (string, error) {
	if id := c.Status().FrameworkID; id != "" {
		return id, nil
	}
	return c.ids.FrameworkID(ctx)
}

// keep keeps the id that a master has given, before anybody hears of it. It tries until it succeeds or the stream ends.
func (c *Client) keep(ctx context.Context, id string) error {
	if id == "" {
		return fmt.Errorf("the framework was given no id: %w", ErrNotMesos)
	}
	if had := c.Status().FrameworkID; had != "" && had != id {
		return fmt.Errorf("%w: the framework %s was given the id %s", ErrRefused, had, id)
	}
	c.change(func(s *Status) { s.FrameworkID = id })
	for tries := 1; ; tries++ {
		kept, err := c.ids.FrameworkID(ctx)
		if err == nil && kept == id {
			return nil
		}
		if err == nil && kept != "" {
			return fmt.Errorf("%w: the framework %s was given the id %s", ErrRefused, kept, id)
		}
		if err == nil {
			err = c.ids.KeepFrameworkID(ctx, id)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("keep the framework's id: %w", err)
		}
		c.opt.Logger.Error("the framework's id can not be kept, nothing is launched before", "err", err)
		wait(ctx, c.pause(tries))
	}
}

// forget makes the client ask for the framework's id again, before the next round of Run.
func (c *Client) forget() { c.change(func(s *Status) { s.FrameworkID = "" }) }

func (c *Client) change(set func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set(&c.status)
}

// lost notes that there is no stream any more.
func (c *Client) lost(err error) {
	c.metrics.subscribed.Set(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream = nil
	if c.status.Subscribed || c.status.Since.IsZero() {
		c.status.Since = time.Now().UTC()
	}
	c.status.Subscribed, c.status.Err = false, err
}
