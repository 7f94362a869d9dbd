package wal

import (
	"encoding/binary"
	"hash/crc32"
)

// A segment is a head and then frames; FORMAT.md has the bytes.
//
//	frame := crc u32 · len u32 · kind u8 · payload[len]        little endian
//	crc    = CRC-32C, started at the incarnation's salt, over len, kind and payload
//
// The salt is random and known to the manifest only: so no payload that a sender chose, and no frame of another log or incarnation, ever
// passes for a frame of this one. The search for the next good frame behind damage depends on that.
const (
	frameHead = 4 + 4 + 1

	kindGroup  = 1 // starts what one sync covers; see group
	kindRecord = 2 // ingest.Record.AppendBinary

	groupPayload = 8 + 8 + 4 + 4
	groupFrame   = frameHead + groupPayload

	// maxPayload bounds len of any frame ever written.
	maxPayload = 64 << 20
	// minRecordFrame is less than the frame of any record: it bounds how many records can have been in a stretch of bytes.
	minRecordFrame = frameHead + 36
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// groupHead is the payload of a group frame. All records of a group, and nothing else, become durable by one sync, and no group is written
// before that of its predecessor has returned. Therefore: where there is a group frame, everything before it was durable. It says its own
// place twice, as offset and as position, since it is what a reader holds on to behind damage.
type groupHead struct {
	pos   int64  // of this frame in the segment
	first int64  // offset of its first record
	count uint32 // records that follow; 0 in a mark, which only vouches for what is before it
	bytes uint32 // of the frames of those records
}

func (g groupHead) put(dst []byte, salt uint32) {
	le := binary.LittleEndian
	p := dst[frameHead:groupFrame]
	le.PutUint64(p[0:], uint64(g.pos))
	le.PutUint64(p[8:], uint64(g.first))
	le.PutUint32(p[16:], g.count)
	le.PutUint32(p[20:], g.bytes)
	sealFrame(dst[:groupFrame], kindGroup, salt)
}

func parseGroup(p []byte) groupHead {
	le := binary.LittleEndian
	return groupHead{
		pos:   int64(le.Uint64(p[0:])),
		first: int64(le.Uint64(p[8:])),
		count: le.Uint32(p[16:]),
		bytes: le.Uint32(p[20:]),
	}
}

// sealFrame fills the head of a frame whose payload is in place.
func sealFrame(frame []byte, kind byte, salt uint32) {
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(frame)-frameHead))
	frame[8] = kind
	binary.LittleEndian.PutUint32(frame, crc32.Update(salt, castagnoli, frame[4:]))
}

// frameSize returns the size of the frame that b begins with, if its head can be one of a frame that ends within room bytes. Only the head
// is looked at, so the answer is worth nothing until checkFrame has seen the whole frame.
func frameSize(b []byte, room int64) (size int, ok bool) {
	if len(b) < frameHead {
		return 0, false
	}
	n := binary.LittleEndian.Uint32(b[4:])
	switch b[8] {
	case kindGroup:
		ok = n == groupPayload
	case kindRecord:
		ok = n <= maxPayload
	}
	return frameHead + int(n), ok && frameHead+int64(n) <= room
}

// checkFrame reports whether frame, cut to its size, is what was written.
func checkFrame(frame []byte, salt uint32) bool {
	return binary.LittleEndian.Uint32(frame) == crc32.Update(salt, castagnoli, frame[4:])
}
