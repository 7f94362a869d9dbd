package spec

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// DirOptions are the tunables of a [Dir]; zero values are filled in.
type DirOptions struct {
	// Poll is how often the directory is looked at even if no event came: network file systems send none. 0: 5 s.
	Poll time.Duration
	// Settle is how long a change must be quiet before files are read. 0: 20 ms.
	Settle time.Duration
	// Programs is where copies of the directory's programs are kept; "": programs are not run. See program.go.
	Programs string
	// Ask is how long a program may take to describe its DAGs, 0: 10 s; AskAgain is how long after a failure that may have been the machine's
	// it is asked again, 0: 1 min.
	Ask, AskAgain time.Duration
	// Builtin are files that come with the program, by name.
	Builtin map[string][]byte
	// Logger may be nil.
	Logger *slog.Logger
}

// maxFiles bounds the files of a directory.
const maxFiles = 20_000

// racy is how young a file's time may be, when it is read, for a later change to keep that time.
const racy = 2 * time.Second

// Dir watches a directory of DAG files: every *.yaml and *.yml in it and below, and every program, *.dag, and operator, *.op, except in hidden directories. It
// reads a file again only when its size, time or mode changed, and compiles it, or asks it, only when its content did.
type Dir struct {
	path  string
	opts  DirOptions
	log   *slog.Logger
	files map[string]*entry
	built []File
	// asks are the programs that the present scan found to be new.
	asks map[string]*entry
	// parent: the parent of path is watched, since path does not exist.
	parent bool
	// lastErr is the fault that was logged last, so that it is not logged again at each poll.
	lastErr string
	// warned are the warnings about several files that were logged.
	warned map[string]bool
}

// entry is what is known of one file.
type entry struct {
	size int64
	time time.Time
	mode fs.FileMode
	// pin is the copy of a program; again is when it is asked once more, or zero.
	pin   string
	again time.Time
	// fresh: the file was so young when it was read that its time proves nothing.
	fresh bool
	sum   [sha256.Size]byte
	file  File
	// names are the files that it names, as they were when it was read.
	names []namedFile
	// op is the operator that the file is, or nil.
	op *Operator
}

// NewDir returns a Dir of the directory at path; "" has built-in files only.
func NewDir(path string, opts DirOptions) *Dir {
	opts.Poll = cmp.Or(opts.Poll, 5*time.Second)
	opts.Settle = cmp.Or(opts.Settle, 20*time.Millisecond)
	opts.Ask = cmp.Or(opts.Ask, 10*time.Second)
	opts.AskAgain = cmp.Or(opts.AskAgain, time.Minute)
	d := &Dir{path: path, opts: opts, log: opts.Logger, files: map[string]*entry{}}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	for _, name := range slices.Sorted(maps.Keys(opts.Builtin)) {
		f := ReadFile(name, opts.Builtin[name])
		f.Builtin = true
		d.built = append(d.built, f)
	}
	return d
}

// Run reads the directory and calls apply with the whole set, then again after every change, until ctx ends. If apply returns an error the
// same set, or a newer one, comes again.
func (d *Dir) Run(ctx context.Context, apply func(ctx context.Context, set Set) error) error {
	watcher := d.watcher()
	var events chan fsnotify.Event
	var faults chan error
	if watcher != nil {
		defer watcher.Close()
		events, faults = watcher.Events, watcher.Errors
	}
	pending := true // the first set is always news
	poll := time.NewTicker(d.opts.Poll)
	defer poll.Stop()
	var swept time.Time
	for {
		changed, partial := d.scan(ctx, watcher)
		if ctx.Err() != nil {
			return nil
		}
		if now := time.Now(); now.Sub(swept) > sweepEvery {
			swept = now
			if err := d.sweepPins(now); err != nil {
				d.log.Warn("old copies of programs could not be removed", "path", d.opts.Programs, "err", err)
			}
		}
		if pending = pending || changed; pending {
			err := apply(ctx, d.set(partial))
			if pending = err != nil; pending && ctx.Err() == nil {
				d.log.Warn("DAG files were not taken over", "err", err)
			}
			d.warnSubs(d.set(partial).Files)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		case <-faults: // events may be lost: look
		case <-events:
			if !d.settle(ctx, events) {
				return nil
			}
		}
	}
}

func (d *Dir) watcher() *fsnotify.Watcher {
	if d.path == "" {
		return nil
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		d.log.Warn("directory can not be watched, looking at it from time to time instead", "path", d.path, "err", err)
		return nil
	}
	return w
}

// settle waits until events pause, since most editors write a file in several steps; but not for ever.
func (d *Dir) settle(ctx context.Context, events <-chan fsnotify.Event) bool {
	limit := time.After(25 * d.opts.Settle)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-limit:
			return true
		case <-time.After(d.opts.Settle):
			return true
		case <-events:
		}
	}
}

// Read reads the directory once and returns its files, for commands that only look.
func (d *Dir) Read() Set {
	_, partial := d.scan(context.Background(), nil)
	return d.set(partial)
}

func (d *Dir) set(partial bool) Set {
	set := Set{Partial: partial}
	ops := d.operators()
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		if e := d.files[name]; e.op == nil || len(e.file.Faults) > 0 {
			set.Files = append(set.Files, e.file.With(ops))
		}
	}
	set.Files = append(set.Files, d.built...)
	return set
}

