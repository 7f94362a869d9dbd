package verify

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/batcher/encode"
	"millrace/batcher/memstore"
	"millrace/ingest"
)

// TestClean: what a correct worker makes has no problem, and every record of the log is accounted for.
func TestClean(t *testing.T) {
	t.Parallel()
	x := newFixture(t, 40)
	x.chain()
	got := x.run(x.log(0))
	want := Report{
		OK: true, Streams: 1, Entries: 6, Batches: 7, Rows: 22, Bytes: got.Bytes, InFlight: Count{Items: 1, Rows: 4},
		// 25 offsets are below low, three of them duplicates; of 25 to 29, four are web's and in flight; the rest is not cut.
		Log: &LogReport{Records: 40, InObjects: 22, Duplicates: 3, InFlight: 4, NotCut: 11},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if got := x.run(nil); !got.OK || got.Log != nil || got.Rows != 22 {
		t.Errorf("without the log: %+v", got)
	}
	if got := x.run(x.log(20)); !got.OK || got.Log.Records != 20 || got.Log.InObjects != 5 {
		t.Errorf("with the end of the log: %+v of %+v", got.Log, got)
	}
}

// problem is one way to spoil a fixture, and what the report must say of it.
type problem struct {
	name  string
	spoil func(x *fixture)
	want  map[Kind]Count
}

// first is a cut with rows 1, 2, 4 of lane web, big one with 7, 8, 10, 11, 13, 16, 17.
func (x *fixture) first() *batcher.Cut { return &x.entries[0].Cuts[1] }
func (x *fixture) big() *batcher.Cut   { return &x.entries[1].Cuts[1] }

// replace changes an object's body, and leaves its metadata.
func (x *fixture) replace(c *batcher.Cut, body []byte) {
	x.t.Helper()
	info, err := x.store.Stat(x.t.Context(), c.Object)
	if err != nil {
		x.t.Fatal(err)
	}
	x.store.Overwrite(c.Object, body, info.Meta)
}

// swap replaces the rows of an object, with metadata and sidecar that agree with the bytes: only counting shows it.
func (x *fixture) swap(c *batcher.Cut, offsets ...int64) {
	x.put(c, func([]int64) []int64 { return offsets })
	x.closeAgain()
}

func problemsOfObjects() []problem {
	return []problem{
		{"object deleted", func(x *fixture) { x.store.Delete(x.big().Object) }, map[Kind]Count{Missing: {1, 7}}},
		{"object deleted with its sidecar", func(x *fixture) {
			x.store.Delete(x.first().Object)
			x.store.Delete(batcher.IDsKey(x.first().Batch))
		}, map[Kind]Count{Missing: {1, 3}}},
		{"object replaced by a stranger", func(x *fixture) {
			x.store.Overwrite(x.first().Object, []byte("hello"), nil)
		}, map[Kind]Count{Overwritten: {1, 0}, Damaged: {1, 3}, Lost: {1, 3}}},
		{"object replaced by another batch's", func(x *fixture) {
			info, _ := x.store.Stat(x.t.Context(), x.first().Object)
			x.store.Overwrite(x.big().Object, x.store.Body(x.first().Object), info.Meta)
		}, map[Kind]Count{Overwritten: {1, 0}, Stray: {1, 3}, Lost: {1, 7}}},
		{"object written again with other bytes", func(x *fixture) {
			o, _ := encode.New(encode.NDJSONGzip, stream)
			for _, off := range []int64{1, 2, 4} {
				r := record(off)
				r.Payload = []byte(`{"n":0}`)
				o.Add(off, &r)
			}
			body, f := o.Close()
			f.Batch, f.Records = x.first().Batch, x.first().Records
			x.store.Overwrite(x.first().Object, body, encode.MetaOf(f))
		}, map[Kind]Count{Overwritten: {1, 0}}},
		{"object cut off", func(x *fixture) {
			body := x.store.Body(x.big().Object)
			x.replace(x.big(), body[:len(body)/2])
		}, map[Kind]Count{Damaged: {2, 7}, Lost: {1, 7}}},
		{"object empty", func(x *fixture) { x.replace(x.big(), nil) }, map[Kind]Count{Damaged: {2, 7}, Lost: {1, 7}}},
		{"bit flipped in the end", func(x *fixture) {
			body := slices.Clone(x.store.Body(x.big().Object))
			body[len(body)-1] ^= 1
			x.replace(x.big(), body)
		}, map[Kind]Count{Damaged: {2, 0}}},
		{"sidecar deleted", func(x *fixture) { x.store.Delete(batcher.IDsKey(x.big().Batch)) }, map[Kind]Count{Sidecar: {1, 7}}},
		{"sidecar damaged", func(x *fixture) { x.store.Overwrite(batcher.IDsKey(x.big().Batch), []byte{1, 2, 3, 4, 5, 6, 7}, nil) }, map[Kind]Count{Sidecar: {1, 7}}},
		{"sidecar of another batch", func(x *fixture) {
			x.store.Overwrite(batcher.IDsKey(x.big().Batch), x.store.Body(batcher.IDsKey(x.first().Batch)), nil)
		}, map[Kind]Count{Sidecar: {1, 7}}},
		{"orphans", func(x *fixture) {
			x.store.Overwrite("events/tenant=default/source=web/x.gz", nil, nil)
			x.store.Overwrite(batcher.ObjectKey(web, noon, stream, 99, encode.NDJSONGzip), nil, nil)
			x.store.Overwrite("quarantine/tenant=default/source=web/reason=r/x.gz", nil, nil)
			x.store.Overwrite("elsewhere/x", nil, nil)
		}, map[Kind]Count{Orphan: {3, 0}}},
	}
}

func problemsOfRows() []problem {
	return []problem{
		{"row missing", func(x *fixture) { x.swap(x.big(), 7, 8, 10, 11, 13, 17) }, map[Kind]Count{Lost: {1, 1}}},
		{"row doubled", func(x *fixture) { x.swap(x.big(), 7, 8, 8, 10, 11, 13, 16, 17) }, map[Kind]Count{Doubled: {1, 1}}},
		{"row doubled for another", func(x *fixture) { x.swap(x.big(), 7, 8, 8, 11, 13, 16, 17) }, map[Kind]Count{Doubled: {1, 1}, Lost: {1, 1}}},
		{"row out of order", func(x *fixture) { x.swap(x.big(), 8, 7, 10, 11, 13, 16, 17) }, map[Kind]Count{Damaged: {1, 1}}},
		{"row of another cut", func(x *fixture) { x.swap(x.big(), 1, 7, 8, 10, 11, 13, 16, 17) }, map[Kind]Count{Stray: {1, 1}}},
		{"row of another lane in range", func(x *fixture) { x.swap(x.big(), 7, 8, 9, 10, 11, 13, 16, 17) }, map[Kind]Count{Doubled: {1, 1}}},
		{"row of a duplicate", func(x *fixture) { x.swap(x.big(), 7, 8, 10, 11, 13, 14, 16, 17) }, map[Kind]Count{Stray: {1, 1}}},
	}
}

func problemsOfChains() []problem {
	return []problem{
		{"void", func(x *fixture) {
			body, f, err := encode.Void(encode.NDJSONGzip, x.big().Batch, "refused")
			if err != nil {
				x.t.Fatal(err)
			}
			x.store.Delete(batcher.IDsKey(x.big().Batch))
			x.store.Overwrite(x.big().Object, body, encode.MetaOf(f))
			x.facts[x.big().Batch] = f
			x.closeAgain()
		}, map[Kind]Count{Void: {1, 7}}},
		{"loss accepted", func(x *fixture) {
			x.entries[2].Lost = []batcher.Range{{First: 16, Last: 17}}
			x.rewrite(x.entries[2])
		}, map[Kind]Count{Accepted: {1, 2}}},
		{"entry deleted", func(x *fixture) { x.store.Delete(batcher.ChainKey(stream, 3)) }, map[Kind]Count{Chain: {3, 0}}},
		{"entry damaged", func(x *fixture) { x.store.Overwrite(batcher.ChainKey(stream, 3), []byte("{"), nil) }, map[Kind]Count{Chain: {3, 0}}},
		{"low goes back", func(x *fixture) {
			x.entries[2].Low = 15
			x.rewrite(x.entries[2])
		}, map[Kind]Count{Chain: {2, 0}}},
		{"next is not carried over", func(x *fixture) {
			x.entries[5].Next = nil
			x.rewrite(x.entries[5])
		}, map[Kind]Count{Chain: {1, 0}}},
		{"two cuts of the same records", func(x *fixture) {
			e := batcher.Entry{Seq: 7, Low: 25, Next: map[ingest.Lane]int64{web: 30}}
			x.cut(&e, web, 22, 23)
			e.Cuts[0].Object += "x.ndjson.gz"
			x.put(&e.Cuts[0], nil)
			x.write(e, 4)
		}, map[Kind]Count{Chain: {1, 0}, Doubled: {1, 2}}},
		{"facts are missing", func(x *fixture) {
			x.entries[3].Facts = nil
			x.rewrite(x.entries[3])
		}, map[Kind]Count{Chain: {2, 0}}},
	}
}

// TestProblems: each thing that a person, a disk or a wrong worker can do is told as what it is, with the rows that it concerns.
func TestProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range slices.Concat(problemsOfObjects(), problemsOfRows(), problemsOfChains()) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, withLog := range []bool{false, true} {
				x := newFixture(t, 40)
				x.chain()
				tt.spoil(x)
				var log ingest.Partition
				if withLog {
					log = x.log(0)
				}
				r := x.run(log)
				if r.OK {
					t.Fatalf("log %v: report is OK", withLog)
				}
				if diff := cmp.Diff(tt.want, r.Totals); diff != "" {
					t.Errorf("log %v: totals (-want +got):\n%s%v", withLog, diff, r.Problems)
				}
				if l := r.Log; l != nil && (l.Lost != 0 || l.InObjects+l.Duplicates+l.InFlight+l.NotCut+l.SetAside+l.Lost != l.Records) {
					t.Errorf("log %+v: the fields do not add up, or rows are told as lost that were told already", l)
				}
			}
		})
	}
}

