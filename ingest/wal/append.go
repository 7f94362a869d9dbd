package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/ingest"
)

// maxGroup bounds the bytes of a group, except that one call of Append is never split.
const maxGroup = 4 << 20

// group is what one sync makes durable: the records of all calls of Append that came while the sync before it was under way.
type group struct {
	buf     []byte // room for the group frame, then record frames
	count   int
	waiters int
	since   time.Time     // of the first call
	taken   chan struct{} // closed by the syncer when the group takes no more calls
	done    chan struct{} // closed by the syncer when first and err are set

	first int64
	err   error
}

func newGroup(buf []byte) *group {
	return &group{
		buf:   append(buf[:0], make([]byte, groupFrame)...),
		taken: make(chan struct{}),
		done:  make(chan struct{}),
	}
}

// Append implements [ingest.Appender].
//
//	Append ─encode─┐
//	Append ─encode─┼─▶ pending group ══▶ syncer: write, fdatasync ══▶ all of them return
//	Append ─encode─┘                     (meanwhile the next group fills)
//
// A crash before the sync returned: nobody was told; the group is found whole, in part or not at all. After it: it is found.
func (l *Log) Append(ctx context.Context, recs []ingest.Record) (ingest.Receipt, error) {
	if len(recs) == 0 {
		return nil, ctx.Err()
	}
	start := time.Now()
	size, err := l.sizeOf(recs)
	if err != nil {
		return nil, err
	}
	g, index, err := l.enqueue(ctx, recs, size, start)
	if err != nil {
		return nil, err
	}
	select {
	case <-g.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if g.err != nil {
		return nil, fmt.Errorf("append %d records: %w", len(recs), g.err)
	}
	l.met.append.Observe(time.Since(start).Seconds())
	first := g.first + int64(index)
	return ingest.Receipt{{Stream: l.stream, First: first, Last: first + int64(len(recs)) - 1}}, nil
}

// sizeOf checks recs and returns a bound on the bytes of their frames.
func (l *Log) sizeOf(recs []ingest.Record) (int, error) {
	total := 0
	for i := range recs {
		if err := recs[i].Validate(); err != nil {
			return 0, fmt.Errorf("append record %d of %d: %w", i+1, len(recs), err)
		}
		size := recs[i].BinarySize()
		if size > l.opts.MaxRecord {
			return 0, fmt.Errorf("append record %d of %d, %d bytes of at most %d: %w", i+1, len(recs), size, l.opts.MaxRecord, ingest.ErrTooLarge)
		}
		total += frameHead + size
	}
	if total > maxPayload {
		return 0, fmt.Errorf("append %d records, %d bytes of at most %d: %w", len(recs), total, maxPayload, ingest.ErrTooLarge)
	}
	return total, nil
}

// enqueue adds recs to the pending group and returns it and their index in it.
func (l *Log) enqueue(ctx context.Context, recs []ingest.Record, size int, now time.Time) (*group, int, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		l.mu.Lock()
		if err := l.refuse(size, now); err != nil {
			l.mu.Unlock()
			return nil, 0, err
		}
		g := l.pending
		if g.count == 0 || len(g.buf)+size <= maxGroup {
			index := l.encode(g, recs, now)
			l.mu.Unlock()
			return g, index, nil
		}
		l.mu.Unlock()
		l.signal(l.company)
		select {
		case <-g.taken:
		case <-ctx.Done():
		}
	}
}

// encode adds the frames of recs to g and tells the syncer if it must know. Called with mu held.
func (l *Log) encode(g *group, recs []ingest.Record, now time.Time) (index int) {
	for i := range recs {
		at := len(g.buf)
		g.buf = append(g.buf, 0, 0, 0, 0, 0, 0, 0, 0, 0) // frameHead
		g.buf = recs[i].AppendBinary(g.buf)
		sealFrame(g.buf[at:], kindRecord, l.salt)
	}
	index = g.count
	g.count += len(recs)
	g.waiters++
	if g.waiters == 1 {
		g.since = now
		l.signal(l.wake)
	}
	if g.waiters == l.wanted {
		l.signal(l.company)
	}
	return index
}

