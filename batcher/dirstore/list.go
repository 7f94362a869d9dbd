package dirstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"millrace/batcher"
)

// errStop ends a walk because the caller of List wants no more.
var errStop = errors.New("stop")

// List implements [batcher.ObjectStore]. It holds the names of one directory and of its parents at a time.
func (s *Store) List(ctx context.Context, opts batcher.ListOptions) iter.Seq2[batcher.ObjectInfo, error] {
	return func(yield func(batcher.ObjectInfo, error) bool) {
		w := walk{s: s, ctx: ctx, opts: opts, yield: func(info batcher.ObjectInfo) error {
			if !yield(info, nil) {
				return errStop
			}
			return nil
		}}
		start := opts.Prefix[:strings.LastIndexByte(opts.Prefix, '/')+1]
		err := s.trusted()
		if err == nil && (start == "" || batcher.CheckKey(strings.TrimSuffix(start, "/")) == nil) {
			err = w.dir(start)
		}
		if err != nil && !errors.Is(err, errStop) {
			yield(batcher.ObjectInfo{}, fmt.Errorf("list %q: %w", opts.Prefix, classify(err)))
		}
	}
}

type walk struct {
	s     *Store
	ctx   context.Context
	opts  batcher.ListOptions
	yield func(batcher.ObjectInfo) error
}

// dir walks the directory of keys that begin with base, which is empty or ends in '/'.
func (w *walk) dir(base string) error {
	names, err := w.s.names(base)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		key := base + name
		if !w.wanted(key) {
			continue
		}
		switch isDir := strings.HasSuffix(name, "/"); {
		case isDir && w.opts.Dirs && len(key) > len(w.opts.Prefix):
			err = w.prefix(key)
		case isDir:
			err = w.dir(key)
		case !w.opts.Dirs:
			err = w.object(key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wanted reports whether key, or something below it if it ends in '/', is what the options ask for.
func (w *walk) wanted(key string) bool {
	if own(key) {
		return false
	}
	if !strings.HasSuffix(key, "/") {
		return strings.HasPrefix(key, w.opts.Prefix) && key > w.opts.After
	}
	return (strings.HasPrefix(key, w.opts.Prefix) || strings.HasPrefix(w.opts.Prefix, key)) &&
		(key > w.opts.After || strings.HasPrefix(w.opts.After, key))
}

// prefix yields a directory that has an object in it; an unfinished put can leave empty ones.
func (w *walk) prefix(key string) error {
	if key <= w.opts.After {
		return nil
	}
	for _, err := range w.s.List(w.ctx, batcher.ListOptions{Prefix: key}) {
		if err != nil {
			return err
		}
		return w.yield(batcher.ObjectInfo{Key: key})
	}
	return nil
}

func (w *walk) object(key string) error {
	file, err := w.s.fs.Stat(w.s.path(key))
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !w.s.readOnly { // names has synced it already
		if err := w.s.settle(key); err != nil {
			return err
		}
	}
	info, err := w.s.describe(key, file)
	if err != nil && !errors.Is(err, batcher.ErrDamaged) { // the file's own time will do; Get tells of the damage
		return err
	}
	info.Meta = nil
	return w.yield(info)
}

// names returns what is in a directory, as parts of keys: with '/' at the end of those that are directories, in byte order of the keys.
func (s *Store) names(base string) ([]string, error) {
	dir := s.path(base)
	entries, err := s.fs.List(dir)
	if isAbsent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if s.readOnly && len(entries) > 0 {
		if err := s.syncDir(filepath.Clean(dir)); err != nil {
			return nil, err
		}
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
		if e.IsDir() {
			names[i] += "/"
		}
	}
	slices.Sort(names)
	return names, nil
}
