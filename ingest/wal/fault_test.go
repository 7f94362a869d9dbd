package wal_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/ingest"
	"millrace/ingest/ingesttest"
	"millrace/ingest/vfs"
	"millrace/ingest/wal"
)

var errIO = errors.New("input/output error")

// numbered calls fault for the operations of some kinds only, numbered among themselves; all of them if there are no kinds.
func numbered(fault func(vfs.Op) error, kinds ...vfs.Kind) func(vfs.Op) error {
	var n atomic.Int64
	return func(op vfs.Op) error {
		if len(kinds) > 0 && !slices.Contains(kinds, op.Kind) {
			return nil
		}
		op.N = n.Add(1)
		return fault(op)
	}
}

// short fails operation n; if it is a write, half of it is done.
func short(n int64, err error) func(vfs.Op) error {
	return func(op vfs.Op) error {
		if op.N != n {
			return nil
		}
		if op.Kind == vfs.OpWrite {
			return vfs.ShortWrite{Bytes: int(op.Size / 2), Err: err}
		}
		return err
	}
}

func TestEveryOperationFails(t *testing.T) {
	t.Parallel()
	grow := []vfs.Kind{vfs.OpOpen, vfs.OpWrite, vfs.OpPreallocate, vfs.OpMkdir}
	for name, tt := range map[string]struct {
		fault func(n int64, err error) func(vfs.Op) error
		err   error
		kinds []vfs.Kind
		// atLeast is how many operations there are, about: a workload that ends early would prove nothing.
		atLeast int64
	}{
		"once":               {fault: vfs.FailOnce, err: errIO, atLeast: 150},
		"from there on":      {fault: vfs.FailFrom, err: errIO, atLeast: 150},
		"short writes":       {fault: short, err: errIO, kinds: []vfs.Kind{vfs.OpWrite}, atLeast: 35},
		"syncs once":         {fault: vfs.FailOnce, err: errIO, kinds: []vfs.Kind{vfs.OpSync, vfs.OpSyncDir}, atLeast: 55},
		"full once":          {fault: vfs.FailOnce, err: vfs.ErrNoSpace, kinds: grow, atLeast: 65},
		"full, short writes": {fault: short, err: vfs.ErrNoSpace, kinds: grow, atLeast: 65},
		"full from there on": {fault: vfs.FailFrom, err: vfs.ErrNoSpace, kinds: grow, atLeast: 65},
		"files once":         {fault: vfs.FailOnce, err: errIO, kinds: []vfs.Kind{vfs.OpOpen}, atLeast: 20},
		"removes once":       {fault: vfs.FailOnce, err: errIO, kinds: []vfs.Kind{vfs.OpRemove}, atLeast: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fired, n := true, int64(1)
			for ; fired && !t.Failed(); n++ {
				synctest.Test(t, func(t *testing.T) {
					var hit atomic.Bool
					fault := tt.fault(n, tt.err)
					hook := numbered(func(op vfs.Op) error {
						err := fault(op)
						hit.Store(hit.Load() || err != nil)
						return err
					}, tt.kinds...)
					failAt(t, hook, n, tt.err)
					fired = hit.Load()
				})
			}
			if n < tt.atLeast {
				t.Errorf("got %d operations that failed, want at least %d", n-1, tt.atLeast)
			}
		})
	}
}

// failAt runs the workload with a fault and checks what its callers were told against what power failures leave.
func failAt(t *testing.T, hook func(vfs.Op) error, n int64, fault error) {
	t.Helper()
	h, disk := newHistory(), vfs.NewMem()
	opened := false
	h.workload(vfs.Inject(disk, hook), func(err error) {
		opened = opened || h.log != nil
		switch {
		case !opened: // Open may fail with any error.
		case errors.Is(err, ingest.ErrFull):
			time.Sleep(2 * time.Second) // In the bubble: until the log looks at the disk again.
		case errors.Is(err, ingest.ErrFailed):
			if errors.Is(fault, vfs.ErrNoSpace) {
				t.Errorf("fault %d: a full disk failed the log: %v", n, err)
			}
			if h.log != nil && h.log.Err() == nil {
				t.Errorf("fault %d: got %v, and the log does not say so", n, err)
			}
		}
	})
	want := h.promise()
	for i, keep := range []int{0, 50, 100} {
		if err := h.check(disk.CrashClone(rng(uint64(n)<<8+uint64(i)), keep), want); err != nil {
			h.faults = append(h.faults, err.Error())
		}
	}
	for _, f := range h.faults {
		t.Errorf("fault at operation %d: %s", n, f)
	}
}

