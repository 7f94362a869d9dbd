package engine

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"

	"millrace/scheduler"
)

// Bounds of questions to registries. Those of one must not take the places of the others': it may be one that does not answer.
const (
	asksAtOnce   = 32
	asksOfOne    = 4
	askTime      = time.Minute // a registry client has a shorter time of its own; this is for one that forgot
	digestLength = len("sha256:") + 64
)

var digestRule = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// asker asks registries, off the loop. Its queue is bounded by the images that live runs wait for: of each there is one question at a time. If we
// stop, what waits is forgotten, and asked again after the next start.
type asker struct {
	registry scheduler.Registry

	mu      sync.Mutex // guards the three
	waiting []*imageAsk
	busy    map[string]int // by registry
	total   int
	wake    chan struct{} // has one place; never closed
}

func newAsker(registry scheduler.Registry) *asker {
	if registry == nil {
		registry = noRegistry{}
	}
	return &asker{registry: registry, busy: map[string]int{}, wake: make(chan struct{}, 1)}
}

func (a *asker) add(asks []*imageAsk) {
	if len(asks) == 0 {
		return
	}
	a.mu.Lock()
	a.waiting = append(a.waiting, asks...)
	a.mu.Unlock()
	a.stir()
}

func (a *asker) stir() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take returns the oldest question that may be asked now, or nil. The caller calls done after it.
func (a *asker) take() *imageAsk {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.total >= asksAtOnce {
		return nil
	}
	i := slices.IndexFunc(a.waiting, func(q *imageAsk) bool { return a.busy[scheduler.ImageHost(q.image)] < asksOfOne })
	if i < 0 {
		return nil
	}
	ask := a.waiting[i]
	a.waiting = slices.Delete(a.waiting, i, i+1)
	a.busy[scheduler.ImageHost(ask.image)]++
	a.total++
	return ask
}

func (a *asker) done(ask *imageAsk) {
	host := scheduler.ImageHost(ask.image)
	a.mu.Lock()
	a.total--
	if a.busy[host]--; a.busy[host] == 0 {
		delete(a.busy, host)
	}
	a.mu.Unlock()
	a.stir()
}

// ask puts one question to its registry.
func (a *asker) ask(ctx context.Context, ask *imageAsk) *imageAnswer {
	short, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	in := &imageAnswer{ask: ask, done: make(answer, 1)}
	in.digest, in.err = a.registry.Digest(short, ask.image)
	if in.err == nil && !digestRule.MatchString(in.digest) {
		in.err = fmt.Errorf("it answered with %.*q, which is no digest of SHA-256", digestLength, in.digest)
	}
	return in
}

// runAsker works until ctx ends.
func (e *Engine) runAsker(ctx context.Context) error {
	var going sync.WaitGroup
	defer going.Wait() // they end with ctx
	for {
		for ask := e.asker.take(); ask != nil; ask = e.asker.take() {
			going.Go(func() {
				defer e.asker.done(ask)
				in := e.asker.ask(ctx, ask)
				if ctx.Err() != nil {
					return // the end of ctx is no answer
				}
				e.metrics.asked(in.err)
				if in.err != nil {
					e.log.Warn("image was not pinned", "image", ask.image, "err", in.err)
				}
				if err := e.ask(ctx, in, in.done); err != nil && ctx.Err() == nil {
					e.log.Error("digest of an image was not taken", "image", ask.image, "err", err) // it is asked for again
				}
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.asker.wake:
		}
	}
}

// noRegistry is for engines that are given none.
type noRegistry struct{}

// Digest implements scheduler.Registry.
func (noRegistry) Digest(context.Context, string) (string, error) {
	return "", fmt.Errorf("%w: this scheduler asks no registries", scheduler.ErrNoImage)
}

// outcomeOf names an answer for the metrics.
func outcomeOf(err error) string {
	switch {
	case err == nil:
		return "pinned"
	case errors.Is(err, scheduler.ErrNoImage):
		return "refused"
	}
	return "unavailable"
}
