package vfs

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// memFile is an open file of a Mem.
type memFile struct {
	fs       *Mem
	node     *node
	name     string
	writable bool
	pos      int64 // of Write
	closed   bool
}

func (f *memFile) check(op string, write bool) error {
	if f.closed {
		return pathError(op, f.name, fs.ErrClosed)
	}
	if write && !f.writable {
		return pathError(op, f.name, fs.ErrPermission)
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("read", false); err != nil {
		return 0, err
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.writeAt(p, off)
}

func (f *memFile) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n, err := f.writeAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

func (f *memFile) writeAt(p []byte, off int64) (int, error) {
	if err := f.check("write", true); err != nil {
		return 0, err
	}
	var full error
	if grow := off + int64(len(p)) - int64(len(f.node.data)); grow > 0 {
		if room := f.room(); grow > room {
			p = p[:max(0, int64(len(p))-(grow-room))]
			full = pathError("write", f.name, ErrNoSpace)
		}
		if end := off + int64(len(p)); len(p) > 0 && end > int64(len(f.node.data)) {
			f.setSize(end)
		}
	}
	if len(p) > 0 {
		n := copy(f.node.data[off:], p)
		f.node.touch(off, int64(n))
	}
	return len(p), full
}

func (f *memFile) room() int64 {
	if f.fs.capacity == 0 {
		return 1 << 40
	}
	return max(0, f.fs.capacity-f.fs.used)
}

func (f *memFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("sync", false); err != nil {
		return err
	}
	f.node.sync()
	return nil
}

// loseDirty is what a kernel does when writing back fails: the pages stay readable and count as clean, but are not on the disk.
func (f *memFile) loseDirty() {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	clear(f.node.dirty)
}

func (f *memFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.resize(size)
}

func (f *memFile) Preallocate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if size <= int64(len(f.node.data)) {
		return f.check("preallocate", true)
	}
	return f.resize(size)
}

func (f *memFile) resize(size int64) error {
	if err := f.check("truncate", true); err != nil {
		return err
	}
	if size-int64(len(f.node.data)) > f.room() {
		return pathError("truncate", f.name, ErrNoSpace)
	}
	f.setSize(size)
	return nil
}

// setSize changes the size of data; blocks that are cut off are no longer dirty, since the size alone decides about them.
func (f *memFile) setSize(size int64) {
	n := f.node
	old := int64(len(n.data))
	f.fs.used += size - old
	if size <= old {
		clear(n.data[size:]) // So that growing again shows zeros.
		n.data = n.data[:size]
		maps.DeleteFunc(n.dirty, func(b int64, _ bool) bool { return b*BlockSize >= size })
		if size%BlockSize != 0 {
			n.touch(size, 1)
		}
		return
	}
	n.data = append(n.data, make([]byte, size-old)...)
	// Old blocks of a file that shrank before are zero now, so they differ from what is synced there.
	if overlap := min(size, int64(len(n.synced))) - old; overlap > 0 {
		n.touch(old, overlap)
	}
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("stat", false); err != nil {
		return nil, err
	}
	return f.node.info(f.name), nil
}

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.check("close", false)
	f.closed = true
	return err
}

// touch marks the blocks of n bytes from off on as not synced.
func (n *node) touch(off, length int64) {
	for b := off / BlockSize; b*BlockSize < off+length; b++ {
		n.dirty[b] = true
	}
	n.mod = time.Now()
}

// sync makes the node, not what is below it, durable.
func (n *node) sync() {
	if n.dir {
		n.syncedNames = maps.Clone(n.names)
		return
	}
	n.synced = resized(n.synced, len(n.data))
	for b := range n.dirty {
		copyBlock(n.synced, n.data, b, BlockSize)
	}
	clear(n.dirty)
}

func resized(b []byte, size int) []byte {
	if size <= len(b) {
		return b[:size:size]
	}
	return append(b[:len(b):len(b)], make([]byte, size-len(b))...)
}

// copyBlock copies the first length bytes of block b from src to dst, as far as both reach.
func copyBlock(dst, src []byte, b int64, length int) {
	from := int(b) * BlockSize
	to := min(from+length, len(src), len(dst))
	if from < to {
		copy(dst[from:to], src[from:to])
	}
}

func (n *node) info(name string) fs.FileInfo {
	return memInfo{name: name, size: int64(len(n.data)), dir: n.dir, mod: n.mod}
}

type memInfo struct {
	name string
	size int64
	dir  bool
	mod  time.Time
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return i.mod }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return nil }

func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | dirMode
	}
	return fileMode
}

// CrashClone returns a disk as a power failure at this moment could leave it: whatever was synced, plus each unsynced block, size and name
// with keepPercent in 100; 0 keeps nothing of that, 100 all of it, which is also what kill -9 leaves. In between, one kept block in eight is
// torn: only some of its 512-byte sectors, from its start, are new. The same rng and history give the same disk. The clone has no locks.
func (m *Mem) CrashClone(rng *rand.Rand, keepPercent int) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := crash{rng: rng, keep: keepPercent, done: map[*node]*node{}}
	out := &Mem{root: c.clone(m.root), locks: map[string]bool{}, capacity: m.capacity}
	out.recount()
	return out
}

type crash struct {
	rng  *rand.Rand
	keep int
	done map[*node]*node
}

func (c *crash) kept() bool { return c.rng.IntN(100) < c.keep }

func (c *crash) clone(n *node) *node {
	if twin := c.done[n]; twin != nil {
		return twin
	}
	if !n.dir {
		twin := &node{dirty: map[int64]bool{}, mod: n.mod}
		c.done[n] = twin
		twin.data = c.content(n)
		twin.synced = slices.Clone(twin.data)
		return twin
	}
	twin := newDir()
	c.done[n] = twin
	all := maps.Clone(n.names)
	maps.Copy(all, n.syncedNames)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		child := n.syncedNames[name]
		if now := n.names[name]; now != child && c.kept() {
			child = now
		}
		if child != nil {
			twin.names[name] = c.clone(child)
		}
	}
	twin.syncedNames = maps.Clone(twin.names)
	return twin
}

// content picks what the disk has of a file.
func (c *crash) content(n *node) []byte {
	out := slices.Clone(n.synced)
	if len(n.data) != len(n.synced) && c.kept() {
		out = resized(out, len(n.data))
	}
	for _, b := range slices.Sorted(maps.Keys(n.dirty)) {
		if !c.kept() {
			continue
		}
		length := BlockSize
		if c.keep < 100 && c.rng.IntN(8) == 0 {
			length = 512 * c.rng.IntN(BlockSize/512)
		}
		copyBlock(out, n.data, b, length)
	}
	return out
}
