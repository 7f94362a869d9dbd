package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
)

// parallel is how many objects are asked for at once.
const parallel = 16

// lookTimeout bounds one look; what it did not get to is due again.
const lookTimeout = 15 * time.Second

// ref is a cut whose batch is not in the ledger.
type ref struct {
	s    *stream
	seq  int64
	cut  *batcher.Cut
	i    int
	must bool // the chain says that its object exists
	// batch, or why there is none
	batch batcher.Batch
	gone  bool
	err   error
}

// passing is an entry at or below done that the cursor may pass once its refs are in the ledger.
type passing struct {
	s    *stream
	seq  int64
	refs []*ref
}

// found is what a look brings: what to insert, and how far the cursors go.
type found struct {
	refs    []*ref
	moves   map[*stream]int64
	streams map[ingest.Stream]*stream
	// hints are those that the look dealt with, later those that it had no room for. more: something is left to do at once.
	hints, later []hint
	more, timed  bool
	// caught says that everything that the chains had at the time is in the ledger, or among refs.
	caught bool
}

// passed reports whether the cursor of its chain has passed a batch when this look is committed.
func (f *found) passed(b *batcher.Batch) bool {
	s := f.streams[b.Stream]
	if s == nil {
		return false
	}
	seq, moves := f.moves[s]
	return b.Seq <= s.cursor || moves && b.Seq <= seq
}

// look is step 2. It reads, and changes nothing but what is cached in streams.
func (d *Dispatcher) look(ctx context.Context, hints []hint, now time.Time) *found {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	l := &looker{d: d, now: now, f: &found{moves: map[*stream]int64{}, streams: d.streams}, refs: map[string]*ref{}, room: d.room(), touched: map[*stream]bool{}}
	d.list(ctx, now)
	for i, h := range hints {
		if l.room <= 0 {
			l.f.later, l.f.more = hints[i:], true
			break
		}
		l.hint(ctx, h)
	}
	for _, s := range d.streams {
		if due := !now.Before(s.due); due || l.touched[s] {
			l.stream(ctx, s, due)
		}
	}
	l.ask(ctx)
	l.settle(ctx)
	l.f.caught = !l.f.more
	for _, s := range d.streams {
		l.f.caught = l.f.caught && s.wait == 0
	}
	return l.f
}

// room is how many batches go into one intake: fewer if there are many rules, because each batch gets a row for each rule.
func (d *Dispatcher) room() int {
	return max(1, min(d.o.MaxBatches, 20_000/max(1, d.set.Rules())))
}

// list adds chains that are new.
func (d *Dispatcher) list(ctx context.Context, now time.Time) {
	if now.Before(d.listDue) {
		return
	}
	d.listDue = now.Add(d.o.List)
	ids, err := d.cat.Streams(ctx)
	if err != nil {
		d.listDue = now.Add(5 * d.o.PollMin)
		d.o.Log.Warn("chains can not be listed", "err", err)
		return
	}
	for _, id := range ids {
		if d.streams[id] == nil {
			d.streams[id] = newStream(id, 0, now)
		}
	}
}

// looker is the state of one look.
type looker struct {
	d       *Dispatcher
	now     time.Time
	f       *found
	refs    map[string]*ref // by batch
	room    int
	touched map[*stream]bool
	passes  []passing
}