// closeAgain writes the entries that record facts anew, from what is known now.
func (x *fixture) closeAgain() {
	for i := range x.entries {
		e := &x.entries[i]
		e.Facts = nil
		from := int64(1)
		if i > 0 {
			from = x.entries[i-1].Done + 1
		}
		for seq := from; seq <= e.Done; seq++ {
			for _, c := range x.entries[seq-1].Cuts {
				if c.Count > 0 {
					e.Facts = append(e.Facts, x.facts[c.Batch])
				}
			}
		}
		x.rewrite(*e)
	}
}

// TestLostByTheChain: records below next that no cut has show only against the log; the chain alone agrees with itself.
func TestLostByTheChain(t *testing.T) {
	t.Parallel()
	x := newFixture(t, 40)
	e := batcher.Entry{Seq: 1, Low: 20}
	x.cut(&e, app, 0, 18)
	x.cut(&e, web, 1, 13) // 16, 17 and 19 are web's, and below low
	for i := range e.Cuts {
		x.put(&e.Cuts[i], nil)
	}
	x.write(e, 0)
	x.write(batcher.Entry{Seq: 2, Low: 20}, 1)
	if r := x.run(nil); !r.OK {
		t.Fatalf("without the log: %+v", r)
	}
	x.dups[14] = false // it is in no cut now, and named nowhere
	r := x.run(x.log(0))
	if r.OK || r.Log.Lost != 4 || r.Totals[Lost] != (Count{4, 4}) {
		t.Errorf("log %+v, totals %v, want 4 lost: 14, 16, 17, 19", r.Log, r.Totals)
	}
	if p := r.Problems[0]; p.First != 14 || p.Stream != stream {
		t.Errorf("first problem %+v, want offset 14", p)
	}
}

