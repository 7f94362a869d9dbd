package wal

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"millrace/ingest/vfs"
)

func acceptLoss(ctx context.Context, fsys vfs.FS, dir string, first, last int64) (accepted []Damage, err error) {
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	m, err := readManifest(fsys, dir)
	if err != nil {
		return nil, err
	}
	all, err := check(ctx, fsys, dir, m)
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if d.First >= first && max(d.First, d.Next-1) <= last {
			accepted = append(accepted, d)
			m.accept(d, fsys, dir)
		}
	}
	if len(accepted) == 0 {
		return nil, nil
	}
	return accepted, writeManifest(fsys, dir, m)
}

// accept notes d. A segment that is gone leaves the manifest; an open one that was cut off is closed, since its end is known by decree now.
func (m *manifest) accept(d Damage, fsys vfs.FS, dir string) {
	m.Lost = append(m.Lost, d)
	i := slices.IndexFunc(m.Segments, func(s segment) bool { return s.name() == d.Segment })
	if _, err := fsys.Stat(filepath.Join(dir, d.Segment)); errors.Is(err, fs.ErrNotExist) {
		m.Segments = slices.Delete(m.Segments, i, i+1)
		return
	}
	if seg := &m.Segments[i]; seg.open() && d.To >= seg.Size {
		seg.Next, seg.Bytes = d.Next, d.To
	}
}
