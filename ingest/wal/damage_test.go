package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/ingest"
	"millrace/ingest/ingesttest"
	"millrace/ingest/vfs"
	"millrace/ingest/wal"
)

// specimen is a small log and what it holds.
type specimen struct {
	disk *vfs.Mem
	held map[int64]string // payloads by offset
}

// newSpecimen makes a log of a few segments: closed, or as a power failure leaves it when it was idle for a while.
func newSpecimen(t *testing.T, closed bool) specimen {
	t.Helper()
	s := specimen{disk: vfs.NewMem(), held: map[int64]string{}}
	synctest.Test(t, func(t *testing.T) {
		l := open(t, dir, small(s.disk))
		for i := range 9 {
			recs := ingesttest.Records(fmt.Sprint("r", i, "-"), 1+i%4)
			recs = append(recs, ingesttest.Record(fmt.Sprint("big", i), "k", 500))
			receipt := ingesttest.MustAppend(t, l, recs...)
			for j, r := range recs {
				s.held[receipt[0].First+int64(j)] = string(r.Payload)
			}
		}
		time.Sleep(time.Second) // In the bubble: until the mark is written.
		crashed := s.disk.CrashClone(rng(1), 0)
		must(t, l.Close())
		if !closed {
			s.disk = crashed
		}
	})
	return s
}

// stride is 1 for the first and the last segment, and more for those between, which are like the first.
func stride(s specimen, t *testing.T, name string) int {
	if files := s.files(t); slices.Contains(files[1:len(files)-1], name) {
		return 13
	}
	return 1
}

func (s specimen) files(t *testing.T) []string {
	t.Helper()
	entries, err := s.disk.List(dir)
	must(t, err)
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".wal") {
			out = append(out, e.Name())
		}
	}
	if len(out) < 3 {
		t.Fatalf("got segments %v, want at least 3", out)
	}
	return out
}

// with returns a copy of the disk on which a file has other content; nil removes it.
func (s specimen) with(t *testing.T, name string, data []byte) *vfs.Mem {
	t.Helper()
	disk := s.disk.CrashClone(rng(1), 100)
	full := filepath.Join(dir, name)
	must(t, disk.Remove(full))
	if data != nil {
		_, err := vfs.WriteFileSync(disk, full, data)
		must(t, err)
	}
	return disk
}

func (s specimen) content(t *testing.T, name string) []byte {
	t.Helper()
	data, err := vfs.ReadFile(s.disk, filepath.Join(dir, name))
	must(t, err)
	return data
}

// find opens a log, reads it, and returns the first error and what was read before.
func find(t *testing.T, disk *vfs.Mem) (map[int64]string, []ingest.Span, error) {
	t.Helper()
	l, err := wal.Open(dir, small(disk))
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	low, _, err := l.Bounds(t.Context())
	must(t, err)
	found, err := ingesttest.Scan(t.Context(), l, low, 700)
	got := map[int64]string{}
	for _, f := range found {
		got[f.Offset] = string(f.Record.Payload)
	}
	return got, l.Lost(), err
}

// wantDamage checks that the error of find names the segment and a range that covers the byte.
func wantDamage(t *testing.T, err error, name string, at int64) {
	t.Helper()
	var d wal.Damage
	if !errors.Is(err, ingest.ErrCorrupt) || !errors.As(err, &d) {
		t.Fatalf("%s, byte %d: got %v, want damage", name, at, err)
	}
	if d.Segment != name || at < d.From || at >= d.To || d.Next < d.First {
		t.Fatalf("%s, byte %d: got %v, want it to name that byte", name, at, d)
	}
}