// TestNoChain: nothing is no problem, and a log without a chain is not cut.
func TestNoChain(t *testing.T) {
	t.Parallel()
	x := newFixture(t, 10)
	if r := x.run(x.log(0)); !r.OK || r.Log.NotCut != 10 || r.Streams != 0 {
		t.Errorf("report %+v of %+v", r.Log, r)
	}
}

// TestManyEntries: more entries than one group has, with offsets on several pages of the cover.
func TestManyEntries(t *testing.T) {
	t.Parallel()
	const records, size = pageLen + 4000, 500
	x := newFixture(t, records)
	clear(x.dups)
	seq := int64(0)
	for from := int64(0); from < records; from += size {
		seq++
		last := min(from+size, records) - 1
		e := batcher.Entry{Seq: seq, Low: last + 1}
		x.cut(&e, app, from, last)
		x.cut(&e, web, from, last)
		for i := range e.Cuts {
			x.put(&e.Cuts[i], nil)
		}
		x.write(e, seq-1)
	}
	r := x.run(x.log(records / 2))
	if !r.OK || r.Rows != records || r.Entries != seq || seq < 2*groupEntries || r.Log.InObjects != records/2 {
		t.Errorf("report %+v of %+v", r.Log, r)
	}
}

// TestLiveStore: objects of entries that were written during the walk are no orphans.
func TestLiveStore(t *testing.T) {
	t.Parallel()
	x := newFixture(t, 40)
	x.chain()
	wrote := false
	store := x.store.View(func(op memstore.Op, key string) memstore.Fault {
		if op == memstore.OpList && key == ingest.RootEvents+"/" && !wrote {
			wrote = true
			e := batcher.Entry{Seq: 7, Low: 30}
			x.cut(&e, app, 27, 27)
			x.write(e, 4)
			x.put(&e.Cuts[0], nil)
		}
		return memstore.None
	})
	r, err := Run(t.Context(), catalogue{x.store}, store, Options{})
	if err != nil || !r.OK || !wrote {
		t.Errorf("report %+v, %v", r, err)
	}
}

