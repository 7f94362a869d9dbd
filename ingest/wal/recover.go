package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"millrace/ingest"
	"millrace/ingest/vfs"
)

const readOnly = os.O_RDONLY

// recoverDir brings a directory into a state in which a new incarnation can begin, and begins it.
//
// Steps: 0. sync the directory, so that what is seen is what stays; 1. read the manifest, or make one for an empty directory; 2. check that each closed segment is there, whole in size and with its
// head; 3. find the end of the open segment, write its last group once more and sync it; 4. store a manifest in which that segment is closed
// and a new incarnation is live; 5. remove the files that this manifest discards. Any number of crashes in between repeat the same steps.
// Nothing is removed or written over before the damage that 2 and 3 can find was ruled out.
func recoverDir(dir string, opts Options) (*manifest, error) {
	if err := opts.FS.SyncDir(dir); err != nil {
		return nil, err
	}
	m, err := loadOrNew(dir, opts)
	if err != nil {
		return nil, err
	}
	if m.Discard, err = findStrays(opts.FS, dir, m); err != nil {
		return nil, err
	}
	for i := range m.Segments {
		seg := &m.Segments[i]
		if seg.open() {
			err = closeTorn(opts, dir, m, seg)
		} else {
			err = checkClosed(opts.FS, dir, m, *seg)
		}
		if err != nil {
			return nil, err
		}
	}
	m.begin()
	if err := writeManifest(opts.FS, dir, m); err != nil {
		return nil, err
	}
	for _, name := range m.Discard {
		opts.Logger.Info("removing a segment that was trimmed or never used", "segment", name)
		if err := opts.FS.Remove(filepath.Join(dir, name)); err != nil {
			opts.Logger.Warn("a segment that is not needed could not be removed", "segment", name, "err", err)
		}
	}
	return m, nil
}

func loadOrNew(dir string, opts Options) (*manifest, error) {
	m, err := readManifest(opts.FS, dir)
	if err == nil {
		if m.Partition != opts.Partition {
			return nil, fmt.Errorf("the log is partition %d, not %d as configured", m.Partition, opts.Partition)
		}
		return m, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	entries, err := opts.FS.List(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), segmentSuffix) {
			return nil, fmt.Errorf("%w: there are segments (%s) and no manifest", ingest.ErrCorrupt, e.Name())
		}
	}
	return newManifest(opts.Partition), nil
}

// findStrays returns the segments in dir that the manifest does not know, if all of them can go: those that it discards, and one that was
// created by a roll which ended before its manifest. Any other means that files were mixed up.
func findStrays(fsys vfs.FS, dir string, m *manifest) ([]string, error) {
	known := map[string]bool{}
	for _, seg := range m.Segments {
		known[seg.name()] = true
	}
	entries, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	var strays []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), segmentSuffix) || known[e.Name()] {
			continue
		}
		if !slices.Contains(m.Discard, e.Name()) {
			empty, err := holdsNothing(fsys, filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			if !empty {
				return nil, fmt.Errorf("%w: segment %s holds records and is not in the manifest: was one of them restored from a copy?",
					ingest.ErrCorrupt, e.Name())
			}
		}
		strays = append(strays, e.Name())
	}
	return strays, nil
}

// holdsNothing reports whether no group was ever written behind the head.
func holdsNothing(fsys vfs.FS, name string) (bool, error) {
	f, err := fsys.OpenFile(name, readOnly)
	if err != nil {
		return false, err
	}
	defer f.Close()
	win := window{file: f, chunk: groupFrame}
	b, err := win.at(headSize, groupFrame)
	return len(bytes.Trim(b, "\x00")) == 0, err
}

// checkClosed looks for damage that shows without reading a segment: missing, too short, not ours.
func checkClosed(fsys vfs.FS, dir string, m *manifest, seg segment) error {
	f, size, err := openSegment(fsys, dir, m, seg)
	if err != nil {
		return err
	}
	defer f.Close()
	return firstDamage(m, seg, f, size)
}

// firstDamage returns the damage to the head or the length of a segment whose file has size bytes.
func firstDamage(m *manifest, seg segment, f vfs.File, size int64) error {
	w := newWalker(m, seg, f, size, headSize)
	if it, err := w.stepHead(); err != nil || it.kind == itemDamage {
		return errors.Join(err, asError(it))
	}
	if size >= seg.Bytes || seg.open() {
		return nil
	}
	w.win.chunk, w.win.reuse = defaultRead, true
	for {
		switch it, err := w.step(); {
		case err != nil:
			return err
		case it.kind == itemDamage:
			return it.damage
		case it.kind == itemEnd:
			return nil // Accepted.
		}
	}
}

