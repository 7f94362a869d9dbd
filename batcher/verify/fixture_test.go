package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/batcher/dedupe"
	"millrace/batcher/encode"
	"millrace/batcher/memstore"
	"millrace/ingest"
)

var (
	stream = ingest.Stream{Log: "log", Incarnation: "inc", Partition: 2}
	web    = ingest.EventLane("default", "web")
	app    = ingest.EventLane("default", "app")
	noon   = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// fixture is a log and the chain that a correct worker makes of it, with hooks for one fault each. Every third record is of lane app; those
// in dups repeat an earlier one.
type fixture struct {
	t       *testing.T
	store   *memstore.Store
	records []ingest.Stored
	lanes   []ingest.Lane
	dups    map[int64]bool
	entries []batcher.Entry
	facts   map[string]batcher.Facts
}

func newFixture(t *testing.T, records int) *fixture {
	t.Helper()
	x := &fixture{t: t, store: memstore.New(memstore.Options{}), dups: map[int64]bool{5: true, 14: true, 15: true}, facts: map[string]batcher.Facts{}}
	for i := range records {
		r := record(int64(i))
		x.records = append(x.records, ingest.Stored{Offset: int64(i), Bytes: r.AppendBinary(nil)})
		x.lanes = append(x.lanes, r.Lane)
	}
	return x
}

func record(offset int64) ingest.Record {
	lane := web
	if offset%3 == 0 {
		lane = app
	}
	return ingest.Record{
		Lane: lane, Type: "track", Dedupe: ingest.DedupeID("s", fmt.Sprint(offset)), ReceivedAt: noon.Add(time.Duration(offset) * time.Millisecond),
		Payload: fmt.Appendf(nil, `{"n":%d,"text":%q}`, offset, strings.Repeat("x", int(offset)%7)),
	}
}

// cut adds a cut of lane from first to last to the entry that is being made.
func (x *fixture) cut(e *batcher.Entry, lane ingest.Lane, first, last int64) {
	c := batcher.Cut{
		Lane: lane, First: first, Last: last, Codec: encode.NDJSONGzip, Layout: batcher.LayoutVersion, CreatedAt: noon, Reason: batcher.ReasonEvents,
		Batch: batcher.BatchID(stream, e.Seq, len(e.Cuts), noon), Object: batcher.ObjectKey(lane, noon, stream, first, encode.NDJSONGzip),
	}
	var digest encode.Digest
	for o := first; o <= last; o++ {
		switch {
		case x.lanes[o] != lane:
		case x.dups[o]:
			c.Dups = append(c.Dups, batcher.Range{First: o, Last: o})
		default:
			c.Count++
			digest.Add(o, x.records[o].Bytes)
		}
	}
	if c.Records = digest.Hex(); c.Count == 0 {
		c.Batch, c.Object, c.Codec, c.Records = "", "", "", ""
	}
	e.Cuts = append(e.Cuts, c)
}

// put puts the sidecar and the object of a cut; spoil may change which offsets become rows.
func (x *fixture) put(c *batcher.Cut, spoil func([]int64) []int64) {
	x.t.Helper()
	var offsets []int64
	for o := c.First; o <= c.Last; o++ {
		if x.lanes[o] == c.Lane && !x.dups[o] {
			offsets = append(offsets, o)
		}
	}
	if spoil != nil {
		offsets = spoil(offsets)
	}
	body, facts := object(x.t, offsets)
	facts.Batch, facts.Records, facts.Rows = c.Batch, c.Records, c.Count
	x.facts[c.Batch] = facts
	var ids []dedupe.ID
	for _, o := range offsets {
		ids = append(ids, dedupe.ID{Offset: o, Received: noon})
	}
	x.store.Overwrite(batcher.IDsKey(c.Batch), dedupe.MarshalIDs(ids), nil)
	x.store.Overwrite(c.Object, body, encode.MetaOf(facts))
}

func object(t *testing.T, offsets []int64) ([]byte, batcher.Facts) {
	t.Helper()
	o, err := encode.New(encode.NDJSONGzip, stream)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range offsets {
		r := record(off)
		o.Add(off, &r)
	}
	return o.Close()
}

// write puts an entry whose done is given, with the facts that this closes.
func (x *fixture) write(e batcher.Entry, done int64) {
	x.t.Helper()
	var prev batcher.Entry
	if len(x.entries) > 0 {
		prev = x.entries[len(x.entries)-1]
	}
	e.V, e.Stream, e.Done = batcher.EntryVersion, stream, done
	for seq := prev.Done + 1; seq <= done; seq++ {
		for _, c := range x.entries[seq-1].Cuts {
			if c.Count > 0 {
				e.Facts = append(e.Facts, x.facts[c.Batch])
			}
		}
	}
	x.entries = append(x.entries, e)
	x.rewrite(e)
}

// rewrite replaces an entry.
func (x *fixture) rewrite(e batcher.Entry) {
	x.t.Helper()
	body, err := e.Marshal()
	if err != nil {
		x.t.Fatal(err)
	}
	x.store.Overwrite(batcher.ChainKey(stream, e.Seq), body, nil)
}

// chain writes the entries that most tests begin with, over 40 records: four done, the fifth in flight, and ten records not cut.
func (x *fixture) chain() {
	e1 := batcher.Entry{Seq: 1, Low: 6, Next: map[ingest.Lane]int64{app: 10}}
	x.cut(&e1, app, 0, 9)
	x.cut(&e1, web, 1, 5)
	e2 := batcher.Entry{Seq: 2, Low: 16, Next: map[ingest.Lane]int64{web: 18}}
	x.cut(&e2, app, 12, 15)
	x.cut(&e2, web, 7, 17)
	e3 := batcher.Entry{Seq: 3, Low: 18, Next: map[ingest.Lane]int64{}}
	e4 := batcher.Entry{Seq: 4, Low: 25}
	x.cut(&e4, app, 18, 24)
	x.cut(&e4, web, 19, 20)
	x.cut(&e4, web, 22, 23)
	e5 := batcher.Entry{Seq: 5, Low: 25, Next: map[ingest.Lane]int64{web: 30}}
	x.cut(&e5, web, 25, 29)
	for i, e := range []batcher.Entry{e1, e2, e3, e4, e5} {
		for j := range e.Cuts {
			if e.Seq < 5 && e.Cuts[j].Count > 0 {
				x.put(&e.Cuts[j], nil)
			}
		}
		x.write(e, max(0, int64(i)-1))
	}
	x.write(batcher.Entry{Seq: 6, Low: 25, Next: map[ingest.Lane]int64{web: 30}}, 4)
}

// run verifies, with or without the log.
func (x *fixture) run(log ingest.Partition) Report {
	x.t.Helper()
	o := Options{Workers: 2}
	if log != nil {
		o.Log = []ingest.Partition{log}
	}
	r, err := Run(x.t.Context(), catalogue{x.store}, x.store, o)
	if err != nil {
		x.t.Fatal(err)
	}
	return r
}

// catalogue reads chains in the plainest way.
type catalogue struct{ store batcher.ObjectStore }

func (c catalogue) Streams(ctx context.Context) ([]ingest.Stream, error) {
	var streams []ingest.Stream
	for info, err := range c.store.List(ctx, batcher.ListOptions{Prefix: batcher.PrefixChain}) {
		if err != nil {
			return nil, err
		}
		rest := strings.TrimPrefix(info.Key, batcher.PrefixChain)
		s, err := ingest.ParseStream(rest[:strings.LastIndexByte(rest, '/')])
		if err != nil {
			return nil, err
		}
		if !slices.Contains(streams, s) {
			streams = append(streams, s)
		}
	}
	return streams, nil
}

func (c catalogue) Entry(ctx context.Context, s ingest.Stream, seq int64) (batcher.Entry, error) {
	body, _, err := c.store.Get(ctx, batcher.ChainKey(s, seq))
	if err != nil {
		return batcher.Entry{}, err
	}
	return batcher.UnmarshalEntry(body)
}

func (c catalogue) Tail(ctx context.Context, s ingest.Stream, _ int64) (batcher.Entry, error) {
	last := ""
	for info, err := range c.store.List(ctx, batcher.ListOptions{Prefix: batcher.PrefixChain + s.String() + "/"}) {
		if err != nil {
			return batcher.Entry{}, err
		}
		last = info.Key
	}
	if last == "" {
		return batcher.Entry{}, batcher.ErrNotFound
	}
	body, _, err := c.store.Get(ctx, last)
	if err != nil {
		return batcher.Entry{}, err
	}
	return batcher.UnmarshalEntry(body)
}

func (c catalogue) Facts(ctx context.Context, cut batcher.Cut) (batcher.Facts, string, error) {
	info, err := c.store.Stat(ctx, cut.Object)
	if err != nil {
		return batcher.Facts{}, "", err
	}
	f, err := encode.FactsOf(info)
	return f, c.store.URI(cut.Object), err
}

// partition is a log that can only be read.
type partition struct {
	ingest.Partition // the rest is not called
	incs             []ingest.Incarnation
	records          []ingest.Stored
}

func (x *fixture) log(from int64) *partition {
	return &partition{incs: []ingest.Incarnation{{Stream: stream, First: 0, Next: -1}}, records: x.records[from:]}
}

func (p *partition) ID() int                            { return 2 }
func (p *partition) Incarnations() []ingest.Incarnation { return p.incs }

func (p *partition) Bounds(context.Context) (low, next int64, err error) {
	return p.records[0].Offset, p.records[len(p.records)-1].Offset + 1, nil
}

func (p *partition) Read(_ context.Context, from int64, _ int, buf []ingest.Stored) ([]ingest.Stored, int64, error) {
	buf = buf[:0]
	for _, r := range p.records {
		if r.Offset >= from && len(buf) < 7 {
			buf = append(buf, r)
			from = r.Offset + 1
		}
	}
	return buf, from, nil
}
