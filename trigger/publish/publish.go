// Package publish announces batches on a bus: it is the batcher's Announcer, over [trigger.Bus], and it owns the format of an announcement
// ([Encode], [Decode]), which external subscribers read too.
//
// It guarantees that Announce never waits, and that memory is bounded. It does not guarantee that an announcement arrives: it is dropped, and
// counted, when the queue is full because the bus is away, when the bus did not take it for as long as Options.Patience, and when the process
// ends with announcements in the queue. Nobody's correctness depends on them: dispatch reads the chain anyway, only later. A crash at any point
// loses what is in the queue or repeats what was published but not acknowledged; both are among the cases above.
package publish

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/batcher"
	"millrace/trigger"
)

// Options are the tunables of an [Announcer]; the zero value works.
type Options struct {
	// Queue is how many announcements may wait; default 4096.
	Queue int
	// Workers is how many publishes may be under way at once; default 4. With more than one, announcements may overtake each other.
	Workers int
	// Timeout bounds one publish; default 5 s.
	Timeout time.Duration
	// Patience bounds how long one announcement is tried again while the bus is away; default 10 s.
	Patience   time.Duration
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	if o.Queue <= 0 {
		o.Queue = 4096
	}
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Patience <= 0 {
		o.Patience = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Announcer publishes batches. Safe for concurrent use.
type Announcer struct {
	bus   trigger.Bus
	o     Options
	queue chan trigger.Message
	m     *metrics
}

var _ batcher.Announcer = (*Announcer)(nil)

// New returns an Announcer; nothing is published before Run.
func New(bus trigger.Bus, o Options) *Announcer {
	o = o.withDefaults()
	a := &Announcer{bus: bus, o: o, queue: make(chan trigger.Message, o.Queue)}
	a.m = newMetrics(o.Registerer, func() float64 { return float64(len(a.queue)) })
	return a
}

// Announce queues the announcement of b, or drops it if the queue is full. It never blocks. A void batch is not announced.
func (a *Announcer) Announce(_ context.Context, b batcher.Batch) {
	if b.Void != "" {
		return
	}
	m, err := Encode(b)
	if err != nil {
		a.m.published.WithLabelValues(outcomeFailed).Inc()
		a.o.Log.Error("batch can not be announced", "batch", b.ID, "err", err)
		return
	}
	select {
	case a.queue <- m:
	default:
		a.m.published.WithLabelValues(outcomeDropped).Inc()
	}
}

// Run publishes what is queued until ctx ends. It returns nil after its workers have ended; what is in the queue then is forgotten.
func (a *Announcer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range a.o.Workers {
		wg.Go(func() { a.work(ctx) }) // ends with ctx
	}
	wg.Wait()
	return nil
}

func (a *Announcer) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-a.queue:
			a.publish(ctx, m)
		}
	}
}

// publish tries m until the bus has it, patience ends, or ctx does.
func (a *Announcer) publish(ctx context.Context, m trigger.Message) {
	start := time.Now()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := a.try(ctx, m)
		switch {
		case err == nil:
			a.m.published.WithLabelValues(outcomePublished).Inc()
			a.m.duration.Observe(time.Since(start).Seconds())
			return
		case ctx.Err() != nil:
			return
		case !again(err) || time.Since(start)+wait > a.o.Patience:
			a.m.published.WithLabelValues(outcomeFailed).Inc()
			a.o.Log.Warn("announcement dropped, dispatch will find the batch in the chain", "batch", m.ID, "err", err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
	}
}

func (a *Announcer) try(ctx context.Context, m trigger.Message) error {
	ctx, cancel := context.WithTimeout(ctx, a.o.Timeout)
	defer cancel()
	return a.bus.Publish(ctx, m)
}

func again(err error) bool {
	return errors.Is(err, trigger.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}
