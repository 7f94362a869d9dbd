package encode

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strconv"
)

var markStart = []byte(`"_mr":{"s":"`)

// Mark reads the _mr of a row, with or without its line break: the short name of the stream, the partition and the offset. ok is false for a
// row that does not end in one as [Object.Add] writes it.
func Mark(row []byte) (short string, partition int, offset int64, ok bool) {
	row = bytes.TrimSuffix(row, []byte{'\n'})
	at := bytes.LastIndex(row, markStart)
	if at < 1 || row[at-1] != ',' && row[at-1] != '{' {
		return "", 0, 0, false
	}
	rest := row[at+len(markStart):]
	name, rest, ok1 := bytes.Cut(rest, []byte(`","p":`))
	part, rest, ok2 := bytes.Cut(rest, []byte(`,"o":`))
	num, ok3 := bytes.CutSuffix(rest, []byte(`}}`))
	if !ok1 || !ok2 || !ok3 || len(name) != 8 {
		return "", 0, 0, false
	}
	p, ok1 := number(part)
	o, ok2 := number(num)
	if !ok1 || !ok2 {
		return "", 0, 0, false
	}
	return string(name), int(p), o, true
}

// number reads a number in the one form that Add writes: no sign, no leading zero.
func number(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 1 && b[0] == '0' || b[0] < '0' || b[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil
}

// Digest is a running SHA-256 over records as the log stores them: for each, its offset as 8 bytes little endian, then its stored bytes. It is
// what [batcher.Cut].Records and LastRecord hold. The zero value is the digest of no records. Not safe for concurrent use.
type Digest struct {
	h   hash.Hash
	num [8]byte
}

// Add takes the next record.
func (d *Digest) Add(offset int64, stored []byte) {
	if d.h == nil {
		d.h = sha256.New()
	}
	binary.LittleEndian.PutUint64(d.num[:], uint64(offset))
	d.h.Write(d.num[:])
	d.h.Write(stored)
}

// Hex returns the digest of what was added so far, as 64 hex digits; more can be added.
func (d *Digest) Hex() string {
	var sum [sha256.Size]byte
	if d.h == nil {
		sum = sha256.Sum256(nil)
		return hex.EncodeToString(sum[:])
	}
	return hex.EncodeToString(d.h.Sum(sum[:0]))
}

// Reset forgets what was added.
func (d *Digest) Reset() {
	if d.h != nil {
		d.h.Reset()
	}
}

// DigestOf returns the digest of one record.
func DigestOf(offset int64, stored []byte) string {
	var d Digest
	d.Add(offset, stored)
	return d.Hex()
}
