package sdk

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"path/filepath"
)

// Rows reads the rows of all batches of an attempt, one after the other, each decoded into a T; memory holds one of them. It ends with the
// first error, also if an object has another number of rows than its batch.
func Rows[T any](a *Attempt) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, b := range a.Batches {
			if b.Void != "" {
				continue
			}
			for row, err := range batchRows[T](a, b) {
				if !yield(row, err) || err != nil {
					return
				}
			}
		}
	}
}

func batchRows[T any](a *Attempt, b Batch) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		plain, closeAll, err := a.openRows(&b)
		if err != nil {
			yield(zero, fmt.Errorf("open batch %s: %w", b.ID, err))
			return
		}
		defer closeAll()
		dec := json.NewDecoder(plain)
		for n := int64(0); ; n++ {
			var row T
			err := dec.Decode(&row)
			if errors.Is(err, io.EOF) && n == b.Events {
				return
			}
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("the object has %d rows, the batch %d: run millrace verify", n, b.Events)
			}
			if err != nil {
				yield(zero, fmt.Errorf("read row %d of batch %s (%s): %w", n, b.ID, b.URI, err))
				return
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

// The first bytes of what compressors write; a row begins with '{'.
var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// open returns the object of a batch as it is stored.
func (a *Attempt) open(b *Batch) (io.ReadCloser, error) {
	if a.Open != nil {
		return a.Open(b.URI)
	}
	if a.Fetched != "" && b.Key != "" {
		if f, err := os.OpenInRoot(a.Fetched, filepath.FromSlash(b.Key)); err == nil {
			return f, nil
		}
	}
	return openFile(b.URI)
}

func (a *Attempt) openRows(b *Batch) (plain io.Reader, closeAll func(), err error) {
	stored, err := a.open(b)
	if err != nil {
		return nil, nil, err
	}
	closeAll = func() { _ = stored.Close() }
	buf := bufio.NewReaderSize(stored, 64<<10)
	first, _ := buf.Peek(len(zstdMagic)) // An object shorter than that is empty, or fails when it is read.
	switch {
	case bytes.HasPrefix(first, gzipMagic):
		plain, err = gzip.NewReader(buf)
	case bytes.HasPrefix(first, zstdMagic):
		err = fmt.Errorf("%s is compressed by zstd, which Go's standard library does not read: set Attempt.Open to a function that returns the "+
			"plain rows, or `batch: {compression: gzip}` in millrace.yaml", b.URI)
	default:
		plain = buf
	}
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	return plain, closeAll, nil
}

// openFile opens a path or a file:// URI.
func openFile(uri string) (io.ReadCloser, error) {
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.Scheme == "":
		return os.Open(uri)
	case u.Scheme != "file":
		return nil, fmt.Errorf("%s is not a file: set Attempt.Open to a function that opens %s:// with a client of yours", uri, u.Scheme)
	case u.Host != "" && u.Host != "localhost":
		return nil, fmt.Errorf("%s names another machine, %s: run the task where the objects are, or use an object store", uri, u.Host)
	}
	return os.Open(u.Path)
}
