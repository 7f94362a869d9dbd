package batcher

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"millrace/ingest"
)

var (
	stream = ingest.Stream{Log: "7f3a", Incarnation: "k2", Partition: 3}
	noon   = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// TestKeys pins every key by its text: the layout is a contract with whoever reads the bucket, and may only change with its version.
func TestKeys(t *testing.T) {
	t.Parallel()
	lane := ingest.EventLane("default", "web", ingest.KeyValue{Key: "country", Value: "de"})
	zoned := time.Date(2026, 11, 24, 1, 30, 0, 0, time.FixedZone("", 2*3600)) // 23:30 of the day before, in UTC
	tests := []struct{ name, got, want string }{
		{"chain", ChainKey(stream, 17), "_millrace/chain/7f3a/k2/3/00000000000000000017.json"},
		{"page", PageKey(stream, 0), "_millrace/pages/7f3a/k2/3/00000000000000000000.json"},
		{"ids", IDsKey("01J"), "_millrace/ids/01J"},
		{"raw", RawKey("01J", 9), "_millrace/quarantine/01J/00000000000000000009"},
		{
			"object", ObjectKey(lane, zoned, stream, 1234, "ndjson.gz"),
			"events/tenant=default/source=web/country=de/dt=2026-11-23/hr=23/" + stream.Short() + "-00003-00000000000000001234.ndjson.gz",
		},
		{
			"quarantine", ObjectKey(ingest.QuarantineLane("default", "_unknown", "unknown_key"), noon, stream, 0, "ndjson.zst"),
			"quarantine/tenant=default/source=_unknown/reason=unknown_key/dt=2026-11-23/hr=12/" + stream.Short() + "-00003-00000000000000000000.ndjson.zst",
		},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, tt.got, tt.want)
		}
		if err := CheckKey(tt.got); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestObjectKeyOverhead: an object's key is at most 72 bytes longer than its lane, whatever the offset and the codec.
func TestObjectKeyOverhead(t *testing.T) {
	t.Parallel()
	lane := ingest.EventLane("t", "s")
	wide := ingest.Stream{Log: "l", Incarnation: "i", Partition: 99_999}
	key := ObjectKey(lane, noon, wide, math.MaxInt64, "ndjson.zst")
	if got := len(key) - len(lane); got > 72 {
		t.Errorf("%q is %d bytes longer than its lane", key, got)
	}
}

// TestBatchID pins the construction by an independent one: 48 bits of time, then the first 80 bits of the hash, in Crockford's base 32.
func TestBatchID(t *testing.T) {
	t.Parallel()
	const want = "01M844DZG0"
	id := BatchID(stream, 5, 2, noon)
	if len(id) != 26 || !strings.HasPrefix(id, want) {
		t.Errorf("id %s, want 26 characters from %s", id, want)
	}
	sum := sha256.Sum256([]byte("7f3a/k2/3\n\x05\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00"))
	if got := hex.EncodeToString(decodeULID(t, id)[6:]); got != hex.EncodeToString(sum[:10]) {
		t.Errorf("random part %s, want %x", got, sum[:10])
	}
	if ms := decodeULID(t, id)[:6]; hex.EncodeToString(ms) != hex.EncodeToString([]byte{0x01, 0xa2, 0x08, 0x46, 0xfe, 0x00}) {
		t.Errorf("time part %x", ms)
	}
}

func TestFirstID(t *testing.T) {
	t.Parallel()
	for seq := range int64(100) {
		if at, ok := IDTime(BatchID(stream, seq, 0, noon)); !ok || !at.Equal(noon.Truncate(time.Millisecond)) {
			t.Errorf("got time %v, %v, want %v", at, ok, noon)
		}
		if id := BatchID(stream, seq, 0, noon); id < FirstID(noon) || id >= FirstID(noon.Add(time.Millisecond)) {
			t.Errorf("id %s is not between %s and %s", id, FirstID(noon), FirstID(noon.Add(time.Millisecond)))
		}
	}
}

func TestIDTimeOfOthers(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"", "b1", "01M844DZG0", "01M844DZG0AAAAAAAAAAAAAAAU", "81M844DZG0AAAAAAAAAAAAAAAA"} {
		if at, ok := IDTime(id); ok {
			t.Errorf("%q: got %v, want no time", id, at)
		}
	}
}

