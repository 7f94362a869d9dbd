package wal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"millrace/ingest"
)

// hintInterval is how often a hint whose Home did not change is made durable.
const hintInterval = 10 * time.Second

// Trim implements [ingest.Partition]. It removes whole segments: the manifest without them first, then the files. A crash in between leaves
// files that the next Open removes.
func (l *Log) Trim(_ context.Context, stream ingest.Stream, low int64) error {
	if err := l.usable(); err != nil {
		return err
	}
	if stream.Log != l.stream.Log || stream.Partition != l.stream.Partition {
		return fmt.Errorf("trim stream %v: not of log %s, partition %d", stream, l.stream.Log, l.stream.Partition)
	}
	m := l.manifest()
	if _, drop := m.clone().trim(stream.Incarnation, low); !drop {
		return nil
	}
	var gone []segment
	err := l.changeWithBallast(func(m *manifest) { gone, _ = m.trim(stream.Incarnation, low) })
	if err != nil {
		return fmt.Errorf("trim stream %v to offset %d: %w", stream, low, err)
	}
	l.mu.Lock()
	for _, seg := range gone {
		l.forget(seg.First)
	}
	l.mu.Unlock()
	err = l.discard(gone)
	l.mu.Lock()
	l.diskSeen = time.Time{} // There may be room now.
	l.mu.Unlock()
	return err
}

// discard removes the files of segments that the manifest discards. What is left over is removed by the next Open. A name leaves the manifest
// only when its removal is durable: else the file could come back and belong to nobody.
func (l *Log) discard(gone []segment) error {
	var removed []string
	for _, seg := range gone {
		if err := l.fs.Remove(filepath.Join(l.dir, seg.name())); err != nil {
			l.met.failed("remove")
			l.opts.Logger.Warn("a trimmed segment could not be removed", "segment", seg.name(), "err", err)
			continue
		}
		removed = append(removed, seg.name())
	}
	if len(removed) == 0 {
		return nil
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		l.met.failed("syncdir")
		return l.fail(err)
	}
	l.edit(func(m *manifest) { m.kept(removed...) })
	return nil
}

// trim drops what is below low in one incarnation, and the incarnation if it is complete. changed says whether there was anything to drop.
func (m *manifest) trim(id string, low int64) (gone []segment, changed bool) {
	inc := m.incarnation(id)
	if inc == nil {
		return nil, false
	}
	whole := inc.Next >= 0 && low >= inc.Next
	gone = m.drop(func(seg segment) bool { return seg.Incarnation == id && !seg.open() && (whole || seg.Next <= low) })
	if whole {
		m.Lost = slices.DeleteFunc(m.Lost, func(d Damage) bool { return d.Incarnation == id })
		m.Incarnations = slices.DeleteFunc(m.Incarnations, func(i incarnation) bool { return i.ID == id })
	}
	return gone, whole || len(gone) > 0
}

// Hint implements [ingest.Partition].
func (s *store) Hint(_ context.Context, stream ingest.Stream) (ingest.ChainHint, error) {
	m := s.manifest()
	if inc := m.incarnation(stream.Incarnation); inc != nil && m.stream(inc.ID) == stream {
		return ingest.ChainHint{Home: inc.Home, Seq: inc.Seq}, nil
	}
	return ingest.ChainHint{}, nil
}

// SaveHint implements [ingest.Partition]. A hint with a new Home is durable when it returns; others at the latest with the next change of the
// manifest that comes hintInterval after the last one.
func (l *Log) SaveHint(ctx context.Context, stream ingest.Stream, hint ingest.ChainHint) error {
	if err := l.usable(); err != nil {
		return err
	}
	old, err := l.Hint(ctx, stream)
	if err != nil || old == hint {
		return err
	}
	edit := func(m *manifest) {
		if inc := m.incarnation(stream.Incarnation); inc != nil && m.stream(inc.ID) == stream {
			inc.Home, inc.Seq = hint.Home, hint.Seq
		}
	}
	now := time.Now()
	l.mu.Lock()
	lazy := old.Home == hint.Home && now.Sub(l.hintsSaved) < hintInterval
	if !lazy {
		l.hintsSaved = now
	}
	l.mu.Unlock()
	if lazy {
		l.edit(edit)
		return nil
	}
	if err := l.changeWithBallast(edit); err != nil {
		return fmt.Errorf("save chain hint of stream %v: %w", stream, err)
	}
	return nil
}

// edit changes the manifest in memory; it is stored with the next change.
func (s *store) edit(edit func(*manifest)) {
	s.manMu.Lock()
	defer s.manMu.Unlock()
	m := s.manifest().clone()
	edit(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.man = m
}

func (l *Log) usable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	if l.closed {
		return ingest.ErrClosed
	}
	return nil
}

// ballastBytes is set aside so that a full disk can be drained: the manifest that removes segments needs a little room itself. Logs with small
// segments set less aside.
const ballastBytes = 1 << 20

func (l *Log) writeBallast() {
	f, err := l.fs.OpenFile(filepath.Join(l.dir, ballastName), os.O_RDWR|os.O_CREATE)
	if err == nil {
		err = errors.Join(f.Preallocate(min(ballastBytes, 16*l.opts.SegmentBytes)), f.Close())
	}
	if err != nil {
		l.opts.Logger.Warn("no room for the log's ballast", "err", err)
	}
}

// changeWithBallast is change, with a second try on a full disk after the ballast was thrown off. Errors are those of the seam.
func (l *Log) changeWithBallast(edit func(*manifest)) error {
	err := l.change(edit)
	if errors.Is(err, errNoSpace) && !errors.As(err, new(untrusted)) {
		if err = l.fs.Remove(filepath.Join(l.dir, ballastName)); err == nil {
			err = l.change(edit)
		}
		defer l.writeBallast()
	}
	var broken untrusted
	switch {
	case err == nil:
		return nil
	case errors.As(err, &broken):
		l.met.failed(broken.op)
		return l.fail(err)
	default:
		l.met.failed("manifest")
		return fmt.Errorf("%w: %w", ingest.ErrUnavailable, err)
	}
}