// wantAccepted accepts all damage and checks that everything else is still there.
func (s specimen) wantAccepted(t *testing.T, disk *vfs.Mem, atMost int) {
	t.Helper()
	found, err := wal.Check(t.Context(), disk, dir)
	if err != nil || len(found) == 0 {
		t.Fatalf("check: got %v, %v, want damage", found, err)
	}
	accepted, err := wal.AcceptLoss(t.Context(), disk, dir, found[0].First, max(found[0].First, found[len(found)-1].Next-1))
	if err != nil || !slices.Equal(accepted, found) {
		t.Fatalf("accept: got %v, %v, want %v", accepted, err, found)
	}
	for range 2 { // The acceptance is durable.
		got, lost, err := find(t, disk)
		if err != nil {
			t.Fatalf("after accepting %v: %v", found, err)
		}
		missing := maps.Clone(s.held)
		for off, text := range got {
			if missing[off] != text {
				t.Fatalf("after accepting %v: got %s at %d", found, text, off)
			}
			delete(missing, off)
		}
		if len(missing) > atMost {
			t.Fatalf("after accepting %v: got %d records missing, want at most %d", found, len(missing), atMost)
		}
		for off := range missing {
			if !slices.ContainsFunc(lost, func(s ingest.Span) bool { return s.First <= off && off <= s.Last }) {
				t.Fatalf("record %d is missing, and not in %v", off, lost)
			}
		}
		disk = disk.CrashClone(rng(2), 0)
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	s := newSpecimen(t, true)
	if got, _, err := find(t, s.disk.CrashClone(rng(1), 100)); err != nil || !maps.Equal(got, s.held) {
		t.Fatalf("got %d records, %v from the specimen as it is, want %d", len(got), err, len(s.held))
	}
	for _, name := range s.files(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := s.content(t, name)
			for i := 0; i < len(data); i += stride(s, t, name) {
				flipped := slices.Clone(data)
				flipped[i] ^= 1 << (i % 8)
				disk := s.with(t, name, flipped)
				_, _, err := find(t, disk)
				if err == nil { // It is in the mark at the end: no reader gets there.
					found, _ := wal.Check(t.Context(), disk, dir)
					if len(found) != 1 || found[0].First != int64(len(s.held)) {
						t.Fatalf("byte %d: got %v, want damage", i, found)
					}
					err = found[0]
				}
				wantDamage(t, err, name, int64(i))
				if i%11 == 0 {
					s.wantAccepted(t, disk, 1)
				}
			}
		})
	}
	t.Run("MANIFEST", func(t *testing.T) {
		t.Parallel()
		data := s.content(t, "MANIFEST")
		for i := range data {
			flipped := slices.Clone(data)
			flipped[i] ^= 1 << (i % 8)
			_, _, err := find(t, s.with(t, "MANIFEST", flipped))
			if !errors.Is(err, ingest.ErrCorrupt) || !strings.Contains(err.Error(), "MANIFEST") {
				t.Fatalf("byte %d: got %v, want a damaged manifest", i, err)
			}
		}
	})
}

// After a crash, a flip is found, or it hit what no record needs: a mark, or the zeros behind it.
func TestEveryFlippedBitAfterACrash(t *testing.T) {
	t.Parallel()
	s := newSpecimen(t, false)
	files := s.files(t)
	name := files[len(files)-1]
	data := s.content(t, name)
	harmless := 0
	for i := range data {
		flipped := slices.Clone(data)
		flipped[i] ^= 1 << (i % 8)
		got, _, err := find(t, s.with(t, name, flipped))
		if err == nil {
			harmless++
			if !maps.Equal(got, s.held) {
				t.Fatalf("byte %d: got %d records and no error, want all %d or an error", i, len(got), len(s.held))
			}
			continue
		}
		wantDamage(t, err, name, int64(i))
	}
	if harmless == len(data) {
		t.Error("got no flip detected")
	}
}

func TestTruncatedAtEveryLength(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		s := newSpecimen(t, closed)
		for _, name := range append(s.files(t), "MANIFEST") {
			t.Run(fmt.Sprint("closed ", closed, " ", name), func(t *testing.T) {
				t.Parallel()
				data := s.content(t, name)
				whole := len(data)
				if files := s.files(t); name != files[len(files)-1] {
					whole = len(bytes.TrimRight(data, "\x00")) // What was preallocated and not used may go.
				}
				for n := 0; n < whole; n += stride(s, t, name) {
					disk := s.with(t, name, data[:n])
					_, err := wal.Open(dir, small(disk))
					if !errors.Is(err, ingest.ErrCorrupt) || !strings.Contains(err.Error(), name) {
						t.Fatalf("%d of %d bytes: got %v, want damage", n, len(data), err)
					}
					if n%37 == 0 && name != "MANIFEST" {
						s.wantAccepted(t, disk, len(s.held))
					}
				}
			})
		}
	}
}

func TestMissingFiles(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		s := newSpecimen(t, closed)
		for _, name := range s.files(t) {
			disk := s.with(t, name, nil)
			_, err := wal.Open(dir, small(disk))
			wantDamage(t, err, name, 0)
			s.wantAccepted(t, disk, len(s.held)/2)
		}
		_, err := wal.Open(dir, small(s.with(t, "MANIFEST", nil)))
		wantIs(t, "open without a manifest", err, ingest.ErrCorrupt)
	}
}

// An older manifest beside newer segments would make the log forget records.
func TestMixedUpFiles(t *testing.T) {
	t.Parallel()
	s := newSpecimen(t, true)
	old := s.content(t, "MANIFEST")
	l := open(t, dir, small(s.disk))
	for i := range 20 {
		ingesttest.MustAppend(t, l, ingesttest.Record(fmt.Sprint("new", i), "k", 500))
	}
	must(t, l.Close())
	_, err := wal.Open(dir, small(s.with(t, "MANIFEST", old)))
	wantIs(t, "open with an older manifest", err, ingest.ErrCorrupt)

	other := newSpecimen(t, true)
	name := s.files(t)[1]
	_, err = wal.Open(dir, small(s.with(t, name, other.content(t, name))))
	wantDamage(t, err, name, 0)
}

