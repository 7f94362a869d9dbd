package seal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"millrace/batcher"
	"millrace/ingest"
)

// cutter is the work on one stream, which is one chain. All of it belongs to the goroutine of run, except what step 5 hands to uploaders.
type cutter struct {
	p    *partition
	w    *Worker
	inc  ingest.Incarnation
	prev *ingest.Stream
	// forgotten: the log does not know the stream any more.
	forgotten bool

	// tail is the newest entry that this worker knows; Seq 0 if there is none, and then Low is where the chain will start.
	tail batcher.Entry
	// links are the entries after tail.Done, in order; doneLow is Low of entry tail.Done.
	links   []*link
	doneLow int64
	// seen is the last entry up to which this worker has seen every object.
	seen int64
	// trimmed is what the log was told last, hinted the entry that it was told last, page the next page to be written.
	trimmed, hinted, page int64
	hintedAt, shownAt     time.Time

	lanes map[ingest.Lane]*lane
	last  *lane // the lane of the record before, since records of a lane come in runs
	dec   ingest.Decoder
	buf   []ingest.Stored
	// pos is the next offset to read; below skip, records may be in a cut of tail.Next.
	pos, skip int64
	read      int64 // bytes so far
	atEnd     bool
	gap       *batcher.Range // what the log does not have at pos, if anything
	open      int64          // memory of open rows
	flying    int64          // memory of rows whose objects are under way
	// nextDue is when age makes the next lane due; sized says that a size limit makes one due before. looked is read at the last look.
	nextDue time.Time
	sized   bool
	looked  int64

	lastEntry, lastCut time.Time
	// stuckOn is why nothing more is cut, until something is read or put again; stuckLoss is the range that could be given up.
	stuckOn   string
	stuckLoss *batcher.Range

	// starting: the first walk is not over. voids are the batches that the chain says are void.
	starting bool
	voids    map[string]bool
	// readUpTo is the receive time of the record that was read last.
	readUpTo time.Time

	jobs    chan func(context.Context)
	results results
}

// link is an entry whose objects this worker follows.
type link struct {
	entry batcher.Entry
	facts []batcher.Facts // of the objects seen so far, by cut
	left  int             // objects not seen yet
	// adopted: another worker put the entry, and its ids are not in the index yet.
	adopted bool
}

// results carries what uploaders have done to the loop. It never blocks them.
type results struct {
	mu   sync.Mutex // guards list
	list []result
	wake chan struct{} // has room for one
}

type result struct {
	link  *link
	cut   int
	facts batcher.Facts
	held  int64
	err   error
}

func (r *results) put(x result) {
	r.mu.Lock()
	r.list = append(r.list, x)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *results) take() []result {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.list
	r.list = nil
	return l
}

func newCutter(p *partition, inc ingest.Incarnation, prev *ingest.Stream) (*cutter, error) {
	if inc.Stream.Partition != p.id {
		return nil, fmt.Errorf("incarnation %s is not of partition %d", inc.Stream, p.id)
	}
	w := p.w
	return &cutter{
		p: p, w: w, inc: inc, prev: prev, lanes: make(map[ingest.Lane]*lane), voids: make(map[string]bool),
		jobs:    make(chan func(context.Context), int(w.tuning.window)*w.tuning.cuts+1),
		results: results{wake: make(chan struct{}, 1)},
	}, nil
}

