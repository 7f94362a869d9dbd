package vfs

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"
)

// Errors to compare with errors.Is. A missing or an existing name is fs.ErrNotExist or fs.ErrExist.
var (
	// ErrLocked: another open lock holds the file.
	ErrLocked = errors.New("locked by another process")
	// ErrNoSpace: the disk or the quota is full. Nothing that was durable is touched.
	ErrNoSpace error = syscall.ENOSPC
)

// FS is a file system. Names are paths as in package os. Safe for concurrent use. Errors name the path.
type FS interface {
	Files
	Dirs
	Volume
}

// Files are the operations on names of files.
type Files interface {
	// OpenFile opens name with the flags of package os: O_RDONLY, O_WRONLY, O_RDWR, O_CREATE, O_EXCL, O_TRUNC. New files have mode 0640.
	OpenFile(name string, flag int) (File, error)
	// Rename moves oldname to newname and replaces what is there.
	Rename(oldname, newname string) error
	// Link makes newname a second name of the file oldname. It is put-if-absent: an existing newname is fs.ErrExist.
	Link(oldname, newname string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Stat describes name.
	Stat(name string) (fs.FileInfo, error)
}

// Dirs are the operations on directories.
type Dirs interface {
	// MkdirAll makes dir and its parents, mode 0750; dirs that exist are fine. Nothing is durable; see [MkdirAllSync].
	MkdirAll(dir string) error
	// List returns the entries of dir, sorted by name.
	List(dir string) ([]fs.DirEntry, error)
	// SyncDir makes the names in dir durable: those added as well as those removed.
	SyncDir(dir string) error
}

// Volume are the operations on the file system as a whole.
type Volume interface {
	// SyncAll makes everything on the file system that holds dir durable.
	SyncAll(dir string) error
	// Lock takes the exclusive lock of the file name, which it creates if need be, or returns ErrLocked at once. The lock ends with Close or
	// with the process.
	Lock(name string) (io.Closer, error)
	// Free returns the bytes that this process may still write to the file system that holds dir, and its size.
	Free(dir string) (free, total int64, err error)
}

// File is an open file. WriteAt and ReadAt are safe for concurrent use; Write is not.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Write appends at the position after the last Write, from 0.
	io.Writer
	// Sync makes bytes and size durable (fdatasync): neither times nor the name. An error is final; see the package comment.
	Sync() error
	// Truncate changes the size; new bytes are zero.
	Truncate(size int64) error
	// Preallocate makes the file at least size bytes long, zero where it was shorter, with space reserved on the disk where the file system
	// can: so ErrNoSpace comes from here and not from a later WriteAt.
	Preallocate(size int64) error
	// Stat describes the file.
	Stat() (fs.FileInfo, error)
	// Close releases the file; it syncs nothing.
	io.Closer
}

// MkdirAllSync makes dir and its missing parents, and makes each new one durable.
func MkdirAllSync(fsys FS, dir string) error {
	var made []string
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := fsys.Stat(d); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		made = append(made, d)
		if d == filepath.Dir(d) {
			break
		}
	}
	if len(made) == 0 {
		return nil
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	for _, d := range made {
		if err := fsys.SyncDir(filepath.Dir(d)); err != nil {
			return err
		}
	}
	return nil
}

// ReadFile returns all of a file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, size, err := openSized(fsys, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, size)
	n, err := f.ReadAt(buf, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return buf[:n], err
}

func openSized(fsys FS, name string) (File, int64, error) {
	f, err := fsys.OpenFile(name, readOnly)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// WriteFileSync replaces the file name by data, durably and all or nothing: it writes name+".tmp", syncs it, renames it and syncs the
// directory. stage says how far it got when it failed: before [StageRename] name is as it was, from there on it is the old or the new one.
// It is not for concurrent use on one name.
func WriteFileSync(fsys FS, name string, data []byte) (stage Stage, err error) {
	tmp := name + ".tmp"
	if stage, err := writeTemp(fsys, tmp, data); err != nil {
		_ = fsys.Remove(tmp) // Best effort: the next call truncates it.
		return stage, err
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return StageRename, err
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return StageRename, err
	}
	return StageDone, nil
}

func writeTemp(fsys FS, tmp string, data []byte) (stage Stage, err error) {
	f, err := fsys.OpenFile(tmp, writeNew)
	if err != nil {
		return StageWrite, err
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			stage, err = StageSync, cerr
		}
	}()
	if _, err := f.Write(data); err != nil {
		return StageWrite, err
	}
	return StageSync, f.Sync()
}

// Stage is how far [WriteFileSync] got.
type Stage int

// The stages of WriteFileSync.
const (
	StageWrite  Stage = iota // the temporary file could not be written
	StageSync                // the temporary file could not be synced
	StageRename              // the rename was tried: old or new content
	StageDone                // durable
)
