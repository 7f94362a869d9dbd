package verify

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"millrace/batcher"
	"millrace/ingest"
)

// Options are the tunables of [Run]; the zero value works.
type Options struct {
	// Log are the partitions to compare with, if the log can be read here.
	Log []ingest.Partition
	// Workers is how many objects are read at a time; default 4. Each takes the memory of one object.
	Workers int
	// MaxProblems is how many problems of each kind are told one by one; default 100.
	MaxProblems int
}

// groupEntries is how many entries are read together; their objects are read in parallel and counted before the next ones.
const groupEntries = 64

type walker struct {
	cat    batcher.Catalogue
	store  batcher.ObjectStore
	o      Options
	report *Report
	seed   maphash.Seed
	keys   []uint64 // hashes of the keys of all cuts
	ends   map[ingest.Stream]int64
	logs   map[ingest.Stream]*logView
}

// Run walks all chains of cat and reads all objects that they name.
//
// Errors: what the catalogue and the store return when they cannot be asked; [batcher.ErrUnknownVersion] if something was written by a newer
// version. Whatever is wrong with the data is in the report instead.
func Run(ctx context.Context, cat batcher.Catalogue, store batcher.ObjectStore, opts Options) (Report, error) {
	if opts.Workers <= 0 {
		opts.Workers = 4
	}
	if opts.MaxProblems <= 0 {
		opts.MaxProblems = 100
	}
	w := &walker{
		cat: cat, store: store, o: opts, report: &Report{}, seed: maphash.MakeSeed(),
		ends: make(map[ingest.Stream]int64), logs: make(map[ingest.Stream]*logView),
	}
	if err := w.run(ctx); err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	w.report.OK = len(w.report.Totals) == 0
	return *w.report, nil
}

