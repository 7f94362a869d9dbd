package dispatch

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
	"millrace/trigger/publish"
)

// hint is a place to look at, and the delivery to answer, if it came over the bus.
type hint struct {
	publish.Hint
	delivery trigger.Delivery
}

// Announce implements batcher.Announcer for a batcher in the same process: faster than the bus, and beside it. It never blocks.
func (d *Dispatcher) Announce(_ context.Context, b batcher.Batch) {
	d.push(hint{Hint: publish.Hint{Stream: b.Stream, Seq: b.Seq, Batch: b.ID}})
}

// Nudge makes dispatch look at all batches of one entry soon. It never blocks, and may be forgotten.
func (d *Dispatcher) Nudge(s ingest.Stream, seq int64) {
	d.push(hint{Hint: publish.Hint{Stream: s, Seq: seq}})
}

func (d *Dispatcher) push(h hint) {
	if d.o.Disabled {
		return // nobody would ever take it
	}
	select {
	case d.hints <- h:
	default:
		d.m.rejected.WithLabelValues(rejectedFull).Inc()
	}
}

// receive turns deliveries into hints until ctx ends or the bus is closed. A full queue slows the bus.
func (d *Dispatcher) receive(ctx context.Context) {
	var wait time.Duration
	var sub trigger.Subscription
	defer func() {
		if sub != nil {
			_ = sub.Close()
		}
	}()
	for ctx.Err() == nil {
		delivery, err := d.next(ctx, &sub)
		switch {
		case err == nil:
			wait = 0
			d.busAway.Store(false)
			d.accept(ctx, delivery)
		case ctx.Err() != nil, errors.Is(err, trigger.ErrClosed):
			d.busAway.Store(true)
			return
		default:
			d.busAway.Store(true)
			if wait == 0 {
				d.o.Log.Warn("bus is away, batches are found by looking", "err", err)
			}
			wait = min(max(2*wait, 100*time.Millisecond), 5*time.Second)
			pause(ctx, wait)
		}
	}
}

func (d *Dispatcher) next(ctx context.Context, sub *trigger.Subscription) (trigger.Delivery, error) {
	if *sub == nil {
		s, err := d.o.Bus.Subscribe(ctx, d.o.Name, publish.Subjects)
		if err != nil {
			return nil, err
		}
		*sub = s
	}
	return (*sub).Next(ctx)
}

func (d *Dispatcher) accept(ctx context.Context, delivery trigger.Delivery) {
	if delivery.Tries() > 1 {
		d.m.redelivered.Inc()
	}
	h, err := publish.Decode(delivery.Message())
	if err != nil {
		d.drop(ctx, delivery, rejectedMalformed, err)
		return
	}
	select {
	case d.hints <- hint{h, delivery}:
	case <-ctx.Done():
	}
}

// drop ends a delivery for good: nobody will ever find what it points to.
func (d *Dispatcher) drop(ctx context.Context, delivery trigger.Delivery, reason string, err error) {
	d.m.rejected.WithLabelValues(reason).Inc()
	if delivery == nil {
		return
	}
	d.o.Log.Warn("trigger rejected", "reason", reason, "err", err)
	_ = delivery.Drop(ctx, reason) // an answer that gets lost repeats the delivery
}

func acknowledge(ctx context.Context, h hint) {
	if h.delivery != nil {
		_ = h.delivery.Ack(ctx) // as above
	}
}

// pause waits for about d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d/2 + rand.N(d/2+1)):
	}
}
