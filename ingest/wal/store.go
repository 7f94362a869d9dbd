package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"sync"

	"millrace/ingest"
	"millrace/ingest/vfs"
)

// store is what can be read of a log: the half that [Log] and [Reader] share.
type store struct {
	fs     vfs.FS
	dir    string
	stream ingest.Stream // of the live incarnation
	salt   uint32        // of the live incarnation
	// snapshot says that another process may trim, without this manifest knowing.
	snapshot bool

	manMu sync.Mutex // serialises changes of the manifest; taken before mu

	mu      sync.Mutex // guards what follows, and what Log says
	man     *manifest
	tail    tail
	marks   map[int64][]mark // by segment: places to begin to read at
	recent  []place          // where the last calls of Read ended, the latest last
	files   map[int64]*handle
	changed chan struct{} // closed when the tail moves; nil if nobody waits
	closed  bool
}

// tail is how much of the open segment is durable.
type tail struct {
	segment   int64 // First of the open segment
	pos, next int64
}

// mark is the place of a group frame.
type mark struct{ pos, next int64 }

// place is a cursor in a segment.
type place struct {
	segment int64
	cursor
}

// handle is a segment open for reading.
type handle struct {
	vfs.File
	users int
}

const (
	markDistance = 256 << 10 // bytes between marks
	maxRecent    = 8
	maxFiles     = 4 // handles kept without a user
	defaultRead  = 1 << 20
)

func newStore(fsys vfs.FS, dir string, m *manifest) *store {
	live := m.live()
	return &store{
		fs: fsys, dir: dir, stream: m.stream(live.ID), salt: live.Salt, man: m,
		tail:  tail{segment: -1, next: m.end()},
		marks: map[int64][]mark{}, files: map[int64]*handle{},
	}
}

func (s *store) manifest() *manifest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.man
}

// change stores an edited copy of the manifest, durably, and then makes it the current one.
// Errors: untrusted, when it is not known which of both the disk has.
func (s *store) change(edit func(*manifest)) error {
	s.manMu.Lock()
	defer s.manMu.Unlock()
	m := s.manifest().clone()
	edit(m)
	if err := writeManifest(s.fs, s.dir, m); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.man = m
	return nil
}

func writeManifest(fsys vfs.FS, dir string, m *manifest) error {
	stage, err := vfs.WriteFileSync(fsys, filepath.Join(dir, manifestName), m.encode())
	switch {
	case err == nil:
		return nil
	case stage == vfs.StageWrite, stage == vfs.StageSync && errors.Is(err, errNoSpace):
		return fmt.Errorf("write manifest: %w", err)
	default:
		return untrusted{"manifest", fmt.Errorf("write manifest: %w", err)}
	}
}

// advance makes what w wrote visible. Called with mu held.
func (s *store) advance(w *writer) {
	if s.tail.segment != w.first {
		s.marks[w.first] = nil
	}
	if marks := s.marks[w.first]; len(marks) == 0 || w.pos-marks[len(marks)-1].pos >= markDistance {
		s.marks[w.first] = append(marks, mark{w.pos, w.next})
	}
	s.tail = tail{segment: w.first, pos: w.pos, next: w.next}
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// held returns the bytes that the log holds. Called with mu held.
func (s *store) held() int64 {
	var sum int64
	for _, seg := range s.man.Segments {
		sum += s.sealed(seg).Bytes
	}
	return sum
}

// sealed returns seg with the end that is durable now, also if it is open. Called with mu held.
func (s *store) sealed(seg segment) segment {
	if !seg.open() {
		return seg
	}
	seg.Next, seg.Bytes = seg.First, headSize
	if s.tail.segment == seg.First {
		seg.Next, seg.Bytes = s.tail.next, s.tail.pos
	}
	return seg
}

// ID implements [ingest.Partition].
func (s *store) ID() int { return s.stream.Partition }

// Incarnations implements [ingest.Partition].
func (s *store) Incarnations() []ingest.Incarnation {
	m := s.manifest()
	out := make([]ingest.Incarnation, len(m.Incarnations))
	for i, inc := range m.Incarnations {
		out[i] = ingest.Incarnation{Stream: m.stream(inc.ID), First: inc.First, Next: inc.Next}
	}
	return out
}

// Bounds implements [ingest.Partition].
func (s *store) Bounds(context.Context) (low, next int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, 0, ingest.ErrClosed
	}
	low = s.tail.next
	if len(s.man.Segments) > 0 {
		low = s.man.Segments[0].First
	}
	return low, s.tail.next, nil
}

// Lost implements [ingest.LossReporter].
func (s *store) Lost() []ingest.Span {
	m := s.manifest()
	var out []ingest.Span
	for _, d := range m.Lost {
		if d.First < d.Next {
			out = append(out, ingest.Span{Stream: m.stream(d.Incarnation), First: d.First, Last: d.Next - 1})
		}
	}
	return out
}