// decodeULID reads 26 characters of base 32 as 128 bits, digit by digit.
func decodeULID(t *testing.T, id string) []byte {
	t.Helper()
	out := make([]byte, 16)
	for _, c := range id {
		v := strings.IndexRune("0123456789ABCDEFGHJKMNPQRSTVWXYZ", c)
		if v < 0 {
			t.Fatalf("%q is not base 32", c)
		}
		for i := len(out) - 1; i >= 0; i-- {
			x := int(out[i])<<5 | v
			out[i], v = byte(x), x>>8
		}
	}
	return out
}

// TestBatchIDsDiffer: two cuts have two ids, also two of one lane in one entry, and ids sort by time.
func TestBatchIDsDiffer(t *testing.T) {
	t.Parallel()
	other := stream
	other.Incarnation = "k3"
	ids := []string{
		BatchID(stream, 1, 0, noon), BatchID(stream, 1, 1, noon), BatchID(stream, 2, 0, noon), BatchID(other, 1, 0, noon), BatchID(stream, 256, 0, noon),
		BatchID(stream, 1, 256, noon),
	}
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[id] {
			t.Errorf("id %s twice", id)
		}
		seen[id] = true
	}
	rapid.Check(t, func(t *rapid.T) {
		a := time.UnixMilli(rapid.Int64Range(0, 1<<47).Draw(t, "a"))
		b := a.Add(time.Duration(rapid.Int64Range(1, 1<<40).Draw(t, "later")) * time.Millisecond)
		if x, y := BatchID(stream, 9, 0, a), BatchID(stream, 1, 0, b); x >= y {
			t.Fatalf("%s of %v does not sort before %s of %v", x, a, y, b)
		}
	})
}

func TestCheckKey(t *testing.T) {
	t.Parallel()
	good := []string{"a", "a/b", "a.b/c_d/e-f/g=h/%41", strings.Repeat("k", MaxKeyBytes), "..a/b..", "..."}
	for _, key := range good {
		if err := CheckKey(key); err != nil {
			t.Errorf("%.40q: %v", key, err)
		}
	}
	bad := []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/..", "a b", "a+b", "a\\b", "ä", "a\x00", strings.Repeat("k", MaxKeyBytes+1)}
	for _, key := range bad {
		if err := CheckKey(key); !errors.Is(err, ErrRefused) {
			t.Errorf("%.40q: got %v, want %v", key, err, ErrRefused)
		}
	}
}

func TestCheckPut(t *testing.T) {
	t.Parallel()
	fits := map[string]string{"k": strings.Repeat("v", MaxMetaBytes-1)}
	for _, meta := range []map[string]string{nil, {"a-0": "~ !"}, {"k": ""}, fits} {
		if err := CheckPut("a", meta); err != nil {
			t.Errorf("%.60v: %v", meta, err)
		}
	}
	for _, meta := range []map[string]string{
		{"": "v"}, {"A": "v"}, {"a_b": "v"}, {"a b": "v"}, {"k": " v"}, {"k": "v "}, {"k": "a\nb"}, {"k": "ü"}, {"k": "\x7f"},
		{"k": strings.Repeat("v", MaxMetaBytes)},
	} {
		if err := CheckPut("a", meta); !errors.Is(err, ErrRefused) {
			t.Errorf("%.60v: got %v, want %v", meta, err, ErrRefused)
		}
	}
	if err := CheckPut("a//b", nil); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v, want %v", err, ErrRefused)
	}
}

// TestChainKeysSort: in byte order, entries are in sequence.
func TestChainKeysSort(t *testing.T) {
	t.Parallel()
	var keys []string
	for _, seq := range []int64{1, 2, 9, 10, 99, 100, 1 << 40} {
		keys = append(keys, ChainKey(stream, seq))
	}
	if !slices.IsSorted(keys) {
		t.Errorf("not sorted: %v", keys)
	}
}