func TestFailedSyncIsFinal(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	disk := vfs.NewMem()
	fsys := vfs.Inject(disk, func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && broken.CompareAndSwap(true, false) { // Once: the next one would "succeed".
			return errIO
		}
		return nil
	})
	l := open(t, dir, small(fsys))
	ingesttest.MustAppend(t, l, ingesttest.Records("good", 3)...)
	held := payloads(t, l)
	broken.Store(true)
	for range 3 {
		_, err := l.Append(t.Context(), ingesttest.Records("bad", 1))
		wantIs(t, "append", err, ingest.ErrFailed)
	}
	select {
	case err := <-l.Failed():
		wantIs(t, "delivered failure", err, ingest.ErrFailed)
		wantIs(t, "delivered failure", err, errIO)
	default:
		t.Error("got no delivered failure")
	}
	if got := payloads(t, l); fmt.Sprint(got) != fmt.Sprint(held) {
		t.Errorf("got records %v after the failure, want %v", got, held)
	}
	wantIs(t, "trim", l.Trim(t.Context(), l.Incarnations()[0].Stream, 1), ingest.ErrFailed)
	must(t, l.Close())

	// The page cache shows the record, the disk does not have it: whatever the next Open shows must survive a power failure.
	again := open(t, dir, small(disk))
	shown := payloads(t, again)
	after := open(t, dir, small(disk.CrashClone(rng(1), 0)))
	if got := payloads(t, after); fmt.Sprint(got) != fmt.Sprint(shown) {
		t.Errorf("got records %v after the power failed, want what readers saw before: %v", got, shown)
	}
}

// A call of Append that comes while a sync is under way must wait for the next one: its record was not yet written when that sync began.
func TestNoWaiterIsReleasedByAnEarlierSync(t *testing.T) {
	t.Parallel()
	entered, gate := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	fsys := vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && armed.Load() {
			entered <- struct{}{}
			<-gate
		}
		return nil
	})
	opts := small(fsys)
	opts.SegmentBytes = 1 << 20
	l := open(t, dir, opts)
	ingesttest.MustAppend(t, l, ingesttest.Records("first", 1)...)
	armed.Store(true)
	call := func(name string) chan error {
		done := make(chan error, 1)
		go func() { // ends with the gate; received below
			_, err := l.Append(t.Context(), ingesttest.Records(name, 1))
			done <- err
		}()
		return done
	}
	a := call("a")
	<-entered
	before, _, _ := l.Pressure()
	b := call("b")
	for held := before; held == before; held, _, _ = l.Pressure() { // until b is in the pending group
	}
	gate <- struct{}{}
	must(t, <-a)
	<-entered // The second sync has begun, for b.
	select {
	case err := <-b:
		t.Errorf("got %v before the sync that covers it, want it to wait", err)
	default:
	}
	if got := len(payloads(t, l)); got != 2 {
		t.Errorf("got %d records seen by readers, want the 2 that are durable", got)
	}
	armed.Store(false)
	gate <- struct{}{}
	must(t, <-b)
}

func TestFullDiskDrainsAndRecovers(t *testing.T) {
	t.Parallel()
	for name, relieve := range map[string]func(t *testing.T, disk *vfs.Mem, l *wal.Log){
		"by trimming": func(t *testing.T, _ *vfs.Mem, l *wal.Log) {
			_, next, err := l.Bounds(t.Context())
			must(t, err)
			must(t, l.Trim(t.Context(), l.Incarnations()[0].Stream, next))
		},
		"by itself": func(_ *testing.T, disk *vfs.Mem, _ *wal.Log) { disk.SetCapacity(0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				disk := vfs.NewMem()
				disk.SetCapacity(64<<10 + 40<<10) // the ballast and ten segments
				l := open(t, dir, small(disk))
				var kept []string
				var err error
				for i := 0; err == nil; i++ {
					rec := ingesttest.Record(fmt.Sprint("r", i), "k", 500)
					if _, err = l.Append(t.Context(), []ingest.Record{rec}); err == nil {
						kept = append(kept, string(rec.Payload))
					}
				}
				wantIs(t, "append to a full disk", err, ingest.ErrFull)
				if _, _, retry := l.Pressure(); retry <= 0 {
					t.Error("got no pressure from a full disk")
				}
				if got := payloads(t, l); !slices.Equal(got, kept) {
					t.Errorf("got %d records, want all %d that were acknowledged", len(got), len(kept))
				}
				after := open(t, dir, small(disk.CrashClone(rng(1), 0)))
				if got := payloads(t, after); !slices.Equal(got, kept) {
					t.Errorf("got %d records after a crash, want all %d that were acknowledged", len(got), len(kept))
				}
				must(t, after.Close())
				relieve(t, disk, l)
				time.Sleep(2 * time.Second) // In the bubble: until the log looks again.
				ingesttest.MustAppend(t, l, ingesttest.Records("again", 3)...)
				must(t, l.Close())
			})
		})
	}
}