// scan brings files up to date. partial says that a part of the directory could not be read; what was known of that part stays.
func (d *Dir) scan(ctx context.Context, w *fsnotify.Watcher) (changed, partial bool) {
	if d.path == "" {
		return false, false
	}
	d.asks = map[string]*entry{}
	d.attend(w)
	found := map[string]bool{}
	var unread []string
	err := filepath.WalkDir(d.path, func(path string, e fs.DirEntry, err error) error {
		name := d.name(path)
		switch {
		case err != nil:
			unread = append(unread, name)
			d.complain(err)
			if e != nil && e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case name != "." && strings.HasPrefix(filepath.Base(path), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			if w != nil {
				if err := w.Add(path); err != nil {
					d.complain(err)
				}
			}
			return nil
		case !IsDAGFile(path) && !IsOperator(path) || len(found) >= maxFiles:
			return nil
		}
		if d.refresh(name, path) {
			changed = true
		}
		if d.files[name] != nil || d.asks[name] != nil {
			found[name] = true
		}
		return nil
	})
	changed = d.askAll(ctx) || changed
	if err != nil {
		d.complain(err)
		return changed, true
	}
	if len(unread) == 0 {
		d.lastErr = ""
	}
	for name := range d.files {
		if !found[name] && !within(name, unread) {
			delete(d.files, name)
			changed = true
		}
	}
	return changed, len(unread) > 0
}

// attend watches the parent of a directory that does not exist, for as long as it does not: people make it when they have their first DAG.
func (d *Dir) attend(w *fsnotify.Watcher) {
	if w == nil {
		return
	}
	parent := filepath.Dir(d.path)
	switch _, err := os.Stat(d.path); {
	case errors.Is(err, fs.ErrNotExist):
		d.parent = w.Add(parent) == nil // else polling finds it
	case d.parent:
		_ = w.Remove(parent) // Best effort: its events only make us look.
		d.parent = false
	}
}

func (d *Dir) name(path string) string {
	rel, err := filepath.Rel(d.path, path)
	if err != nil {
		return path
	}
	return filepath.ToSlash(rel)
}

func (d *Dir) complain(err error) {
	if text := err.Error(); text != d.lastErr {
		d.lastErr = text
		level := slog.LevelWarn
		if d.parent {
			level = slog.LevelInfo // nobody has made it yet
		}
		d.log.Log(context.Background(), level, "DAG directory can not be read", "path", d.path, "err", err)
	}
}

// IsDAGFile reports whether the name of a file in a DAG directory says that it has DAGs: YAML, or a program.
func IsDAGFile(path string) bool {
	ext := filepath.Ext(path)
	return ext == ".yaml" || ext == ".yml" || IsProgram(path)
}

// within reports whether name is one of dirs or below one.
func within(name string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return dir == "." || name == dir || strings.HasPrefix(name, dir+"/") })
}

// refresh reads a file if it may have changed, and reports whether it did. A file that is gone in the meantime is left to the next scan.
func (d *Dir) refresh(name, path string) bool {
	info, err := os.Stat(path) // follows links: mounted configuration consists of them
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	old, at := d.files[name], time.Now()
	due := old != nil && !old.again.IsZero() && at.After(old.again)
	if old != nil && !old.fresh && !due && old.size == info.Size() && old.time.Equal(info.ModTime()) && old.mode == info.Mode() && !old.others() {
		return false
	}
	now := &entry{size: info.Size(), time: info.ModTime(), mode: info.Mode(), fresh: at.Sub(info.ModTime()) < racy}
	var src []byte
	program := IsProgram(path) || IsOperator(path)
	if program {
		now.pin, now.sum, err = d.pin(path)
	} else if src, err = readBounded(path); err == nil {
		now.sum = sha256.Sum256(src)
	}
	if errors.Is(err, errChanging) {
		return false
	}
	if err != nil {
		now.file = faulty(name, err)
		now.sum = sha256.Sum256([]byte("fault " + err.Error()))
		if _, own := errors.AsType[*Error](err); program && !own {
			now.again = at.Add(d.opts.AskAgain) // There may have been no room for its copy.
		}
	}
	if old != nil && old.sum == now.sum && (!due || err != nil) && !old.others() {
		now.file, now.op, now.names, now.again = old.file, old.op, old.names, cmp.Or(now.again, old.again)
		d.files[name] = now
		return false
	}
	switch {
	case err != nil:
	case program:
		d.asks[name] = now // askAll goes on
		return false
	default:
		now.file = read(name, src, reading{files: d.filesOf(path, &now.names)})
		d.warn(&now.file)
	}
	d.files[name] = now
	return true
}

// warn logs what is permitted in a file and probably not meant.
func (d *Dir) warn(f *File) {
	for i := range f.Warnings {
		w := &f.Warnings[i]
		d.log.Warn("DAG file is in force, but may not do what it should", "dag", w.DAG, "warning", w.String())
	}
}

// warnSubs logs what is new among the warnings about several files.
func (d *Dir) warnSubs(files []File) {
	now := map[string]bool{}
	for _, w := range SubDAGs(files) {
		if now[w.String()] = true; !d.warned[w.String()] {
			d.log.Warn("DAG file is in force, but may not do what it should", "dag", w.DAG, "warning", w.String())
		}
	}
	d.warned = now
}

// readBounded reads a file up to one byte more than [Compile] takes.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxBytes+1))
}
