package dirstore

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"millrace/batcher"
	"millrace/ingest/vfs"
)

// try is one put of the script that the tests below interrupt.
type try struct {
	key, body string
	meta      map[string]string
}

// script has new directories, old ones, metadata and none; bodies span blocks of the disk.
var script = []try{
	{"_millrace/chain/log/inc/0/00000000000000000001.json", "entry", nil},
	{"events/tenant=t/source=s/dt=2026-11-23/hr=10/a.ndjson.gz", strings.Repeat("a", 3*vfs.BlockSize), map[string]string{"batch": "a"}},
	{"events/tenant=t/source=s/dt=2026-11-23/hr=10/b.ndjson.gz", "b", map[string]string{"batch": "b"}},
	{"events/tenant=t/source=s/dt=2026-11-23/hr=11/c.ndjson.gz", "c", map[string]string{"batch": "c"}},
	{"_millrace/chain/log/inc/0/00000000000000000002.json", "entry", nil},
}

// second is another put of the key, of the same size, with other metadata or none.
func (p try) second(round int) try {
	p.body = strings.ToUpper(p.body)
	if round%2 == 0 {
		p.meta = map[string]string{"batch": "second"}
	} else {
		p.meta = nil
	}
	return p
}

// holds reports whether the object of p is in s, whole and with its metadata.
func (p try) holds(s *Store, t *testing.T) error {
	body, info, err := s.Get(t.Context(), p.key)
	if err != nil {
		return err
	}
	if string(body) != p.body || !maps.Equal(info.Meta, p.meta) {
		return fmt.Errorf("%q is %d bytes %.8q of %v, want %d bytes %.8q of %v", p.key, len(body), body, info.Meta, len(p.body), p.body, p.meta)
	}
	return nil
}

// checkDisk opens the store on what a crash has left. The first acked puts of the script must be there; the others are there whole or can be
// made anew.
func checkDisk(t *testing.T, disk *vfs.Mem, acked, round int) {
	t.Helper()
	s, err := Open("/objects", Options{FS: disk})
	if err != nil {
		t.Fatalf("open after the crash: %v", err)
	}
	defer s.Close()
	if left, err := disk.List("/objects/_millrace/tmp"); err != nil || len(left) > 0 {
		t.Fatalf("temporary files are left: %v, %v", left, err)
	}
	for i, p := range script {
		if i < acked {
			if err := p.holds(s, t); err != nil {
				t.Fatalf("acknowledged put %d: %v", i, err)
			}
			continue
		}
		again := p.second(round)
		switch err := s.PutIfAbsent(t.Context(), again.key, []byte(again.body), again.meta); {
		case err == nil:
			err = again.holds(s, t)
			if err != nil {
				t.Fatalf("put %d after the crash: %v", i, err)
			}
		case errors.Is(err, batcher.ErrExists):
			if err := p.holds(s, t); err != nil {
				t.Fatalf("put %d, found after the crash: %v", i, err)
			}
		default:
			t.Fatalf("put %d after the crash: %v", i, err)
		}
	}
	n := 0
	for info, err := range s.List(t.Context(), batcher.ListOptions{}) {
		if err != nil || n >= len(script) {
			t.Fatalf("list after the crash: %q, %v", info.Key, err)
		}
		n++
	}
	if n != len(script) {
		t.Fatalf("%d objects after the crash, want %d", n, len(script))
	}
}

// TestCrashBeforeEveryOperation cuts the power before each operation on the disk, with several outcomes of what was not synced.
func TestCrashBeforeEveryOperation(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	acked, crashes := 0, 0
	fsys := vfs.Inject(disk, func(op vfs.Op) error {
		for round, keep := range []int{0, 0, 30, 70, 50, 100} {
			clone := disk.CrashClone(rand.New(rand.NewPCG(uint64(op.N), uint64(round))), keep)
			checkDisk(t, clone, acked, round)
			crashes++
		}
		return nil
	})
	s := open(t, fsys, "/objects")
	for _, p := range script {
		if err := s.PutIfAbsent(t.Context(), p.key, []byte(p.body), p.meta); err != nil {
			t.Fatal(err)
		}
		acked++
	}
	if crashes < 6*60 {
		t.Fatalf("only %d crashes: the hook does not see the operations", crashes)
	}
}

// TestFailEveryOperation fails each operation on the disk once. A put that reports success has happened, whatever failed; after a crash
// the store is whole.
func TestFailEveryOperation(t *testing.T) {
	t.Parallel()
	for n := int64(1); ; n++ {
		disk := vfs.NewMem()
		fsys := vfs.Inject(disk, vfs.FailOnce(n, syscall.EIO))
		s, err := Open("/objects", Options{FS: fsys})
		if err != nil {
			continue // nothing was begun
		}
		acked := 0
		for _, p := range script {
			err := s.PutIfAbsent(t.Context(), p.key, []byte(p.body), p.meta)
			if err != nil && !errors.Is(err, batcher.ErrUnavailable) {
				t.Fatalf("operation %d failed: put gives %v, want %v", n, err, batcher.ErrUnavailable)
			}
			if err != nil {
				break
			}
			acked++
		}
		for round, keep := range []int{0, 50, 100} {
			checkDisk(t, disk.CrashClone(rand.New(rand.NewPCG(uint64(n), 1)), keep), acked, round)
		}
		if acked == len(script) && fsys.Ops() < n {
			if n < 60 {
				t.Fatalf("only %d operations", n)
			}
			return
		}
	}
}

