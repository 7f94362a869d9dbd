package dedupe

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"millrace/ingest"
)

// TestForget keeps and takes back at random, over several slabs and splits, and compares with a map.
func TestForget(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	x := New(64 << 20)
	stream := ingest.Stream{Log: "l", Incarnation: "i"}
	var kept []uint64
	count := map[uint64]int{}
	idOf := func(v uint64) (id [16]byte) {
		binary.LittleEndian.PutUint64(id[:], v)
		return id
	}
	for range 200 {
		n := rng.IntN(3000)
		if rng.IntN(3) == 0 {
			n = min(n, len(kept))
			x.Forget(n)
			for _, v := range kept[len(kept)-n:] {
				count[v]--
			}
			kept = kept[:len(kept)-n]
			continue
		}
		for range n {
			v := rng.Uint64N(5000)
			x.Keep(idOf(v), epoch.Add(time.Duration(len(kept))*time.Millisecond), stream, int64(len(kept)))
			kept = append(kept, v)
			count[v]++
		}
	}
	if got, want := x.Len(), len(kept); got != want {
		t.Fatalf("Len() = %d, want %d", got, want)
	}
	for v := range uint64(5000) {
		_, offset, ok := x.Find(idOf(v))
		if ok != (count[v] > 0) {
			t.Fatalf("Find(%d) = %v after %d kept", v, ok, count[v])
		}
		if ok && kept[offset] != v {
			t.Fatalf("Find(%d) names offset %d, which is of %d", v, offset, kept[offset])
		}
		if got := x.Seen(idOf(v), epoch, 365*24*time.Hour); got != ok {
			t.Fatalf("Seen(%d) = %v, want %v", v, got, ok)
		}
	}
}
