package wal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"millrace/ingest/vfs"
)

// errNoSpace is what the disk says when it is full: nothing durable is touched, and trying again later may help.
var errNoSpace = vfs.ErrNoSpace

// untrusted is an error after which nobody knows what the disk holds: of a sync, of a write of records, or of a rename. It is final.
type untrusted struct {
	op  string
	err error
}

func (u untrusted) Error() string { return u.err.Error() }

func (u untrusted) Unwrap() error { return u.err }

// writer is the end of the log. It belongs to the syncer, and to Close when the syncer has ended.
type writer struct {
	file   vfs.File // of the open segment; nil before the first record
	first  int64    // of the open segment
	size   int64    // preallocated
	pos    int64    // where the next group goes; all before it is durable
	next   int64    // offset of the next record
	zeroed int64    // up to here, blocks were written and not only preallocated
	marked bool     // the last group is a mark
	took   time.Duration
}

// write appends one group of count records and syncs it. buf begins with room for the group frame.
//
// Steps: 1. find or make room (roll), 2. write, 3. sync. A crash before 3 returned leaves a torn tail, or nothing, or the whole group, which
// nobody was told of. If 2 meets a full disk, the next group goes to the same place, over the remains: they can not be taken for records,
// because the new group frame says where the group ends.
func (w *writer) write(l *Log, buf []byte, count int) error {
	if err := w.room(l, int64(len(buf))); err != nil {
		return err
	}
	groupHead{pos: w.pos, first: w.next, count: uint32(count), bytes: uint32(len(buf) - groupFrame)}.put(buf, l.salt)
	err := w.zeroAhead(w.pos + int64(len(buf)))
	if err == nil {
		_, err = w.file.WriteAt(buf, w.pos)
	}
	if errors.Is(err, errNoSpace) {
		return err
	} else if err != nil {
		return untrusted{"write", err}
	}
	start := time.Now()
	if err := w.file.Sync(); err != nil {
		return untrusted{"sync", err}
	}
	l.met.fsync.Observe(time.Since(start).Seconds())
	w.pos += int64(len(buf))
	w.next += int64(count)
	w.marked = count == 0
	return nil
}

// zeroAheadBytes is how much is written ahead of small groups.
const zeroAheadBytes = 256 << 10

var zeros [zeroAheadBytes]byte

// zeroAhead writes zeros behind end, if the blocks there are only preallocated and the group is small. The first write to a preallocated block
// changes the file's extents, which a sync has to put through the file system's journal; a sync of blocks that were written before costs half
// the time and half the processor. So one group in many pays for all. Large groups would only write everything twice.
func (w *writer) zeroAhead(end int64) error {
	if end <= w.zeroed || end-w.pos > zeroAheadBytes/4 {
		return nil
	}
	to := min(w.size, end+zeroAheadBytes)
	if to > end {
		if _, err := w.file.WriteAt(zeros[:to-end], end); err != nil {
			return err
		}
	}
	w.zeroed = to
	return nil
}

// room makes sure that need bytes fit.
func (w *writer) room(l *Log, need int64) error {
	switch {
	case w.file != nil && w.pos+need <= w.size:
		return nil
	case w.file != nil && w.next == w.first:
		// Larger than a segment: an empty one grows for it, since another one would have the same name.
		if err := w.file.Preallocate(w.pos + need); err != nil {
			return fmt.Errorf("preallocate segment %d: %w", w.first, err)
		}
		w.size = w.pos + need
		return nil
	default:
		return w.roll(l, need)
	}
}

// roll begins a new segment.
//
// Steps: 1. create it, preallocated and with its head, and sync it; 2. sync the directory; 3. store a manifest in which the old segment has an
// end and the new one is open. Only then a record can go into it. A crash before 3: the file holds no record and the next Open removes it.
func (w *writer) roll(l *Log, need int64) error {
	m := l.manifest()
	seg := segment{Incarnation: m.live().ID, First: w.next, Next: -1, Bytes: -1, Size: max(l.opts.SegmentBytes, headSize+need)}
	file, err := createSegment(l.fs, l.dir, m, seg)
	if err == nil {
		err = l.change(func(m *manifest) {
			if last := m.lastSegment(); last != nil && last.open() {
				last.Next, last.Bytes = w.next, w.pos
			}
			m.add(seg)
		})
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}
	if err != nil {
		if !errors.As(err, new(untrusted)) {
			_ = l.fs.Remove(filepath.Join(l.dir, seg.name())) // Best effort: it is truncated or removed later.
		}
		return fmt.Errorf("begin segment %d: %w", seg.First, err)
	}
	w.trimFile()
	if err := w.close(); err != nil {
		l.opts.Logger.Warn("a full segment could not be closed", "err", err)
	}
	w.file, w.first, w.size, w.pos, w.zeroed, w.marked = file, seg.First, seg.Size, headSize, 0, true
	return nil
}

func createSegment(fsys vfs.FS, dir string, m *manifest, seg segment) (vfs.File, error) {
	file, err := fsys.OpenFile(filepath.Join(dir, seg.name()), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	err = file.Preallocate(seg.Size)
	if err == nil {
		_, err = file.WriteAt(m.head(seg), 0)
	}
	if err == nil {
		if err = file.Sync(); err != nil {
			err = untrusted{"sync", err}
		} else if err = fsys.SyncDir(dir); err != nil {
			err = untrusted{"syncdir", err}
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// markable reports whether a mark is missing and has room.
func (w *writer) markable() bool {
	return w.file != nil && !w.marked && w.pos+groupFrame <= w.size
}

// trimFile gives back what was preallocated and not used. Best effort: the manifest knows where the segment ends.
func (w *writer) trimFile() {
	if w.file != nil {
		_ = w.file.Truncate(w.pos)
	}
}

func (w *writer) close() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}