// Wait implements [ingest.Partition]. A new incarnation begins only at Open, so the high watermark is all that there is to wait for.
func (s *store) Wait(ctx context.Context, from int64) error {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return ingest.ErrClosed
		}
		if s.tail.next > from {
			s.mu.Unlock()
			return nil
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Read implements [ingest.Partition]. It is made for a reader that goes on where its last call ended: such a call reads the disk once, in one
// piece, and allocates once. Other calls begin at the nearest mark, or at the head of the segment.
func (s *store) Read(ctx context.Context, from int64, maxBytes int, buf []ingest.Stored) ([]ingest.Stored, int64, error) {
	if maxBytes <= 0 {
		maxBytes = defaultRead
	}
	buf = buf[:0]
	for {
		if err := ctx.Err(); err != nil {
			return buf, from, err
		}
		seg, at, err := s.locate(&from)
		if err != nil || seg == nil {
			return buf, from, err
		}
		buf, from, err = s.readSegment(*seg, at, from, maxBytes, buf)
		if errors.Is(err, fs.ErrNotExist) {
			if err = s.gone(*seg); err == nil {
				continue // Trimmed since; locate says so.
			}
		}
		if err != nil || len(buf) > 0 {
			return buf, from, err
		}
	}
}

// gone says what it means that the file of seg is not there; nil if the manifest gave it up meanwhile.
func (s *store) gone(seg segment) error {
	known := slices.ContainsFunc(s.manifest().Segments, func(other segment) bool { return other.First == seg.First })
	switch {
	case !known:
		return nil
	case s.snapshot:
		return fmt.Errorf("read segment %s: %w", seg.name(), ingest.ErrTrimmed)
	default:
		return missing(seg)
	}
}

// locate returns the segment that holds from, and a place in it at or before from; nil when from is at the high watermark. It moves from past
// what was lost.
func (s *store) locate(from *int64) (*segment, cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, cursor{}, ingest.ErrClosed
	}
	for *from < s.tail.next {
		segs := s.man.Segments
		i := sort.Search(len(segs), func(i int) bool { return s.sealed(segs[i]).Next > *from })
		if i < len(segs) && segs[i].First <= *from {
			seg := s.sealed(segs[i])
			return &seg, s.nearest(seg, *from), nil
		}
		lost := slices.IndexFunc(s.man.Lost, func(d Damage) bool { return d.First <= *from && *from < d.Next })
		if lost < 0 {
			return nil, cursor{}, fmt.Errorf("read offset %d: %w", *from, ingest.ErrTrimmed)
		}
		*from = s.man.Lost[lost].Next
	}
	return nil, cursor{}, nil
}

// nearest returns the best known place to begin at. Called with mu held.
func (s *store) nearest(seg segment, from int64) cursor {
	best := cursor{next: seg.First}
	for _, m := range s.marks[seg.First] {
		if m.next <= from {
			best = cursor{pos: m.pos, next: m.next}
		}
	}
	for _, p := range s.recent {
		if p.segment == seg.First && p.next <= from && p.next > best.next {
			best = p.cursor
		}
	}
	return best
}

// readSegment reads from seg, whose end is durable, beginning at the place at.
func (s *store) readSegment(seg segment, at cursor, from int64, maxBytes int, buf []ingest.Stored) ([]ingest.Stored, int64, error) {
	file, err := s.acquire(seg.First)
	if err != nil {
		return buf, from, err
	}
	defer s.release(seg.First, file)
	chunk := int(min(int64(maxBytes), seg.Bytes-at.pos))
	w := newWalker(s.manifest(), seg, file, seg.Bytes, chunk)
	if at.pos > 0 {
		w.cursor = at
	}
	end := w.cursor // behind the last record that is returned
	for total := 0; total < maxBytes; {
		it, err := w.step()
		if err != nil {
			return buf, from, fmt.Errorf("read segment %s: %w: %w", seg.name(), ingest.ErrUnavailable, err)
		}
		if it.kind == itemDamage && it.damage.before(from) {
			continue
		}
		if it.kind == itemDamage && len(buf) == 0 {
			return buf, from, it.damage
		}
		if it.kind != itemRecord {
			break
		}
		if it.offset >= from {
			buf = append(buf, ingest.Stored{Offset: it.offset, Bytes: it.payload})
			total += len(it.payload)
			end = w.cursor
			if !w.buffered() {
				break
			}
		}
	}
	if len(buf) == 0 {
		return buf, seg.Next, nil // All that was left is lost.
	}
	s.remember(place{seg.First, end})
	return buf, end.next, nil
}

// buffered reports whether the next frame is in memory.
func (w *walker) buffered() bool {
	if !w.win.holds(w.pos, frameHead) {
		return false
	}
	head, _ := w.win.at(w.pos, frameHead)
	n, _ := frameSize(head, w.end-w.pos)
	return w.win.holds(w.pos, n)
}

// remember keeps the place where a read ended.
func (s *store) remember(p place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent = append(s.recent, p)
	if len(s.recent) > maxRecent {
		s.recent = slices.Delete(s.recent, 0, 1)
	}
}

// acquire returns a segment's file, open.
func (s *store) acquire(seg int64) (*handle, error) {
	s.mu.Lock()
	h := s.files[seg]
	if h != nil {
		h.users++
	}
	s.mu.Unlock()
	if h != nil {
		return h, nil
	}
	file, err := s.fs.OpenFile(filepath.Join(s.dir, segmentName(seg)), readOnly)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	h = &handle{File: file, users: 1}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[seg] == nil && !s.closed {
		s.files[seg] = h
	}
	return h, nil
}

// release gives a file back; the lowest ones are closed when there are too many.
func (s *store) release(seg int64, h *handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.users--
	if s.files[seg] != h {
		if h.users == 0 {
			_ = h.Close() // Read-only: nothing can be lost.
		}
		return
	}
	for first, old := range s.files {
		if old.users == 0 && (len(s.files) > maxFiles || s.closed) {
			_ = old.Close()
			delete(s.files, first)
		}
	}
}

// forget drops what is known of segments that are gone. Called with mu held.
func (s *store) forget(first int64) {
	delete(s.marks, first)
	if h := s.files[first]; h != nil {
		delete(s.files, first)
		if h.users == 0 {
			_ = h.Close()
		}
	}
	s.recent = slices.DeleteFunc(s.recent, func(p place) bool { return p.segment == first })
}

// close ends reading: waiters return, and files are closed by their last user.
func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for first := range s.files {
		s.forget(first)
	}
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	return nil
}
