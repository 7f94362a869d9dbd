// Package wait waits for the object of a task that has `wait`, in a process of its own.
//
// It looks at the object and writes nothing, so that it can be killed and started again at any point: the next attempt looks again. It ends when
// the object is there; that it ends at all is the doing of the task's timeout, which the plan insists on. An object of a store is whole when
// it is there, because stores put objects as a whole. A file is there as soon as its name is: whoever writes it has to write it under another
// name and rename it.
package wait

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/scheduler/operator"
)

// beat is the longest time without a line in the log.
const beat = time.Minute

// Options are what the process has around it.
type Options struct {
	// Store opens the installation's object store; it is called at most once, and not for a file.
	Store func(ctx context.Context) (batcher.ObjectStore, error)
	// Log gets what a person reads about the attempt.
	Log io.Writer
}

// Found is what is known of the object: the task's output.
type Found struct {
	// Key is that in the store, "" for a file outside.
	Key   string    `json:"key,omitempty"`
	URI   string    `json:"uri"`
	Bytes int64     `json:"bytes"`
	At    time.Time `json:"at"`
}

// For waits until the object is there and returns [Found] as JSON. A store that does not answer is asked again; an object that can never be
// there is an [operator.Final] error. When ctx ends, the error says for how long there was nothing.
func For(ctx context.Context, w *scheduler.Wait, opts Options) ([]byte, error) {
	look, err := looker(ctx, w.Object, opts)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	tick := time.NewTicker(w.Poll)
	defer tick.Stop()
	_, _ = fmt.Fprintf(opts.Log, "waiting for %s, looking every %v\n", w.Object, w.Poll)
	said := begin
	for looks := 1; ; looks++ {
		found, err := look(ctx)
		waited := time.Since(begin).Round(time.Millisecond)
		switch {
		case err == nil:
			_, _ = fmt.Fprintf(opts.Log, "it is there after %v: %d bytes, of %s\n", waited, found.Bytes, found.At.UTC().Format(time.RFC3339))
			return json.Marshal(found)
		case ctx.Err() != nil:
			return nil, operator.Again(fmt.Errorf("%s was not there after %v and %d looks, and the task was told to end (timeout:, or a person)",
				w.Object, waited, looks))
		case !errors.Is(err, batcher.ErrNotFound):
			_, _ = fmt.Fprintf(opts.Log, "could not look, and goes on: %v\n", err)
			said = time.Now()
		case time.Since(said) >= beat-w.Poll/2:
			_, _ = fmt.Fprintf(opts.Log, "not there after %v and %d looks\n", waited, looks)
			said = time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

type lookFunc func(ctx context.Context) (Found, error)

// looker decides what an object is: a file, or one of the store, by its key or by its URI there.
func looker(ctx context.Context, object string, opts Options) (lookFunc, error) {
	if path, ok := operator.File(object); ok {
		return func(context.Context) (Found, error) { return lookFile(path) }, nil
	}
	store, err := opts.Store(ctx)
	if err != nil {
		return nil, operator.Again(fmt.Errorf("open the object store: %w", err))
	}
	key := object
	if strings.Contains(object, "://") {
		var ok bool
		if key, ok = strings.CutPrefix(object, store.URI("")); !ok {
			return nil, operator.Final(fmt.Errorf("%s is not in the object store of this installation, whose objects start with %s",
				object, store.URI("")))
		}
	}
	if err := batcher.CheckKey(key); err != nil {
		return nil, operator.Final(fmt.Errorf("%s can not be the key of an object: %w", key, err))
	}
	return func(ctx context.Context) (Found, error) {
		info, err := store.Stat(ctx, key)
		return Found{Key: key, URI: store.URI(key), Bytes: info.Size, At: info.ModTime}, err
	}, nil
}

func lookFile(path string) (Found, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && info.IsDir():
		return Found{}, batcher.ErrNotFound
	case err != nil:
		return Found{}, err
	}
	uri := url.URL{Scheme: "file", Path: filepath.ToSlash(path)}
	return Found{URI: uri.String(), Bytes: info.Size(), At: info.ModTime().UTC()}, nil
}
