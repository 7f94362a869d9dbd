package encode

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"millrace/batcher"
	"millrace/ingest"
)

var (
	stream = ingest.Stream{Log: "log", Incarnation: "inc", Partition: 7}
	codecs = []string{NDJSONGzip, NDJSONZstd}
	epoch  = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
)

// decode returns the lines of a body without their breaks.
func decode(t testing.TB, codec string, body []byte) [][]byte {
	t.Helper()
	r, err := NewReader(codec, body)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		return nil
	}
	if all[len(all)-1] != '\n' {
		t.Fatalf("body ends in %q", all[len(all)-1])
	}
	return bytes.Split(all[:len(all)-1], []byte{'\n'})
}

func TestRows(t *testing.T) {
	t.Parallel()
	const mark = `"_mr":{"s":"` // followed by the short name
	tail := func(o int) string { return fmt.Sprintf(`%s%s","p":7,"o":%d}}`, mark, stream.Short(), o) }
	tests := []struct{ name, payload, want string }{
		{"empty", `{}`, `{` + tail(0)},
		{"empty with space", `{ }`, `{` + tail(1)},
		{"one key", `{"a":1}`, `{"a":1,` + tail(2)},
		{"ends in an object", `{"a":{}}`, `{"a":{},` + tail(3)},
		{"ends in a brace in a string", `{"a":"{"}`, `{"a":"{",` + tail(4)},
		{"sender's own mark", `{"_mr":{"s":"aaaaaaaa","p":1,"o":9}}`, `{"_mr":{"s":"aaaaaaaa","p":1,"o":9},` + tail(5)},
	}
	for _, codec := range codecs {
		o, err := New(codec, stream)
		if err != nil {
			t.Fatal(err)
		}
		for i, tt := range tests {
			o.Add(int64(i), &ingest.Record{Payload: []byte(tt.payload), ReceivedAt: epoch})
		}
		body, f := o.Close()
		lines := decode(t, codec, body)
		if len(lines) != len(tests) || f.Rows != int64(len(tests)) {
			t.Fatalf("%s: %d lines, %d rows, want %d", codec, len(lines), f.Rows, len(tests))
		}
		for i, tt := range tests {
			if got := string(lines[i]); got != tt.want {
				t.Errorf("%s, %s: row %s, want %s", codec, tt.name, got, tt.want)
			}
			if !json.Valid(lines[i]) {
				t.Errorf("%s, %s: row is no JSON: %s", codec, tt.name, lines[i])
			}
			s, p, off, ok := Mark(lines[i])
			if s != stream.Short() || p != 7 || off != int64(i) || !ok {
				t.Errorf("%s, %s: Mark = %q %d %d %v", codec, tt.name, s, p, off, ok)
			}
		}
	}
}

func TestMarkRefuses(t *testing.T) {
	t.Parallel()
	for _, row := range []string{
		``, `{}`, `{"a":1}`, `{"_mr":{"s":"short","p":1,"o":2}}`, `{"_mr":{"s":"aaaaaaaa","p":1,"o":2},"a":1}`, `{"a":"x_mr":{"s":"aaaaaaaa","p":1,"o":2}}`,
		`{"_mr":{"s":"aaaaaaaa","p":-1,"o":2}}`, `{"_mr":{"s":"aaaaaaaa","p":1,"o":-2}}`, `{"_mr":{"s":"aaaaaaaa","p":1,"o":2}`, `{"_mr":{"s":"aaaaaaaa","p":1,"o":2,"x":{}}}`,
	} {
		if s, p, o, ok := Mark([]byte(row)); ok {
			t.Errorf("Mark(%s) = %q %d %d, want none", row, s, p, o)
		}
	}
}

