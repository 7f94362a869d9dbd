package dedupe

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"millrace/ingest"
)

var epoch = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

func TestRecordSize(t *testing.T) {
	t.Parallel()
	if got := int(unsafe.Sizeof(record{})); got != recordBytes {
		t.Fatalf("a record takes %d bytes, the accounting says %d", got, recordBytes)
	}
	if over := int(unsafe.Sizeof(slab{})) - slabBytes; over > 0 {
		t.Fatalf("a slab takes %d bytes more than the accounting says", over)
	}
}

// kept is a record of the naive model.
type kept struct {
	id     [16]byte
	at     time.Time
	stream ingest.Stream
	offset int64
}

// model is what the index must agree with: lists of all that was kept.
type model struct {
	all  []kept
	byID map[[16]byte][]kept
}

func (m *model) keep(k kept) {
	m.all = append(m.all, k)
	m.byID[k.id] = append(m.byID[k.id], k)
}

func (m *model) seen(id [16]byte, at time.Time, window time.Duration) bool {
	for _, k := range m.byID[id] {
		if d := at.Sub(k.at); -window <= d && d <= window {
			return true
		}
	}
	return false
}

func (m *model) find(id [16]byte) (ingest.Stream, int64, bool) {
	of := m.byID[id]
	if len(of) == 0 {
		return ingest.Stream{}, 0, false
	}
	last := of[len(of)-1]
	return last.stream, last.offset, true
}

func smallID(n int) (id [16]byte) {
	binary.LittleEndian.PutUint64(id[8*(n&1):], uint64(n)) // ids that differ in one half only
	return id
}

// TestIndexAgainstModel: without a bound in reach, the index says what a list of all kept records says: every receive time of an id counts,
// to the microsecond, and positions may pass 2^32 on the way.
func TestIndexAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := New(1 << 30)
		x.reset(rapid.SampledFrom([]uint32{0, 1<<32 - slabLen, 1<<32 - 3*slabLen}).Draw(t, "start"))
		m := &model{byID: make(map[[16]byte][]kept)}
		streams := []ingest.Stream{{Log: "a", Incarnation: "1"}, {Log: "a", Incarnation: "2"}, {Log: "b", Incarnation: "1", Partition: 3}}
		offset := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"keep": func(t *rapid.T) {
				rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)) // cheaper than a draw for each
				for range rapid.SampledFrom([]int{1, 10, 700}).Draw(t, "many") {
					k := kept{
						id: smallID(rng.IntN(400)), stream: streams[rng.IntN(len(streams))], offset: offset,
						at: epoch.Add(time.Duration(rng.Int64N(1<<41)-1<<40) * time.Microsecond),
					}
					offset += []int64{1, 2, -3}[rng.IntN(3)]
					if rng.IntN(500) == 0 {
						offset += 1 << 33 // too far from the slab's first record: a new slab
					}
					x.Keep(k.id, k.at, k.stream, k.offset)
					m.keep(k)
				}
			},
			"seen": func(t *rapid.T) {
				id := smallID(rapid.IntRange(0, 420).Draw(t, "id"))
				at := epoch.Add(time.Duration(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "at")) * time.Microsecond)
				if len(m.all) > 0 && rapid.Bool().Draw(t, "near") {
					k := rapid.SampledFrom(m.all).Draw(t, "of")
					id, at = k.id, k.at.Add(time.Duration(rapid.Int64Range(-3, 3).Draw(t, "off"))*time.Microsecond)
				}
				window := time.Duration(rapid.SampledFrom([]int64{0, 1, 2, 1 << 20, 1 << 39}).Draw(t, "window")) * time.Microsecond
				if got, want := x.Seen(id, at, window), m.seen(id, at, window); got != want {
					t.Fatalf("Seen(%x, %v, %v) = %v, want %v", id, at, window, got, want)
				}
			},
			"find": func(t *rapid.T) {
				id := smallID(rapid.IntRange(0, 420).Draw(t, "id"))
				s, o, ok := x.Find(id)
				ws, wo, wok := m.find(id)
				if s != ws || o != wo || ok != wok {
					t.Fatalf("Find(%x) = %v %d %v, want %v %d %v", id, s, o, ok, ws, wo, wok)
				}
			},
			"clone": func(t *rapid.T) {
				old := x
				x = x.Clone()
				old.Keep(smallID(500), epoch, streams[0], 1) // must not show in the clone
				old.Reset()
			},
			"": func(t *rapid.T) {
				if x.Len() != len(m.all) || !x.Horizon().IsZero() {
					t.Fatalf("Len %d, want %d; Horizon %v, want none", x.Len(), len(m.all), x.Horizon())
				}
			},
		})
	})
}