// Even with no byte free, what is committed can be given up: that is what the ballast is for.
func TestTrimOnADiskWithoutAByteFree(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	l := open(t, dir, small(disk))
	for i := range 30 {
		ingesttest.MustAppend(t, l, ingesttest.Record(fmt.Sprint("r", i), "k", 500))
	}
	disk.SetCapacity(disk.Used())
	must(t, l.Trim(t.Context(), l.Incarnations()[0].Stream, 20))
	low, _, err := l.Bounds(t.Context())
	if err != nil || low == 0 {
		t.Errorf("got low %d, %v, want segments gone", low, err)
	}
}

func TestReserveOfTheDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		opts := small(disk)
		opts.ReserveBytes = 1 << 20
		disk.SetCapacity(4 << 20)
		l := open(t, dir, opts)
		ingesttest.MustAppend(t, l, ingesttest.Records("r", 1)...)
		disk.SetCapacity(1 << 20) // Someone else filled the disk.
		time.Sleep(2 * time.Second)
		_, err := l.Append(t.Context(), ingesttest.Records("r", 1))
		wantIs(t, "append below the reserve", err, ingest.ErrFull)
		disk.SetCapacity(4 << 20)
		time.Sleep(2 * time.Second)
		ingesttest.MustAppend(t, l, ingesttest.Records("s", 1)...)
		must(t, l.Close())
	})
}

func TestOneWriter(t *testing.T) {
	t.Parallel()
	for name, fsys := range map[string]vfs.FS{"os": vfs.OS, "mem": vfs.NewMem()} {
		dir := t.TempDir()
		opts := small(fsys)
		l := open(t, dir, opts)
		_, err := wal.Open(dir, opts)
		wantIs(t, name+": second open", err, vfs.ErrLocked)
		_, err = wal.AcceptLoss(t.Context(), fsys, dir, 0, 1)
		wantIs(t, name+": accept loss of an open log", err, vfs.ErrLocked)
		must(t, l.Close())
		must(t, open(t, dir, opts).Close())
	}
}

// A copy of the directory goes on under another name than the original, though both go on at the same offset.
func TestRestoredCopyIsAnotherIncarnation(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	l := open(t, dir, small(disk))
	ingesttest.MustAppend(t, l, ingesttest.Records("a", 3)...)
	copyDir(t, disk, dir, disk, "/copy")
	b := ingesttest.MustAppend(t, l, ingesttest.Records("b", 3)...)
	must(t, l.Close())
	restored := open(t, "/copy", small(disk))
	c := ingesttest.MustAppend(t, restored, ingesttest.Records("c", 3)...)
	if b[0].First != c[0].First || b[0].Stream == c[0].Stream || b[0].Stream.Log != c[0].Stream.Log {
		t.Errorf("got %v and then %v in the copy, want the same log and offset in another incarnation", b, c)
	}
}

func TestManyWritersShareSyncs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var syncs atomic.Int64
		slow := vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				syncs.Add(1)
				time.Sleep(time.Millisecond)
			}
			return nil
		})
		l := open(t, dir, wal.Options{FS: slow, SegmentBytes: 8 << 20, ReserveBytes: -1})
		const writers, calls = 32, 50
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for c := range calls {
					if _, err := l.Append(t.Context(), ingesttest.Records(fmt.Sprint(w, "-", c, "-"), 1)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := syncs.Load(); got > 3*calls {
			t.Errorf("got %d syncs for %d calls of each of %d writers, want about one for all of them", got, calls, writers)
		}
		must(t, l.Close())
	})
}

// A lone writer pays for the sync and for nothing else.
func TestLoneWriterDoesNotWaitForCompany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, dir, wal.Options{FS: vfs.NewMem(), ReserveBytes: -1, MaxDelay: 500 * time.Millisecond})
		start := time.Now()
		for range 10 {
			ingesttest.MustAppend(t, l, ingesttest.Records("r", 1)...)
		}
		if got := time.Since(start); got != 0 {
			t.Errorf("got %v waited for 10 lone calls, want none", got)
		}
		must(t, l.Close())
	})
}
