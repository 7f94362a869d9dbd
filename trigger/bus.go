package trigger

import (
	"context"
	"time"
)

// Message is what travels on a bus.
type Message struct {
	// ID makes a second publish of the same thing harmless, within the bus's window.
	ID      string
	Subject string
	// Header has single values; keys are case-sensitive.
	Header map[string]string
	Data   []byte
}

// Bus carries triggers to those who react. Deliveries may be lost, doubled and reordered; nobody's correctness depends on it. Safe for
// concurrent use.
type Bus interface {
	// Publish returns nil when the bus has stored m as durably as it can; ErrUnavailable, ErrClosed.
	Publish(ctx context.Context, m Message) error
	// Subscribe joins the durable subscription called name; several members share its deliveries. Subject may end in ".>".
	Subscribe(ctx context.Context, name, subject string) (Subscription, error)
	// Close ends all subscriptions. Safe to call twice.
	Close() error
}

// Subscription hands out deliveries.
type Subscription interface {
	// Next blocks for the next delivery; ctx.Err(), ErrUnavailable (try again), ErrClosed.
	Next(ctx context.Context) (Delivery, error)
	Close() error
}

// Delivery is one message on its way. Exactly one of Ack, Retry and Drop ends it; without, it comes again later.
type Delivery interface {
	Message() Message
	// Tries counts deliveries of this message, from 1.
	Tries() int
	// Ack: done. Retry: deliver again after at least d. Drop: never again; reason is for the log. Extend: still at it.
	Ack(ctx context.Context) error
	Retry(ctx context.Context, d time.Duration) error
	Drop(ctx context.Context, reason string) error
	Extend(ctx context.Context) error
}
