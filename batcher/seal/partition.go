package seal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"millrace/batcher/dedupe"
	"millrace/ingest"
)

// Errors that end [Worker.Work].
var (
	// ErrHome: the log says that its chain lives in another store, or the chain that should be here is not.
	ErrHome = errors.New("chain is elsewhere")
	// ErrMismatch: the log does not hold what the chain says it held.
	ErrMismatch = errors.New("log and chain differ")
)

// partition is the work on one partition: its incarnations, oldest first, each with a chain of its own.
type partition struct {
	w     *Worker
	log   ingest.Partition
	id    int
	index *dedupe.Index
	rng   *rand.Rand
	// folded has the streams whose chain is in the index, whole.
	folded map[ingest.Stream]bool
	// kept is the last trim of a stream that has ended, held back until the stream after it has entry 1: only as long as the log knows an
	// incarnation can the next one name it as its predecessor.
	kept *trim

	mu     sync.Mutex // guards status
	status Status
}

type trim struct {
	stream ingest.Stream
	low    int64
}

// run cuts one incarnation after the other. An incarnation that has ended is done when its chain is closed over all its records.
func (p *partition) run(ctx context.Context) error {
	closed := make(map[ingest.Stream]bool)
	var prev *ingest.Stream
	for ctx.Err() == nil {
		inc, ok := p.next(closed)
		if !ok {
			return fmt.Errorf("partition %d has no incarnation that is written", p.id)
		}
		closed[inc.Stream] = true
		if !inc.Live() && inc.Next <= inc.First {
			continue // no records, so no chain
		}
		c, err := newCutter(p, inc, prev)
		if err != nil {
			return err
		}
		if err := c.run(ctx); err != nil {
			return fmt.Errorf("cut %s: %w", inc.Stream, err)
		}
		if c.tail.Seq > 0 {
			prev = &inc.Stream
		}
	}
	return ctx.Err()
}

// next returns the oldest incarnation that is not closed.
func (p *partition) next(closed map[ingest.Stream]bool) (ingest.Incarnation, bool) {
	for _, inc := range p.log.Incarnations() {
		if !closed[inc.Stream] {
			return inc, true
		}
	}
	return ingest.Incarnation{}, false
}

// release does the trim that was held back.
func (p *partition) release(ctx context.Context) error {
	if p.kept == nil {
		return nil
	}
	t := *p.kept
	err := p.retry(ctx, p.rng, "trim", func() error { return p.log.Trim(ctx, t.stream, t.low) })
	if err != nil {
		return fmt.Errorf("trim %s: %w", t.stream, err)
	}
	p.kept = nil
	return nil
}
