package chain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"millrace/batcher"
	"millrace/ingest"
)

const (
	// maxPage is the largest page that is written; the entries of a chain with more in a thousand are read one by one.
	maxPage = 32 << 20
	// pageReads bounds the requests under way for one page.
	pageReads = 8
)

// pageOf returns the number of the page that repeats entry seq.
func (r *Reader) pageOf(seq int64) int64 { return (seq - 1) / r.pageSize }

// errLong is of a page that is not written.
var errLong = errors.New("page is too long")

// WritePage puts page n of a stream, if it is absent: the JSON of its entries, one per line, compressed as large entries are. The caller knows
// that all of them are done. A page beyond 32 MiB is left out; readers do without. It returns ErrUnavailable if a read or the put was; trying
// again is safe.
func (r *Reader) WritePage(ctx context.Context, s ingest.Stream, n int64) error {
	lines := make([][]byte, r.pageSize)
	var size atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(pageReads)
	for i := range lines {
		g.Go(func() error {
			stored, _, err := r.store.Get(gctx, batcher.ChainKey(s, n*r.pageSize+int64(i)+1))
			if err != nil {
				return err
			}
			if lines[i], err = batcher.Unpack(stored); err == nil && size.Add(int64(len(lines[i]))) > maxPage {
				return errLong
			}
			return err
		})
	}
	err := g.Wait()
	if errors.Is(err, errLong) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read entries for page %d of chain %s: %w", n, s, err)
	}
	page, err := batcher.Pack(bytes.Join(lines, []byte{'\n'}))
	if err != nil {
		return fmt.Errorf("encode page %d of chain %s: %w", n, s, err)
	}
	if err := r.store.PutIfAbsent(ctx, batcher.PageKey(s, n), page, nil); err != nil && !errors.Is(err, batcher.ErrExists) {
		return fmt.Errorf("put page %d of chain %s: %w", n, s, err)
	}
	return nil
}

// HasPage reports whether page n of a stream exists.
func (r *Reader) HasPage(ctx context.Context, s ingest.Stream, n int64) (bool, error) {
	_, err := r.store.Stat(ctx, batcher.PageKey(s, n))
	if errors.Is(err, batcher.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// page returns the entries of page n, or ErrNotFound.
func (r *Reader) page(ctx context.Context, s ingest.Stream, n int64) ([]batcher.Entry, error) {
	body, _, err := r.store.Get(ctx, batcher.PageKey(s, n))
	if err != nil {
		return nil, fmt.Errorf("read page %d of chain %s: %w", n, s, err)
	}
	if body, err = batcher.Unpack(body); err != nil {
		return nil, fmt.Errorf("decode page %d of chain %s: %w", n, s, err)
	}
	lines := bytes.Split(body, []byte{'\n'})
	if int64(len(lines)) != r.pageSize {
		return nil, fmt.Errorf("page %d of chain %s has %d entries, want %d", n, s, len(lines), r.pageSize)
	}
	entries := make([]batcher.Entry, len(lines))
	for i, line := range lines {
		if entries[i], err = decode(line, s, n*r.pageSize+int64(i)+1); err != nil {
			return nil, err
		}
	}
	return entries, nil
}
