package batcher

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"millrace/ingest"
)

// EntryVersion is the version of chain entries written here. A worker that meets another one stops, says so and cuts nothing.
const EntryVersion = 1

// LayoutVersion is the version of object keys and rows written here; see [ObjectKey].
const LayoutVersion = 1

// ErrUnknownVersion is returned for an entry whose version, codec or layout is not known here.
var ErrUnknownVersion = errors.New("written by a newer version")

// Entry is one link of the chain of a stream: a decision, put if absent, never changed or deleted.
type Entry struct {
	V      int           `json:"v"`
	Stream ingest.Stream `json:"stream"`
	// Seq counts from 1 without gaps.
	Seq int64 `json:"seq"`
	// Prev names the stream that was cut before this one, in entry 1 only; zero if there is none.
	Prev *ingest.Stream `json:"prev,omitempty"`
	// Cuts are the batches that this entry decides, in the order of their lanes; a lane may occur several times.
	Cuts []Cut `json:"cuts,omitempty"`
	// Low is the next offset to read: everything below it is in a cut of this entry or an earlier one, or named in Lost.
	Low int64 `json:"low"`
	// Next has, for every lane whose records were cut above Low, one past its last cut offset. Lanes that the writer has not seen are
	// carried over from the entry before.
	Next map[ingest.Lane]int64 `json:"next,omitempty"`
	// Done is the last entry up to which every object exists; at least the Done of the entry before.
	Done int64 `json:"done"`
	// Facts describe the batches of the entries that Done closes (Done of the entry before, exclusive, to Done, inclusive), in order.
	Facts []Facts `json:"facts,omitempty"`
	// Lost are ranges that the log lost before any cut, and that an operator accepted as lost.
	Lost []Range `json:"lost,omitempty"`
	// WrittenAt is the writer's clock; for people only.
	WrittenAt time.Time `json:"written_at"`
}

// Range is a run of offsets, inclusive.
type Range struct {
	First int64 `json:"first"`
	Last  int64 `json:"last"`
}

// Cut decides one batch: a range of one lane's records, and the object that they become.
type Cut struct {
	Lane ingest.Lane `json:"lane"`
	// First and Last are the offsets of the lane's first and last record in the cut, duplicates included.
	First int64 `json:"first"`
	Last  int64 `json:"last"`
	// Count is the number of rows; 0 means that all records of the range are duplicates, and that there is no object and no batch.
	Count int64 `json:"count"`
	// Dups are the offsets of records of this lane that repeat an earlier one, as ranges in which every record of the lane is a duplicate.
	Dups []Range `json:"dups,omitempty"`
	// Batch is the batch's id ([BatchID]), Object the key of its object ([ObjectKey]); both empty if Count is 0.
	Batch  string `json:"batch,omitempty"`
	Object string `json:"object,omitempty"`
	// Codec says how the rows become bytes ("ndjson.gz"); Layout is [LayoutVersion] of the writer.
	Codec  string `json:"codec,omitempty"`
	Layout int    `json:"layout"`
	// CreatedAt is the time of the cut.
	CreatedAt time.Time `json:"created_at"`
	// Reason says why the cut was made; see [Reason].
	Reason Reason `json:"reason"`
	// Records is the hex SHA-256 over (offset as 8 bytes little endian, stored bytes) of the kept records in offset order.
	Records string `json:"records,omitempty"`
	// LastRecord is the same over the last record of the cut alone, kept or not: it ties the chain to the log's content.
	LastRecord string `json:"last_record"`
}

// Facts is what is known of a batch once its object exists. It is also the object's metadata, so that a reader of the object alone has it.
type Facts struct {
	Batch string `json:"batch"`
	// Bytes is the object's size as stored, RawBytes the size of its rows before compression.
	Bytes    int64 `json:"bytes"`
	RawBytes int64 `json:"raw_bytes"`
	// Checksum is "crc32c:<8 hex digits>" of the stored bytes.
	Checksum string `json:"checksum"`
	Rows     int64  `json:"rows"`
	// Records is the digest of [Cut.Records]: what a 412 is compared by.
	Records string `json:"records"`
	// ReceivedMin to ReceivedMax, EventMin to EventMax: bounds of the rows' times, inclusive.
	ReceivedMin time.Time `json:"received_min"`
	ReceivedMax time.Time `json:"received_max"`
	EventMin    time.Time `json:"event_min"`
	EventMax    time.Time `json:"event_max"`
	// Types counts rows by event type; at most [MaxTypes] types, the rest under "other".
	Types map[string]int64 `json:"types,omitempty"`
	// Void is why the batch has no rows, or "".
	Void string `json:"void,omitempty"`
	// CommittedAt is the object's time in the store.
	CommittedAt time.Time `json:"committed_at"`
	// Trace is the traceparent of a sample row, or "".
	Trace string `json:"trace,omitempty"`
}

// MaxTypes bounds [Facts.Types], because object metadata is at most 2 KiB in S3.
const MaxTypes = 16

// Bounds of an entry's stored form, in bytes: from packFrom on it is compressed, and none is larger than maxPlain before.
const (
	packFrom = 16 << 10
	maxPlain = 256 << 20
)

// Marshal returns the stored form of e: JSON, from 16 KiB on compressed with gzip. [Entry.Next] names every lane that is cut above Low, so an
// entry beside 10,000 open lanes has 650 KB of names that differ in a few bytes.
func (e *Entry) Marshal() ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return Pack(b)
}

// Pack returns the stored form of JSON that belongs to a chain: as it is, or compressed if it is large.
func Pack(plain []byte) ([]byte, error) {
	if len(plain) < packFrom {
		return plain, nil
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// Unpack returns the JSON that [Pack] got.
func Unpack(stored []byte) ([]byte, error) { return unpack(stored, maxPlain) }

// unpack is Unpack with another bound.
func unpack(b []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		return b, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err == nil && len(plain) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return plain, err
}

// UnmarshalEntry reads the stored form; an entry of another version is [ErrUnknownVersion].
func UnmarshalEntry(b []byte) (Entry, error) {
	b, err := Unpack(b)
	if err != nil {
		return Entry{}, fmt.Errorf("decode chain entry: %w", err)
	}
	var head struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return Entry{}, fmt.Errorf("decode chain entry: %w", err)
	}
	if head.V != EntryVersion {
		return Entry{}, fmt.Errorf("decode chain entry of version %d (known: %d): %w", head.V, EntryVersion, ErrUnknownVersion)
	}
	var e Entry
	if err := json.Unmarshal(b, &e); err != nil {
		return Entry{}, fmt.Errorf("decode chain entry: %w", err)
	}
	return e, nil
}

// NextOf returns the offset from which on records of lane are not in any cut up to e.
func (e *Entry) NextOf(lane ingest.Lane) int64 {
	if n, ok := e.Next[lane]; ok {
		return n
	}
	return e.Low
}