// run works on the chain until ctx ends, or until the stream has ended and its chain is closed over all its records.
func (c *cutter) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var uploaders sync.WaitGroup
	defer uploaders.Wait()
	defer cancel()
	for range c.w.opts.Uploads {
		uploaders.Go(func() { // ends with ctx; waited for above
			for {
				select {
				case job := <-c.jobs:
					job(ctx)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	if err := c.start(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		done, err := c.turn(ctx)
		if err != nil || done {
			return err
		}
	}
	return ctx.Err()
}

// turn does one thing. It reports whether the chain is closed for good.
func (c *cutter) turn(ctx context.Context) (bool, error) {
	if err := c.collect(); err != nil {
		return false, err
	}
	if err := c.settle(ctx); err != nil { // step 2, for entries that were adopted
		return false, err
	}
	if c.refresh(); c.forgotten {
		return true, nil
	}
	if err := c.trim(ctx); err != nil {
		return false, err
	}
	if c.drained() {
		return true, c.leave(ctx)
	}
	now := time.Now()
	d := c.due(now)
	if c.gap != nil && len(d.picks) == 0 && len(c.lanes) == 0 {
		return false, c.lose(ctx)
	}
	c.show(ctx, now)
	do, until := decide(c.state(now, &d))
	switch do {
	case actCut:
		return false, c.cut(ctx, &d, now)
	case actClose:
		return false, c.cut(ctx, &due{}, now)
	case actRead:
		return false, c.readMore(ctx)
	}
	return false, c.wait(ctx, until)
}

// state gathers what decide has to know.
func (c *cutter) state(now time.Time, d *due) state {
	return state{
		now: now, due: len(d.picks) > 0, urgent: d.urgent, nextDue: d.next,
		room:     c.room(),
		closable: c.closable(), readable: !c.atEnd && c.gap == nil && c.open+c.flying < c.w.opts.Memory,
		drain: c.ending(), lastEntry: c.lastEntry, lastCut: c.lastCut, spacing: c.w.opts.Spacing,
	}
}

// due looks at the lanes, unless nothing can have become due since the last look or nothing could be done about it.
func (c *cutter) due(now time.Time) due {
	if !c.room() {
		return due{}
	}
	all := c.ending() || c.gap != nil
	half := c.w.opts.Memory / 2
	if !c.sized && !all && c.open <= half && c.read-c.looked < c.w.opts.Hold/16 {
		at := c.nextDue
		if spaced := c.lastEntry.Add(c.w.opts.Spacing); !at.IsZero() && at.Before(spaced) {
			at = spaced
		}
		if at.IsZero() || now.Before(at) {
			return due{next: at}
		}
	}
	d := choose(c.lanes, limits{now: now, open: c.open, memory: half, read: c.read, hold: c.w.opts.Hold, all: all, cuts: c.w.tuning.cuts})
	c.looked, c.sized, c.nextDue = c.read, d.urgent, d.next
	if len(d.picks) > 0 {
		c.nextDue = now // until they are cut
	}
	return d
}

// room reports whether one more entry stays within the window of entries whose objects may be missing.
func (c *cutter) room() bool { return c.tail.Seq+1-c.seen <= c.w.tuning.window || c.w.mut.ignoreWindow }

// ending reports whether the stream has ended and all that this log holds of it was read.
func (c *cutter) ending() bool { return !c.inc.Live() && c.pos >= c.inc.Next }

// closable reports whether an entry without cuts would raise done over an entry with cuts.
func (c *cutter) closable() bool {
	if c.w.mut.alwaysClose {
		return c.seen > c.tail.Done
	}
	for _, l := range c.links {
		if l.entry.Seq <= c.seen && len(l.entry.Cuts) > 0 {
			return true
		}
	}
	return false
}

// drained reports whether the stream has ended, and an entry without cuts says that all objects of its chain exist. A stream without a chain
// is drained if it has no records. It closes nothing: a holder of more records of the stream goes on after that entry.
func (c *cutter) drained() bool {
	if !c.ending() || len(c.lanes) > 0 {
		return false
	}
	if c.tail.Seq == 0 {
		return c.gap == nil
	}
	for _, l := range c.links {
		if len(l.entry.Cuts) > 0 {
			return false
		}
	}
	return len(c.tail.Cuts) == 0
}

// leave ends the work on a drained stream. Its last trim waits until the next stream has a chain.
func (c *cutter) leave(ctx context.Context) error {
	if c.tail.Seq == 0 {
		return nil
	}
	if err := c.p.release(ctx); err != nil {
		return err
	}
	c.p.folded[c.inc.Stream] = true
	c.p.kept = &trim{c.inc.Stream, max(c.tail.Low, c.inc.Next)}
	if c.w.mut.forgetPreviously {
		return c.p.release(ctx)
	}
	return nil
}

// end is one past the last offset that belongs to the stream.
func (c *cutter) end() int64 {
	if c.inc.Live() {
		return math.MaxInt64
	}
	return c.inc.Next
}

// refresh learns whether the stream has ended, or is not known to the log any more: because it never had records, or because another worker
// has cut them all.
func (c *cutter) refresh() {
	for _, inc := range c.p.log.Incarnations() {
		if inc.Stream == c.inc.Stream {
			c.inc = inc
			return
		}
	}
	c.forgotten = true
}

// collect takes over what uploaders have done.
func (c *cutter) collect() error {
	for _, r := range c.results.take() {
		if r.err != nil {
			return r.err
		}
		c.flying -= r.held
		r.link.facts[r.cut] = r.facts
		r.link.left--
	}
	c.advance()
	return nil
}

// advance raises seen over entries whose objects were all seen.
func (c *cutter) advance() {
	for _, l := range c.links {
		if l.entry.Seq == c.seen+1 && (l.left == 0 && !l.adopted || c.w.mut.doneUnseen) {
			c.seen++
		}
	}
}

// wait blocks until the log has more, an uploader is done, until has come, or ctx has ended.
func (c *cutter) wait(ctx context.Context, until time.Time) error {
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	grown := make(chan error, 1)
	if c.atEnd && c.open+c.flying < c.w.opts.Memory && c.inc.Live() {
		go func() { grown <- c.p.log.Wait(wctx, c.pos) }() // ends with wctx, and is waited for below
		defer func() { cancel(); <-grown }()
	}
	const look = time.Second // even if nothing happens: a stream may have ended
	d := look
	if !until.IsZero() {
		d = min(max(time.Until(until), 0), look)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case err := <-grown:
		grown <- nil
		c.atEnd = false
		if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			return c.waitFailed(ctx, err)
		}
	case <-c.results.wake:
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// waitFailed tells a fault of the log that may pass from one that does not.
func (c *cutter) waitFailed(ctx context.Context, err error) error {
	if !again(err) {
		return fmt.Errorf("wait for records: %w", err)
	}
	b := backoff{rng: c.p.rng}
	_ = b.sleep(ctx) // run looks at ctx
	return nil
}
