package archive

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/scheduler"
)

// Prefix is where archives are in the object store.
const Prefix = batcher.PrefixMeta + "archive/"

const (
	dayPrefix = Prefix + "dt="
	suffix    = ".ndjson.gz"
)

// Record is one line of an object: all that is known of a run.
type Record struct {
	V int `json:"v"`
	// Kind is "run".
	Kind string `json:"kind"`
	scheduler.PastRun
	// Logs are the logs of its attempts, those that there were.
	Logs []Log `json:"logs"`
}

// Log is the log of an attempt: so many bytes, of which Tail is the end. What is not UTF-8 is replaced.
type Log struct {
	Attempt string `json:"attempt"`
	Bytes   int64  `json:"bytes"`
	Tail    string `json:"tail"`
}

// Item is an object as a list has it. First and Last are the ids of the runs of its name.
type Item struct {
	Key   string    `json:"key"`
	URI   string    `json:"uri"`
	Day   string    `json:"day"`
	First string    `json:"first"`
	Last  string    `json:"last"`
	Bytes int64     `json:"bytes"`
	At    time.Time `json:"at"`
}

// Reader reads archives. Safe for concurrent use.
type Reader struct{ objects batcher.ObjectStore }

// NewReader returns a reader of the archives in objects.
func NewReader(objects batcher.ObjectStore) *Reader { return &Reader{objects} }

// List returns at most limit objects after a key, in the order of their days, and the key to go on after, "" at the end.
func (r *Reader) List(ctx context.Context, after string, limit int) ([]Item, string, error) {
	items := []Item{}
	for info, err := range r.objects.List(ctx, batcher.ListOptions{Prefix: dayPrefix, After: after}) {
		if err != nil {
			return nil, "", fmt.Errorf("list archives: %w", err)
		}
		if len(items) == limit {
			return items, items[limit-1].Key, nil
		}
		day, name, _ := strings.Cut(strings.TrimPrefix(info.Key, dayPrefix), "/")
		first, last, _ := strings.Cut(strings.TrimSuffix(name, suffix), "-")
		last, _, _ = strings.Cut(last, "-") // behind it may be a part of a hash
		items = append(items, Item{
			Key: info.Key, URI: r.objects.URI(info.Key), Day: day, First: first, Last: last, Bytes: info.Size, At: info.ModTime,
		})
	}
	return items, "", nil
}

// Open returns the lines of an object. scheduler.ErrNotFound, batcher.ErrUnavailable.
func (r *Reader) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if !strings.HasPrefix(key, Prefix) {
		return nil, fmt.Errorf("open archive %q: archives are below %s: %w", key, Prefix, scheduler.ErrInvalid)
	}
	body, _, err := r.objects.Get(ctx, key)
	if errors.Is(err, batcher.ErrNotFound) {
		return nil, fmt.Errorf("open archive %q: %w", key, scheduler.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	return gzip.NewReader(bytes.NewReader(body))
}

// Find returns the run in an object; scheduler.ErrNotFound.
func (r *Reader) Find(ctx context.Context, key, run string) (*Record, error) {
	lines, err := r.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lines.Close() }() // only read
	in := bufio.NewReaderSize(lines, 1<<16)
	want := []byte(`{"v":1,"kind":"run","run":{"id":"` + run + `",`)
	for {
		line, err := in.ReadBytes('\n')
		if bytes.HasPrefix(line, want) {
			var rec Record
			if err := json.Unmarshal(line, &rec); err != nil {
				return nil, fmt.Errorf("read run %s of archive %s: %w", run, key, err)
			}
			return &rec, nil
		}
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("find run %q in archive %s: %w", run, key, scheduler.ErrNotFound)
		}
		if err != nil {
			return nil, fmt.Errorf("read archive %s: %w", key, err)
		}
	}
}
