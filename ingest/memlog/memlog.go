// Package memlog is the log in memory, for tests and for the simulation of batchers: the contracts of package ingest with N partitions, and
// knobs for what a real log does only when something breaks.
//
//	Append ─▶ records ── Sync ─▶ durable ─▶ Read (any number of consumers, zombies included)
//	                      │
//	                    Crash: what is not durable goes, the others go on under a new incarnation
//
// It guarantees nothing beyond the process. Unlike the WAL it deletes exactly what Trim permits, record by record, so a reader that trusts the
// WAL's generosity fails here. Everything that happens is decided by the caller: there is no goroutine and no clock, and ids are counted.
package memlog

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"millrace/ingest"
)

// Options tune a log. The zero value works.
type Options struct {
	// ID is the log's id; logs that share an object store need different ones. Default "mem".
	ID string
	// Partitions is their number. Default 1.
	Partitions int
	// MaxBytes bounds what the log holds. 0: no bound.
	MaxBytes int64
	// MaxRecord bounds one stored record. Default 8 MiB.
	MaxRecord int
	// Manual leaves it to Sync what is durable; until then Append blocks and Put is not seen. Default: all is durable at once.
	Manual bool
}

// Validate reports all faults, joined.
func (o Options) Validate() error {
	var errs []error
	if o.Partitions < 0 {
		errs = append(errs, fmt.Errorf("partitions %d is negative", o.Partitions))
	}
	if o.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("max bytes %d is negative", o.MaxBytes))
	}
	return errors.Join(errs...)
}

// Log is a log in memory. It is an [ingest.Appender], an [ingest.Consumer] and an [ingest.Pressure]. Safe for concurrent use.
type Log struct {
	opts Options
	ids  *atomic.Int64 // shared with clones, so that no incarnation is named twice

	mu      sync.Mutex // guards what follows, and all partitions
	parts   []*Partition
	held    int64
	refusal error
	crashes int
	closed  bool
	changed chan struct{} // closed and replaced at every change
	ended   chan struct{} // closed by Close
}

var (
	_ ingest.Appender     = (*Log)(nil)
	_ ingest.Consumer     = (*Log)(nil)
	_ ingest.Pressure     = (*Log)(nil)
	_ ingest.Partition    = (*Partition)(nil)
	_ ingest.LossReporter = (*Partition)(nil)
)

