package seal

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"

	"millrace/batcher"
	"millrace/ingest"
)

// rows holds records as the log stores them, in offset order, in chunks that grow with their number, so that a lane with few records costs
// little. Each record is copied once, when it is read. A chunk is a run of (offset as 8 bytes little endian, stored bytes): what the digest of
// a cut is taken over, so that a cut without duplicates is hashed chunk by chunk.
type rows struct {
	chunks [][]byte
	meta   []rowMeta
	// raw is the size of the rows to be, before compression, about.
	raw int64
	// held is the memory in use.
	held int64
}

// rowMeta is what a decision has to know of a record. It has no pointers.
type rowMeta struct {
	offset int64
	at     int64 // receive time, microseconds since 1970
	id     [16]byte
	size   uint32 // of the stored bytes
}

const (
	offsetBytes = 8
	metaBytes   = 40
	// markBytes is about what encode adds to a payload.
	markBytes = 44
	// segmentBytes is about what an open batch takes besides its records.
	segmentBytes = 512
)

// chunkSizes are the capacities of a segment's first chunks; the last one is that of all further ones.
var chunkSizes = [...]int{1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10}

// bigChunks keeps chunks of the largest size, which carry nearly all bytes at high rates.
var bigChunks = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// add copies a record and returns by how much memory grew.
func (r *rows) add(offset int64, stored []byte, rec *ingest.Record) int64 {
	before := r.held
	if r.held == 0 {
		r.held = segmentBytes
	}
	need := offsetBytes + len(stored)
	last := len(r.chunks) - 1
	if last < 0 || cap(r.chunks[last])-len(r.chunks[last]) < need {
		r.chunks = append(r.chunks, r.chunk(need))
		last++
		r.held += int64(cap(r.chunks[last]))
	}
	b := binary.LittleEndian.AppendUint64(r.chunks[last], uint64(offset))
	r.chunks[last] = append(b, stored...)
	if len(r.meta) == cap(r.meta) {
		r.held += int64(max(len(r.meta), 4)) * metaBytes
		grown := make([]rowMeta, len(r.meta), len(r.meta)+max(len(r.meta), 4))
		copy(grown, r.meta)
		r.meta = grown
	}
	r.meta = append(r.meta, rowMeta{offset: offset, at: rec.ReceivedAt.UnixMicro(), id: rec.Dedupe, size: uint32(len(stored))})
	r.raw += rawSize(rec)
	return r.held - before
}

// rawSize is about the size of a record's row.
func rawSize(rec *ingest.Record) int64 { return int64(len(rec.Payload)) + markBytes }

func (r *rows) chunk(need int) []byte {
	size := chunkSizes[min(len(r.chunks), len(chunkSizes)-1)]
	switch {
	case need > size:
		return make([]byte, 0, need)
	case size == chunkSizes[len(chunkSizes)-1]:
		return bigChunks.Get().(*[256 << 10]byte)[:0]
	}
	return make([]byte, 0, size)
}

// release gives the memory back; the rows are gone.
func (r *rows) release() {
	for _, c := range r.chunks {
		if cap(c) == len([256 << 10]byte{}) {
			bigChunks.Put((*[256 << 10]byte)(c[:cap(c)]))
		}
	}
	*r = rows{}
}

func (r *rows) first() int64 { return r.meta[0].offset }
func (r *rows) last() int64  { return r.meta[len(r.meta)-1].offset }

// each calls f for every record in order, with its offset and stored bytes.
func (r *rows) each(f func(m *rowMeta, stored []byte) error) error {
	chunk, at := 0, 0
	for i := range r.meta {
		m := &r.meta[i]
		if at == len(r.chunks[chunk]) {
			chunk, at = chunk+1, 0
		}
		end := at + offsetBytes + int(m.size)
		if err := f(m, r.chunks[chunk][at+offsetBytes:end:end]); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// digest is the hex SHA-256 over the records that are not in dups: [batcher.Cut].Records.
func (r *rows) digest(dups []batcher.Range) string {
	h := sha256.New()
	if len(dups) == 0 {
		for _, c := range r.chunks {
			h.Write(c)
		}
		return hex.EncodeToString(h.Sum(nil))
	}
	kept, chunk, at := keeper(dups), 0, 0
	for i := range r.meta {
		if at == len(r.chunks[chunk]) {
			chunk, at = chunk+1, 0
		}
		end := at + offsetBytes + int(r.meta[i].size)
		if kept(r.meta[i].offset) {
			h.Write(r.chunks[chunk][at:end])
		}
		at = end
	}
	return hex.EncodeToString(h.Sum(nil))
}

// lastDigest is the digest of the last record alone: [batcher.Cut].LastRecord.
func (r *rows) lastDigest() string {
	c := r.chunks[len(r.chunks)-1]
	sum := sha256.Sum256(c[len(c)-offsetBytes-int(r.meta[len(r.meta)-1].size):])
	return hex.EncodeToString(sum[:])
}

// keeper returns a function that reports, for rising offsets, whether an offset is outside of all dups.
func keeper(dups []batcher.Range) func(offset int64) bool {
	return func(offset int64) bool {
		for len(dups) > 0 && dups[0].Last < offset {
			dups = dups[1:]
		}
		return len(dups) == 0 || offset < dups[0].First
	}
}

// segment is an open batch: the rows of a lane that will become one cut.
type segment struct {
	rows
	// firstAt is the receive time of the first record.
	firstAt time.Time
	// readAt is how many bytes had been read from the log when the first record was.
	readAt int64
	// closed is why the segment takes no more rows, or "".
	closed batcher.Reason
}

// lane is one lane with rows that are in no cut: one segment that grows, after those that are closed and wait for an entry.
type lane struct {
	name   ingest.Lane
	policy batcher.Policy
	segs   []*segment
}

// add appends a record and returns the growth of memory, and whether a segment was begun, or closed. A segment is closed before the first
// record of a later hour, and before max_bytes would be passed; one record larger than that makes a batch of its own.
func (l *lane) add(offset int64, stored []byte, rec *ingest.Record, readAt int64) (grown int64, changed bool) {
	var s *segment
	if n := len(l.segs); n > 0 && l.segs[n-1].closed == "" {
		s = l.segs[n-1]
		switch {
		case batcher.Hour(rec.ReceivedAt).After(batcher.Hour(s.firstAt)):
			s.closed = batcher.ReasonHour
		case s.raw+rawSize(rec) > l.policy.MaxBytes:
			s.closed = batcher.ReasonBytes
		}
	}
	if s == nil || s.closed != "" {
		s = &segment{firstAt: rec.ReceivedAt, readAt: readAt}
		l.segs = append(l.segs, s)
		changed = true
	}
	grown = s.add(offset, stored, rec)
	if int64(len(s.meta)) >= l.policy.MaxEvents {
		s.closed = batcher.ReasonEvents
	} else if s.raw >= l.policy.MaxBytes {
		s.closed = batcher.ReasonBytes
	}
	return grown, changed || s.closed != ""
}
