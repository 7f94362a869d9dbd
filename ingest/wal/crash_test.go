package wal_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"millrace/ingest"
	"millrace/ingest/ingesttest"
	"millrace/ingest/vfs"
	"millrace/ingest/wal"
)

// history is what the callers of a log were told. What may be on a disk follows from it.
type history struct {
	mu     sync.Mutex
	log    *wal.Log
	acked  map[string]int64 // payload → offset
	tried  map[string]bool
	low    int64 // trimming below it was begun
	home   string
	clones int
	faults []string // violations
}

func newHistory() *history { return &history{acked: map[string]int64{}, tried: map[string]bool{}} }

func (h *history) append(l *wal.Log, recs []ingest.Record) error {
	h.mu.Lock()
	for _, r := range recs {
		h.tried[string(r.Payload)] = true
	}
	h.mu.Unlock()
	receipt, err := l.Append(context.Background(), recs)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := l.Err(); err != nil {
		h.faults = append(h.faults, fmt.Sprintf("acknowledged after the log failed: %v", err))
	}
	for i, r := range recs {
		h.acked[string(r.Payload)] = receipt[0].First + int64(i)
	}
	return nil
}

// promise is what a disk must hold from some moment on.
type promise struct {
	acked   map[string]int64
	low     int64
	visible int64 // the high watermark that readers saw
	home    string
}

func (h *history) promise() promise {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := promise{acked: maps.Clone(h.acked), low: h.low, home: h.home}
	if h.log != nil {
		_, p.visible, _ = h.log.Bounds(context.Background())
	}
	return p
}

// check opens the log on a disk and compares it with a promise. Each violation is one line of its error.
func (h *history) check(fsys vfs.FS, want promise) error {
	l, err := wal.Open(dir, small(fsys))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer l.Close()
	low, next, err := l.Bounds(context.Background())
	if err != nil {
		return err
	}
	found, err := ingesttest.Scan(context.Background(), l, low, 1000)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	got := map[string]int64{}
	for i, f := range found {
		name := string(f.Record.Payload)
		if _, twice := got[name]; twice {
			add("%s twice", name)
		}
		h.mu.Lock()
		known := h.tried[name] || strings.HasPrefix(name, `{"name":"after`)
		h.mu.Unlock()
		if !known {
			add("record %d was never written: %s", f.Offset, name)
		}
		if i > 0 && f.Offset != found[i-1].Offset+1 {
			add("gap between records %d and %d", found[i-1].Offset, f.Offset)
		}
		got[name] = f.Offset
	}
	for name, off := range want.acked {
		if at, ok := got[name]; off >= want.low && (!ok || at != off) {
			add("acknowledged at %d: found %v at %d: %.40s", off, ok, at, name)
		}
	}
	if next < want.visible {
		add("readers saw records up to %d, the log ends at %d", want.visible, next)
	}
	incs := l.Incarnations()
	if want.home != "" && len(incs) > 1 {
		if hint, err := l.Hint(context.Background(), incs[0].Stream); err != nil || hint.Home != want.home {
			add("hint %+v, %v, want home %q", hint, err, want.home)
		}
	}
	if _, err := l.Append(context.Background(), ingesttest.Records("after", 2)); err != nil {
		add("append after recovery: %w", err)
	}
	return errors.Join(errs...)
}

// crashes returns a hook that lets the power fail before every operation that changes the disk, in several ways, and checks what is left; and
// again with a second failure while the log recovers.
func (h *history) crashes(disk *vfs.Mem, seed uint64) func(vfs.Op) error {
	return func(op vfs.Op) error {
		if !op.Kind.Changes() {
			return nil
		}
		want := h.promise()
		for i, keep := range []int{0, 30, 70, 100} {
			rng := rng(seed<<32 + uint64(op.N)<<3 + uint64(i))
			clone := disk.CrashClone(rng, keep)
			var again *vfs.Mem // the disk after a second failure, if one came
			stop := 1 + rng.Int64N(20)
			err := h.check(vfs.Inject(clone, func(op vfs.Op) error {
				if op.N == stop { // check has joined all goroutines of the log when it returns
					again = clone.CrashClone(rng, 50)
				}
				return nil
			}), want)
			h.note(err, "seed %d, power failed before operation %d (%s %s), keeping %d %%", seed, op.N, op.Kind, op.Name, keep)
			if again != nil {
				err := h.check(again, want)
				h.note(err, "seed %d, as operation %d (%s %s), keeping %d %%, and before operation %d after it",
					seed, op.N, op.Kind, op.Name, keep, stop)
			}
		}
		return nil
	}
}

