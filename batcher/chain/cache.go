package chain

import (
	"sync"

	"millrace/batcher"
	"millrace/ingest"
)

// cache keeps entries, which never change, up to a bound on their stored size; the ones added first go first.
type cache struct {
	limit int

	mu      sync.Mutex // guards all below
	entries map[place]batcher.Entry
	order   []sized
	bytes   int
}

type place struct {
	stream ingest.Stream
	seq    int64
}

type sized struct {
	place
	bytes int
}

func (c *cache) get(s ingest.Stream, seq int64) (batcher.Entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[place{s, seq}]
	return e, ok
}

func (c *cache) add(e batcher.Entry, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := place{e.Stream, e.Seq}
	if _, ok := c.entries[at]; ok || bytes > c.limit {
		return
	}
	if c.entries == nil {
		c.entries = make(map[place]batcher.Entry)
	}
	c.entries[at] = e
	c.order = append(c.order, sized{at, bytes})
	for c.bytes += bytes; c.bytes > c.limit; {
		delete(c.entries, c.order[0].place)
		c.bytes -= c.order[0].bytes
		c.order = c.order[1:]
	}
}
