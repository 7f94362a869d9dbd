package dedupe

import (
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"sync"
	"time"

	"millrace/ingest"
)

const (
	slabBits = 11
	slabLen  = 1 << slabBits
	// segBits: heads come in segments of 16,384, so that adding a bucket never copies.
	segBits = 14
	segLen  = 1 << segBits
	// startBuckets is the number of buckets of an empty index.
	startBuckets = 1 << 10
	// sweepHeads is how many heads are looked over for each new slab. A head that names a record long gone is cleared long before its name
	// comes up again: 2^27 heads, far beyond any bound in use, take 2^30 records.
	sweepHeads = 256

	recordBytes = 32
	slabBytes   = slabLen*recordBytes + 64
	segBytes    = segLen * 8
)

// MinBytes is the least memory bound of an index.
const MinBytes = int64(4*slabBytes + 2*segBytes)

// record is one kept record. Time and offset are relative to its slab.
type record struct {
	id     [16]byte
	next   uint32 // position of the next older record of the bucket; its own position ends the chain
	offset int32
	atLow  uint32
	atHigh int16
	stream uint16
}

// head is a bucket: the position of its newest record, and one bit (by hash) for each record in it. The bits let most searches for an unknown
// id end without a look at a record, which is a miss of the cache each. Bits of records that are gone stay until the bucket is empty or split.
type head struct {
	pos  uint32
	bits uint32
}

// slab is a run of records in the order of Keep.
type slab struct {
	baseAt     int64 // microseconds since 1970
	baseOffset int64
	maxAt      int64
	n          int // records in use
	recs       [slabLen]record
}

// Index knows kept records by dedupe id: all of them within its byte bound, with all their receive times. Safe for concurrent use.
type Index struct {
	mu       sync.Mutex // guards all below
	maxBytes int64
	key      [2]uint64 // of the hash

	slabs []*slab // oldest first
	first uint32  // position of the oldest slab's first record
	spare *slab   // the last one evicted, to be used again
	live  int     // records in slabs

	heads   [][]head // segments
	buckets int      // in use; at most 2*half
	half    int      // buckets at the start of this doubling, a power of two
	swept   int

	streams []ingest.Stream
	horizon int64 // microseconds since 1970; MinInt64 while nothing was given up
}

// New returns an empty index that holds at most maxBytes of memory, or [MinBytes] if that is more. A record takes about 40 bytes.
func New(maxBytes int64) *Index {
	x := &Index{maxBytes: max(maxBytes, MinBytes), key: [2]uint64{rand.Uint64(), rand.Uint64() | 1}}
	x.reset(0)
	return x
}

// reset empties the index; the next record gets position at, rounded up to a slab.
func (x *Index) reset(at uint32) {
	x.slabs, x.spare, x.live = nil, nil, 0
	x.first = (at + slabLen - 1) &^ (slabLen - 1)
	x.heads, x.buckets, x.half, x.swept = nil, startBuckets, startBuckets, 0
	x.streams, x.horizon = nil, math.MinInt64
	x.addSegment()
}

// addSegment adds heads that name nothing: the position before the oldest one.
func (x *Index) addSegment() {
	seg := make([]head, segLen)
	for i := range seg {
		seg[i].pos = x.first - 1
	}
	x.heads = append(x.heads, seg)
}

// Reset makes the index as new.
func (x *Index) Reset() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reset(0)
}

// Seen reports whether a kept record of id was received within window of at, before or after.
func (x *Index) Seen(id [16]byte, at time.Time, window time.Duration) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	us, reach := at.UnixMicro(), window.Microseconds()
	for pos, ok := x.newest(x.hash(&id)); ok; {
		s, r := x.record(pos)
		if r.id == id {
			if d := us - s.at(r); -reach <= d && d <= reach {
				return true
			}
		}
		pos, ok = x.older(pos, r)
	}
	return false
}

