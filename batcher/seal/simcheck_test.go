package seal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/ingest"
)

func indexOf(s, sub string) int { return strings.Index(s, sub) }

// checkPut looks at entries when they come to be: what must hold at that moment.
func (w *world) checkPut(key string) {
	name, ok := isChain(key)
	if !ok {
		return
	}
	s, err := ingest.ParseStream(name)
	if err != nil {
		w.fail("chain %s: %w", name, err)
		return
	}
	if w.view.Body(key) != nil && w.view.Body(batcher.ChainKey(s, int64(w.entries[name])+1)) == nil {
		if seq := key[len(key)-25 : len(key)-5]; seq > fmt.Sprintf("%020d", w.entries[name]) {
			w.fail("entry %s of %s comes after %d", seq, name, w.entries[name])
		}
	}
	for w.failed() == nil && w.view.Body(batcher.ChainKey(s, int64(w.entries[name])+1)) != nil {
		w.entries[name]++
		w.checkEntry(w.entry(s, int64(w.entries[name])))
	}
}

func (w *world) checkEntry(e *batcher.Entry) {
	w.note("entry %d of %s: %d cuts, low %d, next %v, done %d", e.Seq, e.Stream, len(e.Cuts), e.Low, e.Next, e.Done)
	if e.Seq-e.Done > 8 {
		w.fail("entry %d of %s has done %d: the window is 8", e.Seq, e.Stream, e.Done)
	}
	from := int64(1)
	if e.Seq > 1 {
		from += w.entry(e.Stream, e.Seq-1).Done
	}
	for seq := from; seq <= e.Done; seq++ {
		for _, c := range w.entry(e.Stream, seq).Cuts {
			if c.Count > 0 && w.view.Body(c.Object) == nil {
				w.fail("entry %d of %s says that %d is done, whose object %s does not exist", e.Seq, e.Stream, seq, c.Object)
			}
		}
	}
	if e.Seq > 1 {
		w.checkStep(w.entry(e.Stream, e.Seq-1), e)
	}
}

// entry returns an entry that exists.
func (w *world) entry(s ingest.Stream, seq int64) *batcher.Entry {
	key := batcher.ChainKey(s, seq)
	body := w.view.Body(key)
	if e := w.decoded[key]; e != nil && body != nil {
		return e
	}
	e, err := batcher.UnmarshalEntry(body)
	if err != nil {
		w.fail("entry %d of %s is missing: %w", seq, s, err)
		return &batcher.Entry{}
	}
	w.decoded[key] = &e
	return &e
}

// checkStep checks that nothing goes back from one entry to the next.
func (w *world) checkStep(a, b *batcher.Entry) {
	if b.Low < a.Low || b.Done < a.Done {
		w.fail("entry %d of %s goes back: low %d to %d, done %d to %d", b.Seq, b.Stream, a.Low, b.Low, a.Done, b.Done)
	}
	for lane, n := range a.Next {
		if b.NextOf(lane) < n {
			w.fail("entry %d of %s goes back for %s: next %d to %d", b.Seq, b.Stream, lane, n, b.NextOf(lane))
		}
	}
	empty := len(b.Cuts) == 0 && len(b.Lost) == 0
	raised := false
	for seq := a.Done + 1; seq <= b.Done; seq++ {
		raised = raised || len(w.entry(b.Stream, seq).Cuts) > 0
	}
	if empty && !raised {
		w.fail("entry %d of %s says nothing", b.Seq, b.Stream)
	}
}

// kept is a record that a cut kept.
type kept struct {
	rec  *simRecord
	real bool // it is in an object with rows
}

// ledger is what the chains say of all records.
type ledger struct {
	w       *world
	records map[ingest.Stream]map[int64]*simRecord
	state   map[*simRecord]string // "object", "dup", "void"
	batches map[string]string
	objects map[string]bool
	// order has the kept records of a stream in the order of the chain.
	order map[ingest.Stream][]kept
	first map[ingest.Stream]*batcher.Entry
	tail  map[ingest.Stream]*batcher.Entry
}