// TestSeenIsDurable looks at the store at the one moment at which an object can be seen that is not durable: between its link and the sync of
// its directory. Whoever has been told of it must find it after a crash.
func TestSeenIsDurable(t *testing.T) {
	t.Parallel()
	p := script[1]
	looks := map[string]func(writer, reader *Store) bool{
		"stat": func(w, _ *Store) bool { _, err := w.Stat(t.Context(), p.key); return err == nil },
		"get":  func(w, _ *Store) bool { _, _, err := w.Get(t.Context(), p.key); return err == nil },
		"list": func(w, _ *Store) bool { return listed(t, w, p.key) },
		"stat of a reader": func(_, r *Store) bool {
			_, err := r.Stat(t.Context(), p.key)
			return err == nil
		},
		"get of a reader":  func(_, r *Store) bool { _, _, err := r.Get(t.Context(), p.key); return err == nil },
		"list of a reader": func(_, r *Store) bool { return listed(t, r, p.key) },
	}
	for name, look := range looks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := vfs.NewMem()
			var writer, reader *Store
			var linked, looked bool
			survives := func() bool {
				after, err := Open("/objects", Options{FS: disk.CrashClone(rand.New(rand.NewPCG(1, 1)), 0)})
				if err != nil {
					t.Fatal(err)
				}
				defer after.Close()
				return p.holds(after, t) == nil
			}
			fsys := vfs.Inject(disk, func(op vfs.Op) error {
				if op.Kind == vfs.OpLink && strings.HasSuffix(op.Name, "a.ndjson.gz") {
					linked = true
					return nil
				}
				if !linked || looked {
					return nil
				}
				looked = true
				if survives() {
					t.Error("the object is durable before its directory is synced: the test looks at the wrong moment")
				}
				if !look(writer, reader) {
					t.Error("the object can not be seen after its link: the test looks at the wrong moment")
				}
				if !survives() {
					t.Error("an object was reported and is gone after a crash")
				}
				return nil
			})
			writer = open(t, fsys, "/objects")
			var err error
			if reader, err = Open("/objects", Options{FS: disk, ReadOnly: true}); err != nil {
				t.Fatal(err)
			}
			if err := writer.PutIfAbsent(t.Context(), p.key, []byte(p.body), p.meta); err != nil {
				t.Fatal(err)
			}
			if !looked {
				t.Error("the moment never came")
			}
		})
	}
}

func listed(t *testing.T, s *Store, key string) bool {
	t.Helper()
	for info, err := range s.List(t.Context(), batcher.ListOptions{Prefix: "events/"}) {
		if err != nil {
			t.Fatal(err)
		}
		if info.Key == key {
			return true
		}
	}
	return false
}

// TestFailedSyncIsFinal: after a failed sync of a directory, nobody is told anything, neither of the object nor that it exists.
func TestFailedSyncIsFinal(t *testing.T) {
	t.Parallel()
	var failing atomic.Bool
	fsys := vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
		if op.Kind == vfs.OpSyncDir && failing.Load() && strings.HasSuffix(op.Name, "/d") {
			return syscall.EIO
		}
		return nil
	})
	s := open(t, fsys, "/objects")
	if err := s.PutIfAbsent(t.Context(), "d/old", nil, nil); err != nil {
		t.Fatal(err)
	}
	failing.Store(true)
	for range 2 { // the second finds the name taken, and must not say so
		if err := s.PutIfAbsent(t.Context(), "d/new", nil, nil); !errors.Is(err, batcher.ErrUnavailable) || errors.Is(err, batcher.ErrExists) {
			t.Fatalf("put: got %v, want %v", err, batcher.ErrUnavailable)
		}
		failing.Store(false)
	}
	if _, err := s.Stat(t.Context(), "d/new"); !errors.Is(err, batcher.ErrUnavailable) {
		t.Errorf("stat: got %v, want %v", err, batcher.ErrUnavailable)
	}
	if _, _, err := s.Get(t.Context(), "d/old"); !errors.Is(err, batcher.ErrUnavailable) || !strings.Contains(err.Error(), "opened anew") {
		t.Errorf("get: got %v, want %v and what to do", err, batcher.ErrUnavailable)
	}
	for _, err := range s.List(t.Context(), batcher.ListOptions{}) {
		if !errors.Is(err, batcher.ErrUnavailable) {
			t.Errorf("list: got %v, want %v", err, batcher.ErrUnavailable)
		}
	}
}

// TestOpenMakesDurable: a process that was killed between link and sync leaves a name that only memory has. The next process finds it, and must
// not build on it before it is durable.
func TestOpenMakesDurable(t *testing.T) {
	t.Parallel()
	disk, p := vfs.NewMem(), script[1]
	linked := false
	killed := open(t, vfs.Inject(disk, func(op vfs.Op) error {
		linked = linked || op.Kind == vfs.OpLink && strings.HasSuffix(op.Name, "a.ndjson.gz")
		if linked {
			return syscall.EIO // from here on the process does nothing any more
		}
		return nil
	}), "/objects")
	linked = false
	if err := killed.PutIfAbsent(t.Context(), p.key, []byte(p.body), p.meta); err == nil {
		t.Fatal("the put must not end")
	}
	if err := killed.Close(); err != nil {
		t.Fatal(err)
	}
	// The link itself was not made above; make it as the killed process would have.
	temps, err := disk.List("/objects/_millrace/tmp")
	if err != nil || len(temps) == 0 {
		t.Fatalf("temporary files %v, %v", temps, err)
	}
	if err := disk.Link("/objects/_millrace/tmp/"+temps[0].Name(), "/objects/"+p.key); err != nil {
		t.Fatal(err)
	}
	next := open(t, disk, "/objects")
	if err := p.holds(next, t); err != nil {
		t.Fatalf("the next process: %v", err)
	}
	after := open(t, disk.CrashClone(rand.New(rand.NewPCG(1, 1)), 0), "/objects")
	if err := p.holds(after, t); err != nil {
		t.Fatalf("after the power failure: %v", err)
	}
}
