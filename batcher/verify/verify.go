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
	waiting map[string]*found // batches whose facts no entry has recorded yet
}

func (w *walker) stream(ctx context.Context, s ingest.Stream) error {
	tail, err := w.cat.Tail(ctx, s, 0)
	if errors.Is(err, batcher.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	w.report.Streams++
	w.ends[s] = tail.Seq
	st := &chainState{tail: tail, cover: &cover{}, named: newNamed(), keep: math.MaxInt64, waiting: make(map[string]*found)}
	if l := w.logs[s]; l != nil {
		st.keep = l.low
		l.tail, l.cover, l.named = tail, st.cover, st.named
	}
	for seq := int64(1); seq <= tail.Seq; seq += groupEntries {
		entries, err := w.entries(ctx, s, seq, min(seq+groupEntries-1, tail.Seq))
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
			w.add(Problem{Kind: Chain, Stream: s, Seq: from + int64(i), What: err.Error()})
			continue
		}
		entries = append(entries, got[i])
	}
	return entries, nil
}

// cannotAsk reports whether err says nothing about the data.
func cannotAsk(err error) bool {
	return errors.Is(err, batcher.ErrUnavailable) || errors.Is(err, batcher.ErrUnknownVersion) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// group checks entries that follow each other, and their objects.
func (w *walker) group(ctx context.Context, st *chainState, entries []batcher.Entry) error {
	results := make([][]*found, len(entries))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(w.o.Workers)
	for i := range entries {
		e := &entries[i]
		w.entry(st, e)
		results[i] = make([]*found, len(e.Cuts))
		for j := range e.Cuts {
			c := &e.Cuts[j]
			if c.Count == 0 {
				continue
			}
			w.keys = append(w.keys, maphash.String(w.seed, c.Object))
			g.Go(func() (err error) {
				results[i][j], err = w.object(gctx, e, c)
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range entries {
		w.count(st, &entries[i], results[i])
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
