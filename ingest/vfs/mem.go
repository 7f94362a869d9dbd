package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// BlockSize is the unit in which Mem loses unsynced bytes.
const BlockSize = 4096

// Mem is a disk in memory that knows what of it is durable. Its zero value is not usable; see [NewMem]. Relative names count from "/".
//
//	write ──▶ data ──Sync──▶ synced      per file, in blocks of BlockSize, and the size
//	create ─▶ names ─SyncDir▶ synced     per directory, name by name
//
// CrashClone picks, for each block and name that differs, which of both the disk has.
type Mem struct {
	mu       sync.Mutex // guards everything below, and all nodes
	root     *node
	locks    map[string]bool
	capacity int64 // 0: no bound
	used     int64
}

// node is a file or a directory.
type node struct {
	dir bool
	mod time.Time
	// of a file
	data, synced []byte
	dirty        map[int64]bool // blocks of data that differ from synced
	// of a directory
	names, syncedNames map[string]*node
}

// NewMem returns an empty, durable disk without a bound.
func NewMem() *Mem { return &Mem{root: newDir(), locks: map[string]bool{}} }

func newDir() *node {
	return &node{dir: true, names: map[string]*node{}, syncedNames: map[string]*node{}}
}

// SetCapacity bounds the bytes of all files together; a write beyond it stores what fits and fails with ErrNoSpace. 0 means no bound.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Used returns the bytes of all files together.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

func split(name string) []string {
	clean := path.Clean("/" + filepath.ToSlash(name))
	if clean == "/" {
		return nil
	}
	return strings.Split(clean[1:], "/")
}

// find returns the node called name, or nil.
func (m *Mem) find(name string) *node {
	n := m.root
	for _, part := range split(name) {
		if n == nil || !n.dir {
			return nil
		}
		n = n.names[part]
	}
	return n
}

// parent returns the directory that holds name, and the last part of name.
func (m *Mem) parent(op, name string) (*node, string, error) {
	parts := split(name)
	if len(parts) == 0 {
		return nil, "", pathError(op, name, fs.ErrInvalid)
	}
	last := len(parts) - 1
	dir := m.find(strings.Join(parts[:last], "/"))
	if dir == nil || !dir.dir {
		return nil, "", pathError(op, name, fs.ErrNotExist)
	}
	return dir, parts[last], nil
}

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// OpenFile implements [Files].
func (m *Mem) OpenFile(name string, flag int) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent("open", name)
	if err != nil {
		return nil, err
	}
	n := dir.names[base]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, pathError("open", name, fs.ErrNotExist)
	case n != nil && flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, pathError("open", name, fs.ErrExist)
	case n != nil && n.dir:
		return nil, pathError("open", name, fs.ErrInvalid)
	case n == nil:
		n = &node{dirty: map[int64]bool{}, mod: time.Now()}
		dir.names[base] = n
	}
	f := &memFile{fs: m, node: n, name: name, writable: flag&(os.O_WRONLY|os.O_RDWR) != 0}
	if flag&os.O_TRUNC != 0 {
		if err := f.resize(0); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Rename implements [Files].
func (m *Mem) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldbase, err := m.parent("rename", oldname)
	if err != nil {
		return err
	}
	to, newbase, err := m.parent("rename", newname)
	if err != nil {
		return err
	}
	n := from.names[oldbase]
	if n == nil {
		return pathError("rename", oldname, fs.ErrNotExist)
	}
	if target := to.names[newbase]; target != nil && target.dir {
		return pathError("rename", newname, fs.ErrExist)
	}
	delete(from.names, oldbase)
	to.names[newbase] = n
	m.recount()
	return nil
}

// Link implements [Files].
func (m *Mem) Link(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(oldname)
	if n == nil || n.dir {
		return pathError("link", oldname, fs.ErrNotExist)
	}
	to, base, err := m.parent("link", newname)
	if err != nil {
		return err
	}
	if to.names[base] != nil {
		return pathError("link", newname, fs.ErrExist)
	}
	to.names[base] = n
	return nil
}

// Remove implements [Files].
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parent("remove", name)
	if err != nil {
		return err
	}
	n := dir.names[base]
	if n == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if len(n.names) > 0 {
		return pathError("remove", name, fs.ErrInvalid)
	}
	delete(dir.names, base)
	m.recount()
	return nil
}

// Stat implements [Files].
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(name)
	if n == nil {
		return nil, pathError("stat", name, fs.ErrNotExist)
	}
	return n.info(path.Base(filepath.ToSlash(name))), nil
}

// MkdirAll implements [Dirs].
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root
	for _, part := range split(dir) {
		next := n.names[part]
		if next == nil {
			next = newDir()
			n.names[part] = next
		}
		if !next.dir {
			return pathError("mkdir", dir, fs.ErrExist)
		}
		n = next
	}
	return nil
}

// List implements [Dirs].
func (m *Mem) List(dir string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(dir)
	if n == nil || !n.dir {
		return nil, pathError("list", dir, fs.ErrNotExist)
	}
	out := make([]fs.DirEntry, 0, len(n.names))
	for name, child := range n.names {
		out = append(out, fs.FileInfoToDirEntry(child.info(name)))
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

// SyncDir implements [Dirs].
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(dir)
	if n == nil || !n.dir {
		return pathError("syncdir", dir, fs.ErrNotExist)
	}
	n.sync()
	return nil
}

// SyncAll implements [Volume].
func (m *Mem) SyncAll(string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.walk(func(n *node) { n.sync() })
	return nil
}

// Lock implements [Volume]. A clone of the disk has no locks.
func (m *Mem) Lock(name string) (io.Closer, error) {
	f, err := m.OpenFile(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := strings.Join(split(name), "/")
	if m.locks[key] {
		return nil, fmt.Errorf("lock %q: %w", name, ErrLocked)
	}
	m.locks[key] = true
	return &memLock{fs: m, key: key, file: f}, nil
}

type memLock struct {
	fs   *Mem
	key  string
	file File
	once sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.fs.mu.Lock()
		defer l.fs.mu.Unlock()
		delete(l.fs.locks, l.key)
	})
	return l.file.Close()
}

// Free implements [Volume]; without a bound the disk is 1 TiB large.
func (m *Mem) Free(string) (free, total int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	total = m.capacity
	if total == 0 {
		total = 1 << 40
	}
	return max(0, total-m.used), total, nil
}

// walk calls visit once for each node that has a name.
func (m *Mem) walk(visit func(*node)) {
	seen := map[*node]bool{}
	var down func(n *node)
	down = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		visit(n)
		for _, child := range n.names {
			down(child)
		}
	}
	down(m.root)
}

// recount sets used anew after a name went away.
func (m *Mem) recount() {
	m.used = 0
	m.walk(func(n *node) { m.used += int64(len(n.data)) })
}
