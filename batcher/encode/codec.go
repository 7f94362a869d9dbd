package encode

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"millrace/batcher"
)

// Codecs that are known here; each is also the extension of the object's key.
const (
	NDJSONGzip = "ndjson.gz"
	NDJSONZstd = "ndjson.zst"
)

// codec compresses the chunks of one object.
type codec interface {
	// chunk appends the compressed form of rows to dst; an empty dst is the start of the body.
	chunk(dst, rows []byte) []byte
	// end appends what closes the body.
	end(dst []byte) []byte
}

func newCodec(name string) (codec, error) {
	switch name {
	case NDJSONGzip:
		return &gzipCodec{}, nil
	case NDJSONZstd:
		return zstdCodec{}, nil
	}
	return nil, fmt.Errorf("encode with codec %q: %w", name, batcher.ErrUnknownVersion)
}

// gzipCodec writes one gzip member (RFC 1952) whose deflate blocks come from compressors that know nothing of each other.
type gzipCodec struct {
	crc  uint32 // of all rows
	size uint32 // of all rows, modulo 2^32
}

// gzipHead: deflate, no name, no time, "fastest" and "unknown system", so that the bytes say nothing of when and where they were made.
var gzipHead = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255}

// deflater is a compressor in the pool, and the writer that it writes to.
type deflater struct {
	w   *flate.Writer
	out []byte
}

func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

var deflaters = sync.Pool{New: func() any {
	d := &deflater{}
	w, err := flate.NewWriter(d, flate.BestSpeed)
	if err != nil {
		panic("encode: " + err.Error()) // the level is a constant
	}
	d.w = w
	return d
}}

func (c *gzipCodec) chunk(dst, rows []byte) []byte {
	if len(dst) == 0 {
		dst = append(dst, gzipHead...)
	}
	if len(rows) == 0 {
		return dst
	}
	c.crc = crc32.Update(c.crc, crc32.IEEETable, rows)
	c.size += uint32(len(rows))
	d := deflaters.Get().(*deflater)
	d.out = dst
	d.w.Reset(d)
	// Neither fails: d.Write does not. Flush ends the blocks on a byte without marking the last one as final.
	_, _ = d.w.Write(rows)
	_ = d.w.Flush()
	dst, d.out = d.out, nil
	deflaters.Put(d)
	return dst
}

func (c *gzipCodec) end(dst []byte) []byte {
	dst = c.chunk(dst, nil)
	dst = append(dst, 0x03, 0x00) // an empty final block
	dst = binary.LittleEndian.AppendUint32(dst, c.crc)
	return binary.LittleEndian.AppendUint32(dst, c.size)
}

// zstdCodec writes one zstd frame for each chunk.
type zstdCodec struct{}

// zstdEncoder is shared: EncodeAll is safe for concurrent use and takes its state from a pool of its own.
var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithZeroFrames(true), zstd.WithWindowSize(1<<20))
	if err != nil {
		panic("encode: " + err.Error()) // the options are constants
	}
	return e
})

func (zstdCodec) chunk(dst, rows []byte) []byte {
	if len(rows) == 0 {
		return dst
	}
	return zstdEncoder().EncodeAll(rows, dst)
}

func (zstdCodec) end(dst []byte) []byte {
	if len(dst) == 0 {
		return zstdEncoder().EncodeAll(nil, dst)
	}
	return dst
}

// NewReader returns the rows of a body. Errors: [batcher.ErrUnknownVersion] for another codec; a damaged body fails here or while reading.
func NewReader(codec string, body []byte) (io.ReadCloser, error) {
	switch codec {
	case NDJSONGzip:
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("open gzip body: %w", err)
		}
		return r, nil
	case NDJSONZstd:
		r, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("open zstd body: %w", err)
		}
		return r.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("decode codec %q: %w", codec, batcher.ErrUnknownVersion)
}