// TestObjectsRoundTrip: whatever the sizes of rows, smaller and larger than a chunk, a body holds the rows in order, the facts describe it,
// and the metadata gives the facts back.
func TestObjectsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		codec := rapid.SampledFrom(codecs).Draw(t, "codec")
		o, err := New(codec, stream)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		types := make(map[string]int64)
		for i := range rapid.IntRange(0, 40).Draw(t, "rows") {
			n := rapid.SampledFrom([]int{0, 1, 500, firstBytes, chunkBytes / 3, chunkBytes - 10, chunkBytes + 10, 3 * chunkBytes}).Draw(t, "size")
			payload := `{"k":"` + strings.Repeat(string(rune('a'+i%26)), n) + `"}`
			r := ingest.Record{
				Payload: []byte(payload), Type: rapid.SampledFrom([]string{"", "track", "page", "other", "p,a:g%e ü"}).Draw(t, "type"),
				ReceivedAt: epoch.Add(time.Duration(rapid.IntRange(-100, 100).Draw(t, "received")) * time.Millisecond),
			}
			if r.Type == "" {
				types["other"]++
			} else {
				types[r.Type]++
			}
			o.Add(int64(3*i), &r)
			want = append(want, fmt.Sprintf(`%s,"_mr":{"s":"%s","p":7,"o":%d}}`, payload[:len(payload)-1], stream.Short(), 3*i))
		}
		body, f := o.Close()
		r, err := NewReader(codec, body)
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Split(string(all), "\n")
		if diff := cmp.Diff(want, got[:len(got)-1], cmp.Transformer("short", func(s string) string { return s[max(0, len(s)-60):] })); diff != "" && len(want) > 0 {
			t.Fatalf("rows (-want +got):\n%s", diff)
		}
		if f.Rows != int64(len(want)) || f.Bytes != int64(len(body)) || f.RawBytes != int64(len(all)) || f.Checksum != Checksum(body) {
			t.Fatalf("facts %+v of %d rows, %d bytes, %d raw", f, len(want), len(body), len(all))
		}
		if len(types) > 0 && !cmp.Equal(f.Types, types) {
			t.Fatalf("types %v, want %v", f.Types, types)
		}
		f.Batch, f.Records, f.CommittedAt = "01J", strings.Repeat("0", 64), epoch
		meta := MetaOf(f)
		if err := batcher.CheckPut("k", meta); err != nil {
			t.Fatal(err)
		}
		back, err := FactsOf(batcher.ObjectInfo{Key: "k", Size: f.Bytes, ModTime: epoch, Meta: meta})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(f, back); diff != "" {
			t.Fatalf("facts by metadata (-put +read):\n%s", diff)
		}
	})
}

// TestMetaIsBounded: nothing that a sender chooses makes the metadata larger than a store takes, or unreadable.
func TestMetaIsBounded(t *testing.T) {
	t.Parallel()
	o, err := New(NDJSONGzip, stream)
	if err != nil {
		t.Fatal(err)
	}
	far := time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 100 {
		o.Add(int64(i), &ingest.Record{
			Payload: []byte(`{}`), Type: strings.Repeat("é", 31) + string(rune('A'+i%50)), ReceivedAt: epoch, EventAt: far, Trace: "00-\n-00",
		})
	}
	_, f := o.Close()
	f.Batch, f.Records = strings.Repeat("0", 26), strings.Repeat("0", 64)
	meta := MetaOf(f)
	if err := batcher.CheckPut("k", meta); err != nil {
		t.Fatal(err)
	}
	back, err := FactsOf(batcher.ObjectInfo{Size: f.Bytes, Meta: meta})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f, back); diff != "" {
		t.Fatalf("facts by metadata (-put +read):\n%s", diff)
	}
	if _, err := json.Marshal(f); err != nil {
		t.Fatal(err)
	}
	var rows int64
	for _, n := range f.Types {
		rows += n
	}
	if rows != 100 || len(f.Types) > batcher.MaxTypes || f.Types["other"] == 0 || f.Trace != "" {
		t.Fatalf("types %v count %d rows, trace %q", f.Types, rows, f.Trace)
	}
}

func TestTypesBeyondTheBound(t *testing.T) {
	t.Parallel()
	o, err := New(NDJSONGzip, stream)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		o.Add(int64(i), &ingest.Record{Payload: []byte(`{}`), Type: fmt.Sprintf("t%d", i%20), ReceivedAt: epoch})
	}
	_, f := o.Close()
	if len(f.Types) != batcher.MaxTypes || f.Types["t0"] != 2 || f.Types["other"] != 10 {
		t.Fatalf("types %v", f.Types)
	}
}

