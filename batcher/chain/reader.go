package chain

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"millrace/batcher"
	"millrace/batcher/encode"
	"millrace/ingest"
)

// ErrShort is returned by [Reader.Tail] for a chain that ends below an entry that existed once: the store lost entries, or is not the one
// that had them.
var ErrShort = errors.New("chain ends below an entry that existed")

// Options are the tunables of [New]; the zero value works.
type Options struct {
	// CacheBytes bounds the entries that are kept decoded, by their stored size; default 4 MiB.
	CacheBytes int
	// PageSize is for tests; default [batcher.PageSize].
	PageSize int64
	// PageAfter is how many entries are read one by one before a page is asked for, so that a reader that follows the tail never asks for
	// one; default 16.
	PageAfter int
}

// Reader reads the chains of one store. Safe for concurrent use.
type Reader struct {
	store     batcher.ObjectStore
	pageSize  int64
	pageAfter int
	entries   cache
	known     knownStreams
}

var _ batcher.Catalogue = (*Reader)(nil)

// New returns a reader of the chains in store.
func New(store batcher.ObjectStore, opts Options) *Reader {
	if opts.CacheBytes == 0 {
		opts.CacheBytes = 4 << 20
	}
	if opts.PageSize == 0 {
		opts.PageSize = batcher.PageSize
	}
	if opts.PageAfter == 0 {
		opts.PageAfter = 16
	}
	return &Reader{store: store, pageSize: opts.PageSize, pageAfter: opts.PageAfter, entries: cache{limit: opts.CacheBytes}}
}

// Entry implements [batcher.Catalogue].
func (r *Reader) Entry(ctx context.Context, s ingest.Stream, seq int64) (batcher.Entry, error) {
	if seq < 1 {
		return batcher.Entry{}, fmt.Errorf("read entry %d of chain %s: %w", seq, s, batcher.ErrNotFound)
	}
	if e, ok := r.entries.get(s, seq); ok {
		return e, nil
	}
	body, _, err := r.store.Get(ctx, batcher.ChainKey(s, seq))
	if err != nil {
		return batcher.Entry{}, fmt.Errorf("read entry %d of chain %s: %w", seq, s, err)
	}
	e, err := decode(body, s, seq)
	if err != nil {
		return batcher.Entry{}, err
	}
	r.entries.add(e, len(body))
	return e, nil
}

// decode reads a stored entry and checks that it is the one that its place says.
func decode(body []byte, s ingest.Stream, seq int64) (batcher.Entry, error) {
	e, err := batcher.UnmarshalEntry(body)
	if err != nil {
		return batcher.Entry{}, fmt.Errorf("entry %d of chain %s: %w", seq, s, err)
	}
	if e.Stream != s || e.Seq != seq {
		return batcher.Entry{}, fmt.Errorf("entry %d of chain %s says that it is entry %d of %s", seq, s, e.Seq, e.Stream)
	}
	return e, nil
}

// Tail implements [batcher.Catalogue]. hint, if not 0, must be an entry that existed once; if it does not any more the error is [ErrShort].
// A tail k entries above the hint costs about 2·log2(k) calls of Stat and one Get.
func (r *Reader) Tail(ctx context.Context, s ingest.Stream, hint int64) (batcher.Entry, error) {
	hint = max(hint, 0)
	last, err := gallop(hint, func(seq int64) (bool, error) {
		if _, ok := r.entries.get(s, seq); ok {
			return true, nil
		}
		_, err := r.store.Stat(ctx, batcher.ChainKey(s, seq))
		if errors.Is(err, batcher.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return batcher.Entry{}, fmt.Errorf("look for the tail of chain %s: %w", s, err)
	}
	e, err := r.Entry(ctx, s, last)
	if hint > 0 && errors.Is(err, batcher.ErrNotFound) {
		return batcher.Entry{}, fmt.Errorf("look for the tail of chain %s above entry %d: %w", s, hint, ErrShort)
	}
	return e, err
}

// gallop returns the last seq that exists, given that from does, that existence is monotone, and that 0 always exists.
func gallop(from int64, exists func(seq int64) (bool, error)) (int64, error) {
	low, step := from, int64(1)
	for {
		ok, err := exists(low + step)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		low += step
		step *= 2
	}
	for high := low + step; high-low > 1; { // low exists, high does not
		mid := low + (high-low)/2
		ok, err := exists(mid)
		if err != nil {
			return 0, err
		}
		if ok {
			low = mid
		} else {
			high = mid
		}
	}
	return low, nil
}

// Facts implements [batcher.Catalogue]. It does not check that the object is that of the cut; see [Check].
func (r *Reader) Facts(ctx context.Context, c batcher.Cut) (batcher.Facts, string, error) {
	info, err := r.store.Stat(ctx, c.Object)
	if err != nil {
		return batcher.Facts{}, "", fmt.Errorf("read facts of batch %s: %w", c.Batch, err)
	}
	f, err := encode.FactsOf(info)
	if err != nil {
		return batcher.Facts{}, "", fmt.Errorf("read facts of batch %s: %w", c.Batch, err)
	}
	return f, r.store.URI(c.Object), nil
}

// ErrForeign is returned by [Check] for an object that is not that of the cut.
var ErrForeign = errors.New("object is another batch's")

// Check reports whether f are facts of c's object: the same batch and, unless it is void, the same rows. Bytes are not compared, because a
// newer compressor writes the same rows differently.
func Check(c *batcher.Cut, f *batcher.Facts) error {
	if f.Batch == c.Batch && (f.Void != "" || f.Rows == c.Count && f.Records == c.Records) {
		return nil
	}
	return fmt.Errorf("object %q is of batch %s with %d rows (digest %.8s), the chain says batch %s with %d rows (digest %.8s): %w",
		c.Object, f.Batch, f.Rows, f.Records, c.Batch, c.Count, c.Records, ErrForeign)
}

// dirs lists the names directly below prefix, without the slash.
func (r *Reader) dirs(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	for info, err := range r.store.List(ctx, batcher.ListOptions{Prefix: prefix, Dirs: true}) {
		if err != nil {
			return nil, fmt.Errorf("list chains below %q: %w", prefix, err)
		}
		names = append(names, strings.TrimSuffix(info.Key[len(prefix):], "/"))
	}
	return names, nil
}
