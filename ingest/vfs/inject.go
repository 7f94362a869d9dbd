package vfs

import (
	"io"
	"io/fs"
	"sync/atomic"
)

// Kind names an operation of FS or File.
type Kind string

// The kinds of operations that [Inject] sees. Close is not one of them: it has no effect on what is durable.
const (
	OpOpen        Kind = "open"
	OpRename      Kind = "rename"
	OpLink        Kind = "link"
	OpRemove      Kind = "remove"
	OpStat        Kind = "stat"
	OpMkdir       Kind = "mkdir"
	OpList        Kind = "list"
	OpSyncDir     Kind = "syncdir"
	OpSyncAll     Kind = "syncall"
	OpLock        Kind = "lock"
	OpFree        Kind = "free"
	OpRead        Kind = "read"
	OpWrite       Kind = "write"
	OpSync        Kind = "sync"
	OpTruncate    Kind = "truncate"
	OpPreallocate Kind = "preallocate"
)

// Changes reports whether the operation can change the disk or what of it is durable.
func (k Kind) Changes() bool {
	switch k {
	case OpStat, OpList, OpFree, OpRead:
		return false
	default:
		return true
	}
}

// Op is one operation about to be done.
type Op struct {
	// N counts operations of the file system from 1.
	N    int64
	Kind Kind
	// Name is the file or directory; the new name for rename and link.
	Name string
	// Size is the number of bytes to read or write, or the new size.
	Size int64
}

// ShortWrite as the error of a hook makes a write store only its first Bytes bytes and then fail with Err.
type ShortWrite struct {
	Bytes int
	Err   error
}

// Error returns the text of Err.
func (s ShortWrite) Error() string { return "short write: " + s.Err.Error() }

// Unwrap returns Err.
func (s ShortWrite) Unwrap() error { return s.Err }

// Injected is a file system that asks its hook before each operation.
type Injected struct {
	FS
	hook func(Op) error
	n    atomic.Int64
}

// Inject wraps inner. The hook is called before each operation, from many goroutines at once; when it returns an error, the operation is not
// done and fails with that error (see also [ShortWrite]). A Sync that fails so loses the dirty pages of a file of [Mem].
// A nil hook only counts.
func Inject(inner FS, hook func(Op) error) *Injected { return &Injected{FS: inner, hook: hook} }

// Ops returns the number of operations so far.
func (i *Injected) Ops() int64 { return i.n.Load() }

// FailOnce is a hook that fails operation n only.
func FailOnce(n int64, err error) func(Op) error {
	return func(op Op) error {
		if op.N == n {
			return err
		}
		return nil
	}
}

// FailFrom is a hook that fails operation n and all after it.
func FailFrom(n int64, err error) func(Op) error {
	return func(op Op) error {
		if op.N >= n {
			return err
		}
		return nil
	}
}

func (i *Injected) before(kind Kind, name string, size int64) error {
	op := Op{N: i.n.Add(1), Kind: kind, Name: name, Size: size}
	if i.hook == nil {
		return nil
	}
	return i.hook(op)
}

// OpenFile implements [Files].
func (i *Injected) OpenFile(name string, flag int) (File, error) {
	if err := i.before(OpOpen, name, 0); err != nil {
		return nil, pathError("open", name, err)
	}
	f, err := i.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return &injectedFile{File: f, fs: i, name: name}, nil
}

// Rename implements [Files].
func (i *Injected) Rename(oldname, newname string) error {
	if err := i.before(OpRename, newname, 0); err != nil {
		return pathError("rename", newname, err)
	}
	return i.FS.Rename(oldname, newname)
}

// Link implements [Files].
func (i *Injected) Link(oldname, newname string) error {
	if err := i.before(OpLink, newname, 0); err != nil {
		return pathError("link", newname, err)
	}
	return i.FS.Link(oldname, newname)
}

// Remove implements [Files].
func (i *Injected) Remove(name string) error {
	if err := i.before(OpRemove, name, 0); err != nil {
		return pathError("remove", name, err)
	}
	return i.FS.Remove(name)
}

// Stat implements [Files].
func (i *Injected) Stat(name string) (fs.FileInfo, error) {
	if err := i.before(OpStat, name, 0); err != nil {
		return nil, pathError("stat", name, err)
	}
	return i.FS.Stat(name)
}

// MkdirAll implements [Dirs].
func (i *Injected) MkdirAll(dir string) error {
	if err := i.before(OpMkdir, dir, 0); err != nil {
		return pathError("mkdir", dir, err)
	}
	return i.FS.MkdirAll(dir)
}

// List implements [Dirs].
func (i *Injected) List(dir string) ([]fs.DirEntry, error) {
	if err := i.before(OpList, dir, 0); err != nil {
		return nil, pathError("list", dir, err)
	}
	return i.FS.List(dir)
}

// SyncDir implements [Dirs].
func (i *Injected) SyncDir(dir string) error {
	if err := i.before(OpSyncDir, dir, 0); err != nil {
		return pathError("syncdir", dir, err)
	}
	return i.FS.SyncDir(dir)
}

// SyncAll implements [Volume].
func (i *Injected) SyncAll(dir string) error {
	if err := i.before(OpSyncAll, dir, 0); err != nil {
		return pathError("syncfs", dir, err)
	}
	return i.FS.SyncAll(dir)
}

// Lock implements [Volume].
func (i *Injected) Lock(name string) (io.Closer, error) {
	if err := i.before(OpLock, name, 0); err != nil {
		return nil, pathError("lock", name, err)
	}
	return i.FS.Lock(name)
}

// Free implements [Volume].
func (i *Injected) Free(dir string) (free, total int64, err error) {
	if err := i.before(OpFree, dir, 0); err != nil {
		return 0, 0, pathError("statfs", dir, err)
	}
	return i.FS.Free(dir)
}

type injectedFile struct {
	File
	fs   *Injected
	name string
}

func (f *injectedFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.before(OpRead, f.name, int64(len(p))); err != nil {
		return 0, pathError("read", f.name, err)
	}
	return f.File.ReadAt(p, off)
}

func (f *injectedFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

func (f *injectedFile) Write(p []byte) (int, error) { return f.write(p, f.File.Write) }

func (f *injectedFile) write(p []byte, do func([]byte) (int, error)) (int, error) {
	err := f.fs.before(OpWrite, f.name, int64(len(p)))
	if err == nil {
		return do(p)
	}
	n := 0
	if short, ok := err.(ShortWrite); ok {
		n, _ = do(p[:min(short.Bytes, len(p))])
		err = short.Err
	}
	return n, pathError("write", f.name, err)
}

func (f *injectedFile) Sync() error {
	err := f.fs.before(OpSync, f.name, 0)
	if err == nil {
		return f.File.Sync()
	}
	if mem, ok := f.File.(*memFile); ok {
		mem.loseDirty()
	}
	return pathError("sync", f.name, err)
}

func (f *injectedFile) Truncate(size int64) error {
	if err := f.fs.before(OpTruncate, f.name, size); err != nil {
		return pathError("truncate", f.name, err)
	}
	return f.File.Truncate(size)
}

func (f *injectedFile) Preallocate(size int64) error {
	if err := f.fs.before(OpPreallocate, f.name, size); err != nil {
		return pathError("preallocate", f.name, err)
	}
	return f.File.Preallocate(size)
}