func TestFactsOfStrangers(t *testing.T) {
	t.Parallel()
	good := MetaOf(batcher.Facts{Batch: "b"})
	with := func(k, v string) map[string]string {
		m := map[string]string{k: v}
		for gk, gv := range good {
			if gk != k {
				m[gk] = gv
			}
		}
		return m
	}
	tests := []struct {
		name string
		meta map[string]string
		want error
	}{
		{"no metadata", nil, ErrNoFacts},
		{"newer", with("v", "2"), batcher.ErrUnknownVersion},
		{"rows", with("rows", "x"), ErrNoFacts},
		{"time", with("event-min", "yesterday"), ErrNoFacts},
		{"types", with("types", "a:b"), ErrNoFacts},
		{"batch", with("batch", ""), ErrNoFacts},
	}
	for _, tt := range tests {
		if _, err := FactsOf(batcher.ObjectInfo{Key: "k", Meta: tt.meta}); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, err := FactsOf(batcher.ObjectInfo{Key: "k", Meta: good}); err != nil {
		t.Error(err)
	}
}

func TestVoid(t *testing.T) {
	t.Parallel()
	for _, codec := range codecs {
		body, f, err := Void(codec, "01J", "refused: too\nlarge ü"+strings.Repeat("x", 300))
		if err != nil {
			t.Fatal(err)
		}
		if lines := decode(t, codec, body); len(lines) != 0 {
			t.Errorf("%s: a void object has rows: %q", codec, lines)
		}
		back, err := FactsOf(batcher.ObjectInfo{Size: int64(len(body)), Meta: MetaOf(f)})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(f, back); diff != "" || !strings.HasPrefix(f.Void, "refused: too?large ") {
			t.Errorf("%s: void %q, facts by metadata (-put +read):\n%s", codec, f.Void, diff)
		}
	}
}

func TestUnknownCodec(t *testing.T) {
	t.Parallel()
	_, err1 := New("ndjson.lz4", stream)
	_, err2 := NewReader("ndjson.lz4", nil)
	_, _, err3 := Void("ndjson.lz4", "b", "r")
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, batcher.ErrUnknownVersion) {
			t.Errorf("got %v, want %v", err, batcher.ErrUnknownVersion)
		}
	}
}

// TestDamageIsSeen: a body that was cut off or changed does not read to its end without an error.
func TestDamageIsSeen(t *testing.T) {
	t.Parallel()
	for _, codec := range codecs {
		o, _ := New(codec, stream)
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range 2000 {
			r := track(rng, i)
			o.Add(int64(i), &r)
		}
		body, _ := o.Close()
		read := func(b []byte) error {
			r, err := NewReader(codec, b)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, r)
			return err
		}
		flipped := bytes.Clone(body)
		flipped[len(body)/2] ^= 0x10
		if err := read(flipped); err == nil {
			t.Errorf("%s: a flipped bit is not seen", codec)
		}
		if err := read(body[:len(body)-len(body)/3]); err == nil {
			t.Errorf("%s: a missing end is not seen", codec)
		}
	}
}