// TestCannotAsk: a store that cannot be asked is an error, never a verdict.
func TestCannotAsk(t *testing.T) {
	t.Parallel()
	for _, op := range []memstore.Op{memstore.OpGet, memstore.OpList} {
		x := newFixture(t, 40)
		x.chain()
		n := 0
		store := x.store.View(func(got memstore.Op, _ string) memstore.Fault {
			if got == op {
				if n++; n > 1 {
					return memstore.Drop
				}
			}
			return memstore.None
		})
		if _, err := Run(t.Context(), catalogue{x.store}, store, Options{Workers: 1}); !errors.Is(err, batcher.ErrUnavailable) {
			t.Errorf("%s: got %v, want %v", op, err, batcher.ErrUnavailable)
		}
	}
	x := newFixture(t, 40)
	x.chain()
	x.store.Overwrite(batcher.ChainKey(stream, 2), []byte(`{"v":99}`), nil)
	if _, err := Run(t.Context(), catalogue{x.store}, x.store, Options{}); !errors.Is(err, batcher.ErrUnknownVersion) {
		t.Errorf("newer entry: got %v, want %v", err, batcher.ErrUnknownVersion)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	x := newFixture(t, 40)
	x.chain()
	for i := range 20 {
		x.store.Overwrite(fmt.Sprintf("events/%02d", i), nil, nil)
	}
	r, err := Run(t.Context(), catalogue{x.store}, x.store, Options{MaxProblems: 3})
	if err != nil || len(r.Problems) != 3 || r.Totals[Orphan].Items != 20 {
		t.Errorf("%d problems told, totals %v, %v", len(r.Problems), r.Totals, err)
	}
}
