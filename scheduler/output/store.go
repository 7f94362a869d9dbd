package output

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
)

// Prefix is where outputs are in the object store.
const Prefix = batcher.PrefixMeta + "outputs/"

const dayPrefix = Prefix + "dt="

// Store keeps large outputs in an object store. Safe for concurrent use.
type Store struct{ objects batcher.ObjectStore }

// NewStore returns a store of outputs in objects.
func NewStore(objects batcher.ObjectStore) *Store { return &Store{objects} }

// Put stores the output of an attempt, and returns when it is durable. It may be repeated. scheduler.ErrUnavailable: not now; any other error: it
// can not be stored.
func (s *Store) Put(ctx context.Context, attempt string, body []byte, now time.Time) (*scheduler.OutputRef, error) {
	sum := sha256.Sum256(body)
	text := hex.EncodeToString(sum[:])
	ref := &scheduler.OutputRef{
		Ref: dayPrefix + now.UTC().Format(time.DateOnly) + "/" + attempt + "-" + text[:16] + ".json", SHA256: text, Bytes: int64(len(body)),
	}
	err := s.objects.PutIfAbsent(ctx, ref.Ref, body, nil)
	switch {
	case err == nil, errors.Is(err, batcher.ErrExists):
		return ref, nil
	case errors.Is(err, batcher.ErrRefused):
		return nil, fmt.Errorf("store output of attempt %s: %w", attempt, err)
	default:
		return nil, fmt.Errorf("store output of attempt %s: %w: %w", attempt, scheduler.ErrUnavailable, err)
	}
}

// putTime is how long one output may take to be stored.
const putTime = time.Minute

// Putter stores outputs, as [Store] does.
type Putter interface {
	Put(ctx context.Context, attempt string, body []byte, now time.Time) (*scheduler.OutputRef, error)
}

// Spill puts an output that is too large for a row, for an executor. problem is why it can never be taken; an error says that it is to be tried again.
func Spill(ctx context.Context, s Putter, attempt string, body []byte) (ref *scheduler.OutputRef, problem string, err error) {
	if !json.Valid(body) {
		return nil, "is not JSON", nil
	}
	short, cancel := context.WithTimeout(ctx, putTime)
	defer cancel()
	ref, err = s.Put(short, attempt, body, time.Now())
	switch {
	case err == nil:
		return ref, "", nil
	case errors.Is(err, scheduler.ErrUnavailable), ctx.Err() != nil:
		return nil, "", err
	default:
		return nil, err.Error(), nil
	}
}

// Get returns an output, whose hash was compared. scheduler.ErrNotFound: it was removed; scheduler.ErrUnavailable.
func (s *Store) Get(ctx context.Context, ref scheduler.OutputRef) ([]byte, error) {
	if !strings.HasPrefix(ref.Ref, Prefix) {
		return nil, fmt.Errorf("read output %s: it is not below %s", ref.Ref, Prefix)
	}
	body, _, err := s.objects.Get(ctx, ref.Ref)
	switch {
	case errors.Is(err, batcher.ErrNotFound):
		return nil, fmt.Errorf("read output %s: %w: it was removed after store.retention", ref.Ref, scheduler.ErrNotFound)
	case errors.Is(err, batcher.ErrDamaged):
		return nil, fmt.Errorf("read output %s: %w", ref.Ref, err)
	case err != nil:
		return nil, fmt.Errorf("read output %s: %w: %w", ref.Ref, scheduler.ErrUnavailable, err)
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != ref.SHA256 {
		return nil, fmt.Errorf("read output %s: the object is not what was put: its SHA-256 is another", ref.Ref)
	}
	return body, nil
}

// URI is where programs find the object of an output.
func (s *Store) URI(ref scheduler.OutputRef) string { return s.objects.URI(ref.Ref) }

// sweepStep is how many objects [Store.Sweep] asks about at once.
const sweepStep = 200

// Sweep removes the outputs of days before the time that used does not return, and reports how many. used is given keys and returns those that a
// row or an entry of the cache names. A store that can not remove has nothing to sweep.
func (s *Store) Sweep(ctx context.Context, before time.Time, used func(ctx context.Context, refs []string) (map[string]bool, error)) (int, error) {
	remover, ok := s.objects.(batcher.Remover)
	if !ok {
		return 0, nil
	}
	last := dayPrefix + before.UTC().Format(time.DateOnly) // that day itself stays
	n := 0
	var keys []string
	flush := func() error {
		named, err := used(ctx, keys)
		if err != nil {
			return fmt.Errorf("ask who names outputs: %w", err)
		}
		for _, key := range keys {
			if named[key] {
				continue
			}
			if err := remover.Remove(ctx, key); err != nil {
				return fmt.Errorf("remove output: %w", err)
			}
			n++
		}
		keys = keys[:0]
		return nil
	}
	for info, err := range s.objects.List(ctx, batcher.ListOptions{Prefix: dayPrefix}) {
		if err != nil {
			return n, fmt.Errorf("list outputs: %w", err)
		}
		if info.Key >= last {
			break // keys come in their order, and days sort
		}
		if keys = append(keys, info.Key); len(keys) == sweepStep {
			if err := flush(); err != nil {
				return n, err
			}
		}
	}
	return n, flush()
}
