// Package triggertest has what tests of the trigger stage and of its neighbours need: the conformance suite of [trigger.Bus] ([Bus]), a chain
// in memory that keeps the contract of batcher.Catalogue ([Chain]), and a ledger that keeps the contracts of [trigger.Starter] and
// [trigger.Ledger] and checks every intake ([Ledger]).
package triggertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/trigger"
)

// patience is how long a delivery may take that must come, silence how long one is waited for that must not.
const (
	patience = 20 * time.Second
	silence  = 150 * time.Millisecond
)

// BusUnderTest is a bus with what the suite must know of it.
type BusUnderTest struct {
	trigger.Bus
	// AckWait is how the bus was configured; at most a few seconds, or the suite is slow.
	AckWait time.Duration
	// MaxMessage is a size that the bus refuses for good, or 0 if it takes everything.
	MaxMessage int
}

// Bus runs the conformance suite. open returns a new, empty bus that takes the subjects "millrace.batches.>", closed by the suite.
func Bus(t *testing.T, open func(t *testing.T) BusUnderTest) {
	cases := []struct {
		name string
		run  func(t *testing.T, b BusUnderTest)
	}{
		{"delivers what was published, whole", delivers},
		{"an id is taken once", idOnce},
		{"an unanswered delivery comes again", unanswered},
		{"retry waits", retries},
		{"drop ends it", drops},
		{"extend keeps it", extends},
		{"members share, subscriptions do not", shares},
		{"a subscription is durable", durable},
		{"next ends with its context", nextContext},
		{"close ends everything", closes},
		{"too large is refused for good", tooLarge},
		{"many publishers and members", concurrent},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			t.Cleanup(func() { _ = b.Close() })
			c.run(t, b)
		})
	}
}

func message(id string) trigger.Message {
	return trigger.Message{
		ID: id, Subject: "millrace.batches.acme.web",
		Header: map[string]string{"ce-id": id, "ce-type": "t", "Mixed-Case": "v"}, Data: []byte("data of " + id),
	}
}

func publish(t *testing.T, b trigger.Bus, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := b.Publish(t.Context(), message(id)); err != nil {
			t.Fatalf("publish %q: %v", id, err)
		}
	}
}

func subscribe(t *testing.T, b trigger.Bus, name string) trigger.Subscription {
	t.Helper()
	s, err := b.Subscribe(t.Context(), name, "millrace.batches.>")
	if err != nil {
		t.Fatalf("subscribe %q: %v", name, err)
	}
	return s
}

func next(t *testing.T, s trigger.Subscription) trigger.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d, err := s.Next(ctx)
	if err != nil {
		t.Fatalf("next: %v", err)
	}
	return d
}

func quiet(t *testing.T, s trigger.Subscription, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if got, err := s.Next(ctx); err == nil {
		t.Fatalf("got delivery %q (try %d), want silence", got.Message().ID, got.Tries())
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func delivers(t *testing.T, b BusUnderTest) {
	s := subscribe(t, b, "dispatch")
	publish(t, b, "a", "b")
	for _, id := range []string{"a", "b"} {
		d := next(t, s)
		if diff := cmp.Diff(message(id), d.Message()); diff != "" {
			t.Errorf("message (-want +got):\n%s", diff)
		}
		if d.Tries() != 1 {
			t.Errorf("tries: got %d, want 1", d.Tries())
		}
		must(t, d.Ack(t.Context()))
	}
	quiet(t, s, silence)
}

func idOnce(t *testing.T, b BusUnderTest) {
	s := subscribe(t, b, "dispatch")
	publish(t, b, "a", "a", "a", "b")
	for _, id := range []string{"a", "b"} {
		d := next(t, s)
		if got := d.Message().ID; got != id {
			t.Errorf("got %q, want %q", got, id)
		}
		must(t, d.Ack(t.Context()))
	}
}

func unanswered(t *testing.T, b BusUnderTest) {
	s := subscribe(t, b, "dispatch")
	publish(t, b, "a")
	for try := 1; try <= 3; try++ {
		d := next(t, s)
		if d.Message().ID != "a" || d.Tries() != try {
			t.Fatalf("got %q try %d, want a try %d", d.Message().ID, d.Tries(), try)
		}
		if try == 3 {
			must(t, d.Ack(t.Context()))
		}
	}
	quiet(t, s, b.AckWait+silence)
}

func retries(t *testing.T, b BusUnderTest) {
	s := subscribe(t, b, "dispatch")
	publish(t, b, "a")
	d := next(t, s)
	start := time.Now()
	must(t, d.Retry(t.Context(), b.AckWait/4))
	d = next(t, s)
	if took := time.Since(start); took < b.AckWait/8 {
		t.Errorf("came again after %v, want about %v", took, b.AckWait/4)
	}
	if d.Tries() != 2 {
		t.Errorf("tries: got %d, want 2", d.Tries())
	}
	must(t, d.Ack(t.Context()))
}

func drops(t *testing.T, b BusUnderTest) {
	s := subscribe(t, b, "dispatch")
	publish(t, b, "a")
	must(t, next(t, s).Drop(t.Context(), "forged"))
	quiet(t, s, b.AckWait+silence)
}

func extends(t *testing.T, b BusUnderTest) {
	s := subscribe(t, b, "dispatch")
	publish(t, b, "a")
	d := next(t, s)
	for range 4 {
		quiet(t, s, b.AckWait/2)
		must(t, d.Extend(t.Context()))
	}
	must(t, d.Ack(t.Context()))
	quiet(t, s, b.AckWait+silence)
}

func shares(t *testing.T, b BusUnderTest) {
	one, two, other := subscribe(t, b, "dispatch"), subscribe(t, b, "dispatch"), subscribe(t, b, "audit")
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprintf("m%02d", i))
	}
	publish(t, b, want...)
	got := collect(t, len(want), one, two)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("members together (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, collect(t, len(want), other)); diff != "" {
		t.Errorf("the other subscription (-want +got):\n%s", diff)
	}
}