// Find returns where the record is that was kept last for id.
func (x *Index) Find(id [16]byte) (ingest.Stream, int64, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for pos, ok := x.newest(x.hash(&id)); ok; {
		s, r := x.record(pos)
		if r.id == id {
			return x.streams[r.stream], s.baseOffset + int64(r.offset), true
		}
		pos, ok = x.older(pos, r)
	}
	return ingest.Stream{}, 0, false
}

// Keep adds a kept record. Where the byte bound is reached, the records that were added first go, and Horizon moves.
func (x *Index) Keep(id [16]byte, at time.Time, stream ingest.Stream, offset int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	us := at.UnixMicro()
	s := x.room(us, offset)
	pos := x.first + uint32(len(x.slabs)-1)<<slabBits + uint32(s.n)
	hash := x.hash(&id)
	h := x.headOf(x.bucket(hash))
	r := &s.recs[s.n]
	r.id, r.next, r.stream = id, h.pos, x.streamNumber(stream)
	if !x.alive(r.next) {
		r.next, h.bits = pos, 0
	}
	r.offset = int32(offset - s.baseOffset)
	r.atLow, r.atHigh = uint32(us-s.baseAt), int16((us-s.baseAt)>>32)
	h.pos = pos
	h.bits |= bit(hash)
	s.maxAt = max(s.maxAt, us)
	s.n++
	x.live++
	if x.live > x.buckets {
		x.split()
	}
}

// Evict forgets records from the old end, whole slabs of them, as long as all in a slab were received before olderThan. The bounded memory
// that this frees is kept for new records.
func (x *Index) Evict(olderThan time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	us := olderThan.UnixMicro()
	for len(x.slabs) > 0 && x.slabs[0].maxAt < us {
		x.evict()
	}
}

// Bytes returns the memory in use.
func (x *Index) Bytes() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.bytes()
}

func (x *Index) bytes() int64 {
	n := int64(len(x.slabs))
	if x.spare != nil {
		n++
	}
	return n*slabBytes + int64(len(x.heads))*segBytes
}

// Len returns the number of records.
func (x *Index) Len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.live
}

// Horizon is zero until the byte bound made the index give up records that Evict had not asked for. From then on, records received before it
// may be unknown; the window of recognition ends there.
func (x *Index) Horizon() time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.horizon == math.MinInt64 {
		return time.Time{}
	}
	return time.UnixMicro(x.horizon).UTC()
}

// Clone returns an independent copy.
func (x *Index) Clone() *Index {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := &Index{
		maxBytes: x.maxBytes, key: x.key, first: x.first, live: x.live,
		buckets: x.buckets, half: x.half, swept: x.swept, horizon: x.horizon,
	}
	for _, s := range x.slabs {
		t := *s
		c.slabs = append(c.slabs, &t)
	}
	for _, seg := range x.heads {
		c.heads = append(c.heads, append([]head(nil), seg...))
	}
	c.streams = append(c.streams, x.streams...)
	return c
}

// at returns the receive time of r, a record of s.
func (s *slab) at(r *record) int64 { return s.baseAt + (int64(r.atHigh)<<32 | int64(r.atLow)) }

// fits reports whether s has room for a record that is expressed relative to its base.
func (s *slab) fits(us, offset int64) bool {
	at, off := us-s.baseAt, offset-s.baseOffset
	return s.n < slabLen && -1<<47 <= at && at < 1<<47 && -1<<31 <= off && off < 1<<31
}

// room returns the slab that takes the next record.
func (x *Index) room(us, offset int64) *slab {
	if len(x.slabs) > 0 {
		if s := x.slabs[len(x.slabs)-1]; s.fits(us, offset) {
			return s
		}
	}
	for x.spare == nil && len(x.slabs) > 1 && x.bytes()+slabBytes+segBytes > x.maxBytes {
		x.horizon = max(x.horizon, x.slabs[0].maxAt+1)
		x.evict()
	}
	s := x.spare
	if s == nil {
		s = new(slab)
	}
	x.spare = nil
	s.baseAt, s.baseOffset, s.maxAt, s.n = us, offset, us, 0
	x.slabs = append(x.slabs, s)
	x.sweep()
	return s
}