// check compares chains, objects and logs after everything came to rest.
func (w *world) check() {
	l := &ledger{
		w: w, records: map[ingest.Stream]map[int64]*simRecord{}, state: map[*simRecord]string{}, batches: map[string]string{},
		objects: map[string]bool{}, order: map[ingest.Stream][]kept{}, first: map[ingest.Stream]*batcher.Entry{}, tail: map[ingest.Stream]*batcher.Entry{},
	}
	for _, r := range w.records {
		if l.records[r.stream] == nil {
			l.records[r.stream] = map[int64]*simRecord{}
		}
		l.records[r.stream][r.offset] = r
	}
	for _, name := range sortedKeys(w.entries) {
		s, err := ingest.ParseStream(name)
		if err != nil {
			w.fail("chain %s: %w", name, err)
			return
		}
		l.stream(s, int64(w.entries[name]))
	}
	l.orphans()
	for s := range l.order {
		l.repeats(s)
		l.predecessor(s)
	}
	l.complete()
	w.checkReaders(l)
	w.recon.check(l)
}

// stream checks one chain and takes its cuts.
func (l *ledger) stream(s ingest.Stream, last int64) {
	ends := map[ingest.Lane]int64{}
	for seq := int64(1); seq <= last; seq++ {
		e := l.w.entry(s, seq)
		if seq == 1 {
			l.first[s] = e
		}
		l.tail[s] = e
		if len(e.Lost) > 0 && !l.w.accepted {
			l.w.fail("entry %d of %s names a loss that nobody accepted", seq, s)
		}
		for i := range e.Cuts {
			c := &e.Cuts[i]
			if end, ok := ends[c.Lane]; ok && c.First < end {
				l.w.fail("entry %d of %s cuts %s from %d, which is cut up to %d", seq, s, c.Lane, c.First, end)
			}
			ends[c.Lane] = c.Last + 1
			if e.NextOf(c.Lane) <= c.Last {
				l.w.fail("entry %d of %s cuts %s up to %d, and says next is %d", seq, s, c.Lane, c.Last, e.NextOf(c.Lane))
			}
			l.cut(e, c)
		}
	}
}

// cut takes one cut: its records must be there, its duplicates known, its object exactly the rest.
func (l *ledger) cut(e *batcher.Entry, c *batcher.Cut) {
	w := l.w
	var want []int
	var rows []*simRecord
	isKept := keeper(c.Dups)
	for off := c.First; off <= c.Last; off++ {
		r := l.records[e.Stream][off]
		if r == nil || r.lane != c.Lane {
			continue
		}
		if was := l.state[r]; was != "" {
			w.fail("record %d (%s/%d) is cut twice", r.uid, r.stream, r.offset)
		}
		if batcher.Hour(r.at).After(batcher.Hour(l.records[e.Stream][c.First].at)) {
			w.fail("batch %s has a record of a later hour than its first", c.Batch)
		}
		if !isKept(off) {
			l.state[r] = "dup"
			if !l.repeated(r) {
				w.fail("record %d (%s/%d) is called a duplicate, and repeats nothing", r.uid, r.stream, r.offset)
			}
			continue
		}
		l.state[r] = "object"
		rows = append(rows, r)
		want = append(want, r.uid)
		l.order[e.Stream] = append(l.order[e.Stream], kept{r, true})
	}
	if c.Count == 0 {
		if len(want) > 0 {
			w.fail("a cut of entry %d of %s has no rows and keeps %v", e.Seq, e.Stream, want)
		}
		return
	}
	if was := l.batches[c.Batch]; was != "" {
		w.fail("batch id %s is used twice: %s, %s", c.Batch, was, c.Object)
	}
	l.batches[c.Batch], l.objects[c.Object] = c.Object, true
	l.object(e, c, want, rows)
}

