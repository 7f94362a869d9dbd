package sandbox_test

import (
	"context"
	"fmt"

	"millrace/batcher"
	"millrace/batcher/memstore"
)

// refusing is a store that takes nothing.
type refusing struct{ *memstore.Store }

func (refusing) PutIfAbsent(context.Context, string, []byte, map[string]string) error {
	return fmt.Errorf("put: %w", batcher.ErrRefused)
}
