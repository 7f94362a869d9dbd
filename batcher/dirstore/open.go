package dirstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"millrace/batcher"
	"millrace/ingest/vfs"
)

// The store's own names, relative to the root.
const (
	metaDir  = batcher.PrefixMeta + "meta/"
	tmpDir   = batcher.PrefixMeta + "tmp/"
	homeName = batcher.PrefixMeta + "home"
	lockName = batcher.PrefixMeta + "lock"
)

// Options are the tunables of [Open]; the zero value works.
type Options struct {
	// FS is the file system; nil means vfs.OS.
	FS vfs.FS
	// ReadOnly opens beside a process that puts, without its lock: puts are refused.
	ReadOnly bool
}

// Store keeps objects in a directory. It implements [batcher.ObjectStore] and [batcher.Prober]. Safe for concurrent use.
type Store struct {
	fs       vfs.FS
	root     string
	home     string
	readOnly bool
	lock     io.Closer // nil if readOnly
	close    sync.Once
	opened   string // random, a part of temporary names
	temps    atomic.Int64

	mu      sync.Mutex               // guards what follows
	puts    map[string]chan struct{} // keys between step 1 and step 6; each is closed by its put
	dirs    map[string]*dirState     // directories that this process made sure of
	settled map[string]struct{}      // readOnly: keys that were seen and are durable
	failed  error                    // the first failed sync of a directory
}

// maxRemembered bounds dirs and settled; beyond it they start anew, which costs some syncs again.
const maxRemembered = 1 << 16

// Open opens the store in dir, which it creates unless opts.ReadOnly. It takes the lock, syncs the file system, removes what an earlier process
// left in tmp, and tries a hard link.
//
// Errors: vfs.ErrLocked if another process puts into dir; batcher.ErrNotSafe if the file system has no hard links; batcher.ErrNotFound if
// there is no store in dir and opts.ReadOnly.
func Open(dir string, opts Options) (*Store, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open directory store %q: %w", dir, err)
	}
	s := &Store{
		fs: opts.FS, root: root, readOnly: opts.ReadOnly, opened: rand.Text(),
		puts: make(map[string]chan struct{}), dirs: make(map[string]*dirState), settled: make(map[string]struct{}),
	}
	if s.fs == nil {
		s.fs = vfs.OS
	}
	if s.readOnly {
		err = s.readHome()
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: no store was begun there", batcher.ErrNotFound)
		}
	} else {
		err = s.openToPut()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open directory store %q: %w", root, err), s.Close())
	}
	return s, nil
}

func (s *Store) openToPut() error {
	if err := vfs.MkdirAllSync(s.fs, s.path(tmpDir)); err != nil {
		return err
	}
	lock, err := s.fs.Lock(s.path(lockName))
	if err != nil {
		return err
	}
	s.lock = lock
	// With the lock, and before anything is looked at: what a killed process linked and did not sync is durable from here on.
	if err := s.fs.SyncAll(s.root); err != nil {
		return err
	}
	left, err := s.fs.List(s.path(tmpDir))
	if err != nil {
		return err
	}
	for _, e := range left {
		if err := s.fs.Remove(s.path(tmpDir + e.Name())); err != nil {
			return err
		}
	}
	if err := s.tryLink(); err != nil {
		return err
	}
	err = s.readHome()
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := vfs.WriteFileSync(s.fs, s.path(homeName), []byte(rand.Text()+"\n")); err != nil {
			return err
		}
		err = s.readHome()
	}
	return err
}

// tryLink finds out whether the file system has hard links, and whether they keep an existing name.
func (s *Store) tryLink() error {
	temp, err := s.writeTemp([]byte("probe"))
	if err != nil {
		return err
	}
	defer s.removeTemp(temp)
	other := s.tempName()
	defer s.removeTemp(other)
	if err := s.fs.Link(temp, other); err != nil {
		return fmt.Errorf("%w: hard links do not work: %w", batcher.ErrNotSafe, err)
	}
	if err := s.fs.Link(temp, other); !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: a second link to one name gave %v, want %w", batcher.ErrNotSafe, err, fs.ErrExist)
	}
	return nil
}

func (s *Store) readHome() error {
	b, err := vfs.ReadFile(s.fs, s.path(homeName))
	if err != nil {
		return err
	}
	if s.home = strings.TrimSpace(string(b)); s.home == "" {
		return fmt.Errorf("%q is empty: the store's identity is lost", homeName)
	}
	return nil
}

// Close gives the lock back. Calls that are under way end as they may.
func (s *Store) Close() error {
	var err error
	s.close.Do(func() {
		if s.lock != nil {
			err = s.lock.Close()
		}
	})
	return err
}

// Probe implements [batcher.Prober]: a fresh key takes one put and refuses the second. It leaves a small object below _millrace/probe/.
func (s *Store) Probe(ctx context.Context) error {
	key := batcher.PrefixMeta + "probe/" + rand.Text()
	if err := s.PutIfAbsent(ctx, key, []byte("first"), nil); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	if err := s.PutIfAbsent(ctx, key, []byte("second"), nil); !errors.Is(err, batcher.ErrExists) {
		return fmt.Errorf("probe: second put of one key gave %v: %w", err, batcher.ErrNotSafe)
	}
	body, _, err := s.Get(ctx, key)
	if err == nil && string(body) != "first" {
		err = fmt.Errorf("object reads %q: %w", body, batcher.ErrNotSafe)
	}
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	return nil
}

// tempName returns a name in tmp that was never used.
func (s *Store) tempName() string {
	return s.path(fmt.Sprintf("%s%s-%d", tmpDir, s.opened, s.temps.Add(1)))
}

// writeTemp writes data to a new temporary file and syncs it.
func (s *Store) writeTemp(data []byte) (name string, err error) {
	name = s.tempName()
	f, err := s.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return "", err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		s.removeTemp(name)
		return "", err
	}
	return name, nil
}

// removeTemp is a best effort: Open removes what is left.
func (s *Store) removeTemp(name string) { _ = s.fs.Remove(name) }

// path returns the file of a key or of one of the store's own names.
func (s *Store) path(key string) string { return filepath.Join(s.root, filepath.FromSlash(key)) }

// own reports whether a key is one of the store's own names.
func own(key string) bool {
	return strings.HasPrefix(key, metaDir) || strings.HasPrefix(key, tmpDir) || strings.HasPrefix(key, homeName) || key == lockName
}