// collect acknowledges n deliveries of the subscriptions together and returns their ids, sorted.
func collect(t *testing.T, n int, subs ...trigger.Subscription) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var (
		mu  sync.Mutex
		ids []string
		wg  sync.WaitGroup
	)
	for _, s := range subs {
		wg.Go(func() { // ends with ctx, which ends with the n'th delivery
			for {
				d, err := s.Next(ctx)
				if err != nil {
					return
				}
				_ = d.Ack(ctx)
				mu.Lock()
				if ids = append(ids, d.Message().ID); len(ids) >= n {
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(ids)
	return ids
}

func durable(t *testing.T, b BusUnderTest) {
	s := subscribe(t, b, "dispatch")
	publish(t, b, "a")
	must(t, next(t, s).Ack(t.Context()))
	must(t, s.Close())
	must(t, s.Close())
	publish(t, b, "b")
	s = subscribe(t, b, "dispatch")
	d := next(t, s)
	if got := d.Message().ID; got != "b" {
		t.Errorf("got %q, want b", got)
	}
	must(t, d.Ack(t.Context()))
}

func nextContext(t *testing.T, b BusUnderTest) {
	s := subscribe(t, b, "dispatch")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	publish(t, b, "a")
	must(t, next(t, s).Ack(t.Context()))
}

func closes(t *testing.T, b BusUnderTest) {
	s := subscribe(t, b, "dispatch")
	got := make(chan error, 1)
	go func() { // ends with Close below; its result is waited for
		_, err := s.Next(context.WithoutCancel(t.Context()))
		got <- err
	}()
	must(t, b.Close())
	must(t, b.Close())
	if err := <-got; !errors.Is(err, trigger.ErrClosed) {
		t.Errorf("next: got %v, want %v", err, trigger.ErrClosed)
	}
	if err := b.Publish(t.Context(), message("a")); !errors.Is(err, trigger.ErrClosed) {
		t.Errorf("publish: got %v, want %v", err, trigger.ErrClosed)
	}
	if _, err := b.Subscribe(t.Context(), "x", "millrace.batches.>"); !errors.Is(err, trigger.ErrClosed) {
		t.Errorf("subscribe: got %v, want %v", err, trigger.ErrClosed)
	}
}

func tooLarge(t *testing.T, b BusUnderTest) {
	s := subscribe(t, b, "dispatch")
	if b.MaxMessage > 0 {
		m := message("large")
		m.Data = make([]byte, b.MaxMessage)
		err := b.Publish(t.Context(), m)
		if err == nil || errors.Is(err, trigger.ErrUnavailable) {
			t.Errorf("got %v, want an error that does not invite another try", err)
		}
	}
	publish(t, b, "a")
	must(t, next(t, s).Ack(t.Context()))
}

func concurrent(t *testing.T, b BusUnderTest) {
	s := subscribe(t, b, "dispatch")
	var (
		want []string
		wg   sync.WaitGroup
	)
	for p := range 8 {
		var mine []string
		for i := range 20 {
			mine = append(mine, fmt.Sprintf("p%d-%02d", p, i))
		}
		want = append(want, mine...)
		wg.Go(func() { publishAll(t, b, mine) }) // ends with its messages
	}
	got := collect(t, len(want), s, subscribe(t, b, "dispatch"))
	wg.Wait()
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
}

func publishAll(t *testing.T, b trigger.Bus, ids []string) {
	for _, id := range ids {
		if err := b.Publish(t.Context(), message(id)); err != nil {
			t.Errorf("publish %q: %v", id, err)
		}
	}
}