// object compares an object with the cut that it belongs to.
func (l *ledger) object(e *batcher.Entry, c *batcher.Cut, want []int, rows []*simRecord) {
	w := l.w
	body := w.view.Body(c.Object)
	if body == nil {
		w.fail("batch %s of entry %d of %s has no object", c.Batch, e.Seq, e.Stream)
		return
	}
	f, _, err := w.chain.Facts(context.Background(), *c)
	if err == nil {
		err = chain.Check(c, &f)
	}
	if err != nil {
		w.fail("batch %s of entry %d of %s: %w", c.Batch, e.Seq, e.Stream, err)
		return
	}
	if f.Void == "" {
		if int64(len(want)) != c.Count || !slices.Equal(uidsIn(body), want) {
			w.fail("object of batch %s (entry %d of %s, %d rows) has records %v, want %v", c.Batch, e.Seq, e.Stream, c.Count, uidsIn(body), want)
		}
		return
	}
	refused := w.refused[c.Object]
	if !refused && !w.accepted {
		w.fail("batch %s is void, and nobody gave it up", c.Batch)
	}
	order := l.order[e.Stream]
	for i, r := range rows {
		l.state[r] = "void"
		order[len(order)-len(rows)+i].real = false
		if raw := w.view.Body(batcher.RawKey(c.Batch, r.offset)); refused && !w.accepted && string(raw) != string(r.stored) {
			w.fail("record %d of void batch %s is not in quarantine", r.offset, c.Batch)
		}
	}
}

// repeated reports whether a record that is in no cut yet, in the order of the chain, repeats one that was kept before.
func (l *ledger) repeated(r *simRecord) bool {
	for _, order := range l.order {
		for _, k := range order {
			if repeats(k.rec, r) {
				return true
			}
		}
	}
	// A chain that forked is read before its sibling here; what another stream kept counts as well.
	for _, other := range l.w.records {
		if other.stream != r.stream && repeats(other, r) {
			return true
		}
	}
	return false
}

func repeats(a, b *simRecord) bool {
	return a != b && a.id == b.id && a.lane.Source() == b.lane.Source() && b.at.Sub(a.at).Abs() <= windowOf(b.lane.Source())
}

// repeats checks that no two records in objects repeat each other, within a stream and the streams before it, as far as its log held them.
func (l *ledger) repeats(s ingest.Stream) {
	var before []kept
	first := l.first[s]
	for limit := l.start(s); first != nil && first.Prev != nil; {
		p := *first.Prev
		for _, k := range l.order[p] {
			if k.rec.offset < limit {
				before = append(before, k)
			}
		}
		limit, first = min(limit, l.start(p)), l.first[p]
	}
	byID := map[[16]byte][]*simRecord{}
	for i, k := range append(before, l.order[s]...) {
		if !k.real {
			continue
		}
		for _, x := range byID[k.rec.id] {
			if i >= len(before) && repeats(x, k.rec) {
				l.w.fail("records %d (%s/%d) and %d (%s/%d) repeat each other, and both are in objects",
					x.uid, x.stream, x.offset, k.rec.uid, k.rec.stream, k.rec.offset)
			}
		}
		byID[k.rec.id] = append(byID[k.rec.id], k.rec)
	}
}

// predecessor checks that entry 1 of a stream names the one before it, of those that its log had records of.
func (l *ledger) predecessor(s ingest.Stream) {
	if l.w.plan.world.sameWriter || l.first[s] == nil {
		return
	}
	start := l.start(s)
	if start < 0 {
		return
	}
	var before *simRecord
	of := l.records[s][start].log
	for _, r := range l.w.records {
		if r.offset < start && of.had(r) && (before == nil || r.offset > before.offset) {
			before = r
		}
	}
	got := l.first[s].Prev
	if before == nil && got != nil || before != nil && (got == nil || *got != before.stream) {
		l.w.fail("entry 1 of %s names %v as predecessor, its log had record %+v", s, got, before)
	}
}

// start is the first offset of a stream.
func (l *ledger) start(s ingest.Stream) int64 {
	low := int64(-1)
	for off := range l.records[s] {
		if low < 0 || off < low {
			low = off
		}
	}
	return low
}

