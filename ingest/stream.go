package ingest

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Stream is the identity of one incarnation of one log partition: the S of the chain protocol. Two streams never share an offset's meaning,
// so a disk that is cloned or restored can not be mistaken for the one it was copied from.
type Stream struct {
	// Log is the random id in a WAL's manifest, or "<cluster id>.<topic>" of a Kafka topic. Characters [A-Za-z0-9._-].
	Log string
	// Incarnation is new at every open of a WAL; for Kafka it is set by the operator (default "0").
	Incarnation string
	// Partition counts from 0.
	Partition int
}

// String returns "<log>/<incarnation>/<partition>", which [ParseStream] reads back and which is a part of object keys.
func (s Stream) String() string {
	return s.Log + "/" + s.Incarnation + "/" + strconv.Itoa(s.Partition)
}

// IsZero reports whether s names nothing.
func (s Stream) IsZero() bool { return s == Stream{} }

// Short returns the first 8 base32 characters (lower case) of SHA-256 over String: what object names and rows carry for the stream.
func (s Stream) Short() string {
	sum := sha256.Sum256([]byte(s.String()))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))
}

// ParseStream reads what String wrote.
func ParseStream(text string) (Stream, error) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 || !streamSafe(parts[0]) || !streamSafe(parts[1]) {
		return Stream{}, fmt.Errorf("parse stream %q: want <log>/<incarnation>/<partition>", text)
	}
	p, err := strconv.Atoi(parts[2])
	if err != nil || p < 0 || strconv.Itoa(p) != parts[2] { // one stream, one name: it is a part of object keys
		return Stream{}, fmt.Errorf("parse stream %q: partition is not a number", text)
	}
	return Stream{Log: parts[0], Incarnation: parts[1], Partition: p}, nil
}

func streamSafe(s string) bool { return laneSafe(s) && !strings.Contains(s, "%") }

// MarshalText makes a Stream a JSON string.
func (s Stream) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Stream) UnmarshalText(text []byte) error {
	got, err := ParseStream(string(text))
	if err != nil {
		return err
	}
	*s = got
	return nil
}

// Span is a run of offsets of one stream; First and Last are inclusive.
type Span struct {
	Stream      Stream
	First, Last int64
}

// Receipt says where the records of one request went, in the order of the request: one span for a WAL, several for a log with partitions.
// Senders get it as the opaque header X-Millrace-Receipt.
type Receipt []Span

// ErrBadReceipt is returned by [ParseReceipt] for text that no String of ours wrote.
var ErrBadReceipt = errors.New("not a receipt")

const receiptVersion = 1

// String returns the opaque form: URL-safe, without padding.
func (r Receipt) String() string {
	// Each request has one: that of a WAL fits, and is no garbage but for its text.
	var plain [96]byte
	var coded [128]byte
	buf := append(plain[:0], receiptVersion)
	for _, s := range r {
		var digits [20]byte
		partition := strconv.AppendInt(digits[:0], int64(s.Stream.Partition), 10)
		buf = binary.AppendUvarint(buf, uint64(len(s.Stream.Log)+1+len(s.Stream.Incarnation)+1+len(partition)))
		buf = append(append(append(buf, s.Stream.Log...), '/'), s.Stream.Incarnation...)
		buf = append(append(buf, '/'), partition...)
		buf = binary.AppendUvarint(buf, uint64(s.First))
		buf = binary.AppendUvarint(buf, uint64(s.Last-s.First))
	}
	return string(base64.RawURLEncoding.AppendEncode(coded[:0], buf))
}

// ParseReceipt reads what Receipt.String wrote; every fault is [ErrBadReceipt].
func ParseReceipt(text string) (Receipt, error) {
	buf, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(buf) == 0 || buf[0] != receiptVersion {
		return nil, ErrBadReceipt
	}
	var r Receipt
	for buf = buf[1:]; len(buf) > 0; {
		var span Span
		if span, buf, err = parseSpan(buf); err != nil {
			return nil, err
		}
		r = append(r, span)
	}
	if len(r) == 0 {
		return nil, ErrBadReceipt
	}
	return r, nil
}

func parseSpan(buf []byte) (Span, []byte, error) {
	n, w := binary.Uvarint(buf)
	if w <= 0 || n > uint64(len(buf)-w) {
		return Span{}, nil, ErrBadReceipt
	}
	stream, err := ParseStream(string(buf[w : w+int(n)]))
	if err != nil {
		return Span{}, nil, ErrBadReceipt
	}
	buf = buf[w+int(n):]
	first, w := binary.Uvarint(buf)
	if w <= 0 || first > 1<<62 {
		return Span{}, nil, ErrBadReceipt
	}
	buf = buf[w:]
	more, w := binary.Uvarint(buf)
	if w <= 0 || more > 1<<32 {
		return Span{}, nil, ErrBadReceipt
	}
	return Span{Stream: stream, First: int64(first), Last: int64(first + more)}, buf[w:], nil
}
