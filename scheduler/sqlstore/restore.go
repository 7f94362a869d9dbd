package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"millrace/ingest/vfs"
	"millrace/scheduler"
	"millrace/trigger"
)

// Backup writes the present state of the database at path to a new file, also while a server has it open. The file is whole and durable, or is
// not there. Errors: fs.ErrNotExist, fs.ErrExist.
func Backup(ctx context.Context, path, dest string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("back up store %s: %w", path, err)
		}
	}()
	if _, err := os.Stat(path); err != nil { // opening would make it
		return err
	}
	if _, err := os.Stat(dest); err == nil {
		return fmt.Errorf("%s: %w", dest, fs.ErrExist)
	}
	tmp := dest + ".part"
	defer func() { _ = os.Remove(tmp) }() // as good as always renamed by then
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := sql.Open("sqlite", dsn(path, ""))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", tmp)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	return errors.Join(syncFile(tmp), os.Rename(tmp, dest), vfs.OS.SyncDir(filepath.Dir(dest)))
}

// Restore puts a backup in the place of the database at path, on hold: nothing is dispatched from it until somebody has said from when on. It
// returns the name that the old database has now, "" if there was none. No server may have it open (vfs.ErrLocked).
//
// Steps: 1. copy the backup beside path, check it, migrate it and put it on hold, durably; 2. put the old database on hold, so that whatever a
// crash leaves at path is; 3. give the old database a second name; 4. rename the copy to path. A crash leaves the old database, on hold, or
// the new one; repeating is safe.
func Restore(ctx context.Context, path, backup string, now time.Time) (old string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore store %s from %s: %w", path, backup, err)
		}
	}()
	lock, err := vfs.OS.Lock(path + ".lock")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	next := path + ".restoring"
	if err := prepare(ctx, backup, next, now); err != nil { // 1
		return "", err
	}
	if old, err = setAside(ctx, path, now); err != nil { // 2, 3
		return "", err
	}
	return old, errors.Join(os.Rename(next, path), vfs.OS.SyncDir(filepath.Dir(path))) // 4
}

// prepare makes the database that is to be.
func prepare(ctx context.Context, backup, next string, now time.Time) error {
	if err := removeAll(next, next+"-wal", next+"-shm"); err != nil {
		return err
	}
	if err := copyFile(backup, next); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", dsn(next, "_pragma=query_only(1)"))
	if err != nil {
		return err
	}
	var verdict string
	err = db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict)
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("check backup: %w", err)
	}
	if verdict != "ok" {
		return fmt.Errorf("the backup is damaged: %s", verdict)
	}
	return errors.Join(hold(ctx, next, now), removeAll(next+".lock"), syncFile(next))
}

// hold opens a database as a server does, marks it, and closes it, after which all of it is in one file.
func hold(ctx context.Context, path string, now time.Time) error {
	s, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	err = s.Apply(ctx, &scheduler.Change{Cursors: []trigger.Cursor{trigger.Hold(now)}})
	return errors.Join(err, s.Close())
}

// setAside gives the database at path a second name. One that can not be opened, perhaps the reason for all this, is set aside as it is, with
// its log, which must not meet the new file.
func setAside(ctx context.Context, path string, now time.Time) (old string, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", removeAll(path+"-wal", path+"-shm")
	}
	old = path + ".before-" + now.UTC().Format("20060102T150405.000Z")
	mark := fmt.Sprintf("INSERT INTO cursor (stream, seq) VALUES ('%s', %d) ON CONFLICT (stream) DO UPDATE SET seq=excluded.seq",
		trigger.Hold(now).Stream, trigger.Hold(now).Seq)
	db, err := sql.Open("sqlite", dsn(path, "_pragma=synchronous(FULL)"))
	if err != nil {
		return "", err
	}
	_, holdErr := db.ExecContext(ctx, mark) // an error says that it is damaged, so that no server opens it either
	_ = db.Close()                          // empties the log into the file, if that can be
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Rename(path+suffix, old+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", errors.Join(err, holdErr)
		}
	}
	return old, errors.Join(os.Link(path, old), vfs.OS.SyncDir(filepath.Dir(path)))
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func removeAll(names ...string) error {
	for _, n := range names {
		if err := os.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
