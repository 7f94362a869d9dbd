package memstore

import (
	"context"
	"slices"

	"millrace/batcher"
)

var _ batcher.Remover = (*Store)(nil)

// OpRemove is the call of [Store.Remove]; it came after the others.
const OpRemove Op = "remove"

// Remove implements [batcher.Remover].
func (s *Store) Remove(ctx context.Context, key string) error {
	if err := batcher.CheckRemove(key); err != nil {
		return err
	}
	f, err := s.fault(ctx, OpRemove, key)
	if f != None && f != Lose {
		return err
	}
	p := s.place
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.objects, key)
	if i, ok := slices.BinarySearch(p.keys, key); ok {
		p.keys = slices.Delete(p.keys, i, i+1)
	}
	return err
}