// New returns an empty log. It panics if the options are not valid, since only tests call it.
func New(opts Options) *Log {
	if err := opts.Validate(); err != nil {
		panic(err)
	}
	opts.ID = or(opts.ID, "mem")
	opts.Partitions = or(opts.Partitions, 1)
	opts.MaxRecord = or(opts.MaxRecord, 8<<20)
	l := &Log{opts: opts, ids: &atomic.Int64{}, changed: make(chan struct{}), ended: make(chan struct{})}
	for i := range opts.Partitions {
		p := &Partition{log: l, id: i, hints: map[ingest.Stream]ingest.ChainHint{}}
		p.begin()
		l.parts = append(l.parts, p)
	}
	return l
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Append implements [ingest.Appender].
func (l *Log) Append(ctx context.Context, recs []ingest.Record) (ingest.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	receipt, crashes, err := l.put(recs)
	if err != nil {
		return nil, err
	}
	for {
		l.mu.Lock()
		changed := l.changed
		switch {
		case l.durable(receipt):
			l.mu.Unlock()
			return receipt, nil
		case l.crashes != crashes:
			l.mu.Unlock()
			return nil, fmt.Errorf("append %d records: crashed before the sync: %w", len(recs), ingest.ErrUnavailable)
		case l.closed:
			l.mu.Unlock()
			return nil, ingest.ErrClosed
		}
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// durable reports whether all of receipt is. Called with mu held.
func (l *Log) durable(receipt ingest.Receipt) bool {
	for _, s := range receipt {
		if p := l.parts[s.Stream.Partition]; p.stream() != s.Stream || p.durable <= s.Last {
			return false
		}
	}
	return true
}

// Put is Append without waiting for Sync.
func (l *Log) Put(recs []ingest.Record) (ingest.Receipt, error) {
	receipt, _, err := l.put(recs)
	return receipt, err
}

// put also returns how many crashes there were before it.
func (l *Log) put(recs []ingest.Record) (receipt ingest.Receipt, crashes int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refuse(recs); err != nil {
		return nil, 0, err
	}
	for i := range recs {
		p := l.parts[l.pick(recs[i].RoutingKey)]
		at := p.next()
		p.recs = append(p.recs, recs[i].AppendBinary(nil))
		l.held += int64(len(p.recs[len(p.recs)-1]))
		if n := len(receipt); n > 0 && receipt[n-1].Stream == p.stream() {
			receipt[n-1].Last = at
		} else {
			receipt = append(receipt, ingest.Span{Stream: p.stream(), First: at, Last: at})
		}
	}
	if !l.opts.Manual {
		l.sync()
	}
	return receipt, l.crashes, nil
}

func (l *Log) refuse(recs []ingest.Record) error {
	if l.closed {
		return ingest.ErrClosed
	}
	if l.refusal != nil {
		return l.refusal
	}
	size := int64(0)
	for i := range recs {
		if err := recs[i].Validate(); err != nil {
			return err
		}
		n := recs[i].BinarySize()
		if n > l.opts.MaxRecord {
			return fmt.Errorf("record of %d bytes: %w", n, ingest.ErrTooLarge)
		}
		size += int64(n)
	}
	if l.opts.MaxBytes > 0 && l.held+size > l.opts.MaxBytes {
		return fmt.Errorf("log holds %d bytes of at most %d: %w", l.held, l.opts.MaxBytes, ingest.ErrFull)
	}
	return nil
}

func (l *Log) pick(key string) int {
	h := fnv.New32a()
	h.Write([]byte(key))
	return int(h.Sum32() % uint32(len(l.parts)))
}

// Sync makes durable what was put so far. Only needed with Options.Manual.
func (l *Log) Sync() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sync()
}

func (l *Log) sync() {
	for _, p := range l.parts {
		p.durable = p.next()
	}
	l.wake()
}

// Crash drops what is not durable and begins a new incarnation in each partition. With a rng, the first few of the records that are not
// durable may survive, as after a torn write; without one, none does. Calls of Append that wait fail with ErrUnavailable.
func (l *Log) Crash(rng *rand.Rand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.parts {
		if extra := int(p.next() - p.durable); rng != nil && extra > 0 {
			p.durable += int64(rng.IntN(extra + 1))
		}
		p.begin()
	}
	l.crashes++
	l.recount()
	l.wake()
}

// Clone returns a copy of what is durable, opened elsewhere: same log id, a new incarnation.
func (l *Log) Clone() *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &Log{opts: l.opts, ids: l.ids, changed: make(chan struct{}), ended: make(chan struct{})}
	for _, p := range l.parts {
		q := *p
		q.log = c
		q.recs = slices.Clone(p.recs)
		q.incs = slices.Clone(p.incs)
		q.hints = map[ingest.Stream]ingest.ChainHint{}
		for s, h := range p.hints {
			q.hints[s] = h
		}
		q.damaged, q.lost = slices.Clone(p.damaged), slices.Clone(p.lost)
		q.begin()
		c.parts = append(c.parts, &q)
	}
	c.recount()
	return c
}

// Refuse makes Append and Put fail with err, until it is called with nil.
func (l *Log) Refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusal = err
}

// Partition returns one partition.
func (l *Log) Partition(id int) *Partition { return l.parts[id] }

// Consume implements [ingest.Consumer]. Every caller owns all partitions, so that several zombies can share a log.
func (l *Log) Consume(ctx context.Context, work func(ctx context.Context, p ingest.Partition) error) error {
	owned, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan error, len(l.parts))
	for _, p := range l.parts {
		go func() { results <- work(owned, p) }() // ends with owned; all are waited for below
	}
	var first error
	ended := l.ended
	for left := len(l.parts); left > 0; {
		select {
		case err := <-results:
			left--
			if err != nil && first == nil && owned.Err() == nil {
				first = err
				cancel()
			}
		case <-ended:
			ended = nil
			cancel()
		}
	}
	if first == nil && ended != nil {
		select {
		case <-ctx.Done():
		case <-ended:
		}
	}
	return first
}

// Pressure implements [ingest.Pressure].
func (l *Log) Pressure() (held, limit int64, retry time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opts.MaxBytes > 0 && l.held >= l.opts.MaxBytes || errors.Is(l.refusal, ingest.ErrFull) {
		retry = time.Second
	}
	return l.held, l.opts.MaxBytes, retry
}

// Close ends the log; everything fails with ErrClosed from then on. Safe to call twice.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.ended)
		l.wake()
	}
	return nil
}

// wake tells all waiters that something changed. Called with mu held.
func (l *Log) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Log) recount() {
	l.held = 0
	for _, p := range l.parts {
		for _, r := range p.recs {
			l.held += int64(len(r))
		}
	}
}