// note counts a disk that was checked, and what was wrong with it.
func (h *history) note(err error, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clones++
	if err != nil {
		h.faults = append(h.faults, fmt.Sprintf(format+": %v", append(args, err)...))
	}
}

// workload writes, trims and reopens; every step may fail. It is small, so that every operation of it can be tried.
func (h *history) workload(fsys vfs.FS, onError func(error)) {
	note := func(err error) {
		if err != nil && onError != nil {
			onError(err)
		}
	}
	ctx := context.Background()
	for round := range 2 {
		l, err := wal.Open(dir, small(fsys))
		if err != nil {
			note(err)
			return
		}
		h.mu.Lock()
		h.log = l
		h.mu.Unlock()
		for i := range 8 {
			name := fmt.Sprintf("r%d-%d-", round, i)
			note(h.append(l, ingesttest.Records(name, 1+i%3)))
			if i == 3 {
				note(h.append(l, []ingest.Record{ingesttest.Record(name+"large", "k", 5000)})) // more than a segment
			}
			if i == 5 {
				note(h.trim(l))
			}
			if i == 6 {
				stream := l.Incarnations()[0].Stream
				if err := l.SaveHint(ctx, stream, ingest.ChainHint{Home: "s3://b", Seq: 3}); err == nil {
					h.mu.Lock()
					h.home = "s3://b"
					h.mu.Unlock()
				} else {
					note(err)
				}
			}
		}
		note(l.Close())
		h.mu.Lock()
		h.log = nil
		h.mu.Unlock()
	}
}

// trim gives up the first third of what the oldest incarnation holds.
func (h *history) trim(l *wal.Log) error {
	low, next, err := l.Bounds(context.Background())
	if err != nil {
		return err
	}
	cut := low + (next-low)/3
	h.mu.Lock()
	h.low = max(h.low, cut)
	h.mu.Unlock()
	return l.Trim(context.Background(), l.Incarnations()[0].Stream, cut)
}

func TestPowerFailsBeforeEveryOperation(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			h, disk := newHistory(), vfs.NewMem()
			h.workload(vfs.Inject(disk, h.crashes(disk, seed)), func(err error) { t.Errorf("without a fault: %v", err) })
			for _, f := range h.faults[:min(5, len(h.faults))] {
				t.Error(f)
			}
			if h.clones < 200 {
				t.Errorf("got %d disks checked, want hundreds", h.clones)
			}
		})
	}
}

// lying is a file system that leaves out some syncs: what a log with that bug would do.
type lying struct {
	*vfs.Mem
	noDir   bool
	every   int // of the syncs of segments, only each n-th is done; 0: all
	noTemp  bool
	counter int
}

func (f *lying) SyncDir(dir string) error {
	if f.noDir {
		return nil
	}
	return f.Mem.SyncDir(dir)
}

func (f *lying) OpenFile(name string, flag int) (vfs.File, error) {
	file, err := f.Mem.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return &lyingFile{File: file, fs: f, name: name}, nil
}

type lyingFile struct {
	vfs.File
	fs   *lying
	name string
}

func (f *lyingFile) Sync() error {
	if strings.HasSuffix(f.name, ".wal") && f.fs.every > 0 {
		if f.fs.counter++; f.fs.counter%f.fs.every != 0 {
			return nil
		}
	}
	if strings.HasSuffix(f.name, ".tmp") && f.fs.noTemp {
		return nil
	}
	return f.File.Sync()
}

// The test above is worth something only if it catches a log that has these bugs.
func TestSeededBugsAreCaught(t *testing.T) {
	t.Parallel()
	for name, bug := range map[string]lying{
		"no directory sync":      {noDir: true},
		"every 4th sync":         {every: 4},
		"manifest is not synced": {noTemp: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, disk := newHistory(), vfs.NewMem()
			bug.Mem = disk
			h.workload(vfs.Inject(&bug, h.crashes(disk, 1)), nil)
			if len(h.faults) == 0 {
				t.Errorf("got no violation on %d disks, want some", h.clones)
			}
		})
	}
}
