package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"millrace/ingest"
	"millrace/ingest/vfs"
)

// Reader is a log open for reading, beside whoever writes it: no lock, no new incarnation, nothing is changed. It shows what was provably
// durable when it was opened: all that is closed, and of an open segment all groups but the last, which becomes provable by the next group or
// by the mark that follows when the writer has been idle for 0.1 s. It does not grow; open another one. Segments that the writer trims
// meanwhile become ErrTrimmed.
type Reader struct {
	*store
	note error // why the open segment could not be read to its end, or nil
}

var (
	_ ingest.Consumer     = (*Reader)(nil)
	_ ingest.Partition    = (*Reader)(nil)
	_ ingest.LossReporter = (*Reader)(nil)
)

// ErrReadOnly is returned by what would change a log through a [Reader].
var ErrReadOnly = errors.New("log is open for reading only")

// OpenReader opens the log in dir. A nil fsys is [vfs.OS].
// Errors: fs.ErrNotExist, if there is no log; [ingest.ErrCorrupt], if the manifest is damaged. Other damage is found by Read and by [Check].
func OpenReader(fsys vfs.FS, dir string) (*Reader, error) {
	if fsys == nil {
		fsys = vfs.OS
	}
	m, err := readManifest(fsys, dir)
	if err == nil && len(m.Incarnations) == 0 {
		err = fmt.Errorf("%w: a manifest without incarnations", ingest.ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("open log %q for reading: %w", dir, err)
	}
	r := &Reader{store: newStore(fsys, dir, m)}
	r.snapshot = true
	if seg := m.lastSegment(); seg != nil && seg.open() {
		r.tail, r.note = provable(fsys, dir, m, *seg)
	}
	return r, nil
}

// provable returns the part of the open segment that a later group frame vouches for.
func provable(fsys vfs.FS, dir string, m *manifest, seg segment) (tail, error) {
	t := tail{segment: seg.First, pos: headSize, next: seg.First}
	f, size, err := openSegment(fsys, dir, m, seg)
	if err != nil {
		return t, err
	}
	defer f.Close()
	w := newWalker(m, seg, f, size, defaultRead)
	w.win.reuse = true
	for {
		it, err := w.step()
		if w.group >= 0 {
			t.pos, t.next = w.group, w.groupFirst
		}
		switch {
		case err != nil:
			return t, err
		case it.kind == itemDamage:
			return t, it.damage
		case it.kind == itemEnd:
			return t, nil
		}
	}
}

// Note returns what kept the reader from seeing all of the segment that is being written: a [Damage], an error of the disk, or nil.
func (r *Reader) Note() error { return r.note }

// Consume implements [ingest.Consumer].
func (r *Reader) Consume(ctx context.Context, work func(ctx context.Context, p ingest.Partition) error) error {
	return consume(ctx, nil, r, work)
}

// Trim returns [ErrReadOnly].
func (r *Reader) Trim(context.Context, ingest.Stream, int64) error { return ErrReadOnly }

// SaveHint returns [ErrReadOnly].
func (r *Reader) SaveHint(context.Context, ingest.Stream, ingest.ChainHint) error { return ErrReadOnly }

// Close releases the files. Safe to call twice.
func (r *Reader) Close() error { return r.close() }

// Check reads all of the log in dir and returns all damage that no operator has accepted, in order. It changes nothing and may run beside the
// writer; what is trimmed meanwhile counts as whole. A nil fsys is [vfs.OS].
// Errors: of the disk, or [ingest.ErrCorrupt] if the manifest is damaged.
func Check(ctx context.Context, fsys vfs.FS, dir string) ([]Damage, error) {
	if fsys == nil {
		fsys = vfs.OS
	}
	m, err := readManifest(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("check log %q: %w", dir, err)
	}
	all, err := check(ctx, fsys, dir, m)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	now, err := readManifest(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("check log %q: %w", dir, err)
	}
	return slices.DeleteFunc(all, func(d Damage) bool {
		return !slices.ContainsFunc(now.Segments, func(s segment) bool { return s.name() == d.Segment })
	}), nil
}

func check(ctx context.Context, fsys vfs.FS, dir string, m *manifest) ([]Damage, error) {
	var all []Damage
	for _, seg := range m.Segments {
		found, err := checkSegment(ctx, fsys, dir, m, seg)
		if err != nil {
			return nil, fmt.Errorf("check segment %s: %w", seg.name(), err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func checkSegment(ctx context.Context, fsys vfs.FS, dir string, m *manifest, seg segment) ([]Damage, error) {
	f, size, err := openSegment(fsys, dir, m, seg)
	var d Damage
	if errors.As(err, &d) {
		return []Damage{d}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	w := newWalker(m, seg, f, size, defaultRead)
	w.win.reuse = true
	var found []Damage
	for {
		it, err := w.step()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		switch it.kind {
		case itemDamage:
			found = append(found, it.damage)
		case itemEnd:
			if d := w.cutOff(size); seg.open() && d != nil {
				found = append(found, *d)
			}
			return found, nil
		}
	}
}

// AcceptLoss accepts all damage to the log in dir that lies wholly in the offsets first to last, both included; damage that cost no record
// counts by the record that follows it. From then on Open succeeds, Read passes the range as a gap and Lost names it. It returns what it
// accepted; nothing is changed if that is nothing. The log must not be open. A nil fsys is [vfs.OS].
func AcceptLoss(ctx context.Context, fsys vfs.FS, dir string, first, last int64) ([]Damage, error) {
	if fsys == nil {
		fsys = vfs.OS
	}
	accepted, err := acceptLoss(ctx, fsys, dir, first, last)
	if err != nil {
		return nil, fmt.Errorf("accept the loss of records %d–%d of log %q: %w", first, last, dir, err)
	}
	return accepted, nil
}