// TestIndexBounds: under a byte bound and Evict, what the index forgets is old: every record received at or after Horizon, and not evicted by
// the caller's own time, is still known, and memory stays below the bound, also when positions pass 2^32.
func TestIndexBounds(t *testing.T) {
	t.Parallel()
	for _, start := range []uint32{0, 1<<32 - 10*slabLen} {
		x := New(20 * slabBytes)
		x.reset(start)
		rng := rand.New(rand.NewPCG(1, uint64(start)))
		var all []kept
		now, asked := epoch, epoch.Add(-time.Hour)
		check := func() {
			t.Helper()
			if got := x.Bytes(); got > 20*slabBytes {
				t.Fatalf("index takes %d bytes, bound %d", got, 20*slabBytes)
			}
			known := 0
			for _, k := range all {
				if k.at.Before(x.Horizon()) || k.at.Before(asked) {
					continue
				}
				known++
				if _, o, ok := x.Find(k.id); !ok || o != k.offset || !x.Seen(k.id, k.at, 0) {
					t.Fatalf("record at %v is unknown; horizon %v, evicted before %v", k.at, x.Horizon(), asked)
				}
			}
			if known < 8*slabLen && !x.Horizon().IsZero() && asked.Before(x.Horizon()) {
				t.Fatalf("the bound of %d slabs leaves only %d records", 20, known)
			}
		}
		for i := range 60 * slabLen {
			now = now.Add(time.Duration(rng.Int64N(2000)) * time.Microsecond)
			k := kept{at: now.Add(time.Duration(rng.Int64N(1000)-500) * time.Millisecond), offset: int64(i)}
			binary.LittleEndian.PutUint64(k.id[:], rng.Uint64())
			x.Keep(k.id, k.at, ingest.Stream{Log: "l", Incarnation: "i"}, k.offset)
			all = append(all, k)
			if i%(7*slabLen) == 0 {
				if i > 40*slabLen {
					asked = now.Add(-3 * time.Second)
					x.Evict(asked)
				}
				check()
			}
		}
		if x.Horizon().IsZero() {
			t.Fatal("60 slabs fit in 20: the bound was never reached")
		}
		x.Evict(now.Add(time.Hour))
		if x.Len() != 0 {
			t.Fatalf("%d records left after all were evicted", x.Len())
		}
		x.Keep(smallID(1), now, ingest.Stream{}, 1)
		if !x.Seen(smallID(1), now, 0) || x.Seen(all[len(all)-1].id, now, time.Hour) {
			t.Fatal("an emptied index knows the wrong records")
		}
	}
}

// BenchmarkSeenKeep is the work of one new record in an index of the given size.
func BenchmarkSeenKeep(b *testing.B) {
	for _, size := range []int{100_000, 4_000_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			x := New(int64(size) * 40)
			var id [16]byte
			rng := rand.New(rand.NewPCG(1, 2))
			s := ingest.Stream{Log: "l", Incarnation: "i"}
			at := epoch
			step := func(i int) {
				binary.LittleEndian.PutUint64(id[:], rng.Uint64())
				binary.LittleEndian.PutUint64(id[8:], rng.Uint64())
				at = at.Add(time.Microsecond)
				if !x.Seen(id, at, time.Hour) {
					x.Keep(id, at, s, int64(i))
				}
			}
			for i := range size {
				step(i)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				step(size + i)
			}
			b.ReportMetric(float64(x.Bytes())/float64(x.Len()), "B/record")
		})
	}
}
