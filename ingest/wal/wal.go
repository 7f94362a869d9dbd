package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"millrace/ingest"
	"millrace/ingest/vfs"
)

// Log is an open log. It is an [ingest.Appender], an [ingest.Consumer], the one [ingest.Partition] of that consumer, an [ingest.Pressure] and
// an [ingest.LossReporter]. Safe for concurrent use.
type Log struct {
	*store
	opts Options
	lock io.Closer
	met  *metrics

	wake    chan struct{} // there is a pending group; cap 1
	company chan struct{} // the pending group has the waiters it hoped for; cap 1
	stop    chan struct{} // closed by Close
	stopped chan struct{} // closed by the syncer when it has ended
	failure chan error    // gets the first failure; cap 1
	closing sync.Once

	writer writer // owned by the syncer

	// Guarded by store.mu:
	pending    *group
	spare      []byte    // the buffer of a group that is done
	wanted     int       // waiters that the pending group hopes for
	failed     error     // final
	refusing   bool      // Close has begun
	lowDisk    bool      // free space is below the reserve, or the disk said so
	diskSeen   time.Time // when that was looked at
	hintsSaved time.Time
}

var (
	_ ingest.Appender     = (*Log)(nil)
	_ ingest.Consumer     = (*Log)(nil)
	_ ingest.Partition    = (*Log)(nil)
	_ ingest.Pressure     = (*Log)(nil)
	_ ingest.LossReporter = (*Log)(nil)
)

// Open opens the log in dir, makes it if there is none, and begins a new incarnation at its end. What a crash left at the end of the last
// segment is cut off there, and only that: [Damage] anywhere else is returned as an error, and nothing is changed.
//
// Errors: [vfs.ErrLocked] if another process has it; [ingest.ErrCorrupt].
func Open(dir string, opts Options) (*Log, error) {
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("open log %q: %w", dir, err)
	}
	opts = opts.withDefaults()
	if err := vfs.MkdirAllSync(opts.FS, dir); err != nil {
		return nil, fmt.Errorf("open log %q: %w", dir, err)
	}
	lock, err := opts.FS.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("open log %q, which has one writer at a time: %w", dir, err)
	}
	l, err := open(dir, opts, lock)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log %q: %w", dir, err), lock.Close())
	}
	return l, nil
}

func open(dir string, opts Options, lock io.Closer) (*Log, error) {
	m, err := recoverDir(dir, opts)
	if err != nil {
		return nil, err
	}
	l := &Log{
		store:   newStore(opts.FS, dir, m),
		opts:    opts,
		lock:    lock,
		wake:    make(chan struct{}, 1),
		company: make(chan struct{}, 1),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		failure: make(chan error, 1),
		pending: newGroup(nil),
		wanted:  1,
		writer:  writer{first: -1, next: m.live().First},
	}
	if l.met, err = newMetrics(opts.Registerer, l); err != nil {
		return nil, err
	}
	l.writeBallast()
	l.mu.Lock()
	l.checkDisk(time.Now())
	l.mu.Unlock()
	go l.sync() // ended by Close, which waits for it
	live := m.live()
	opts.Logger.Info("log opened", "partition", m.Partition, "log", m.Log, "incarnation", live.ID, "next", live.First, "segments", len(m.Segments))
	return l, nil
}

// Failed delivers the failure of the disk that ended this log, once. The process must exit with an error then.
func (l *Log) Failed() <-chan error { return l.failure }

// Err returns that failure, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// Consume implements [ingest.Consumer] for the one partition. Ownership ends with Close.
func (l *Log) Consume(ctx context.Context, work func(ctx context.Context, p ingest.Partition) error) error {
	return consume(ctx, l.stop, l, work)
}

// consume runs work for p until ctx ends or stop is closed.
func consume(ctx context.Context, stop <-chan struct{}, p ingest.Partition, work func(context.Context, ingest.Partition) error) error {
	owned, cancel := context.WithCancel(ctx)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- work(owned, p) }() // ends with owned; waited for here
	select {
	case err := <-result:
		if err != nil {
			return err
		}
		result <- nil
		select {
		case <-owned.Done():
		case <-stop:
		}
	case <-owned.Done():
	case <-stop:
	}
	cancel()
	err := <-result
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ingest.ErrClosed) {
		return nil
	}
	return err
}

// Pressure implements [ingest.Pressure].
func (l *Log) Pressure() (held, limit int64, retry time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held = l.held() + int64(len(l.pending.buf))
	if l.lowDisk || held >= l.opts.MaxBytes {
		retry = retryAfter
	}
	return held, l.opts.MaxBytes, retry
}

// retryAfter is for how long senders should stay away from a full log: about what the batcher needs to seal, put and trim.
const retryAfter = 5 * time.Second

// Close stores what is pending, seals the log and releases it. It is needed for speed and for detecting damage to the last group only: a log
// that was killed loses nothing. Safe to call twice.
func (l *Log) Close() error {
	var err error
	l.closing.Do(func() {
		l.mu.Lock()
		l.refusing = true
		l.mu.Unlock()
		close(l.stop)
		<-l.stopped
		err = errors.Join(l.seal(), l.store.close(), l.writer.close(), l.lock.Close())
		l.met.unregister()
	})
	return err
}

// seal writes down where the log ended.
func (l *Log) seal() error {
	if l.Err() != nil {
		return nil // The disk is not to be trusted; the next Open looks for itself.
	}
	err := l.change(func(m *manifest) {
		if seg := m.lastSegment(); seg != nil && seg.open() {
			seg.Next, seg.Bytes = l.writer.next, l.writer.pos
		}
	})
	if err != nil {
		return fmt.Errorf("seal log: %w", err)
	}
	l.writer.trimFile()
	return nil
}

// fail makes err final: the disk said that it could not store what it had taken, so nothing that it says later is worth anything.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = fmt.Errorf("%w: %w", ingest.ErrFailed, err)
		l.failure <- l.failed
		l.opts.Logger.Error("log failed, nothing more is accepted", "err", err)
	}
	return l.failed
}
