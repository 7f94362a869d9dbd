package vfs_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest/vfs"
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

//layout:allow size the cases of one table, each a few lines
func TestCrashKeepsOnlyWhatWasSynced(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		steps  func(t *testing.T, m *vfs.Mem)
		want   map[string]string // after a crash that keeps nothing unsynced
		wantOS map[string]string // after a crash of the process only
	}{
		{
			name:   "nothing synced",
			steps:  func(t *testing.T, m *vfs.Mem) { write(t, create(t, m, "/f"), 0, "x") },
			want:   map[string]string{"/f": "<absent>"},
			wantOS: map[string]string{"/f": "x"},
		},
		{
			name: "file synced, directory not",
			steps: func(t *testing.T, m *vfs.Mem) {
				f := create(t, m, "/f")
				write(t, f, 0, "x")
				must(t, f.Sync())
			},
			want:   map[string]string{"/f": "<absent>"},
			wantOS: map[string]string{"/f": "x"},
		},
		{
			name: "directory synced, file not",
			steps: func(t *testing.T, m *vfs.Mem) {
				write(t, create(t, m, "/f"), 0, "x")
				must(t, m.SyncDir("/"))
			},
			want:   map[string]string{"/f": ""},
			wantOS: map[string]string{"/f": "x"},
		},
		{
			name: "overwrite and growth after the sync",
			steps: func(t *testing.T, m *vfs.Mem) {
				f := create(t, m, "/f")
				write(t, f, 0, "old")
				must(t, f.Sync())
				must(t, m.SyncDir("/"))
				write(t, f, 0, "newer")
			},
			want:   map[string]string{"/f": "old"},
			wantOS: map[string]string{"/f": "newer"},
		},
		{
			name: "rename not synced",
			steps: func(t *testing.T, m *vfs.Mem) {
				f := create(t, m, "/a")
				write(t, f, 0, "x")
				must(t, f.Sync())
				must(t, m.SyncDir("/"))
				must(t, m.Rename("/a", "/b"))
			},
			want:   map[string]string{"/a": "x", "/b": "<absent>"},
			wantOS: map[string]string{"/a": "<absent>", "/b": "x"},
		},
		{
			name: "new directory without its parent",
			steps: func(t *testing.T, m *vfs.Mem) {
				must(t, m.MkdirAll("/d/e"))
				f := create(t, m, "/d/e/f")
				write(t, f, 0, "x")
				must(t, f.Sync())
				must(t, m.SyncDir("/d/e"))
				must(t, m.SyncDir("/d"))
			},
			want:   map[string]string{"/d/e/f": "<absent>"},
			wantOS: map[string]string{"/d/e/f": "x"},
		},
		{
			name: "remove and truncate not synced",
			steps: func(t *testing.T, m *vfs.Mem) {
				must(t, vfs.MkdirAllSync(m, "/d/e"))
				f, g := create(t, m, "/d/e/f"), create(t, m, "/d/e/g")
				write(t, f, 0, "long")
				write(t, g, 0, "g")
				must(t, m.SyncAll("/"))
				must(t, f.Truncate(1))
				must(t, f.Truncate(2))
				must(t, m.Remove("/d/e/g"))
			},
			want:   map[string]string{"/d/e/f": "long", "/d/e/g": "g"},
			wantOS: map[string]string{"/d/e/f": "l\x00", "/d/e/g": "<absent>"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := vfs.NewMem()
			tt.steps(t, m)
			for keep, want := range map[int]map[string]string{0: tt.want, 100: tt.wantOS} {
				got := map[string]string{}
				for name := range want {
					got[name] = content(t, m.CrashClone(rng(1), keep), name)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("keeping %d %% (-want +got):\n%s", keep, diff)
				}
			}
		})
	}
}

