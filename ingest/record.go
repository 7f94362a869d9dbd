package ingest

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Record is an event as the log stores it: already normalised, with all that later stages need to know about it, so that none of them has to
// parse the payload.
type Record struct {
	// Lane is where the record ends up; see [Lane].
	Lane Lane
	// Type is the event's type for counting and filters ("track", "page", "webhook"), at most [MaxType] bytes; "" counts as "other".
	Type string
	// Dedupe identifies what the sender sent; see [DedupeID]. Two records with the same one are the same event within the source's window.
	Dedupe [16]byte
	// ReceivedAt is when the gateway read the request: UTC, microseconds. It is not monotone in the log.
	ReceivedAt time.Time
	// EventAt is the corrected time of the event itself; zero means ReceivedAt.
	EventAt time.Time
	// Trace is a W3C traceparent, or "".
	Trace string
	// Payload is the row of the object to be: one JSON object in UTF-8 without any line break, which ends in '}'. The batcher adds _mr.
	Payload []byte
	// RoutingKey picks the partition and is not stored. Records with the same key keep their order up to the object.
	RoutingKey string
}

// Limits of a record.
const (
	MaxType   = 64
	MaxLane   = 640 // so that prefix, lane and file name fit a key of 1,024 bytes
	maxTrace  = 64
	recordV1  = 1
	headBytes = 1 + 8 + 8 + 16
)

// ErrBadRecord is returned by [Decoder.Decode] for bytes that are no record of a version known here.
var ErrBadRecord = errors.New("not a record")

// DedupeID is the first half of SHA-256 over source, a zero byte and key, where key is the sender's id of the event, or a random one. A
// cryptographic hash, because a sender who could make two events collide could make one of them vanish.
func DedupeID(source, key string) [16]byte {
	var stack [192]byte
	buf := append(stack[:0], source...)
	buf = append(buf, 0)
	buf = append(buf, key...)
	sum := sha256.Sum256(buf)
	return [16]byte(sum[:16])
}

// AppendBinary appends the stored form of r to dst.
//
// Layout, version 1: version u8 · received i64 · event i64 (both microseconds since 1970, little endian) · dedupe [16]byte · then lane, type
// and trace, each as uvarint length and bytes · payload to the end. Checksums belong to the log.
func (r *Record) AppendBinary(dst []byte) []byte {
	eventAt := r.EventAt
	if eventAt.IsZero() {
		eventAt = r.ReceivedAt
	}
	dst = append(dst, recordV1)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.ReceivedAt.UnixMicro()))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(eventAt.UnixMicro()))
	dst = append(dst, r.Dedupe[:]...)
	dst = appendString(dst, string(r.Lane))
	dst = appendString(dst, r.Type)
	dst = appendString(dst, r.Trace)
	return append(dst, r.Payload...)
}

// BinarySize is an upper bound of what AppendBinary appends.
func (r *Record) BinarySize() int {
	return headBytes + 3*binary.MaxVarintLen32 + len(r.Lane) + len(r.Type) + len(r.Trace) + len(r.Payload)
}

// Validate reports why the log must not take r.
func (r *Record) Validate() error {
	if len(r.Lane) > MaxLane || len(r.Type) > MaxType || len(r.Trace) > maxTrace {
		return fmt.Errorf("lane, type or trace of a record too long: %w", ErrTooLarge)
	}
	if _, err := ParseLane(string(r.Lane)); err != nil {
		return err
	}
	if n := len(r.Payload); n < 2 || r.Payload[0] != '{' || r.Payload[n-1] != '}' {
		return fmt.Errorf("payload of a record is no JSON object: %w", ErrBadRecord)
	}
	return nil
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// Decoder reads records and keeps one copy of each lane and type it meets, since they repeat. The zero value works. Not safe for
// concurrent use.
type Decoder struct {
	words map[string]string
}

// maxWords bounds the decoder's memory; beyond it the table starts anew.
const maxWords = 1 << 16

// Decode reads what AppendBinary wrote. Payload of the result aliases stored. Faults are [ErrBadRecord].
func (d *Decoder) Decode(stored []byte) (Record, error) {
	if len(stored) < headBytes || stored[0] != recordV1 {
		return Record{}, fmt.Errorf("decode record of %d bytes: %w", len(stored), ErrBadRecord)
	}
	r := Record{
		ReceivedAt: time.UnixMicro(int64(binary.LittleEndian.Uint64(stored[1:]))).UTC(),
		EventAt:    time.UnixMicro(int64(binary.LittleEndian.Uint64(stored[9:]))).UTC(),
		Dedupe:     [16]byte(stored[17:33]),
	}
	rest := stored[headBytes:]
	var lane, typ, trace string
	for _, field := range []*string{&lane, &typ, &trace} {
		n, w := binary.Uvarint(rest)
		if w <= 0 || n > uint64(len(rest)-w) || n > MaxLane {
			return Record{}, fmt.Errorf("decode record of %d bytes: %w", len(stored), ErrBadRecord)
		}
		word := rest[w : w+int(n)]
		if field == &trace {
			trace = string(word) // as good as never repeated
		} else {
			*field = d.word(word)
		}
		rest = rest[w+int(n):]
	}
	r.Lane, r.Type, r.Trace, r.Payload = Lane(lane), typ, trace, rest
	return r, nil
}

func (d *Decoder) word(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := d.words[string(b)]; ok {
		return s
	}
	if d.words == nil || len(d.words) >= maxWords {
		d.words = make(map[string]string)
	}
	s := string(b)
	d.words[s] = s
	return s
}
