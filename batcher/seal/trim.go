package seal

import (
	"context"
	"fmt"
	"time"

	"millrace/ingest"
)

// trim is step 6: the log may delete what is below Low of entry done, as the chain says it, not as this worker knows it: a new owner reads from
// the log what the entries after done have kept. Entries without cuts after done have no objects that could be missing.
func (c *cutter) trim(ctx context.Context) error {
	low := c.doneLow
	for _, l := range c.links {
		if len(l.entry.Cuts) > 0 || l.adopted {
			break
		}
		low = l.entry.Low
	}
	if c.w.mut.trimToTail {
		low = c.tail.Low
	}
	if !c.inc.Live() {
		low = min(low, c.inc.Next-1) // the last step is taken by leave
	}
	if low > c.trimmed && low > c.inc.First {
		c.w.step(StepTrim)
		err := c.p.retry(ctx, c.p.rng, "trim", func() error { return c.p.log.Trim(ctx, c.inc.Stream, low) })
		if err != nil {
			return fmt.Errorf("trim log to %d: %w", low, err)
		}
		c.w.step(StepTrimmed)
		c.trimmed = low
	}
	c.writePage()
	return c.tellTail(ctx)
}

const (
	// hintEvery and hintAfter bound how far the log's hint is behind the tail.
	hintEvery = 64
	hintAfter = 5 * time.Second
)

// tellTail keeps the log's hint near the tail, and releases the stream before once this one has a chain.
func (c *cutter) tellTail(ctx context.Context) error {
	if c.tail.Seq == 0 {
		return nil
	}
	if err := c.p.release(ctx); err != nil {
		return err
	}
	if c.tail.Seq == c.hinted || c.hinted > 0 && c.tail.Seq < c.hinted+hintEvery && time.Since(c.hintedAt) < hintAfter {
		return nil
	}
	return c.saveHint(ctx)
}

// saveHint tells the log where its chain is, and the tail. Home is durable before entry 1 is put.
func (c *cutter) saveHint(ctx context.Context) error {
	hint := ingest.ChainHint{Home: c.w.store.Home(), Seq: c.tail.Seq}
	err := c.p.retry(ctx, c.p.rng, "hint", func() error { return c.p.log.SaveHint(ctx, c.inc.Stream, hint) })
	if err != nil {
		return fmt.Errorf("tell the log of its chain: %w", err)
	}
	c.hinted, c.hintedAt = hint.Seq, time.Now()
	return nil
}

// checkPage finds out which page is the next to be written: a worker before may have stopped before it wrote the last one.
func (c *cutter) checkPage(ctx context.Context) error {
	size := c.w.tuning.pageSize
	c.page = c.tail.Done / size
	if c.page == 0 {
		return nil
	}
	var has bool
	err := c.p.retry(ctx, c.p.rng, "page", func() (err error) {
		has, err = c.w.chains.HasPage(ctx, c.inc.Stream, c.page-1)
		return err
	})
	if err != nil {
		return fmt.Errorf("look for page %d: %w", c.page-1, err)
	}
	if !has {
		c.page--
	}
	return nil
}

// writePage repeats entries that are done in a page, beside the loop. It is tried once; readers do without it.
func (c *cutter) writePage() {
	if c.tail.Done < (c.page+1)*c.w.tuning.pageSize {
		return
	}
	n := c.page
	job := func(ctx context.Context) {
		if err := c.w.chains.WritePage(ctx, c.inc.Stream, n); err != nil && ctx.Err() == nil {
			c.w.opts.Log.Warn("page is left out", "stream", c.inc.Stream, "page", n, "err", err)
		}
	}
	select {
	case c.jobs <- job:
		c.page++
	default: // as many objects as there can be are waiting; later
	}
}