// refuse says why size more bytes must not be taken. Called with mu held.
func (l *Log) refuse(size int, now time.Time) error {
	switch {
	case l.failed != nil:
		return l.failed
	case l.refusing:
		return ingest.ErrClosed
	}
	if now.Sub(l.diskSeen) >= diskInterval {
		l.checkDisk(now)
	}
	if l.lowDisk {
		return fmt.Errorf("free space on the log's disk is below the reserve: %w", ingest.ErrFull)
	}
	if held := l.held() + int64(len(l.pending.buf)+size); held > l.opts.MaxBytes {
		return fmt.Errorf("log holds %d bytes of at most %d: %w", l.held(), l.opts.MaxBytes, ingest.ErrFull)
	}
	return nil
}

// diskInterval is how often the free space is looked at.
const diskInterval = time.Second

// checkDisk compares the free space with the reserve. Called with mu held.
func (l *Log) checkDisk(now time.Time) {
	l.diskSeen = now
	free, total, err := l.fs.Free(l.dir)
	if err != nil {
		l.met.failed("free")
		l.opts.Logger.Warn("free space on the log's disk is unknown", "err", err)
		return
	}
	l.met.free.Set(float64(free))
	if low := free < l.opts.reserve(total); low != l.lowDisk {
		l.lowDisk = low
		l.opts.Logger.Warn("free space on the log's disk crossed the reserve", "low", low, "free", free, "reserve", l.opts.reserve(total))
	}
}

func (l *Log) signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // It is signalled already.
	}
}

// idleMark is how long after the last group a mark is written, which makes damage to that group detectable.
const idleMark = 100 * time.Millisecond

// sync is the syncer: the only goroutine that writes records.
func (l *Log) sync() {
	defer close(l.stopped)
	idle := time.NewTimer(idleMark)
	idle.Stop()
	for {
		select {
		case <-l.wake:
		case <-idle.C:
			l.mark()
			continue
		case <-l.stop:
			if g := l.take(); g != nil {
				l.commit(g)
			}
			l.mark()
			return
		}
		l.awaitCompany()
		if g := l.take(); g != nil {
			l.commit(g)
			idle.Reset(idleMark)
		}
	}
}

// awaitCompany waits for as many waiters as half of the last group had, since those that it released are likely to come back at once; but
// for no longer than that sync took, nor than MaxDelay. A lone writer never waits.
func (l *Log) awaitCompany() {
	l.mu.Lock()
	enough := l.pending.waiters >= l.wanted
	if enough {
		select {
		case <-l.company: // of an earlier group
		default:
		}
	}
	l.mu.Unlock()
	delay := min(l.opts.MaxDelay, l.writer.took)
	if enough || delay <= 0 {
		return
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-l.company:
	case <-timer.C:
	case <-l.stop:
	}
}

// take closes the pending group and begins the next one.
func (l *Log) take() *group {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.pending
	if g.count == 0 {
		return nil
	}
	l.pending = newGroup(l.spare)
	l.spare = nil
	l.wanted = max(1, g.waiters/2)
	close(g.taken)
	return g
}

// commit makes g durable and releases its waiters.
func (l *Log) commit(g *group) {
	err := l.Err()
	if err == nil {
		err = l.store1(g)
	}
	l.mu.Lock()
	g.err = err
	if cap(g.buf) <= 2*maxGroup {
		l.spare = g.buf
	}
	if err == nil {
		g.first = l.writer.next - int64(g.count)
		l.advance(&l.writer)
	}
	l.mu.Unlock()
	close(g.done)
}

// store1 writes and syncs one group. Its error is what the waiters get.
func (l *Log) store1(g *group) error {
	start := time.Now()
	err := l.writer.write(l, g.buf, g.count)
	l.writer.took = time.Since(start)
	var broken untrusted
	switch {
	case err == nil:
		return nil
	case errors.As(err, &broken):
		l.met.failed(broken.op)
		return l.fail(err)
	case errors.Is(err, errNoSpace):
		l.met.failed("nospace")
		l.mu.Lock()
		l.lowDisk, l.diskSeen = true, time.Now()
		l.mu.Unlock()
		return fmt.Errorf("%w: %w", ingest.ErrFull, err)
	default:
		l.met.failed("roll")
		return fmt.Errorf("%w: %w", ingest.ErrUnavailable, err)
	}
}

// mark writes an empty group, which proves to the next Open that all before it was durable.
func (l *Log) mark() {
	if l.Err() != nil || !l.writer.markable() {
		return
	}
	if err := l.store1(newGroup(nil)); err != nil {
		l.opts.Logger.Warn("log could not write a mark", "err", err)
		return
	}
	l.mu.Lock()
	l.advance(&l.writer)
	l.mu.Unlock()
}
