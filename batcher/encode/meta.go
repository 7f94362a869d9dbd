package encode

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/batcher"
)

// metaVersion is the version of the metadata written here.
const metaVersion = "1"

// maxTypeBytes bounds the types in metadata, escaped, so that all metadata fits in 2 KiB.
const maxTypeBytes = 1000

// ErrNoFacts is returned by [FactsOf] for an object whose metadata is not ours: someone else put it.
var ErrNoFacts = errors.New("object carries no facts of a batch")

// MetaOf returns f as metadata of its object, without Bytes and CommittedAt, which the store itself knows: at most 2 KiB, printable ASCII.
func MetaOf(f batcher.Facts) map[string]string {
	m := map[string]string{
		"v": metaVersion, "batch": f.Batch, "rows": strconv.FormatInt(f.Rows, 10), "raw-bytes": strconv.FormatInt(f.RawBytes, 10),
		"checksum": f.Checksum, "records": f.Records, "types": typesText(f.Types), "void": f.Void, "trace": f.Trace,
		"received-min": timeText(f.ReceivedMin), "received-max": timeText(f.ReceivedMax),
		"event-min": timeText(f.EventMin), "event-max": timeText(f.EventMax),
	}
	for k, v := range m {
		if v == "" {
			delete(m, k)
		}
	}
	return m
}

// FactsOf reads what MetaOf wrote, with size and time from the store. Errors: [ErrNoFacts]; [batcher.ErrUnknownVersion] for metadata of a
// newer version.
func FactsOf(info batcher.ObjectInfo) (batcher.Facts, error) {
	m := info.Meta
	if v := m["v"]; v != metaVersion {
		if v == "" {
			return batcher.Facts{}, fmt.Errorf("read facts of %q: %w", info.Key, ErrNoFacts)
		}
		return batcher.Facts{}, fmt.Errorf("read facts of %q, version %q: %w", info.Key, v, batcher.ErrUnknownVersion)
	}
	p := metaReader{m: m}
	f := batcher.Facts{
		Batch: m["batch"], Bytes: info.Size, RawBytes: p.number("raw-bytes"), Checksum: m["checksum"], Rows: p.number("rows"),
		Records: m["records"], Types: p.types("types"), Void: m["void"], Trace: m["trace"],
		ReceivedMin: p.time("received-min"), ReceivedMax: p.time("received-max"),
		EventMin: p.time("event-min"), EventMax: p.time("event-max"), CommittedAt: info.ModTime.UTC(),
	}
	if p.bad != "" || f.Batch == "" {
		return batcher.Facts{}, fmt.Errorf("read facts of %q: %s is %q: %w", info.Key, p.bad, m[p.bad], ErrNoFacts)
	}
	return f, nil
}

// metaReader reads values and remembers the first key that does not parse.
type metaReader struct {
	m   map[string]string
	bad string
}

func (p *metaReader) fail(key string) {
	if p.bad == "" {
		p.bad = key
	}
}

func (p *metaReader) number(key string) int64 {
	n, err := strconv.ParseInt(p.m[key], 10, 64)
	if err != nil {
		p.fail(key)
	}
	return n
}

func (p *metaReader) time(key string) time.Time {
	text := p.m[key]
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		p.fail(key)
	}
	return t.UTC()
}

func (p *metaReader) types(key string) map[string]int64 {
	text := p.m[key]
	if text == "" {
		return nil
	}
	types := make(map[string]int64)
	for item := range strings.SplitSeq(text, ",") {
		name, num, _ := strings.Cut(item, ":")
		plain, err1 := url.QueryUnescape(name)
		n, err2 := strconv.ParseInt(num, 10, 64)
		if err1 != nil || err2 != nil {
			p.fail(key)
		}
		types[plain] = n
	}
	return types
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func typesText(types map[string]int64) string {
	items := make([]string, 0, len(types))
	for name, n := range types {
		items = append(items, url.QueryEscape(name)+":"+strconv.FormatInt(n, 10))
	}
	slices.Sort(items)
	return strings.Join(items, ",")
}

// otherType counts rows without a type, and those beyond the bounds of [tally].
const otherType = "other"

// tally counts rows by type. It keeps the first types it meets, at most batcher.MaxTypes and as many as fit in metadata.
type tally struct {
	seen  []typeCount
	other int64
	used  int // bytes in metadata
}

type typeCount struct {
	name string
	n    int64
}

func (t *tally) add(name string) {
	if name == "" || name == otherType {
		t.other++
		return
	}
	for i := range t.seen {
		if t.seen[i].name == name {
			t.seen[i].n++
			return
		}
	}
	const number = 12 // ":", "," and ten digits
	size := len(url.QueryEscape(name)) + number
	if len(t.seen) >= batcher.MaxTypes-1 || t.used+size > maxTypeBytes {
		t.other++
		return
	}
	t.seen = append(t.seen, typeCount{name, 1})
	t.used += size
}

func (t *tally) counts() map[string]int64 {
	m := make(map[string]int64, len(t.seen)+1)
	for _, c := range t.seen {
		m[c.name] = c.n
	}
	if t.other > 0 {
		m[otherType] = t.other
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

// isWord reports whether s can stand in metadata as it is.
func isWord(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// printable replaces what is not printable ASCII by '?' and cuts the result to limit bytes.
func printable(s string, limit int) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return strings.TrimSpace(string(b[:min(len(b), limit)]))
}
