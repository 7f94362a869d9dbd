package natsbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/trigger"
)

// codeMessageTooLarge is JetStream's error for a message above the stream's limit (JSStreamMessageExceedsMaximumErr).
const codeMessageTooLarge = 10054

// Lookback is how far back a consumer begins that did not exist: it covers what was published while nobody knew that it was gone.
const Lookback = time.Minute

// ensureStream makes the stream if there is none. One that exists is left as its operator wants it.
func (b *Bus) ensureStream(ctx context.Context, l *link) error {
	if !l.nc.IsConnected() {
		return fmt.Errorf("find stream %q: %w: %w", b.o.Stream, trigger.ErrUnavailable, nats.ErrDisconnected)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := l.js.Stream(ctx, b.o.Stream)
	if err == nil {
		return nil
	}
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("find stream %q: %w", b.o.Stream, b.sentinel(err))
	}
	_, err = l.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: b.o.Stream, Description: "millrace: committed batches", Subjects: b.o.Subjects,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage,
		MaxBytes: b.o.MaxBytes, MaxAge: b.o.MaxAge, MaxMsgSize: b.o.MaxMessage,
		Duplicates: min(b.o.Duplicates, b.o.MaxAge), Replicas: b.o.Replicas,
	})
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("make stream %q: %w", b.o.Stream, b.sentinel(err))
	}
	b.o.Log.Info("stream made", "stream", b.o.Stream)
	return nil
}

// gone reports whether err says that there is no stream to publish to.
func gone(err error) bool {
	return errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, nats.ErrNoResponders)
}

// Subscribe implements [trigger.Bus]. The durable consumer outlives the subscription.
func (b *Bus) Subscribe(ctx context.Context, name, subject string) (trigger.Subscription, error) {
	s := &subscription{b: b, name: name, subject: subject}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, trigger.ErrClosed
	}
	b.subs[s] = struct{}{}
	b.mu.Unlock()
	if _, err := s.messages(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// subscription is a member of a durable consumer.
type subscription struct {
	b             *Bus
	name, subject string

	mu      sync.Mutex // guards the rest
	stopped bool
	iter    jetstream.MessagesContext
}

// messages returns the open iterator, or makes one, and before it whatever else is missing.
func (s *subscription) messages(ctx context.Context) (jetstream.MessagesContext, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, trigger.ErrClosed
	}
	if s.iter != nil {
		return s.iter, nil
	}
	consumer, err := s.consumer(ctx)
	if err != nil {
		return nil, err
	}
	iter, err := consumer.Messages(jetstream.PullMaxMessages(256), jetstream.PullExpiry(10*time.Second), jetstream.PullHeartbeat(2*time.Second))
	if err != nil {
		return nil, fmt.Errorf("pull from consumer %q: %w", s.name, s.b.sentinel(err))
	}
	s.iter = iter
	return iter, nil
}

func (s *subscription) consumer(ctx context.Context) (jetstream.Consumer, error) {
	l, err := s.b.link()
	if err != nil {
		return nil, err
	}
	if err := s.b.ensureStream(ctx, l); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	consumer, err := l.js.Consumer(ctx, s.b.o.Stream, s.name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		from := time.Now().Add(-Lookback)
		consumer, err = l.js.CreateConsumer(ctx, s.b.o.Stream, jetstream.ConsumerConfig{
			Durable: s.name, FilterSubject: s.subject, AckPolicy: jetstream.AckExplicitPolicy, AckWait: s.b.o.AckWait,
			// Without an end: a message that used up its tries would stop without a trace (nats-server#6538). Readers count Tries.
			MaxDeliver: -1, MaxAckPending: 4096, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from,
		})
	}
	if err != nil {
		err = s.b.sentinel(err)
		s.b.judge(l, err)
		return nil, fmt.Errorf("find or make consumer %q: %w", s.name, err)
	}
	return consumer, nil
}

// Next implements [trigger.Subscription]. An iterator that ends (consumer deleted, heartbeats missing, connection gone) is replaced once;
// what is still missing then is ErrUnavailable, and the next call tries again.
func (s *subscription) Next(ctx context.Context) (trigger.Delivery, error) {
	for try := 0; ; try++ {
		iter, err := s.messages(ctx)
		if err != nil {
			return nil, err
		}
		msg, err := iter.Next(jetstream.NextContext(ctx))
		switch {
		case err == nil:
			return &delivery{b: s.b, msg: msg}, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
		s.discard(iter)
		if try > 0 {
			return nil, fmt.Errorf("next of consumer %q: %w", s.name, s.b.sentinel(err))
		}
		s.b.o.Log.Warn("subscription is made again", "consumer", s.name, "err", err)
	}
}

func (s *subscription) discard(iter jetstream.MessagesContext) {
	iter.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.iter == iter {
		s.iter = nil
	}
}

// Close implements [trigger.Subscription].
func (s *subscription) Close() error {
	s.b.mu.Lock()
	delete(s.b.subs, s)
	s.b.mu.Unlock()
	s.stop()
	return nil
}

func (s *subscription) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.stopped = true
	if s.iter != nil {
		s.iter.Stop()
	}
}

// delivery is one message of a consumer. Answers are hints too and are not waited for.
type delivery struct {
	b   *Bus
	msg jetstream.Msg
}

func (d *delivery) Message() trigger.Message {
	m := trigger.Message{Subject: d.msg.Subject(), Data: d.msg.Data(), Header: map[string]string{}}
	for k, v := range d.msg.Headers() {
		switch {
		case k == jetstream.MsgIDHeader:
			m.ID = v[0]
		case len(v) > 0:
			m.Header[k] = v[0]
		}
	}
	return m
}

func (d *delivery) Tries() int {
	meta, err := d.msg.Metadata()
	if err != nil {
		return 1
	}
	return int(meta.NumDelivered)
}

func (d *delivery) Ack(context.Context) error { return d.answer("ack", d.msg.Ack()) }

func (d *delivery) Retry(_ context.Context, wait time.Duration) error {
	return d.answer("retry", d.msg.NakWithDelay(max(wait, time.Millisecond)))
}

func (d *delivery) Drop(_ context.Context, reason string) error {
	return d.answer("drop", d.msg.TermWithReason(reason))
}

func (d *delivery) Extend(context.Context) error { return d.answer("extend", d.msg.InProgress()) }

func (d *delivery) answer(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s delivery: %w", what, d.b.sentinel(err))
}
