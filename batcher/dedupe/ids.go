package dedupe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"millrace/batcher"
)

// idsVersion is the version of the sidecar written here.
const idsVersion = 1

// ErrBadIDs is returned by [UnmarshalIDs] for bytes that MarshalIDs did not write, or that were damaged since.
var ErrBadIDs = errors.New("not an id sidecar")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ID is one row of a batch in its sidecar. Rows are in the order of the object.
type ID struct {
	// Hash is the dedupe id of the record.
	Hash [16]byte
	// Received is the record's receive time, in microseconds.
	Received time.Time
	// Offset is the record's offset in the log; it does not fall within a sidecar.
	Offset int64
}

// MarshalIDs returns the sidecar of a batch.
//
// Layout, version 1: version u8 · count uvarint · for each row: hash [16]byte, receive time in microseconds since 1970 and offset, each as the
// varint (zigzag) of the difference to the row before (the first: to 0) · CRC-32C of all that, u32 little endian. About 22 bytes a row.
func MarshalIDs(ids []ID) []byte {
	b := make([]byte, 0, 16+24*len(ids))
	b = append(b, idsVersion)
	b = binary.AppendUvarint(b, uint64(len(ids)))
	var at, offset int64
	for i := range ids {
		us := ids[i].Received.UnixMicro()
		b = append(b, ids[i].Hash[:]...)
		b = binary.AppendVarint(b, us-at)
		b = binary.AppendVarint(b, ids[i].Offset-offset)
		at, offset = us, ids[i].Offset
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// UnmarshalIDs reads what MarshalIDs wrote. Errors: [batcher.ErrUnknownVersion], or [ErrBadIDs] for every fault.
func UnmarshalIDs(b []byte) ([]ID, error) {
	bad := func(what string) ([]ID, error) { return nil, fmt.Errorf("%w: %s", ErrBadIDs, what) }
	if len(b) < 6 {
		return bad("too short")
	}
	if b[0] != idsVersion {
		return nil, fmt.Errorf("decode id sidecar of version %d: %w", b[0], batcher.ErrUnknownVersion)
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return bad("checksum differs")
	}
	count, w := binary.Uvarint(body[1:])
	rest := body[1+max(w, 0):]
	if w <= 0 || count > uint64(len(rest)/18) {
		return bad("count")
	}
	ids := make([]ID, count)
	var at, offset int64
	for i := range ids {
		if len(rest) < 18 {
			return bad("cut off")
		}
		copy(ids[i].Hash[:], rest)
		rest = rest[16:]
		for _, v := range []*int64{&at, &offset} {
			d, w := binary.Varint(rest)
			if w <= 0 {
				return bad("number")
			}
			*v += d
			rest = rest[w:]
		}
		ids[i].Received, ids[i].Offset = time.UnixMicro(at).UTC(), offset
	}
	if len(rest) != 0 {
		return bad("bytes after the last row")
	}
	return ids, nil
}