// hint finds what h points to. Nothing but the place is taken from it.
func (l *looker) hint(ctx context.Context, h hint) {
	s := l.d.streams[h.Stream]
	if s == nil {
		s = newStream(h.Stream, 0, l.now) // kept only if the entry exists
	}
	if h.Seq <= s.cursor || h.Batch != "" && s.ahead[h.Seq][h.Batch] {
		l.f.hints = append(l.f.hints, h)
		return
	}
	e, err := s.entry(ctx, l.d.cat, h.Seq)
	switch {
	case errors.Is(err, batcher.ErrNotFound):
		l.d.drop(ctx, h.delivery, rejectedUnknown, fmt.Errorf("entry %d of %s: %w", h.Seq, h.Stream, err))
		return
	case errors.Is(err, batcher.ErrUnknownVersion):
		l.f.hints = append(l.f.hints, h) // trying again does not help; whoever walks the chain says so
		return
	case err != nil:
		l.again(ctx, h)
		return
	}
	l.d.streams[h.Stream] = s
	l.touched[s], s.changed = true, l.now
	known := h.Batch == ""
	for i := range e.Cuts {
		if c := &e.Cuts[i]; c.Count > 0 && (h.Batch == "" || c.Batch == h.Batch) {
			known = true
			l.ref(s, h.Seq, c, i)
		}
	}
	if !known {
		l.d.drop(ctx, h.delivery, rejectedUnknown, fmt.Errorf("entry %d of %s has no batch %.64q", h.Seq, h.Stream, h.Batch))
		return
	}
	l.f.hints = append(l.f.hints, h)
}

// again lets the bus bring a hint once more; the chain is looked at anyway.
func (l *looker) again(ctx context.Context, h hint) {
	if h.delivery != nil {
		wait := l.d.o.PollMin << min(h.delivery.Tries()-1, 5)
		_ = h.delivery.Retry(ctx, wait) // lost: it comes again by itself
	}
}

// ref notes that a cut's batch is wanted, unless the ledger has it; nil then.
func (l *looker) ref(s *stream, seq int64, c *batcher.Cut, i int) *ref {
	if s.ahead[seq][c.Batch] {
		return nil
	}
	r := l.refs[c.Batch]
	if r == nil {
		r = &ref{s: s, seq: seq, cut: c, i: i}
		l.refs[c.Batch] = r
		l.f.refs = append(l.f.refs, r)
		l.room--
	}
	return r
}

// stream notes what is to be inserted of s up to done. Only a chain that is due is read on.
func (l *looker) stream(ctx context.Context, s *stream, due bool) {
	if due {
		l.f.timed = true
		grown, err := s.walk(ctx, l.d.cat)
		switch {
		case err != nil:
			l.d.o.Log.Warn("chain can not be read", "stream", s.id, "seq", s.tail()+1, "err", err)
			s.stumble(l.now, l.d.o)
		default:
			if grown {
				s.changed = l.now
			}
			s.rest(l.now, l.d.o, l.d.busAway.Load() || s.open())
		}
	} else if soon := l.now.Add(l.d.o.PollMin); s.due.After(soon) {
		s.due = soon
	}
	full := len(s.window) == maxWindow
	for i := range s.window {
		e := &s.window[i]
		if e.Seq > s.done && l.d.mutant != mutantTail {
			break
		}
		p := passing{s: s, seq: e.Seq}
		complete := true
		for j := range e.Cuts {
			if c := &e.Cuts[j]; c.Count > 0 && complete {
				p.refs, complete = l.require(p.refs, s, e, j)
			}
		}
		if !complete {
			s.due, l.f.more = l.now, true
			return
		}
		l.passes = append(l.passes, p)
		if full {
			s.due, l.f.more = l.now, true
		}
	}
}

// require adds the ref of one cut, if there is room for it.
func (l *looker) require(refs []*ref, s *stream, e *batcher.Entry, i int) ([]*ref, bool) {
	c := &e.Cuts[i]
	if l.room <= 0 && l.refs[c.Batch] == nil && !s.ahead[e.Seq][c.Batch] {
		return refs, false
	}
	if r := l.ref(s, e.Seq, c, i); r != nil {
		r.must = true
		refs = append(refs, r)
	}
	return refs, true
}

// ask gets the facts of all refs.
func (l *looker) ask(ctx context.Context) {
	if len(l.f.refs) == 1 {
		l.f.refs[0].ask(ctx, l.d.cat)
		return
	}
	var g errgroup.Group
	g.SetLimit(parallel)
	for _, r := range l.f.refs {
		g.Go(func() error { // ends with its request
			r.ask(ctx, l.d.cat)
			return nil
		})
	}
	_ = g.Wait() // each ref has its own error
}

