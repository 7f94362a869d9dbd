package chain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"millrace/batcher"
)

// Copied counts what [Copy] did.
type Copied struct {
	// Objects and Bytes are all that the copy has now; Present of them were there already.
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
	Present int64 `json:"present"`
}

// ErrDiffers is returned by [Copy] for a key that has another object in the new place.
var ErrDiffers = errors.New("the new place has another object at this key")

// Copy puts every object of one store into another, chains, sidecars and quarantine with the batches: all but the probes of starts. What is
// there already must be the same, so that a copy can be broken off and repeated. Nobody may put into from meanwhile. progress, if not nil,
// is told of each object, one call at a time.
//
// An object's time in the store is a new one; the facts of batches that their chain has confirmed stand in the chain, and keep theirs.
func Copy(ctx context.Context, from, to batcher.ObjectStore, progress func(bytes int64)) (Copied, error) {
	const parallel = 8
	var mu sync.Mutex // guards sum and progress
	var sum Copied
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for info, err := range from.List(gctx, batcher.ListOptions{}) {
		if err != nil {
			return sum, errors.Join(fmt.Errorf("list %s: %w", from.Home(), err), g.Wait())
		}
		if strings.HasPrefix(info.Key, batcher.PrefixMeta+"probe/") {
			continue
		}
		g.Go(func() error { // ends with its object
			size, present, err := copyObject(gctx, from, to, info.Key)
			if err != nil {
				return fmt.Errorf("copy %s: %w", info.Key, err)
			}
			mu.Lock()
			defer mu.Unlock()
			sum.Objects++
			sum.Bytes += size
			if present {
				sum.Present++
			}
			if progress != nil {
				progress(size)
			}
			return nil
		})
	}
	return sum, g.Wait()
}

func copyObject(ctx context.Context, from, to batcher.ObjectStore, key string) (size int64, present bool, err error) {
	body, info, err := from.Get(ctx, key)
	if err != nil {
		return 0, false, err
	}
	err = to.PutIfAbsent(ctx, key, body, info.Meta)
	if err == nil {
		return int64(len(body)), false, nil
	}
	if !errors.Is(err, batcher.ErrExists) && !errors.Is(err, batcher.ErrUnavailable) {
		return 0, false, err
	}
	have, there, getErr := to.Get(ctx, key) // whose is it, or did it come through?
	if getErr != nil {
		return 0, false, errors.Join(err, getErr)
	}
	if !bytes.Equal(have, body) || !maps.Equal(there.Meta, info.Meta) {
		return 0, false, ErrDiffers
	}
	return int64(len(body)), true, nil
}
