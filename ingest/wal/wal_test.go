package wal_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"millrace/ingest"
	"millrace/ingest/ingesttest"
	"millrace/ingest/vfs"
	"millrace/ingest/wal"
)

const dir = "/data/log"

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// small makes segments roll every few records.
func small(fsys vfs.FS) wal.Options {
	return wal.Options{FS: fsys, SegmentBytes: 4 << 10, MaxDelay: -1, ReserveBytes: -1}
}

func open(t *testing.T, dir string, opts wal.Options) *wal.Log {
	t.Helper()
	l, err := wal.Open(dir, opts)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantIs(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// payloads returns what a log holds, oldest first.
func payloads(t *testing.T, p ingest.Partition) []string {
	t.Helper()
	low, _, err := p.Bounds(t.Context())
	must(t, err)
	var out []string
	for _, f := range ingesttest.ReadAll(t, p, low) {
		out = append(out, string(f.Record.Payload))
	}
	return out
}

func TestConformanceInMemory(t *testing.T) {
	t.Parallel()
	ingesttest.TestLog(t, func(t *testing.T) ingesttest.Harness {
		mem := vfs.NewMem()
		opts := small(mem)
		opts.SegmentBytes, opts.MaxBytes, opts.MaxRecord = 32<<10, 256<<10, 4<<10
		l := open(t, dir, opts)
		return ingesttest.Harness{
			Log: l, MaxBytes: opts.MaxBytes, MaxRecord: opts.MaxRecord,
			Reopen: func(t *testing.T) ingesttest.Log {
				must(t, l.Close())
				return open(t, dir, opts)
			},
			Crash: func(t *testing.T) ingesttest.Log {
				opts.FS = mem.CrashClone(rng(1), 0)
				return open(t, dir, opts)
			},
		}
	})
}

func TestConformanceOnDisk(t *testing.T) {
	t.Parallel()
	ingesttest.TestLog(t, func(t *testing.T) ingesttest.Harness {
		dir := t.TempDir()
		opts := wal.Options{SegmentBytes: 64 << 10, MaxBytes: 512 << 10, MaxRecord: 4 << 10}
		l := open(t, dir, opts)
		return ingesttest.Harness{
			Log: l, MaxBytes: opts.MaxBytes, MaxRecord: opts.MaxRecord,
			Reopen: func(t *testing.T) ingesttest.Log {
				must(t, l.Close())
				return open(t, dir, opts)
			},
			Crash: func(t *testing.T) ingesttest.Log { // as kill -9 leaves it, beside the process that still runs
				copied := t.TempDir()
				copyDir(t, vfs.OS, dir, vfs.OS, copied)
				return open(t, copied, opts)
			},
		}
	})
}

func copyDir(t *testing.T, from vfs.FS, fromDir string, to vfs.FS, toDir string) {
	t.Helper()
	must(t, to.MkdirAll(toDir))
	entries, err := from.List(fromDir)
	must(t, err)
	for _, e := range entries {
		data, err := vfs.ReadFile(from, filepath.Join(fromDir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		must(t, err)
		_, err = vfs.WriteFileSync(to, filepath.Join(toDir, e.Name()), data)
		must(t, err)
	}
}