func (r *ref) ask(ctx context.Context, cat batcher.Catalogue) {
	facts, uri, err := cat.Facts(ctx, *r.cut)
	if r.err = err; err == nil {
		r.batch = r.make(facts, uri)
	}
}

func (r *ref) make(facts batcher.Facts, uri string) batcher.Batch {
	e := batcher.Entry{Stream: r.s.id, Seq: r.seq, Cuts: make([]batcher.Cut, r.i+1)}
	e.Cuts[r.i] = *r.cut
	return batcher.BatchOf(&e, r.i, facts, uri)
}

// settle keeps what has facts, and moves cursors up to the first entry that lacks one.
func (l *looker) settle(ctx context.Context) {
	for _, r := range l.f.refs {
		if r.must && errors.Is(r.err, batcher.ErrNotFound) {
			l.missing(ctx, r)
		}
	}
	stopped := map[*stream]bool{}
	for _, p := range l.passes {
		for _, r := range p.refs {
			if r.err != nil && !stopped[p.s] {
				stopped[p.s] = true
				l.d.o.Log.Warn("batch can not be looked up", "batch", r.cut.Batch, "stream", p.s.id, "seq", p.seq, "err", r.err)
				p.s.stumble(l.now, l.d.o)
			}
		}
		if !stopped[p.s] {
			l.f.moves[p.s] = p.seq
		}
	}
	kept := l.f.refs[:0]
	for _, r := range l.f.refs {
		if r.err == nil {
			kept = append(kept, r)
		}
	}
	l.f.refs = kept
	l.settleHints(ctx)
}

// missing decides on an object that the chain says exists, and the store does not have. Somebody deleted it. Its batch must not stop the
// chain, so after some looks it is inserted with what the chain knows of it, and dropped for every rule.
func (l *looker) missing(ctx context.Context, r *ref) {
	if r.s.missing[r.cut.Batch]++; r.s.missing[r.cut.Batch] < maxMissing {
		return
	}
	facts, err := r.s.pastFacts(ctx, l.d.cat, r.seq, r.cut)
	if err != nil {
		r.err = err
		return
	}
	l.d.o.Log.Error("object of a committed batch is gone, the batch is dropped", "batch", r.cut.Batch, "key", r.cut.Object)
	r.batch, r.gone, r.err = r.make(facts, ""), true, nil
}

// settleHints lets those come again whose batch could not be asked for now. One whose object does not exist yet is done with: the chain will
// say when it does.
func (l *looker) settleHints(ctx context.Context) {
	kept := l.f.hints[:0]
	for _, h := range l.f.hints {
		if r := l.refs[h.Batch]; r != nil && r.err != nil && !errors.Is(r.err, batcher.ErrNotFound) {
			l.again(ctx, h)
			continue
		}
		kept = append(kept, h)
	}
	l.f.hints = kept
}

// cursors returns the moves as the ledger wants them, and the first cursor of chains whose batches come ahead of any.
func (f *found) cursors() []trigger.Cursor {
	var out []trigger.Cursor
	for s, seq := range f.moves {
		out = append(out, trigger.Cursor{Stream: s.id, Seq: seq})
	}
	first := map[*stream]bool{}
	for _, r := range f.refs {
		if _, moves := f.moves[r.s]; !moves && !r.s.recorded && !first[r.s] {
			first[r.s] = true
			out = append(out, trigger.Cursor{Stream: r.s.id, Seq: r.s.cursor})
		}
	}
	return out
}

// adopt makes the look's result part of the memory, after the commit.
func (f *found) adopt(m mutant) {
	for _, r := range f.refs {
		if m == mutantForget {
			break
		}
		if r.s.ahead[r.seq] == nil {
			r.s.ahead[r.seq] = map[string]bool{}
		}
		r.s.ahead[r.seq][r.cut.Batch] = true
		r.s.recorded = true
		delete(r.s.missing, r.cut.Batch)
	}
	for s, seq := range f.moves {
		s.pass(seq)
	}
}
