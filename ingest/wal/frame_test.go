package wal

import (
	"bytes"
	"errors"
	"testing"

	"millrace/ingest"
)

// fuzzManifest describes one segment whose bytes the fuzzer chooses.
func fuzzManifest(open bool, size int64) (*manifest, segment) {
	seg := segment{Incarnation: "i", First: 10, Next: 14, Bytes: size, Size: size}
	if open {
		seg.Next, seg.Bytes = -1, -1
	}
	return &manifest{Log: "l", Incarnations: []incarnation{{ID: "i", Salt: 7, First: 10, Next: -1}}, Segments: []segment{seg}}, seg
}

// goodSegment returns two groups of two records behind a head.
func goodSegment() []byte {
	m, seg := fuzzManifest(true, 4096)
	out := m.head(seg)
	for g := range 2 {
		group := make([]byte, groupFrame)
		for r := range 2 {
			at := len(group)
			group = append(group, make([]byte, frameHead)...)
			group = append(group, bytes.Repeat([]byte{'a' + byte(2*g+r)}, 40)...)
			sealFrame(group[at:], kindRecord, 7)
		}
		groupHead{pos: int64(len(out)), first: int64(10 + 2*g), count: 2, bytes: uint32(len(group) - groupFrame)}.put(group, 7)
		out = append(out, group...)
	}
	return out
}

// FuzzWalk reads segments of arbitrary bytes: it must end, stay in bounds, hand out only what checks, in order and within the segment's
// offsets, and say what is missing.
func FuzzWalk(f *testing.F) {
	good := goodSegment()
	f.Add(good, true)
	f.Add(good, false)
	f.Add(good[:len(good)-5], true)
	f.Add(append(bytes.Clone(good), make([]byte, 500)...), true)
	for _, at := range []int{3, headSize + 4, headSize + groupFrame + 4, headSize + groupFrame + 20, len(good) - 60} {
		bad := bytes.Clone(good)
		bad[at] ^= 0x10
		f.Add(bad, true)
		f.Add(bad, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, open bool) {
		m, seg := fuzzManifest(open, int64(len(data)))
		w := newWalker(m, seg, bytes.NewReader(data), int64(len(data)), 128)
		w.win.reuse = true
		next, damaged := seg.First, false
		for steps := 0; ; steps++ {
			if steps > len(data)+4 {
				t.Fatalf("no end after %d steps", steps)
			}
			it, err := w.step()
			if err != nil {
				t.Fatal(err)
			}
			switch it.kind {
			case itemRecord:
				if it.offset != next || !bytes.Contains(data, it.payload) {
					t.Fatalf("got record %d, want %d", it.offset, next)
				}
				next++
			case itemDamage:
				d := it.damage
				if d.First != next || d.Next < next || d.From > d.To || !errors.Is(d, ingest.ErrCorrupt) {
					t.Fatalf("got %+v at offset %d", d, next)
				}
				next, damaged = d.Next, true
			case itemEnd:
				if !open && next != seg.Next {
					t.Fatalf("got the end at %d of a closed segment up to %d", next, seg.Next)
				}
				if bytes.Equal(data, good) && (damaged || next != 14) {
					t.Fatalf("got damage %v, end %d of a good segment", damaged, next)
				}
				return
			}
		}
	})
}

// FuzzManifest: what is taken is what was written.
func FuzzManifest(f *testing.F) {
	m := newManifest(2)
	m.begin()
	m.add(segment{Incarnation: m.live().ID, Next: -1, Bytes: -1, Size: 4096})
	f.Add(m.encode())
	f.Add([]byte(manifestMagic + " 1 00000000\n{}"))
	f.Add([]byte(manifestMagic + " 2 00000000\n{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeManifest(data)
		if err != nil {
			return
		}
		again, err := decodeManifest(got.encode())
		if err != nil || !bytes.Equal(again.encode(), got.encode()) {
			t.Fatalf("got %+v, %v, want %+v", again, err, got)
		}
	})
}

// A manifest of a later version is not damage, and not ours to touch.
func TestManifestOfALaterVersion(t *testing.T) {
	t.Parallel()
	body := []byte("{}\n")
	_, err := decodeManifest(append(manifestHead("2", body), body...))
	if err == nil || errors.Is(err, ingest.ErrCorrupt) {
		t.Errorf("got %v, want an error that names the version", err)
	}
}