// evict drops the oldest slab. Nothing is unlinked: its positions are gone, and chains end there.
func (x *Index) evict() {
	s := x.slabs[0]
	x.slabs[0] = nil
	x.slabs = x.slabs[1:]
	x.first += slabLen
	x.live -= s.n
	x.spare = s
}

// sweep clears heads that name records which are gone, a few at a time, before the names are used again.
func (x *Index) sweep() {
	for range min(sweepHeads, x.buckets) {
		x.swept++
		if x.swept >= x.buckets {
			x.swept = 0
		}
		if h := x.headOf(x.swept); !x.alive(h.pos) {
			*h = head{pos: x.first - 1}
		}
	}
}

func (x *Index) streamNumber(s ingest.Stream) uint16 {
	for i := len(x.streams) - 1; i >= 0; i-- {
		if x.streams[i] == s {
			return uint16(i)
		}
	}
	if len(x.streams) > math.MaxUint16 {
		// 65,536 openings of one log within one process: what Find says of the oldest would be wrong, and nothing else depends on it.
		x.streams = x.streams[:0]
	}
	x.streams = append(x.streams, s)
	return uint16(len(x.streams) - 1)
}

// alive reports whether pos names a record that is held.
func (x *Index) alive(pos uint32) bool { return pos-x.first < uint32(len(x.slabs))<<slabBits }

// record returns the record at a position that is alive, and its slab.
func (x *Index) record(pos uint32) (*slab, *record) {
	i := pos - x.first
	s := x.slabs[i>>slabBits]
	return s, &s.recs[i&(slabLen-1)]
}

func (x *Index) headOf(bucket int) *head { return &x.heads[bucket>>segBits][bucket&(segLen-1)] }

// newest returns where the search for an id of the given hash begins; ok is false if nothing has that id.
func (x *Index) newest(hash uint64) (pos uint32, ok bool) {
	h := x.headOf(x.bucket(hash))
	return h.pos, h.bits&bit(hash) != 0 && x.alive(h.pos)
}

// older returns the record after r, which is at pos, in its bucket.
func (x *Index) older(pos uint32, r *record) (uint32, bool) {
	return r.next, r.next != pos && x.alive(r.next)
}

// bucket returns the bucket of a hash: linear hashing, in which the buckets below buckets-half are split already.
func (x *Index) bucket(hash uint64) int {
	b := int(hash & uint64(x.half-1))
	if b < x.buckets-x.half {
		b = int(hash & uint64(2*x.half-1))
	}
	return b
}

// bit is the bit of a hash in its head, from other bits than those that pick the bucket.
func bit(hash uint64) uint32 { return 1 << (hash >> 59) }

func (x *Index) hash(id *[16]byte) uint64 {
	a, b := bits.Mul64(binary.LittleEndian.Uint64(id[:8])^x.key[0], binary.LittleEndian.Uint64(id[8:])^x.key[1])
	return a ^ b
}

// split adds one bucket, and gives it its share of the records of the bucket that it is split from. Both keep their order, newest first.
func (x *Index) split() {
	from := x.buckets - x.half
	to := x.buckets
	if to>>segBits == len(x.heads) {
		x.addSegment()
	}
	x.buckets++
	heads := [2]*head{x.headOf(from), x.headOf(to)}
	pos, ok := heads[0].pos, x.alive(heads[0].pos)
	*heads[0], *heads[1] = head{pos: x.first - 1}, head{pos: x.first - 1}
	var last [2]*record
	for ok {
		_, r := x.record(pos)
		next, more := x.older(pos, r)
		hash, side := x.hash(&r.id), 0
		if hash&uint64(2*x.half-1) == uint64(to) {
			side = 1
		}
		if last[side] == nil {
			heads[side].pos = pos
		} else {
			last[side].next = pos
		}
		heads[side].bits |= bit(hash)
		r.next = pos // ends the chain, until an older one follows
		last[side] = r
		pos, ok = next, more
	}
	if x.buckets == 2*x.half {
		x.half = x.buckets
	}
}
