package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// window gives access to stretches of a file through reads of about chunk bytes. What it returned stays valid, unless reuse is set: then it is
// valid until the next call.
type window struct {
	file  io.ReaderAt
	chunk int
	reuse bool
	buf   []byte
	start int64 // of buf in the file
}

// at returns n bytes from pos on, or what is there if the file ends before.
func (w *window) at(pos int64, n int) ([]byte, error) {
	if pos < w.start || pos+int64(n) > w.start+int64(len(w.buf)) {
		buf := w.buf[:0]
		if want := max(n, w.chunk); !w.reuse || cap(buf) < want {
			buf = make([]byte, want)
		}
		buf = buf[:max(n, w.chunk)]
		got, err := w.file.ReadAt(buf, pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		w.buf, w.start = buf[:got], pos
	}
	from := pos - w.start
	to := min(from+int64(n), int64(len(w.buf)))
	return w.buf[from:to:to], nil
}

// holds reports whether n bytes from pos on can be had without a read.
func (w *window) holds(pos int64, n int) bool {
	return pos >= w.start && pos+int64(n) <= w.start+int64(len(w.buf))
}

// cursor is a place between two frames of a segment.
type cursor struct {
	pos  int64
	next int64 // offset of the next record
	left int   // records left in the group; leftUnknown behind damage: until the next group frame
}

const leftUnknown = -1

// itemKind is what a walker found.
type itemKind int

const (
	itemRecord itemKind = iota
	itemEnd             // the end of the segment, or of what is whole in an open one
	itemDamage
)

type item struct {
	kind    itemKind
	offset  int64
	payload []byte
	damage  Damage
}

// walker reads the frames of one segment in order. It decides, from the bytes alone, between what is whole, what is damaged, and, in a
// segment that was being written at a crash (seg.open()), what is a torn tail:
//
//	good frame                               take it
//	bad, and a group frame further on        damage: the group frame proves that all before it was durable
//	bad, and none further on, open segment   the torn tail of the last group, which was never acknowledged: the end
//	bad, and none further on, closed one     damage up to the segment's end, which the manifest knows
type walker struct {
	cursor
	win  window
	seg  segment
	salt uint32
	end  int64 // of the bytes to look at
	lost []Damage
	// group is the place of the last group frame that was taken, or -1; groupFirst the offset of its first record.
	group, groupFirst int64
	header            []byte
}

// newWalker walks seg, whose file has size bytes, from its head on.
func newWalker(m *manifest, seg segment, file io.ReaderAt, size int64, chunk int) *walker {
	w := &walker{
		win: window{file: file, chunk: int(min(int64(chunk), size))}, seg: seg, end: size, group: -1, lost: m.lostIn(seg), header: m.head(seg),
		cursor: cursor{next: seg.First},
	}
	if inc := m.incarnation(seg.Incarnation); inc != nil {
		w.salt = inc.Salt
	}
	if !seg.open() {
		w.end = seg.Bytes
	}
	return w
}

// step returns the next record, damage that was not accepted, or the end. Behind damage it goes on with what is good again.
func (w *walker) step() (item, error) {
	for {
		if w.skipLost() {
			continue
		}
		if w.pos == 0 {
			if it, err := w.stepHead(); err != nil || it.kind == itemDamage {
				return it, err
			}
			continue
		}
		if w.pos >= w.end {
			return w.atEnd(), nil
		}
		kind, payload, size, err := w.frame(w.pos)
		if err != nil {
			return item{}, err
		}
		if kind == kindRecord && w.left != 0 {
			off := w.next
			w.pos += size
			w.next++
			if w.left > 0 {
				w.left--
			}
			return item{kind: itemRecord, offset: off, payload: payload}, nil
		}
		if kind != kindGroup || w.left > 0 || !w.enter(parseGroup(payload)) {
			return w.resync()
		}
	}
}

// stepHead checks the head of the segment and goes past it. The item is damage or means nothing.
func (w *walker) stepHead() (item, error) {
	if w.skipLost() {
		return item{}, nil
	}
	head, err := w.win.at(0, headSize)
	if err != nil {
		return item{}, err
	}
	if !bytes.Equal(head, w.header) {
		return w.damaged(cursor{pos: headSize, next: w.next}, "head is not that of the manifest"), nil
	}
	w.pos = headSize
	return item{}, nil
}

// enter takes a group frame if it belongs here.
func (w *walker) enter(g groupHead) bool {
	if g.pos != w.pos || g.first != w.next || w.pos+groupFrame+int64(g.bytes) > w.end && !w.seg.open() {
		return false
	}
	w.group, w.groupFirst = w.pos, w.next
	w.pos += groupFrame
	w.left = int(g.count)
	return true
}

// skipLost passes damage that an operator accepted.
func (w *walker) skipLost() bool {
	for _, d := range w.lost {
		if d.From == w.pos && d.First == w.next && (d.To > w.pos || d.Next > w.next) {
			w.cursor = cursor{pos: d.To, next: d.Next, left: leftUnknown}
			return true
		}
	}
	return false
}

func (w *walker) atEnd() item {
	if w.seg.open() || w.next == w.seg.Next {
		return item{kind: itemEnd}
	}
	return w.damaged(cursor{pos: w.pos, next: w.seg.Next}, "records missing at the end")
}

// damaged reports what lies between here and the cursor to, and goes on there.
func (w *walker) damaged(to cursor, reason string) item {
	d := Damage{
		Segment: w.seg.name(), From: w.pos, To: to.pos, First: w.next, Next: to.next, Incarnation: w.seg.Incarnation, Reason: reason,
	}
	w.cursor = to
	return item{kind: itemDamage, damage: d}
}

// frame returns the frame at pos, or kind 0 if there is no good one.
func (w *walker) frame(pos int64) (kind byte, payload []byte, size int64, err error) {
	head, err := w.win.at(pos, frameHead)
	if err != nil {
		return 0, nil, 0, err
	}
	n, ok := frameSize(head, w.end-pos)
	if !ok {
		return 0, nil, 0, nil
	}
	frame, err := w.win.at(pos, n)
	if err != nil {
		return 0, nil, 0, err
	}
	if len(frame) < n || !checkFrame(frame, w.salt) {
		return 0, nil, 0, nil
	}
	return frame[8], frame[frameHead:], int64(n), nil
}

// resync looks for the first good frame behind a bad one from which frames follow each other up to something whose offset is known: a group
// frame, or the end that the manifest knows. Counting back from there gives the offset of that first frame.
func (w *walker) resync() (item, error) {
	var (
		start   = int64(-1) // first frame of the chain that is being followed
		records int64
		pos     = w.pos + 1
	)
	for pos < w.end {
		kind, payload, size, err := w.frame(pos)
		if err != nil {
			return item{}, err
		}
		if kind == kindGroup {
			if g := parseGroup(payload); g.pos == pos && g.first >= w.next {
				if start < 0 || g.first-records < w.next {
					start, records = pos, 0
				}
				return w.damaged(cursor{pos: start, next: g.first - records, left: leftUnknown}, "bad checksum"), nil
			}
			kind = 0
		}
		if kind == kindRecord {
			if start < 0 {
				start, records = pos, 0
			}
			records++
			pos += size
			continue
		}
		start = -1
		if pos, err = w.candidate(pos + 1); err != nil {
			return item{}, err
		}
	}
	if w.seg.open() {
		return item{kind: itemEnd}, nil
	}
	if start < 0 || w.seg.Next-records < w.next {
		start, records = w.end, 0
	}
	return w.damaged(cursor{pos: start, next: w.seg.Next - records, left: leftUnknown}, "bad checksum"), nil
}

// candidate returns the first place from pos on where a frame could begin, or the end.
func (w *walker) candidate(pos int64) (int64, error) {
	for ; pos < w.end; pos++ {
		b, err := w.win.at(pos, frameHead)
		if err != nil {
			return 0, err
		}
		if len(b) < frameHead {
			return w.end, nil
		}
		if binary.LittleEndian.Uint64(b) == 0 && w.win.holds(pos, 1<<10) {
			// Preallocated and never written, most likely: pass the zeros quickly, up to where kind could be the first that is not.
			rest := w.win.buf[pos-w.win.start:]
			zeros := len(rest) - len(bytes.TrimLeft(rest, "\x00"))
			if zeros > frameHead {
				pos += int64(zeros) - frameHead
				continue
			}
		}
		if _, ok := frameSize(b, w.end-pos); ok {
			return pos, nil
		}
	}
	return w.end, nil
}
