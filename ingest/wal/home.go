package wal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"millrace/ingest"
	"millrace/ingest/vfs"
)

// ErrElsewhere is returned by [MoveHome] for a log some of whose chains are in neither of the two places.
var ErrElsewhere = errors.New("a chain of the log is in another place")

// MoveHome notes for every incarnation in dir whose chain is in from that it is in to. Before that it calls move, while it holds the log's lock: a
// server must have ended, and none can start. A chain that is in to already, or was not begun, is left as it is, so that a move that was
// broken off can be repeated. The note is durable when MoveHome returns, and unchanged if move fails. A nil fsys is [vfs.OS].
// Errors: fs.ErrNotExist, if there is no log; vfs.ErrLocked; [ErrElsewhere].
func MoveHome(ctx context.Context, fsys vfs.FS, dir string, from, to string, move func(ctx context.Context, hints map[ingest.Stream]ingest.ChainHint) error) (err error) { //layout:allow params the log, the two places and the step between
	if fsys == nil {
		fsys = vfs.OS
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("move the chains of log %q: %w", dir, err)
		}
	}()
	if _, err := fsys.Stat(filepath.Join(dir, manifestName)); err != nil { // the lock would make a file
		return err
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	m, err := readManifest(fsys, dir)
	if err != nil {
		return err
	}
	hints := map[ingest.Stream]ingest.ChainHint{}
	for _, inc := range m.Incarnations {
		switch inc.Home {
		case "":
		case from, to:
			hints[m.stream(inc.ID)] = ingest.ChainHint{Home: inc.Home, Seq: inc.Seq}
		default:
			return fmt.Errorf("incarnation %s is in %s: %w", inc.ID, inc.Home, ErrElsewhere)
		}
	}
	if err := move(ctx, hints); err != nil {
		return err
	}
	for i := range m.Incarnations {
		if m.Incarnations[i].Home == from {
			m.Incarnations[i].Home = to
		}
	}
	return writeManifest(fsys, dir, m)
}