// TestOpenObjectsAreSmall: an open lane with few rows holds a few KiB, whatever the codec, and gives them back.
func TestOpenObjectsAreSmall(t *testing.T) {
	t.Parallel()
	for _, codec := range codecs {
		o, _ := New(codec, stream)
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range 5 {
			r := track(rng, i)
			o.Add(int64(i), &r)
		}
		if o.Held() > 8<<10 {
			t.Errorf("%s: an object of 5 rows holds %d bytes", codec, o.Held())
		}
		o.Discard()
		if o.Held() > 1<<10 {
			t.Errorf("%s: a discarded object holds %d bytes", codec, o.Held())
		}
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	// SHA-256 of 05 00 00 00 00 00 00 00 61 62 63, by coreutils' sha256sum.
	const want = "ae9bf57750357f27e0ac7e04743659bf62eed67203c0244b56f349c241521644"
	if got := DigestOf(5, []byte("abc")); got != want {
		t.Errorf("DigestOf(5, abc) = %s, want %s", got, want)
	}
	var d Digest
	empty := d.Hex()
	d.Add(5, []byte("abc"))
	if got := d.Hex(); got != want {
		t.Errorf("digest of one record is %s, want %s", got, want)
	}
	d.Add(6, []byte("d"))
	if two := d.Hex(); two == want || d.Hex() != two {
		t.Error("Hex must see later records, and must not change the digest")
	}
	d.Reset()
	if got := d.Hex(); got != empty {
		t.Errorf("digest of nothing after Reset is %s, want %s", got, empty)
	}
}

// track returns a Segment track event of about 540 bytes, as the benchmarks of the project use it.
func track(rng *rand.Rand, i int) ingest.Record {
	payload := fmt.Sprintf(`{"type":"track","event":"Product Viewed","messageId":"ajs-next-%016x-%016x","userId":"user-%d","anonymousId":"%08x-%04x-4d5e-8f90-%012x",`+
		`"properties":{"sku":"G-%d","price":%d.99,"currency":"EUR","position":%d},"context":{"library":{"name":"analytics.js","version":"npm:next-1.70.0"},`+
		`"page":{"path":"/p/%d","url":"https://shop.example.com/p/%d"},"locale":"de-DE"},"originalTimestamp":"2026-11-23T10:00:00.%03dZ",`+
		`"sentAt":"2026-11-23T10:00:00.%03dZ","receivedAt":"2026-11-23T10:00:01.%03dZ","timestamp":"2026-11-23T10:00:00.%03dZ"}`,
		rng.Uint64(), rng.Uint64(), rng.IntN(10000), rng.Uint32(), rng.IntN(1<<16), rng.Uint64()>>16, rng.IntN(1000), rng.IntN(500), rng.IntN(20),
		rng.IntN(1000), rng.IntN(1000), i%1000, (i+7)%1000, i%1000, i%1000)
	return ingest.Record{Lane: "events/tenant=default/source=web", Type: "track", ReceivedAt: epoch.Add(time.Duration(i)), Payload: []byte(payload)}
}

// BenchmarkAdd is the whole work of one row: digest of the stored bytes, row, compression, and its share of Close.
func BenchmarkAdd(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	recs := make([]ingest.Record, 20_000)
	stored := make([][]byte, len(recs))
	var size int
	for i := range recs {
		recs[i] = track(rng, i)
		stored[i] = recs[i].AppendBinary(nil)
		size += len(recs[i].Payload)
	}
	for _, codec := range codecs {
		b.Run(codec, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size / len(recs)))
			var d Digest
			var o *Object
			var raw, bytes int64
			for i := range b.N {
				j := i % len(recs)
				if j == 0 {
					if o != nil {
						_, f := o.Close()
						raw, bytes = raw+f.RawBytes, bytes+f.Bytes
					}
					o, _ = New(codec, stream)
					d.Reset()
				}
				d.Add(int64(i), stored[j])
				o.Add(int64(i), &recs[j])
			}
			if bytes > 0 {
				b.ReportMetric(float64(raw)/float64(bytes), "ratio")
			}
			runtime.KeepAlive(o)
		})
	}
}

func FuzzMark(f *testing.F) {
	f.Add([]byte(`{"a":1,"_mr":{"s":"abcdefgh","p":0,"o":12}}`))
	f.Add([]byte(`{"_mr":{"s":"abcdefgh","p":0,"o":9223372036854775807}}` + "\n"))
	f.Fuzz(func(t *testing.T, row []byte) {
		s, p, o, ok := Mark(row)
		if !ok {
			return
		}
		want := fmt.Sprintf(`"_mr":{"s":"%s","p":%d,"o":%d}}`, s, p, o)
		if !bytes.HasSuffix(bytes.TrimSuffix(row, []byte("\n")), []byte(want)) {
			t.Errorf("row %q read as %s", row, want)
		}
	})
}

// TestGzipIsOneMember: readers that stop after the first member of a gzip file still get all rows, whatever the number of chunks.
func TestGzipIsOneMember(t *testing.T) {
	t.Parallel()
	o, err := New(NDJSONGzip, stream)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 2000 {
		r := track(rng, i)
		o.Add(int64(i), &r)
	}
	body, f := o.Close()
	if f.RawBytes < 5*chunkBytes {
		t.Fatalf("%d bytes are too few chunks", f.RawBytes)
	}
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Multistream(false)
	if n, err := io.Copy(io.Discard, r); err != nil || n != f.RawBytes {
		t.Errorf("the first member has %d bytes, %v, want %d", n, err, f.RawBytes)
	}
}
