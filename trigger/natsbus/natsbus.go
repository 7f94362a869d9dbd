// Package natsbus is [trigger.Bus] on NATS JetStream, either a server within this process that listens nowhere, or an external one.
//
// Triggers are hints, so the stream is set up never to stand in anybody's way: it is bounded in bytes and age and discards the oldest message
// when full, a full or broken store fails the publish at once, and whatever is missing (stream, consumer, the whole directory) is made again
// when it is next needed. What was in it is then lost, which costs its readers a look at the chain and nothing else.
//
// It guarantees to a subscriber: a message that the server has stored and kept comes at least once, and again after Options.AckWait without an
// answer, without an end of tries. It does not guarantee order, or that a message comes only once, even with ids: the window of Options.Duplicates
// is short, and a late ack can be credited to a later delivery (nats-server#4786). A crash between a delivery and its ack repeats the delivery.
package natsbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/trigger"
)

// Options say which server, and how much it keeps. Exactly one of Dir and URL must be set.
type Options struct {
	// Dir is the directory of the server within the process.
	Dir string
	// URL is that of an external server ("nats://host:4222", several with commas); Creds is a file with its credentials, or "".
	URL   string
	Creds string

	// Stream is the JetStream stream; default "MILLRACE_BATCHES". One that exists already is used as it is.
	Stream string
	// Subjects are those of the stream; default "millrace.batches.>".
	Subjects []string
	// MaxBytes and MaxAge bound the stream, the oldest go first; default 64 MiB and 24 h.
	MaxBytes int64
	MaxAge   time.Duration
	// MaxMessage is the largest message taken, header included; default 128 KiB.
	MaxMessage int32
	// Duplicates is how long a message id is remembered; default 2 min.
	Duplicates time.Duration
	// AckWait is how long a delivery may stay unanswered; default 30 s.
	AckWait time.Duration
	// Replicas is for an external cluster; default 1.
	Replicas int
	Log      *slog.Logger
}

func (o Options) withDefaults() Options {
	def := func(p *time.Duration, d time.Duration) {
		if *p <= 0 {
			*p = d
		}
	}
	def(&o.MaxAge, 24*time.Hour)
	def(&o.Duplicates, 2*time.Minute)
	def(&o.AckWait, 30*time.Second)
	if o.Stream == "" {
		o.Stream = "MILLRACE_BATCHES"
	}
	if len(o.Subjects) == 0 {
		o.Subjects = []string{"millrace.batches.>"}
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	if o.MaxMessage <= 0 {
		o.MaxMessage = 128 << 10
	}
	if o.Replicas <= 0 {
		o.Replicas = 1
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	var errs []error
	if (o.Dir == "") == (o.URL == "") {
		errs = append(errs, errors.New("set exactly one of a directory and a url"))
	}
	if o.Creds != "" && o.URL == "" {
		errs = append(errs, errors.New("credentials need a url"))
	}
	if strings.ContainsAny(o.Stream, " .*>/\\\t\r\n") {
		errs = append(errs, fmt.Errorf("stream name %q has a character that JetStream refuses", o.Stream))
	}
	return errors.Join(errs...)
}

// Bus is a connection to a server, and the server if it is our own.
type Bus struct {
	o Options

	mu      sync.Mutex // guards the rest
	cur     *link
	closed  bool
	subs    map[*subscription]struct{}
	strikes int // requests in a row that the embedded server failed
}

// link is what is replaced when the embedded server is started again.
type link struct {
	srv *server.Server // nil if external
	nc  *nats.Conn
	js  jetstream.JetStream
}

var _ trigger.Bus = (*Bus)(nil)

// Open starts the embedded server, or connects to the external one. An external server that is away is no error: the connection is made when
// it comes, and Publish and Next say [trigger.ErrUnavailable] until then. An embedded server that can not read its directory gets an empty one.
func Open(ctx context.Context, o Options) (*Bus, error) {
	o = o.withDefaults()
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("open bus: %w", err)
	}
	l, err := dial(o)
	if err != nil {
		return nil, fmt.Errorf("open bus: %w", err)
	}
	b := &Bus{o: o, cur: l, subs: map[*subscription]struct{}{}}
	if err := b.ensureStream(ctx, l); err != nil {
		if l.srv != nil {
			l.close()
			return nil, fmt.Errorf("open bus in %q: %w", o.Dir, err)
		}
		o.Log.Warn("nats is away, triggers wait for the reconciler", "err", err)
	}
	return b, nil
}

// Publish implements [trigger.Bus].
func (b *Bus) Publish(ctx context.Context, m trigger.Message) error {
	l, err := b.link()
	if err != nil {
		return err
	}
	msg := nats.NewMsg(m.Subject)
	msg.Data = m.Data
	for k, v := range m.Header {
		msg.Header[k] = []string{v}
	}
	opts := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)}
	if m.ID != "" {
		opts = append(opts, jetstream.WithMsgID(m.ID))
	}
	_, err = l.js.PublishMsg(ctx, msg, opts...)
	if err != nil && gone(err) && b.ensureStream(ctx, l) == nil {
		_, err = l.js.PublishMsg(ctx, msg, opts...)
	}
	if err != nil {
		err = b.sentinel(err)
	}
	b.judge(l, err)
	if err != nil {
		return fmt.Errorf("publish %q on %q: %w", m.ID, m.Subject, err)
	}
	return nil
}

// Close implements [trigger.Bus].
func (b *Bus) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	subs, l := b.subs, b.cur
	b.subs = nil
	b.mu.Unlock()
	for s := range subs {
		s.stop()
	}
	l.close()
	return nil
}

func (b *Bus) link() (*link, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, trigger.ErrClosed
	}
	return b.cur, nil
}

// sentinel makes every error of the server one of the seam's. What the server will never take is passed on as it is.
func (b *Bus) sentinel(err error) error {
	var api *jetstream.APIError
	switch {
	case b.isClosed():
		return trigger.ErrClosed
	case errors.Is(err, trigger.ErrUnavailable), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, nats.ErrMaxPayload), errors.As(err, &api) && api.ErrorCode == codeMessageTooLarge:
		return err
	}
	return fmt.Errorf("%w: %w", trigger.ErrUnavailable, err)
}

func (b *Bus) isClosed() bool {
	_, err := b.link()
	return err != nil
}