// The last group of a log that was killed may be cut anywhere: its first records are kept, as far as they are whole, and nothing else is lost.
func TestTornTailAtEveryLength(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	l := open(t, dir, small(disk))
	ingesttest.MustAppend(t, l, ingesttest.Records("a", 4)...)
	before, err := disk.Stat(filepath.Join(dir, fmt.Sprintf("%020d.wal", 0)))
	must(t, err)
	start := int(held(l))
	last := ingesttest.Records("last", 5)
	ingesttest.MustAppend(t, l, last...)
	end := int(held(l))
	image := disk.CrashClone(rng(1), 0)
	s := specimen{disk: image}
	data := s.content(t, before.Name())
	fills := map[string]func([]byte){
		"zeros":   func([]byte) {},
		"garbage": func(b []byte) { rngFill(b) },
		"hole": func(b []byte) { // 200 bytes were lost, what is behind them was written
			hole := min(200, len(b))
			copy(b[hole:], data[end-len(b)+hole:end])
		},
	}
	for name, fill := range fills {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kept := 0
			for cut := start; cut < end; cut++ {
				torn := slices.Clone(data)
				clear(torn[cut:end])
				fill(torn[cut:end])
				if slices.Equal(torn, data) {
					continue
				}
				got, _, err := find(t, s.with(t, before.Name(), torn))
				if err != nil {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				if len(got) < 4 || len(got) > 9 || len(got) < kept && name == "zeros" {
					t.Fatalf("cut at %d: got %d records, want 4 and a growing part of 5", cut, len(got))
				}
				kept = len(got)
				for off, text := range got {
					if off >= 4 && text != string(last[off-4].Payload) {
						t.Fatalf("cut at %d: got %s at %d", cut, text, off)
					}
				}
			}
		})
	}
}

func held(l *wal.Log) int64 {
	n, _, _ := l.Pressure()
	return n
}

func rngFill(b []byte) {
	r := rng(uint64(len(b)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// A sender who knows the format writes a group frame into a payload, at its very place. If it passed for one, a torn tail would pass for
// damage, and the log would not open.
func TestForgedFramesInPayloads(t *testing.T) {
	t.Parallel()
	const group = 256 // The first group is right behind the head.
	for name, tt := range map[string]struct {
		guess func(salt uint32) uint32
		want  error
	}{
		"no salt":   {func(uint32) uint32 { return 0 }, nil},
		"wrong":     {func(salt uint32) uint32 { return salt + 1 }, nil},
		"real salt": {func(salt uint32) uint32 { return salt }, ingest.ErrCorrupt}, // proves that the forgery is good
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := specimen{disk: vfs.NewMem()}
			l := open(t, dir, small(s.disk))
			rec := ingesttest.Record("forged", "k", 100)
			text := len(rec.Payload) - 1
			at := group + groupSize + 9 + len(rec.AppendBinary(nil)) - 1
			rec.Payload = append(append(rec.Payload[:text], groupFrame(at, 1, tt.guess(saltOf(t, s)))...), '}')
			ingesttest.MustAppend(t, l, rec)
			segment := fmt.Sprintf("%020d.wal", 0)
			data := s.content(t, segment)
			if data[group+groupSize+8] != 2 || data[at+8] != 1 {
				t.Fatal("the record or the forged frame is not where it should be")
			}
			clear(data[group : group+groupSize+9]) // The heads of the group and of the record were lost, what is behind them was written.
			_, err := wal.Open(dir, small(s.with(t, segment, data)))
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

const groupSize = 9 + 24

// groupFrame returns the frame of an empty group, as FORMAT.md has it.
func groupFrame(pos int, first int64, salt uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 24)
	b = append(b, 1)
	b = le.AppendUint64(b, uint64(pos))
	b = le.AppendUint64(b, uint64(first))
	b = le.AppendUint64(b, 0)
	sum := crc32.Update(salt, crc32.MakeTable(crc32.Castagnoli), b)
	return append(le.AppendUint32(nil, sum), b...)
}

func saltOf(t *testing.T, s specimen) (salt uint32) {
	t.Helper()
	_, text, _ := strings.Cut(string(s.content(t, "MANIFEST")), `"salt": `)
	if _, err := fmt.Sscan(strings.TrimSuffix(strings.Fields(text)[0], ","), &salt); err != nil {
		t.Fatal(err)
	}
	return salt
}
