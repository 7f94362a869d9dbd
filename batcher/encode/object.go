package encode

import (
	"fmt"
	"hash/crc32"
	"strconv"
	"sync"
	"time"

	"millrace/batcher"
	"millrace/ingest"
)

const (
	// chunkBytes is how many bytes of rows are compressed together.
	chunkBytes = 128 << 10
	// firstBytes is what an object takes for its first rows; most lanes of an installation with many lanes never need more.
	firstBytes = 4 << 10
	// markBytes bounds what Add writes besides the payload.
	markBytes = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunks holds empty chunks of chunkBytes capacity.
var chunks = sync.Pool{New: func() any { return new([chunkBytes]byte) }}

// Object builds one object. Rows are added in offset order; Close returns the body. Not safe for concurrent use.
type Object struct {
	codec   codec
	mark    string // what stands in each row before the offset
	pending []byte // rows that are not compressed yet
	chunk   *[chunkBytes]byte
	out     []byte
	rows    int64
	raw     int64
	times   bounds
	types   tally
	trace   string
}

// New returns an empty object of stream s; codecs are "ndjson.gz" and "ndjson.zst". Errors: [batcher.ErrUnknownVersion] for another codec.
func New(codec string, s ingest.Stream) (*Object, error) {
	c, err := newCodec(codec)
	if err != nil {
		return nil, err
	}
	return &Object{codec: c, mark: `"_mr":{"s":"` + s.Short() + `","p":` + strconv.Itoa(s.Partition) + `,"o":`}, nil
}

// Add appends the row of r, which is at offset in the log. r.Payload must end in '}' (see [ingest.Record.Validate]); it is not kept.
func (o *Object) Add(offset int64, r *ingest.Record) {
	body := r.Payload[:len(r.Payload)-1]
	for len(body) > 1 && (body[len(body)-1] == ' ' || body[len(body)-1] == '\t') {
		body = body[:len(body)-1]
	}
	o.reserve(len(body) + markBytes)
	start := len(o.pending)
	b := append(o.pending, body...)
	if len(body) > 1 { // more than the brace of "{}"
		b = append(b, ',')
	}
	b = append(b, o.mark...)
	b = strconv.AppendInt(b, offset, 10)
	o.pending = append(b, '}', '}', '\n')

	o.rows++
	o.raw += int64(len(o.pending) - start)
	o.times.add(r)
	o.types.add(r.Type)
	if o.trace == "" && r.Trace != "" && isWord(r.Trace) {
		o.trace = r.Trace
	}
}

// reserve makes room for n more bytes in pending; a full chunk is compressed first.
func (o *Object) reserve(n int) {
	if len(o.pending) > 0 && len(o.pending)+n > chunkBytes {
		o.compress()
	}
	switch need := len(o.pending) + n; {
	case need <= cap(o.pending):
	case need <= firstBytes:
		o.pending = make([]byte, 0, firstBytes)
	case need <= chunkBytes:
		o.chunk = chunks.Get().(*[chunkBytes]byte)
		o.pending = append(o.chunk[:0], o.pending...)
	default: // one row larger than a chunk, and pending is empty
		o.recycle()
		o.pending = make([]byte, 0, need)
	}
}

func (o *Object) compress() {
	o.out = o.codec.chunk(o.out, o.pending)
	if cap(o.pending) > chunkBytes {
		o.pending = nil // one huge row must not stay for the object's life
	} else {
		o.pending = o.pending[:0]
	}
}

// recycle gives the chunk back to the pool; pending must be empty.
func (o *Object) recycle() {
	if o.chunk != nil {
		chunks.Put(o.chunk)
		o.chunk = nil
	}
	o.pending = nil
}

// Rows returns the number of rows so far.
func (o *Object) Rows() int64 { return o.rows }

// RawBytes returns the size of the rows so far, before compression.
func (o *Object) RawBytes() int64 { return o.raw }

// Held returns the memory that the open object holds, in bytes.
func (o *Object) Held() int64 { return int64(cap(o.pending)) + int64(cap(o.out)) + 512 }

// Close ends the object and returns its body, which the caller owns, and its facts; Batch, Records and CommittedAt are the caller's to fill.
// The object takes no more rows.
func (o *Object) Close() ([]byte, batcher.Facts) {
	if len(o.pending) > 0 {
		o.compress()
	}
	o.recycle()
	body := o.codec.end(o.out)
	o.out = nil
	f := batcher.Facts{
		Bytes: int64(len(body)), RawBytes: o.raw, Checksum: Checksum(body), Rows: o.rows,
		ReceivedMin: micro(o.times.receivedMin), ReceivedMax: micro(o.times.receivedMax),
		EventMin: micro(o.times.eventMin), EventMax: micro(o.times.eventMax),
		Types: o.types.counts(), Trace: o.trace,
	}
	return body, f
}

// Discard drops the object and gives its memory back.
func (o *Object) Discard() {
	o.recycle()
	o.out = nil
}

// Void returns the body of an object without rows and its facts: what stands at the key of a batch that could not become an object. reason
// is cut to 200 characters of printable ASCII. Errors: [batcher.ErrUnknownVersion] for another codec.
func Void(codec, batch, reason string) ([]byte, batcher.Facts, error) {
	c, err := newCodec(codec)
	if err != nil {
		return nil, batcher.Facts{}, err
	}
	body := c.end(c.chunk(nil, nil))
	return body, batcher.Facts{
		Batch: batch, Bytes: int64(len(body)), Checksum: Checksum(body), Void: printable(reason, 200),
	}, nil
}

// Checksum returns the form of [batcher.Facts].Checksum for a body: "crc32c:<8 hex digits>".
func Checksum(body []byte) string {
	return fmt.Sprintf("crc32c:%08x", crc32.Checksum(body, castagnoli))
}

// bounds are the least and greatest times of the rows, in microseconds since 1970, with one added so that zero means none.
type bounds struct {
	receivedMin, receivedMax, eventMin, eventMax int64
}

func (b *bounds) add(r *ingest.Record) {
	received := r.ReceivedAt.UnixMicro()
	event := received
	if !r.EventAt.IsZero() {
		event = r.EventAt.UnixMicro()
	}
	if b.receivedMin == 0 {
		*b = bounds{received + 1, received + 1, event + 1, event + 1}
		return
	}
	b.receivedMin, b.receivedMax = min(b.receivedMin, received+1), max(b.receivedMax, received+1)
	b.eventMin, b.eventMax = min(b.eventMin, event+1), max(b.eventMax, event+1)
}

// Event times are the senders'. Beyond these years (1 to 9999) a time has no JSON, and one such row must not stop its batch.
var (
	minMicro = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	maxMicro = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() - 1
)

func micro(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(min(max(us-1, minMicro), maxMicro)).UTC()
}
