package dirstore

import (
	"context"
	"fmt"

	"millrace/batcher"
)

var _ batcher.Remover = (*Store)(nil)

// Remove implements [batcher.Remover]. The object goes first: metadata without an object means nothing. Neither is made durable, since what comes
// back with the power may be removed again.
func (s *Store) Remove(ctx context.Context, key string) error {
	if err := batcher.CheckRemove(key); err != nil {
		return err
	}
	if s.readOnly || own(key) {
		return fmt.Errorf("remove %q: the store is open for reading, or the name is its own: %w", key, batcher.ErrRefused)
	}
	release, err := s.acquire(ctx, key)
	if err != nil {
		return fmt.Errorf("remove %q: %w: %w", key, batcher.ErrUnavailable, err)
	}
	defer release()
	for _, name := range []string{s.path(key), s.metaPath(key)} {
		if err := s.fs.Remove(name); err != nil && !isAbsent(err) {
			return fmt.Errorf("remove %q: %w", key, classify(err))
		}
	}
	s.mu.Lock()
	delete(s.settled, key)
	s.mu.Unlock()
	return nil
}