func asError(it item) error {
	if it.kind == itemDamage {
		return it.damage
	}
	return nil
}

// openSegment opens a segment that the manifest knows; that it is missing is damage.
func openSegment(fsys vfs.FS, dir string, m *manifest, seg segment) (vfs.File, int64, error) {
	flag := readOnly
	if seg.open() {
		flag = os.O_RDWR
	}
	f, err := fsys.OpenFile(filepath.Join(dir, seg.name()), flag)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, missing(seg)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// missing is the damage of a segment whose file is gone. If it was open, nobody knows how many records it held.
func missing(seg segment) Damage {
	d := Damage{Segment: seg.name(), To: seg.Bytes, First: seg.First, Next: seg.Next, Incarnation: seg.Incarnation, Reason: "file missing"}
	if seg.open() {
		d.To, d.Next = seg.Size, seg.First+seg.Size/minRecordFrame
		d.Reason = "file missing (the count of records is an upper bound)"
	}
	return d
}

// closeTorn finds the end of the open segment, cuts a torn tail and makes all before it durable.
//
// Only the last group can be torn, since no group is written before its predecessor is durable. It is written and synced again: after a sync
// that failed, the page cache can show bytes that the disk does not have, and a sync without a write would not store them.
func closeTorn(opts Options, dir string, m *manifest, seg *segment) error {
	f, size, err := openSegment(opts.FS, dir, m, *seg)
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := findEnd(m, *seg, f, size)
	if err != nil {
		return err
	}
	if end.torn() {
		opts.Logger.Info("cutting the torn tail of the log", "segment", seg.name(), "byte", end.pos, "next", end.next)
	}
	if end.group >= 0 {
		if err := rewriteGroup(f, end); err != nil {
			return fmt.Errorf("repair segment %s: %w", seg.name(), err)
		}
	}
	seg.Next, seg.Bytes = end.next, end.pos
	return nil
}

// ending is where the good frames of an open segment end.
type ending struct {
	cursor
	group int64 // of the last group frame, or -1
	first int64 // offset of its first record
	salt  uint32
	rest  bool // there are other bytes than zero behind it
}

func (e ending) torn() bool { return e.left > 0 || e.rest }

// findEnd walks an open segment. Damage is an error, and so is a file that is shorter than it was before the first record went into it.
func findEnd(m *manifest, seg segment, f vfs.File, size int64) (ending, error) {
	w := newWalker(m, seg, f, size, defaultRead)
	w.win.reuse = true
	for {
		it, err := w.step()
		if err != nil {
			return ending{}, err
		}
		if it.kind == itemDamage {
			return ending{}, it.damage
		}
		if it.kind == itemEnd {
			break
		}
	}
	if d := w.cutOff(size); d != nil {
		return ending{}, *d
	}
	b, err := w.win.at(w.pos, frameHead)
	if err != nil {
		return ending{}, err
	}
	return ending{cursor: w.cursor, group: w.group, first: w.groupFirst, salt: w.salt, rest: len(bytes.Trim(b, "\x00")) > 0}, nil
}

// cutOff returns the damage of an open segment whose file lost its end, unless it was accepted.
func (w *walker) cutOff(size int64) *Damage {
	if size >= w.seg.Size {
		return nil
	}
	for _, d := range w.lost {
		if d.To >= w.seg.Size {
			return nil
		}
	}
	return &Damage{
		Segment: w.seg.name(), From: w.pos, To: w.seg.Size, First: w.next, Next: w.next + (w.seg.Size-w.pos)/minRecordFrame,
		Incarnation: w.seg.Incarnation, Reason: "file truncated (the count of records is an upper bound)",
	}
}

// rewriteGroup writes the last group again, with the count of records that are whole, and syncs.
func rewriteGroup(f vfs.File, end ending) error {
	buf := make([]byte, end.pos-end.group)
	if _, err := f.ReadAt(buf, end.group); err != nil {
		return err
	}
	head := groupHead{pos: end.group, first: end.first, count: uint32(end.next - end.first), bytes: uint32(len(buf) - groupFrame)}
	head.put(buf, end.salt)
	if _, err := f.WriteAt(buf, end.group); err != nil {
		return err
	}
	return f.Sync()
}
