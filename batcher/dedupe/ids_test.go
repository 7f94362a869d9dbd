package dedupe

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"millrace/batcher"
)

// TestIDsLayout pins version 1 byte by byte.
func TestIDsLayout(t *testing.T) {
	t.Parallel()
	ids := []ID{
		{Hash: [16]byte{0: 1, 15: 2}, Received: time.UnixMicro(1000).UTC(), Offset: 7},
		{Hash: [16]byte{0: 3}, Received: time.UnixMicro(999).UTC(), Offset: 9},
	}
	const want = "01" + "02" +
		"01000000000000000000000000000002" + "d00f" + "0e" + // +1000, +7
		"03000000000000000000000000000000" + "01" + "04" + // -1, +2
		"394cd45b"
	if got := hex.EncodeToString(MarshalIDs(ids)); got != want {
		t.Errorf("got  %s, want %s", got, want)
	}
	old, err := hex.DecodeString(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := UnmarshalIDs(old)
	if diff := cmp.Diff(ids, got); diff != "" || err != nil {
		t.Errorf("read: %v (-want +got):\n%s", err, diff)
	}
}

func TestIDsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ids := make([]ID, rapid.IntRange(0, 50).Draw(t, "rows"))
		for i := range ids {
			copy(ids[i].Hash[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "hash"))
			ids[i].Received = time.UnixMicro(rapid.Int64().Draw(t, "received")).UTC()
			ids[i].Offset = rapid.Int64Min(0).Draw(t, "offset")
		}
		b := MarshalIDs(ids)
		got, err := UnmarshalIDs(b)
		if err != nil || !cmp.Equal(ids, got) {
			t.Fatalf("%d rows read as %d, %v", len(ids), len(got), err)
		}
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := UnmarshalIDs(b); !errors.Is(err, ErrBadIDs) && !errors.Is(err, batcher.ErrUnknownVersion) {
			t.Fatalf("a flipped bit at %d: got %v", i, err)
		}
	})
}

func FuzzUnmarshalIDs(f *testing.F) {
	f.Add(MarshalIDs(nil))
	f.Add(MarshalIDs([]ID{{Offset: 1, Received: time.UnixMicro(5)}, {Offset: 9}}))
	f.Add([]byte{2, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		ids, err := UnmarshalIDs(b)
		if err != nil {
			return
		}
		again, err := UnmarshalIDs(MarshalIDs(ids))
		if err != nil || !cmp.Equal(ids, again) {
			t.Errorf("read %d rows, written and read again %d, %v", len(ids), len(again), err)
		}
	})
}

func BenchmarkIDs(b *testing.B) {
	ids := make([]ID, 50_000)
	for i := range ids {
		ids[i] = ID{Received: epoch.Add(time.Duration(i) * time.Millisecond), Offset: int64(i)}
	}
	for b.Loop() {
		if !bytes.Equal(MarshalIDs(ids)[:1], []byte{idsVersion}) {
			b.Fatal()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(ids)), "ns/row")
	b.ReportMetric(float64(len(MarshalIDs(ids)))/float64(len(ids)), "B/row")
}
