package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/batcher"
	"millrace/ingest"
)

const (
	// maxWindow bounds the entries of one chain that are kept while they wait for done.
	maxWindow = 64
	// maxGap is how many entries are read to get to one that a hint names; farther ones are read alone.
	maxGap = 16
	// maxMissing is how often an object must be missing, which its chain says exists, before that is believed.
	maxMissing = 3
)

// stream is what the loop knows of one chain.
type stream struct {
	id     ingest.Stream
	cursor int64
	// recorded: the ledger has a cursor for it.
	recorded bool
	// window has the entries after cursor, as far as they were read; done is the highest that any entry named.
	window []batcher.Entry
	done   int64
	// far is the last entry that a hint named beyond the window.
	far batcher.Entry
	// ahead has, by entry, the batches above the cursor that are in the ledger.
	ahead map[int64]map[string]bool
	// missing counts looks at objects that are not there.
	missing map[string]int
	// due is when to look again, changed when something was new, wait the pause after an error.
	due, changed time.Time
	wait         time.Duration
}

func newStream(id ingest.Stream, cursor int64, now time.Time) *stream {
	return &stream{id: id, cursor: cursor, ahead: map[int64]map[string]bool{}, missing: map[string]int{}, due: now, changed: now}
}

// tail returns the last entry of the window, or the cursor.
func (s *stream) tail() int64 { return s.cursor + int64(len(s.window)) }

// entry returns the entry seq, which must be above the cursor, reading what is needed.
func (s *stream) entry(ctx context.Context, cat batcher.Catalogue, seq int64) (*batcher.Entry, error) {
	if s.far.Seq == seq {
		return &s.far, nil
	}
	if seq > s.tail()+maxGap || seq > s.cursor+maxWindow {
		e, err := cat.Entry(ctx, s.id, seq)
		if err != nil {
			return nil, err
		}
		s.far, s.done = e, max(s.done, e.Done)
		return &s.far, nil
	}
	for s.tail() < seq {
		if err := s.read(ctx, cat); err != nil {
			return nil, err
		}
	}
	return &s.window[seq-s.cursor-1], nil
}

// read appends the next entry to the window.
func (s *stream) read(ctx context.Context, cat batcher.Catalogue) error {
	e, err := cat.Entry(ctx, s.id, s.tail()+1)
	if err != nil {
		return err
	}
	if e.Seq != s.tail()+1 {
		return fmt.Errorf("read entry %d of chain %s: it says that it is %d", s.tail()+1, s.id, e.Seq)
	}
	s.window, s.done = append(s.window, e), max(s.done, e.Done)
	return nil
}

// walk reads until the tail, or until the window is full.
func (s *stream) walk(ctx context.Context, cat batcher.Catalogue) (grown bool, err error) {
	for len(s.window) < maxWindow {
		switch err := s.read(ctx, cat); {
		case errors.Is(err, batcher.ErrNotFound):
			return grown, nil
		case err != nil:
			return grown, err
		}
		grown = true
	}
	return grown, nil
}

// pass moves the cursor to seq.
func (s *stream) pass(seq int64) {
	for s.cursor < seq {
		s.cursor++
		delete(s.ahead, s.cursor)
		if len(s.window) > 0 {
			s.window = s.window[1:]
		}
	}
	if len(s.window) == 0 {
		s.window = nil
	}
	s.recorded = true
}

// open reports whether the window has batches, so that done can be expected to rise soon. A chain at rest ends with an entry without cuts,
// which done does not cover.
func (s *stream) open() bool {
	return slices.ContainsFunc(s.window, func(e batcher.Entry) bool {
		return slices.ContainsFunc(e.Cuts, func(c batcher.Cut) bool { return c.Count > 0 })
	})
}

// rest sets when to look again, after a look that found all there is.
func (s *stream) rest(now time.Time, o Options, hurry bool) {
	s.wait = 0
	limit := o.PollMax
	if hurry {
		limit = 2 * o.PollMin
	}
	s.due = now.Add(min(max(now.Sub(s.changed)/8, o.PollMin), limit))
}

// stumble sets when to look again after an error.
func (s *stream) stumble(now time.Time, o Options) {
	s.wait = min(max(2*s.wait, o.PollMin/2), o.PollMax)
	s.due = now.Add(s.wait)
}

// pastFacts finds in the chain what is known of a cut whose object is not there any more: the entry that closed it has its facts.
func (s *stream) pastFacts(ctx context.Context, cat batcher.Catalogue, seq int64, c *batcher.Cut) (batcher.Facts, error) {
	facts := batcher.Facts{Batch: c.Batch, Rows: c.Count, Records: c.Records, CommittedAt: c.CreatedAt}
	for n := seq + 1; ; n++ {
		var e *batcher.Entry
		if n <= s.tail() {
			e = &s.window[n-s.cursor-1]
		} else {
			read, err := cat.Entry(ctx, s.id, n)
			if errors.Is(err, batcher.ErrNotFound) {
				return facts, nil
			}
			if err != nil {
				return facts, err
			}
			e = &read
		}
		for _, f := range e.Facts {
			if f.Batch == c.Batch {
				return f, nil
			}
		}
		if e.Done >= seq {
			return facts, nil
		}
	}
}