func (w *walker) run(ctx context.Context) error {
	// First the bounds of the logs: what is above them now must be found below, however far trimming gets meanwhile.
	if err := w.openLogs(ctx); err != nil {
		return err
	}
	streams, err := w.cat.Streams(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(streams, func(a, b ingest.Stream) int { return strings.Compare(a.String(), b.String()) })
	for _, s := range streams {
		if err := w.stream(ctx, s); err != nil {
			return err
		}
	}
	for _, p := range w.o.Log {
		if err := w.compareLog(ctx, p); err != nil {
			return err
		}
	}
	return w.orphans(ctx)
}

func (w *walker) add(p Problem) { w.report.add(p, w.o.MaxProblems) }

// chainState is what the walk of one chain carries from entry to entry.
type chainState struct {
	tail    batcher.Entry
	prev    batcher.Entry
	cover   *cover
	named   *named
	keep    int64             // offsets from here on are compared with the log
	end     int64             // of the closed incarnation of the log at hand; -1: it goes on, or there is none
	waiting map[string]*found // batches whose facts no entry has recorded yet
}

func (w *walker) stream(ctx context.Context, s ingest.Stream) error {
	tail, end, err := w.tail(ctx, s)
	if end == 0 || err != nil {
		return err
	}
	w.report.Streams++
	w.ends[s] = end
	st := &chainState{tail: tail, cover: &cover{}, named: newNamed(), keep: math.MaxInt64, end: -1, waiting: make(map[string]*found)}
	if l := w.logs[s]; l != nil {
		st.keep, st.end = l.low, l.next
		l.tail, l.cover, l.named = tail, st.cover, st.named
	}
	for seq := int64(1); seq <= end; seq += groupEntries {
		entries, err := w.entries(ctx, s, seq, min(seq+groupEntries-1, end))
		if err != nil {
			return err
		}
		if err := w.group(ctx, st, entries); err != nil {
			return err
		}
	}
	st.named.settle()
	for _, f := range st.waiting {
		if f.entry.Seq <= tail.Done {
			w.add(f.about(Chain, "no entry has facts of this batch, although entry %d says done", tail.Seq))
		}
	}
	return nil
}

// tail returns the newest entry that reads, and the number of the newest that exists; 0 if there is none. As a rule that is one entry. The walk
// tells of those that do not read.
func (w *walker) tail(ctx context.Context, s ingest.Stream) (tail batcher.Entry, end int64, err error) {
	tail, err = w.cat.Tail(ctx, s, 0)
	switch {
	case err == nil:
		return tail, tail.Seq, nil
	case errors.Is(err, batcher.ErrNotFound):
		return tail, 0, nil
	case cannotAsk(err):
		return tail, 0, err
	}
	for ; ; end++ {
		e, err := w.cat.Entry(ctx, s, end+1)
		switch {
		case err == nil:
			tail = e
		case errors.Is(err, batcher.ErrNotFound):
			return tail, end, nil
		case cannotAsk(err):
			return tail, 0, err
		}
	}
}

// entries reads entries from to to, in parallel. Those that are missing or do not read are problems, and left out.
func (w *walker) entries(ctx context.Context, s ingest.Stream, from, to int64) ([]batcher.Entry, error) {
	got, errs := make([]batcher.Entry, to-from+1), make([]error, to-from+1)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4 * w.o.Workers)
	for i := range got {
		g.Go(func() error {
			got[i], errs[i] = w.cat.Entry(gctx, s, from+int64(i))
			if cannotAsk(errs[i]) {
				return errs[i]
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	entries := got[:0]
	for i, err := range errs {
		if err != nil {
			seq := from + int64(i)
			w.add(Problem{Kind: Chain, Stream: s, Seq: seq, Key: batcher.ChainKey(s, seq), What: err.Error()})
			continue
		}
		entries = append(entries, got[i])
	}
	return entries, nil
}

// cannotAsk reports whether err says nothing about the data.
func cannotAsk(err error) bool {
	return errors.Is(err, batcher.ErrUnavailable) && !errors.Is(err, batcher.ErrDamaged) || errors.Is(err, batcher.ErrUnknownVersion) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// group checks entries that follow each other, and their objects: Workers of them are read at a time, and counted in the order of the cuts. An
// object takes memory for each of its rows until it is counted, so no more are begun before that.
func (w *walker) group(ctx context.Context, st *chainState, entries []batcher.Entry) error {
	g, gctx := errgroup.WithContext(ctx)
	queue := make(chan chan *found, w.o.Workers-1) // of what was begun, in order; this function holds one more
	g.Go(func() error {                            // ends when all is begun, or with gctx
		for i := range entries {
			e := &entries[i]
			for j := range e.Cuts {
				if e.Cuts[j].Count == 0 {
					continue
				}
				result := make(chan *found, 1)
				select {
				case queue <- result:
				case <-gctx.Done():
					return gctx.Err()
				}
				g.Go(func() error {
					f, err := w.object(gctx, e, &e.Cuts[j])
					if err == nil {
						result <- f
					}
					return err
				})
			}
		}
		return nil
	})
	next := func() (f *found) { // nil if gctx has ended
		select {
		case result := <-queue:
			select {
			case f = <-result:
			case <-gctx.Done():
			}
		case <-gctx.Done():
		}
		return f
	}
	for i := range entries {
		if !w.count(st, &entries[i], next) {
			break
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err // next may have given up, and everything may have been read nonetheless
	}
	st.cover.drop(min(st.prev.Low, st.keep))
	return nil
}

// entry checks that e goes on where the entry before it ended.
func (w *walker) entry(st *chainState, e *batcher.Entry) {
	w.report.Entries++
	prev := &st.prev
	bad := func(format string, args ...any) {
		w.add(Problem{Kind: Chain, Stream: e.Stream, Seq: e.Seq, What: fmt.Sprintf(format, args...)})
	}
	if e.Low < prev.Low || e.Done < prev.Done || e.Done >= e.Seq {
		bad("low %d and done %d after low %d and done %d", e.Low, e.Done, prev.Low, prev.Done)
	}
	next := make(map[ingest.Lane]int64)
	for _, c := range e.Cuts {
		from, ok := next[c.Lane]
		if !ok {
			from = prev.NextOf(c.Lane)
		}
		if c.First < from || c.Last < c.First {
			bad("cut of %s from %d to %d, where %d is next", c.Lane, c.First, c.Last, from)
		}
		next[c.Lane] = c.Last + 1
	}
	for lane, n := range prev.Next {
		next[lane] = max(next[lane], n)
	}
	for lane, n := range next {
		if got := e.NextOf(lane); got < n {
			bad("next of %s is %d, and %d is cut already", lane, got, n-1)
		}
	}
	for _, r := range e.Lost {
		w.add(Problem{
			Kind: Accepted, Stream: e.Stream, Seq: e.Seq, First: r.First, Last: r.Last, Rows: r.Last - r.First + 1,
			What: "lost before any cut, and accepted as lost",
		})
		if r.Last >= st.keep {
			st.named.lost = append(st.named.lost, span{r.First, r.Last, fateSetAside})
		}
	}
	st.prev = *e
}
