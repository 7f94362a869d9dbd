package sqlstore

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"millrace/scheduler"
)

// ErrNewerSchema is returned by [Open] for a database that a newer version has migrated. Nothing was changed.
var ErrNewerSchema = errors.New("database schema is newer than this version knows")

// transient are the primary result codes after which trying again may help: the file is locked, or the disk is full or failing.
var transient = map[int]bool{
	lib.SQLITE_BUSY: true, lib.SQLITE_LOCKED: true, lib.SQLITE_IOERR: true, lib.SQLITE_FULL: true, lib.SQLITE_NOMEM: true,
	lib.SQLITE_CANTOPEN: true, lib.SQLITE_READONLY: true, lib.SQLITE_INTERRUPT: true, lib.SQLITE_PROTOCOL: true,
}

// primary returns SQLite's primary result code in err's chain, or 0.
func primary(err error) int {
	var se *sqlite.Error
	if errors.As(err, &se) {
		return se.Code() & 0xff
	}
	return 0
}

// classify adds the seam's sentinel to an error of the driver. A damaged database stays without one: trying again can not help.
func classify(err error) error {
	if err == nil || errors.Is(err, scheduler.ErrUnavailable) {
		return err
	}
	if transient[primary(err)] {
		return fmt.Errorf("%w: %w", scheduler.ErrUnavailable, err)
	}
	return err
}
