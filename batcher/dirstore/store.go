package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"syscall"
	"time"

	"millrace/batcher"
	"millrace/ingest/vfs"
)

// PutIfAbsent implements [batcher.ObjectStore]; the steps are those of the package comment.
func (s *Store) PutIfAbsent(ctx context.Context, key string, body []byte, meta map[string]string) error {
	if err := s.checkPut(key, meta); err != nil {
		return err
	}
	// 1. Alone with the key.
	release, err := s.acquire(ctx, key)
	if err != nil {
		return fmt.Errorf("put %q: %w: %w", key, batcher.ErrUnavailable, err)
	}
	defer release()
	if err := s.put(key, body, meta); err != nil {
		return fmt.Errorf("put %q: %w", key, classify(err))
	}
	return nil
}

func (s *Store) checkPut(key string, meta map[string]string) error {
	if err := batcher.CheckPut(key, meta); err != nil {
		return err
	}
	switch {
	case s.readOnly:
		return fmt.Errorf("put %q: store is open for reading: %w", key, batcher.ErrRefused)
	case own(key):
		return fmt.Errorf("put %q: the name is the store's own: %w", key, batcher.ErrRefused)
	}
	return nil
}

func (s *Store) put(key string, body []byte, meta map[string]string) error {
	if err := s.trusted(); err != nil { // asked here, not earlier: the put that we waited for may have failed
		return err
	}
	name := s.path(key)
	if err := s.absent(key, name); err != nil {
		return err
	}
	// 2. Directories.
	dir := filepath.Dir(name)
	if err := s.ensureDir(dir); err != nil {
		return err
	}
	// 3. The body.
	temp, err := s.writeTemp(body)
	if err != nil {
		return err
	}
	defer s.removeTemp(temp) // 7.
	// 4. The metadata.
	if err := s.putMeta(key, int64(len(body)), meta); err != nil {
		return err
	}
	// 5. and 6. The object.
	err = s.fs.Link(temp, name)
	if err == nil || errors.Is(err, fs.ErrExist) {
		if err := s.syncDir(dir); err != nil {
			return err
		}
	}
	return err
}

// absent returns nil if nothing has the name, and fs.ErrExist once an object that has it is durable.
func (s *Store) absent(key, name string) error {
	info, err := s.fs.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("key is a directory: %w", batcher.ErrRefused)
	case err == nil:
		// No put of the key is under way but ours, so an earlier one has synced the name; had it failed, the store would not be trusted.
		return fs.ErrExist
	case isAbsent(err):
		return nil
	}
	return err
}

// acquire waits until no other call puts key, and then keeps others out until release is called.
func (s *Store) acquire(ctx context.Context, key string) (release func(), err error) {
	for {
		s.mu.Lock()
		other, busy := s.puts[key]
		if !busy && ctx.Err() == nil {
			mine := make(chan struct{})
			s.puts[key] = mine
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.puts, key)
				s.mu.Unlock()
				close(mine)
			}, nil
		}
		s.mu.Unlock()
		if !busy {
			return nil, ctx.Err()
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Get implements [batcher.ObjectStore].
func (s *Store) Get(ctx context.Context, key string) ([]byte, batcher.ObjectInfo, error) {
	info, err := s.look(ctx, key)
	if err != nil && !errors.Is(err, batcher.ErrDamaged) {
		return nil, batcher.ObjectInfo{}, fmt.Errorf("get %q: %w", key, err)
	}
	body, readErr := s.readFile(s.path(key))
	if err == nil {
		err = readErr // the metadata is told of first
	}
	if err != nil {
		return body, info, fmt.Errorf("get %q: %w", key, classify(err))
	}
	return body, info, nil
}

// readTries is how often a file is read that the disk does not give.
const readTries = 3

// readFile returns ErrDamaged for a file that is there and that the disk cannot read.
func (s *Store) readFile(name string) ([]byte, error) {
	body, err := vfs.ReadFile(s.fs, name)
	for try := 1; try < readTries && errors.Is(err, syscall.EIO); try++ {
		body, err = vfs.ReadFile(s.fs, name)
	}
	if errors.Is(err, syscall.EIO) {
		return nil, fmt.Errorf("%w: %w", batcher.ErrDamaged, err)
	}
	return body, err
}

// Stat implements [batcher.ObjectStore].
func (s *Store) Stat(ctx context.Context, key string) (batcher.ObjectInfo, error) {
	info, err := s.look(ctx, key)
	if err != nil {
		return batcher.ObjectInfo{}, fmt.Errorf("stat %q: %w", key, err)
	}
	return info, nil
}

// look describes an object after it has made it durable.
func (s *Store) look(ctx context.Context, key string) (batcher.ObjectInfo, error) {
	if err := ctx.Err(); err != nil {
		return batcher.ObjectInfo{}, fmt.Errorf("%w: %w", batcher.ErrUnavailable, err)
	}
	if batcher.CheckKey(key) != nil || own(key) {
		return batcher.ObjectInfo{}, batcher.ErrNotFound // no object can be there
	}
	if err := s.trusted(); err != nil {
		return batcher.ObjectInfo{}, err
	}
	file, err := s.fs.Stat(s.path(key))
	switch {
	case isAbsent(err), err == nil && file.IsDir():
		return batcher.ObjectInfo{}, batcher.ErrNotFound
	case err != nil:
		return batcher.ObjectInfo{}, classify(err)
	}
	if err := s.settle(key); err != nil {
		return batcher.ObjectInfo{}, classify(err)
	}
	return s.describe(key, file)
}

func (s *Store) describe(key string, file fs.FileInfo) (batcher.ObjectInfo, error) {
	info := batcher.ObjectInfo{Key: key, Size: file.Size(), ModTime: file.ModTime().UTC(), Meta: map[string]string{}}
	m, err := s.readMeta(key)
	switch {
	case err != nil:
		return info, classify(err)
	case m != nil && m.Size == info.Size:
		info.Meta, info.ModTime = m.Meta, m.At
	}
	return info, nil
}

// Home implements [batcher.ObjectStore]: a random id, which stays with the directory when it is moved.
func (s *Store) Home() string { return "dir:" + s.home }

// URI implements [batcher.ObjectStore].
func (s *Store) URI(key string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(s.path(key))}
	return u.String()
}

// isAbsent reports whether a look at a name failed because nothing is, or can be, there.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG)
}

// refused are errors of the file system that no later try changes.
var refused = []error{syscall.ENAMETOOLONG, syscall.EFBIG, syscall.ENOTDIR, syscall.EISDIR}

// classify turns an error of the file system into one of the seam.
func classify(err error) error {
	for _, known := range []error{batcher.ErrRefused, batcher.ErrNotFound, batcher.ErrExists, batcher.ErrUnavailable} {
		if errors.Is(err, known) {
			return err
		}
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return batcher.ErrExists
	case errors.Is(err, fs.ErrNotExist):
		return batcher.ErrNotFound
	}
	for _, r := range refused {
		if errors.Is(err, r) {
			return fmt.Errorf("%w: %w", batcher.ErrRefused, err)
		}
	}
	return fmt.Errorf("%w: %w", batcher.ErrUnavailable, err)
}

// now is the time in the precision that metadata keeps.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
