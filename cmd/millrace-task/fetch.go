package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// fetchWidth is how many objects are fetched at once.
	fetchWidth = 4
	// fetchTries is how often in a row an object may bring no further byte.
	fetchTries = 5
	// fetchPause is the first pause between tries; it doubles.
	fetchPause = 500 * time.Millisecond
	// fetchStall is how long a transfer may stand still before it counts as broken.
	fetchStall = time.Minute
)

var (
	// errNever: the object can not be fetched by anybody like us, however often it is tried.
	errNever = errors.New("can never be fetched")
	// errAgain: what was read so far is of no use, begin anew.
	errAgain = errors.New("the object is another one than before")
)

// fetcher downloads the objects of batches into a directory: each at the key of its batch, complete and compared with size and checksum of the
// batch, or not at all under that name. What is there and right is not fetched again.
type fetcher struct {
	root  *os.Root
	open  opener
	pause time.Duration
	stall time.Duration
}

// opener opens an object at an offset; tag is what it returned before for the same object. errNever, errAgain; any other error may pass.
type opener func(ctx context.Context, uri *url.URL, offset int64, tag string) (body io.ReadCloser, newTag string, err error)

// object is what the input document says of a batch's.
type object struct {
	ID       string `json:"id"`
	Key      string `json:"key"`
	URI      string `json:"uri"`
	Bytes    int64  `json:"bytes"`
	Checksum string `json:"checksum"`
	Void     string `json:"void"`
}

// fetchAll fetches the objects of all batches of the input document that are not void.
func (t *task) fetchAll(ctx context.Context) error {
	text, err := os.ReadFile(t.input)
	if err != nil {
		return err
	}
	var in struct {
		Batches []object `json:"batches"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return fmt.Errorf("decode the input document %s: %w: %w", t.input, errNever, err)
	}
	if err := os.MkdirAll(t.fetch, dirMode); err != nil {
		return err
	}
	root, err := os.OpenRoot(t.fetch)
	if err != nil {
		return err
	}
	defer root.Close()
	stores := &stores{pathStyle: t.pathStyle}
	f := &fetcher{root: root, open: stores.open, pause: fetchPause, stall: fetchStall}
	return f.all(ctx, in.Batches)
}

func (f *fetcher) all(ctx context.Context, batches []object) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex // guards first
		first error
	)
	next := make(chan *object)
	for range min(fetchWidth, len(batches)) {
		wg.Go(func() { // ends with next
			for b := range next {
				if err := f.one(ctx, b); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
					cancel()
				}
			}
		})
	}
	for i := range batches {
		if batches[i].Void == "" {
			next <- &batches[i]
		}
	}
	close(next)
	wg.Wait()
	return first
}

// one fetches an object, going on where a transfer broke off.
func (f *fetcher) one(ctx context.Context, b *object) error {
	uri, err := url.Parse(b.URI)
	name := b.Key
	if name == "" {
		name = b.ID
	}
	if err != nil || !filepath.IsLocal(name) {
		return fmt.Errorf("batch %s: %w: its address or its key %q can not be read", b.ID, errNever, name)
	}
	if sum, size, err := f.sum(name); err == nil && matches(b, sum, size) == nil {
		return nil
	}
	if err := f.root.MkdirAll(filepath.Dir(name), dirMode); err != nil {
		return fmt.Errorf("batch %s: %w", b.ID, err)
	}
	part, err := f.root.Create(name + ".part")
	if err != nil {
		return fmt.Errorf("batch %s: %w", b.ID, err)
	}
	err = f.transfer(ctx, &transfer{fetcher: f, batch: b, uri: uri, part: part})
	if err = errors.Join(err, part.Close()); err == nil {
		err = f.root.Rename(name+".part", name)
	}
	if err != nil {
		return fmt.Errorf("batch %s (%s): %w", b.ID, plain(uri), err)
	}
	return nil
}

// transfer is one object on its way.
type transfer struct {
	*fetcher
	batch *object
	uri   *url.URL
	part  *os.File
	have  int64
	crc   uint32
	tag   string
}

func (f *fetcher) transfer(ctx context.Context, t *transfer) error {
	for failures := 0; ; {
		before := t.have
		err := t.try(ctx)
		if err == nil {
			if err = matches(t.batch, t.crc, t.have); err == nil {
				return nil
			}
			// It may have changed on the way.
			before = t.have
			err = errors.Join(err, t.restart())
		}
		if errors.Is(err, errAgain) {
			err = errors.Join(err, t.restart())
		}
		if failures++; t.have > before {
			failures = 1
		}
		if ctx.Err() != nil || errors.Is(err, errNever) || failures >= fetchTries {
			return err
		}
		pause := f.pause << (failures - 1)
		select {
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		case <-ctx.Done():
			return err
		}
	}
}

// restart forgets what came so far.
func (t *transfer) restart() error {
	t.have, t.crc, t.tag = 0, 0, ""
	_, err := t.part.Seek(0, io.SeekStart)
	return errors.Join(err, t.part.Truncate(0))
}

// try reads from where the object broke off to its end, or as far as it comes.
func (t *transfer) try(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(t.stall, func() { cancel(fmt.Errorf("nothing came for %v", t.stall)) })
	defer idle.Stop()
	body, tag, err := t.open(ctx, t.uri, t.have, t.tag)
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	defer body.Close()
	t.tag = tag
	buf := make([]byte, 256<<10)
	for {
		n, err := body.Read(buf)
		idle.Reset(t.stall)
		if n > 0 {
			if _, err := t.part.Write(buf[:n]); err != nil {
				return err
			}
			t.have += int64(n)
			t.crc = crc32.Update(t.crc, castagnoli, buf[:n])
		}
		switch {
		case errors.Is(err, io.EOF) && (t.batch.Bytes == 0 || t.have >= t.batch.Bytes):
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("it ended after %d bytes of %d", t.have, t.batch.Bytes)
		case err != nil:
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// matches compares what came with what the batch says of its object; zero says nothing.
func matches(b *object, crc uint32, size int64) error {
	if b.Bytes != 0 && size != b.Bytes {
		return fmt.Errorf("it has %d bytes, and the batch says %d", size, b.Bytes)
	}
	if sum := fmt.Sprintf("crc32c:%08x", crc); b.Checksum != "" && sum != b.Checksum {
		return fmt.Errorf("its checksum is %s, and the batch says %s", sum, b.Checksum)
	}
	return nil
}

// sum reads what is there already.
func (f *fetcher) sum(name string) (crc uint32, size int64, err error) {
	file, err := f.root.Open(name)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0, 0, errors.Join(err, fs.ErrInvalid)
	}
	h := crc32.New(castagnoli)
	size, err = io.Copy(h, file)
	return h.Sum32(), size, err
}

// plain is an address without what may be secret in it.
func plain(u *url.URL) string {
	short := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return short.String()
}
