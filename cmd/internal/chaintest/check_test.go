//go:build linux

package chaintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/encode"
	"millrace/batcher/verify"
	"millrace/ingest"
)

// checker compares what was acknowledged with what is in the store. It reads entries and objects itself; package verify comes last, and has to
// come to the same result.
type checker struct {
	t     *testing.T
	store batcher.ObjectStore
	chain *chain.Reader
	acked map[int64]acked

	known map[string]bool // keys that a chain accounts for: true if the object must exist
	rows  map[int64]int   // by offset
	named map[int64]int   // by offset: how often it is named as a duplicate
	// entries, batches and codecs are what was found.
	entries, batches int
	codecs           map[string]int
}

func newChecker(t *testing.T, store batcher.ObjectStore, w *writer) *checker {
	return &checker{
		t: t, store: store, chain: chain.New(store, chain.Options{}), acked: w.acked, known: map[string]bool{}, rows: map[int64]int{},
		named: map[int64]int{}, codecs: map[string]int{},
	}
}

// run checks all; announced has the batches that somebody announced.
func (k *checker) run(part ingest.Partition, announced map[string]bool) {
	k.t.Helper()
	streams, err := k.chain.Streams(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	for _, s := range streams {
		k.walk(s, announced)
	}
	k.list()
	k.count()
	k.verify(part)
}

// walk reads a chain entry by entry and notes what it decided.
func (k *checker) walk(s ingest.Stream, announced map[string]bool) {
	lanes := map[ingest.Lane][]int64{} // offsets of the stream's records
	for offset, a := range k.acked {
		if a.stream == s {
			lanes[a.lane] = append(lanes[a.lane], offset)
		}
	}
	for seq := int64(1); ; seq++ {
		e, err := k.chain.Entry(k.t.Context(), s, seq)
		if errors.Is(err, batcher.ErrNotFound) {
			return
		}
		if err != nil {
			k.t.Fatal(err)
		}
		k.entries++
		k.known[batcher.ChainKey(s, seq)] = true
		for i := range e.Cuts {
			k.cut(&e.Cuts[i], lanes[e.Cuts[i].Lane])
			if id := e.Cuts[i].Batch; id != "" && !announced[id] {
				k.t.Errorf("batch %s of entry %d was never announced", id, seq)
			}
		}
	}
}

// cut notes the object of a cut and the duplicates that it names; offsets are those of its lane.
func (k *checker) cut(c *batcher.Cut, offsets []int64) {
	for _, r := range c.Dups {
		for _, offset := range offsets {
			if r.First <= offset && offset <= r.Last {
				k.named[offset]++
			}
		}
	}
	if c.Count == 0 {
		return
	}
	if k.known[c.Object] {
		k.t.Errorf("two cuts have the object %q", c.Object)
	}
	k.batches++
	k.codecs[c.Codec]++
	k.known[c.Object], k.known[batcher.IDsKey(c.Batch)] = true, true
}

// list looks at all that is in the bucket: nothing may be there that no entry accounts for, and nothing missing that one does.
func (k *checker) list() {
	missing := 0
	for info, err := range k.store.List(k.t.Context(), batcher.ListOptions{}) {
		if err != nil {
			k.t.Fatal(err)
		}
		switch {
		case strings.HasPrefix(info.Key, batcher.PrefixPages): // repeats entries
		case !k.known[info.Key]:
			k.t.Errorf("orphan: no entry accounts for object %q", info.Key)
		case strings.HasPrefix(info.Key, batcher.PrefixMeta):
		default:
			k.object(info.Key)
		}
		delete(k.known, info.Key)
	}
	for key := range k.known {
		if missing++; missing <= 5 {
			k.t.Errorf("object %q of an entry does not exist", key)
		}
	}
}

// object counts the rows of an object by their marks, and compares them with the records.
func (k *checker) object(key string) {
	body, _, err := k.store.Get(k.t.Context(), key)
	if err != nil {
		k.t.Fatal(err)
	}
	_, name, _ := strings.Cut(key[strings.LastIndexByte(key, '/'):], ".")
	r, err := encode.NewReader(name, body)
	if err != nil {
		k.t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		k.t.Fatal(err)
	}
	for row := range bytes.Lines(text) {
		short, _, offset, ok := encode.Mark(row)
		a, have := k.acked[offset]
		if !ok || !have || short != a.stream.Short() || !strings.HasPrefix(key, string(a.lane)+"/") ||
			!bytes.Contains(row, fmt.Appendf(nil, `"u":%d,"_mr"`, a.uid)) {
			k.t.Errorf("row %q of %q is not of the record that was acknowledged at offset %d: %+v", row, key, offset, a)
		}
		k.rows[offset]++
	}
}

// count wants each acknowledged record to be one row, or to be named once as a duplicate, and each event to have one row.
func (k *checker) count() {
	events := map[[16]byte]int{}
	bad := 0
	for offset, a := range k.acked {
		events[a.id] += k.rows[offset]
		if k.rows[offset]+k.named[offset] != 1 {
			if bad++; bad <= 10 {
				k.t.Errorf("record %d of %s: %d rows, named %d times as a duplicate; want one of both", offset, a.lane, k.rows[offset], k.named[offset])
			}
		}
	}
	for id, n := range events {
		if n != 1 {
			if bad++; bad <= 20 {
				k.t.Errorf("event %x has %d rows, want 1", id, n)
			}
		}
	}
	k.t.Logf("%d records acknowledged, %d rows, %d duplicates, %d entries, %d batches %v, %d problems",
		len(k.acked), len(k.rows), len(k.named), k.entries, k.batches, k.codecs, bad)
}

// verify asks package verify, which may find nothing, and must have seen as many rows.
func (k *checker) verify(part ingest.Partition) {
	report, err := verify.Run(context.WithoutCancel(k.t.Context()), k.chain, k.store, verify.Options{Log: []ingest.Partition{part}})
	if err != nil {
		k.t.Fatal(err)
	}
	if !report.OK || report.InFlight.Items != 0 || int(report.Rows) != len(k.rows) || int(report.Batches) != k.batches {
		k.t.Errorf("verify: %+v, want no problem, nothing in flight, %d rows and %d batches", report, len(k.rows), k.batches)
	}
}
