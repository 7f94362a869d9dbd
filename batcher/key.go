package batcher

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"millrace/ingest"
)

// Prefixes of millrace's own keys. No lifecycle rule may touch them.
const (
	PrefixMeta       = "_millrace/"
	PrefixChain      = PrefixMeta + "chain/"
	PrefixPages      = PrefixMeta + "pages/"
	PrefixIDs        = PrefixMeta + "ids/"
	PrefixQuarantine = PrefixMeta + "quarantine/"
)

// PageSize is how many done entries one page repeats.
const PageSize = 1000

// ChainKey is the key of entry seq of a stream: _millrace/chain/<S>/<seq, 20 digits>.json.
func ChainKey(s ingest.Stream, seq int64) string {
	return fmt.Sprintf("%s%s/%020d.json", PrefixChain, s, seq)
}

// PageKey is the key of page n, counted from 0, which repeats entries n*PageSize+1 to (n+1)*PageSize.
func PageKey(s ingest.Stream, n int64) string {
	return fmt.Sprintf("%s%s/%020d.json", PrefixPages, s, n)
}

// IDsKey is the key of the id sidecar of a batch.
func IDsKey(batch string) string { return PrefixIDs + batch }

// RawKey is the key of one raw record of a voided batch.
func RawKey(batch string, offset int64) string {
	return fmt.Sprintf("%s%s/%020d", PrefixQuarantine, batch, offset)
}

// ObjectKey is the key of a batch's object, layout 1: <lane>/dt=YYYY-MM-DD/hr=HH/<s>-<partition, 5 digits>-<first, 20 digits>.<codec>, where
// date and hour are those of the receipt of the batch's first record, in UTC.
func ObjectKey(lane ingest.Lane, received time.Time, s ingest.Stream, first int64, codec string) string {
	t := received.UTC()
	var b strings.Builder
	b.Grow(len(lane) + 72)
	fmt.Fprintf(&b, "%s/dt=%s/hr=%02d/%s-%05d-%020d.%s", lane, t.Format("2006-01-02"), t.Hour(), s.Short(), s.Partition, first, codec)
	return b.String()
}

// BatchID is the id of the batch of cut number index in entry seq: ULID's layout and alphabet, 48 bits of received in milliseconds, then 80
// bits of SHA-256 over "<S>\n" and seq and index, each as 8 bytes little endian. Ids of a source sort by time.
func BatchID(s ingest.Stream, seq int64, index int, received time.Time) string {
	h := sha256.New()
	h.Write([]byte(s.String() + "\n"))
	var num [16]byte
	binary.LittleEndian.PutUint64(num[:8], uint64(seq))
	binary.LittleEndian.PutUint64(num[8:], uint64(index))
	h.Write(num[:])
	var id [16]byte
	ms := uint64(received.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	copy(id[6:], h.Sum(nil))
	return ulid(id)
}

// FirstID sorts before, or with, the id of every batch whose first record was received in the millisecond of t or later, and behind all others.
func FirstID(t time.Time) string {
	var id [16]byte
	ms := uint64(max(0, t.UnixMilli()))
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return ulid(id)
}

// IDTime returns when the first record of the batch with the id was received, to the millisecond; false: no batch has such an id.
func IDTime(id string) (time.Time, bool) {
	if len(id) != 26 || id[0] > '7' {
		return time.Time{}, false
	}
	ms := int64(0)
	for i := range len(id) {
		digit := strings.IndexByte(ulidAlphabet, id[i])
		if digit < 0 {
			return time.Time{}, false
		}
		if i < 10 { // 48 bits and two that are 0
			ms = ms<<5 | int64(digit)
		}
	}
	return time.UnixMilli(ms).UTC(), true
}

const ulidAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// ulid writes 128 bits as 26 characters of Crockford's base 32, most significant first (https://github.com/ulid/spec).
func ulid(id [16]byte) string {
	hi, lo := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	var out [26]byte
	for i := 25; i >= 0; i-- {
		out[i] = ulidAlphabet[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(out[:])
}
