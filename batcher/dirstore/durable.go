package dirstore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"millrace/batcher"
)

// dirState is a directory that this process needs: made, and its name durable, once ok.
type dirState struct {
	mu sync.Mutex // held while the directory is made
	ok bool
}

// ensureDir makes dir and its parents up to the root, and makes their names durable, before it returns; also when another call is just at it.
func (s *Store) ensureDir(dir string) error {
	if dir == s.root {
		return nil
	}
	d := s.dirState(dir)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ok {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := s.ensureDir(parent); err != nil {
		return err
	}
	if err := s.fs.MkdirAll(dir); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %w", batcher.ErrRefused, err) // a file is in the way: a key cannot be below another
	} else if err != nil {
		return err
	}
	// Even if the directory was there: whoever made it may not have come to this line.
	if err := s.syncDir(parent); err != nil {
		return err
	}
	d.ok = true
	return nil
}

func (s *Store) dirState(dir string) *dirState {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.dirs[dir]
	if d == nil {
		if len(s.dirs) >= maxRemembered {
			clear(s.dirs)
		}
		d = &dirState{}
		s.dirs[dir] = d
	}
	return d
}

// settle makes sure that an object which was seen is durable; see the package comment.
func (s *Store) settle(key string) error {
	s.mu.Lock()
	_, unsure := s.puts[key]
	if s.readOnly {
		_, known := s.settled[key]
		unsure = !known
	}
	s.mu.Unlock()
	if !unsure {
		return nil
	}
	if err := s.syncDir(filepath.Dir(s.path(key))); err != nil {
		return err
	}
	if s.readOnly {
		s.remember(key)
	}
	return nil
}

func (s *Store) remember(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.settled) >= maxRemembered {
		clear(s.settled)
	}
	s.settled[key] = struct{}{}
}

// syncDir syncs a directory. A failure is final for the store, because a later success would say nothing about these names.
func (s *Store) syncDir(dir string) error {
	err := s.fs.SyncDir(dir)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = fmt.Errorf("sync directory %q: %w", dir, err)
	}
	return fmt.Errorf("%w: %w", batcher.ErrUnavailable, s.failed)
}

// trusted returns ErrUnavailable after a failed sync of a directory.
func (s *Store) trusted() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return fmt.Errorf("%w until the disk was looked at and the store opened anew: %w", batcher.ErrUnavailable, s.failed)
	}
	return nil
}
