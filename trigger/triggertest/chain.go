package triggertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"millrace/batcher"
	"millrace/ingest"
)

// Chain keeps chains and objects in memory, as a worker would leave them, and is a batcher.Catalogue over them. Safe for concurrent use.
type Chain struct {
	// Fault is asked before each operation ("streams", "entry", "tail", "facts") and may fail it. Set it before use.
	Fault func(op string) error

	mu      sync.Mutex
	chains  map[ingest.Stream][]batcher.Entry
	objects map[string]batcher.Facts
	asked   map[string]int
}

var _ batcher.Catalogue = (*Chain)(nil)

// NewChain returns an empty one.
func NewChain() *Chain {
	return &Chain{chains: map[ingest.Stream][]batcher.Entry{}, objects: map[string]batcher.Facts{}, asked: map[string]int{}}
}

// Stream names a stream for tests.
func Stream(log string) ingest.Stream { return ingest.Stream{Log: log, Incarnation: "i1"} }

// Cut appends an entry that cuts one batch of ten events for each lane; a lane "" is a cut with duplicates only, without a batch. The objects
// do not exist yet. It returns the batches as [Chain.Put] takes them. Done is as far as all objects exist.
func (c *Chain) Cut(s ingest.Stream, at time.Time, lanes ...ingest.Lane) []batcher.Batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := batcher.Entry{V: batcher.EntryVersion, Stream: s, Seq: int64(len(c.chains[s])) + 1, WrittenAt: at}
	for i, lane := range lanes {
		first := (e.Seq*100 + int64(i)) * 10
		cut := batcher.Cut{Lane: lane, First: first, Last: first + 9, CreatedAt: at, Codec: "ndjson.gz", Layout: batcher.LayoutVersion, Reason: batcher.ReasonAge}
		if lane != "" {
			cut.Count, cut.Batch = 10, batcher.BatchID(s, e.Seq, i, at)
			cut.Object = batcher.ObjectKey(lane, at, s, first, cut.Codec)
		}
		e.Cuts = append(e.Cuts, cut)
	}
	return c.append(e)
}

// Close appends an entry without cuts, which says how far all objects exist.
func (c *Chain) Close(s ingest.Stream, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.append(batcher.Entry{V: batcher.EntryVersion, Stream: s, Seq: int64(len(c.chains[s])) + 1, WrittenAt: at})
}

func (c *Chain) append(e batcher.Entry) []batcher.Batch {
	list := c.chains[e.Stream]
	if len(list) > 0 {
		e.Done = list[len(list)-1].Done
	}
	for n := e.Done; n < int64(len(list)) && c.whole(&list[n]); n++ {
		e.Done = n + 1
		for i := range list[n].Cuts {
			if key := list[n].Cuts[i].Object; key != "" {
				e.Facts = append(e.Facts, c.objects[key])
			}
		}
	}
	c.chains[e.Stream] = append(list, e)
	var out []batcher.Batch
	for i := range e.Cuts {
		if e.Cuts[i].Count > 0 {
			out = append(out, batcher.BatchOf(&e, i, batcher.Facts{Rows: e.Cuts[i].Count}, ""))
		}
	}
	return out
}

func (c *Chain) whole(e *batcher.Entry) bool {
	return !slices.ContainsFunc(e.Cuts, func(cut batcher.Cut) bool {
		_, ok := c.objects[cut.Object]
		return cut.Count > 0 && !ok
	})
}

// Put makes the object of b; if b.Void is set, an empty one. It returns the batch with its facts, as it is announced.
func (c *Chain) Put(b batcher.Batch, at time.Time) batcher.Batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.objects[b.Key]
	if !ok {
		f = batcher.Facts{
			Batch: b.ID, Bytes: 100, RawBytes: 1000, Checksum: "crc32c:00000000", Rows: b.Events, Types: b.Types, Void: b.Void,
			ReceivedMin: b.CreatedAt, ReceivedMax: b.CreatedAt, EventMin: b.CreatedAt, EventMax: b.CreatedAt, CommittedAt: at,
		}
		c.objects[b.Key] = f
	}
	e := &c.chains[b.Stream][b.Seq-1]
	return batcher.BatchOf(e, b.Cut, f, uri(b.Key))
}

// Delete removes the object of b, as somebody's lifecycle rule would.
func (c *Chain) Delete(b batcher.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.objects, b.Key)
}

// Asked returns how often an operation was called.
func (c *Chain) Asked(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[op]
}

// Done returns the batches of s that its chain says exist, in order.
func (c *Chain) Done(s ingest.Stream) []batcher.Batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.chains[s]
	var out []batcher.Batch
	for n := range list[max(0, len(list)-1):][0].Done {
		for i := range list[n].Cuts {
			if cut := &list[n].Cuts[i]; cut.Count > 0 {
				out = append(out, batcher.BatchOf(&list[n], i, c.objects[cut.Object], uri(cut.Object)))
			}
		}
	}
	return out
}

func uri(key string) string { return "mem:///" + key }

func (c *Chain) enter(ctx context.Context, op string) error {
	if c.Fault != nil {
		if err := c.Fault(op); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	c.mu.Lock()
	c.asked[op]++
	c.mu.Unlock()
	return ctx.Err()
}

// Streams implements batcher.Catalogue.
func (c *Chain) Streams(ctx context.Context) ([]ingest.Stream, error) {
	if err := c.enter(ctx, "streams"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.chains)), nil
}

// Entry implements batcher.Catalogue.
func (c *Chain) Entry(ctx context.Context, s ingest.Stream, seq int64) (batcher.Entry, error) {
	if err := c.enter(ctx, "entry"); err != nil {
		return batcher.Entry{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if list := c.chains[s]; seq >= 1 && seq <= int64(len(list)) {
		return list[seq-1], nil
	}
	return batcher.Entry{}, fmt.Errorf("entry %d of %s: %w", seq, s, batcher.ErrNotFound)
}

// Tail implements batcher.Catalogue.
func (c *Chain) Tail(ctx context.Context, s ingest.Stream, _ int64) (batcher.Entry, error) {
	if err := c.enter(ctx, "tail"); err != nil {
		return batcher.Entry{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.chains[s]
	if len(list) == 0 {
		return batcher.Entry{}, fmt.Errorf("tail of %s: %w", s, batcher.ErrNotFound)
	}
	return list[len(list)-1], nil
}

// Facts implements batcher.Catalogue.
func (c *Chain) Facts(ctx context.Context, cut batcher.Cut) (batcher.Facts, string, error) {
	if err := c.enter(ctx, "facts"); err != nil {
		return batcher.Facts{}, "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.objects[cut.Object]
	if !ok {
		return batcher.Facts{}, "", fmt.Errorf("facts of %q: %w", cut.Object, batcher.ErrNotFound)
	}
	return f, uri(cut.Object), nil
}