// Half-kept disks must show every mixture of blocks, tears within a block included, and never bytes that were not written.
func TestCrashMixesBlocks(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f := create(t, m, "/f")
	write(t, f, 0, strings.Repeat("o", 2*vfs.BlockSize))
	must(t, m.SyncAll("/"))
	write(t, f, 0, strings.Repeat("n", 2*vfs.BlockSize))
	seen := map[string]bool{}
	for seed := range uint64(200) {
		got := content(t, m.CrashClone(rng(seed), 50), "/f")
		if again := content(t, m.CrashClone(rng(seed), 50), "/f"); again != got {
			t.Fatalf("seed %d: got two different disks", seed)
		}
		a, b := got[:vfs.BlockSize], got[vfs.BlockSize:]
		seen[state(t, a)+" "+state(t, b)] = true
	}
	for _, want := range []string{"old old", "old new", "new old", "new new", "torn old", "torn new"} {
		if !seen[want] {
			t.Errorf("got %v, want %q among them", seen, want)
		}
	}
}

func state(t *testing.T, block string) string {
	t.Helper()
	n := strings.Count(block, "n")
	if block != strings.Repeat("n", n)+strings.Repeat("o", vfs.BlockSize-n) || n%512 != 0 {
		t.Fatalf("got a block with %d new bytes that is no torn write", n)
	}
	switch n {
	case 0:
		return "old"
	case vfs.BlockSize:
		return "new"
	default:
		return "torn"
	}
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	m.SetCapacity(10)
	f := create(t, m, "/f")
	wantIs(t, f.Preallocate(11), vfs.ErrNoSpace)
	must(t, f.Preallocate(4))
	if n, err := f.WriteAt([]byte("0123456789ab"), 0); n != 10 || !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("got %d, %v, want 10 bytes and %v", n, err, vfs.ErrNoSpace)
	}
	if free, total, err := m.Free("/"); free != 0 || total != 10 || err != nil {
		t.Errorf("got %d of %d free, %v, want 0 of 10", free, total, err)
	}
	must(t, m.Remove("/f"))
	if got := m.Used(); got != 0 {
		t.Errorf("got %d bytes used after removing all, want 0", got)
	}
}

func TestInject(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	t.Run("once and from", func(t *testing.T) {
		t.Parallel()
		for name, tt := range map[string]struct {
			hook func(vfs.Op) error
			want string
		}{
			"once": {vfs.FailOnce(2, broken), "ok fail ok ok"},
			"from": {vfs.FailFrom(2, broken), "ok fail fail fail"},
		} {
			in := vfs.Inject(vfs.NewMem(), tt.hook)
			var got []string
			for range 4 {
				err := in.MkdirAll("/d")
				got = append(got, map[bool]string{true: "ok", false: "fail"}[err == nil])
				if err != nil {
					wantIs(t, err, broken)
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%s: got %v, want %s", name, got, tt.want)
			}
		}
	})
	t.Run("short write", func(t *testing.T) {
		t.Parallel()
		in := vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
			if op.Kind == vfs.OpWrite {
				return vfs.ShortWrite{Bytes: 2, Err: broken}
			}
			return nil
		})
		f := create(t, in, "/f")
		if n, err := f.WriteAt([]byte("abcd"), 0); n != 2 || !errors.Is(err, broken) {
			t.Errorf("got %d, %v, want 2 and %v", n, err, broken)
		}
		if got := content(t, in, "/f"); got != "ab" {
			t.Errorf("got %q, want ab", got)
		}
	})
	t.Run("failed sync loses pages for good", func(t *testing.T) {
		t.Parallel()
		mem := vfs.NewMem()
		fail := true
		in := vfs.Inject(mem, func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && fail {
				return broken
			}
			return nil
		})
		f, err := in.OpenFile("/f", os.O_RDWR|os.O_CREATE)
		must(t, err)
		write(t, f, 0, "x")
		must(t, in.SyncDir("/"))
		wantIs(t, f.Sync(), broken)
		fail = false
		must(t, f.Sync())
		if got := content(t, in, "/f"); got != "x" {
			t.Errorf("got %q before the crash, want x", got)
		}
		if got := content(t, mem.CrashClone(rng(1), 100), "/f"); got != "\x00" {
			t.Errorf("got %q after the crash, want a hole", got)
		}
	})
}
