// Package membus is [trigger.Bus] in memory, for tests and for those who want no broker at all.
//
// It can lose, double and reorder deliveries, by chance from a seed: whatever builds on triggers must stand that. Nothing survives Close, and
// a durable subscription begins with the first message after the first Subscribe of its name. All waiting is on channels and timers of package
// time, so that it runs in a testing/synctest bubble.
package membus

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/trigger"
)

// Options are the tunables of a [Bus]; the zero value works and delivers everything once and in order.
type Options struct {
	// Loss, Double and Reorder are chances from 0 to 1, for each message and subscription.
	Loss, Double, Reorder float64
	// Seed starts the chances.
	Seed uint64
	// AckWait is how long a delivery may stay unanswered before it comes again; default 30 s.
	AckWait time.Duration
	// Queue bounds the messages that wait in one subscription, the oldest go first, and the ids that are remembered; default 10,000.
	Queue int
}

// Bus is a broker in memory.
type Bus struct {
	o Options

	mu     sync.Mutex // guards the rest, and the queues
	rng    *rand.Rand
	queues map[string]*queue
	seen   map[string]bool
	closed bool
}

// queue is one durable subscription.
type queue struct {
	subject string
	ready   []*item
	wake    chan struct{} // closed and replaced when something becomes ready
}

type item struct {
	m     trigger.Message
	tries int
	// live is the number of the delivery that may answer; an answer of an older one is ignored.
	live  int
	timer *time.Timer
}

var _ trigger.Bus = (*Bus)(nil)

// New returns an empty bus.
func New(o Options) *Bus {
	if o.AckWait <= 0 {
		o.AckWait = 30 * time.Second
	}
	if o.Queue <= 0 {
		o.Queue = 10_000
	}
	return &Bus{o: o, rng: rand.New(rand.NewPCG(o.Seed, 1)), queues: map[string]*queue{}, seen: map[string]bool{}}
}

// Publish implements [trigger.Bus].
func (b *Bus) Publish(ctx context.Context, m trigger.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return trigger.ErrClosed
	}
	if m.ID != "" && b.seen[m.ID] {
		return nil
	}
	if len(b.seen) >= b.o.Queue {
		clear(b.seen)
	}
	b.seen[m.ID] = true
	m.Header, m.Data = maps.Clone(m.Header), slices.Clone(m.Data)
	for _, name := range slices.Sorted(maps.Keys(b.queues)) {
		if q := b.queues[name]; matches(q.subject, m.Subject) {
			b.offer(q, m)
		}
	}
	return nil
}

// Forget empties the memory of ids, as a broker's window does after a while: what is published again is delivered again.
func (b *Bus) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.seen)
}

// Wipe loses everything that waits, as a broker does whose disk is emptied. Subscriptions go on.
func (b *Bus) Wipe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, q := range b.queues {
		q.ready = nil
	}
	clear(b.seen)
}

func (b *Bus) offer(q *queue, m trigger.Message) {
	if b.rng.Float64() < b.o.Loss {
		return
	}
	n := 1
	if b.rng.Float64() < b.o.Double {
		n = 2
	}
	for range n {
		b.push(q, &item{m: m})
	}
	if k := len(q.ready); k > 1 && b.rng.Float64() < b.o.Reorder {
		i := b.rng.IntN(k - 1)
		q.ready[i], q.ready[k-1] = q.ready[k-1], q.ready[i]
	}
}

func (b *Bus) push(q *queue, it *item) {
	if q.ready = append(q.ready, it); len(q.ready) > b.o.Queue {
		q.ready = q.ready[1:]
	}
	close(q.wake)
	q.wake = make(chan struct{})
}

// Subscribe implements [trigger.Bus].
func (b *Bus) Subscribe(_ context.Context, name, subject string) (trigger.Subscription, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, trigger.ErrClosed
	}
	q := b.queues[name]
	switch {
	case q == nil:
		q = &queue{subject: subject, wake: make(chan struct{})}
		b.queues[name] = q
	case q.subject != subject:
		return nil, fmt.Errorf("subscribe %q to %q: it is subscribed to %q", name, subject, q.subject)
	}
	return &subscription{b: b, q: q, done: make(chan struct{})}, nil
}

// Close implements [trigger.Bus].
func (b *Bus) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	for _, q := range b.queues {
		for _, it := range q.ready {
			it.stop()
		}
		close(q.wake) // for the last time: those who wait see closed
	}
	return nil
}

func matches(pattern, subject string) bool {
	if prefix, ok := strings.CutSuffix(pattern, ">"); ok {
		return strings.HasPrefix(subject, prefix) && len(subject) > len(prefix)
	}
	return pattern == subject
}

type subscription struct {
	b    *Bus
	q    *queue
	once sync.Once
	done chan struct{} // closed by Close
}

// Next implements [trigger.Subscription].
func (s *subscription) Next(ctx context.Context) (trigger.Delivery, error) {
	for {
		select {
		case <-s.done:
			return nil, trigger.ErrClosed
		default:
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, wake, err := s.take()
		if d != nil || err != nil {
			return d, err
		}
		select {
		case <-ctx.Done():
		case <-s.done:
		case <-wake:
		}
	}
}

// take returns a delivery, or the channel that is closed when it is worth trying again.
func (s *subscription) take() (trigger.Delivery, <-chan struct{}, error) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	switch {
	case s.b.closed:
		return nil, nil, trigger.ErrClosed
	case len(s.q.ready) == 0:
		return nil, s.q.wake, nil
	}
	it := s.q.ready[0]
	s.q.ready = s.q.ready[1:]
	it.tries++
	it.live++
	d := &delivery{s: s, it: it, number: it.live, tries: it.tries}
	it.timer = time.AfterFunc(s.b.o.AckWait, func() { d.again(0) })
	return d, nil, nil
}

// Close implements [trigger.Subscription].
func (s *subscription) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

type delivery struct {
	s             *subscription
	it            *item
	number, tries int
}

func (d *delivery) Message() trigger.Message { return d.it.m }
func (d *delivery) Tries() int               { return d.tries }

func (d *delivery) Ack(context.Context) error          { return d.end() }
func (d *delivery) Drop(context.Context, string) error { return d.end() }

func (d *delivery) Retry(_ context.Context, wait time.Duration) error {
	d.again(wait)
	return nil
}

func (d *delivery) Extend(context.Context) error {
	d.s.b.mu.Lock()
	defer d.s.b.mu.Unlock()
	if d.it.live == d.number && !d.s.b.closed {
		d.it.timer.Reset(d.s.b.o.AckWait)
	}
	return nil
}

func (d *delivery) end() error {
	d.s.b.mu.Lock()
	defer d.s.b.mu.Unlock()
	if d.it.live == d.number {
		d.it.stop()
		d.it.live++
	}
	return nil
}

// again makes the message ready once more, now or later, unless this delivery was answered.
func (d *delivery) again(wait time.Duration) {
	d.s.b.mu.Lock()
	defer d.s.b.mu.Unlock()
	if d.it.live != d.number || d.s.b.closed {
		return
	}
	d.it.stop()
	if wait > 0 {
		d.it.timer = time.AfterFunc(wait, func() { d.again(0) })
		return
	}
	d.it.live++
	d.s.b.push(d.s.q, d.it)
}

func (it *item) stop() {
	if it.timer != nil {
		it.timer.Stop()
	}
}