// complete checks that nothing acknowledged is missing: each record that a log still in use had is in an object, or named.
func (l *ledger) complete() {
	w := l.w
	for _, uid := range sortedInts(w.records) {
		r := w.records[uid]
		if l.state[r] != "" || r.log.gone && !l.survives(r) {
			continue
		}
		if !l.lost(r) {
			w.fail("record %d (%s/%d, %s) is in no object, and not named", r.uid, r.stream, r.offset, r.lane)
		}
	}
}

// survives reports whether a log in use had a record of one that is gone.
func (l *ledger) survives(r *simRecord) bool {
	return slices.ContainsFunc(l.w.logs, func(x *simLog) bool { return !x.gone && x.had(r) })
}

// lost reports whether a chain names the loss of r.
func (l *ledger) lost(r *simRecord) bool {
	tail := l.tail[r.stream]
	for seq := int64(1); tail != nil && seq <= tail.Seq; seq++ {
		for _, x := range l.w.entry(r.stream, seq).Lost {
			if x.First <= r.offset && r.offset <= x.Last {
				return true
			}
		}
	}
	return false
}

// orphans checks that each object in the lake belongs to a cut, and each sidecar to a batch.
func (l *ledger) orphans() {
	for _, key := range l.w.store.Keys() {
		if isObject(key) && !l.objects[key] {
			l.w.fail("object %s belongs to no cut", key)
		}
		if id, ok := strings.CutPrefix(key, batcher.PrefixIDs); ok && l.batches[id] == "" {
			l.w.fail("ids of %s belong to no batch", id)
		}
	}
}

// checkRest checks that a world at rest stays at rest, and that logs forget what is closed.
func (w *world) checkRest() {
	keys := len(w.store.Keys())
	for range 15 {
		w.drain()
		pass(time.Second)
	}
	if n := len(w.store.Keys()); n != keys {
		w.fail("a world at rest wrote %d more objects", n-keys)
	}
	for i, x := range w.logs {
		if incs := x.part.Incarnations(); !x.gone && len(incs) > 2 && w.failed() == nil {
			w.fail("log %d still knows %d incarnations: %v: %s", i, len(incs), incs, w.where())
		}
	}
}

// checkReaders compares what readers of the chain see with what is there: with pages and without, from anywhere.
func (w *world) checkReaders(l *ledger) {
	if w.rng.IntN(4) > 0 {
		return // they do not depend on what went before
	}
	ctx := context.Background()
	for s, tail := range l.tail {
		hint := w.rng.Int64N(tail.Seq + 1)
		if got, err := w.chain.Tail(ctx, s, hint); err != nil || got.Seq != tail.Seq {
			w.fail("tail of %s from %d is %d (%v), want %d", s, hint, got.Seq, err, tail.Seq)
		}
		if _, err := w.chain.Tail(ctx, s, tail.Seq+1); !errors.Is(err, chain.ErrShort) {
			w.fail("tail of %s from beyond its end: %v", s, err)
		}
		from := 1 + w.rng.Int64N(tail.Seq)
		seq := from
		for link, err := range chain.New(w.view, chain.Options{PageSize: 4, PageAfter: 1}).Links(ctx, s, from) {
			if err != nil || link.Entry.Seq != seq {
				w.fail("links of %s from %d: got %d (%v), want %d", s, from, link.Entry.Seq, err, seq)
				return
			}
			for _, b := range link.Batches {
				f, uri, err := w.chain.Facts(ctx, link.Entry.Cuts[b.Cut])
				if want := batcher.BatchOf(&link.Entry, b.Cut, f, uri); err != nil || fmt.Sprint(b) != fmt.Sprint(want) {
					w.fail("batch of link %d of %s is %+v, want %+v (%v)", seq, s, b, want, err)
				}
			}
			seq++
		}
		if seq <= tail.Done {
			w.fail("links of %s end at %d, done is %d", s, seq, tail.Done)
		}
	}
}

func sortedInts[V any](m map[int]V) []int {
	keys := make([]int, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// had reports whether a log had a record when it was copied, or was given it.
func (x *simLog) had(r *simRecord) bool {
	return r.log == x || slices.ContainsFunc(x.inherited, func(a *simRecord) bool { return a == r })
}
