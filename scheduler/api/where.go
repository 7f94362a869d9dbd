package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"time"

	"github.com/labstack/echo/v4"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/trigger"
)

// What can have become of an event.
const (
	whereBatched     = "batched"     // batch, object and row are known
	whereQuarantined = "quarantined" // the same, in a quarantine lane; the reason is the lane's
	whereDuplicate   = "duplicate"   // repeats an earlier event, and is in no object
	whereOpen        = "open"        // durable in the log, in no cut yet
	whereInFlight    = "in_flight"   // in a batch that is not in the ledger yet
	whereVoid        = "void"        // its batch was given up
	whereLost        = "lost"        // the log lost it before any cut, and an operator accepted that
	whereUnknown     = "unknown"     // neither the ledger nor the chain explains the offset
)

// maxWhere is how many events of one receipt are followed.
const maxWhere = 1000

// orphans is the source of events that no source would have: those with an unknown write key.
const orphans = "_unknown"

// where is the answer: events in the order of the receipt, and each of their batches once.
type where struct {
	Query     string       `json:"query"`
	Kind      string       `json:"kind"`
	Events    []whereEvent `json:"events"`
	Batches   []whereBatch `json:"batches"`
	Truncated bool         `json:"truncated,omitempty"`
}

type whereEvent struct {
	Stream     ingest.Stream `json:"stream"`
	Offset     int64         `json:"offset"`
	Status     string        `json:"status"`
	Reason     string        `json:"reason,omitempty"`
	Source     string        `json:"source,omitempty"`
	Batch      string        `json:"batch,omitempty"`
	URI        string        `json:"uri,omitempty"`
	Row        int           `json:"row,omitempty"`
	ReceivedAt time.Time     `json:"received_at,omitzero"`
	Command    string        `json:"command,omitempty"`
}

type whereBatch struct {
	Batch        batcher.Batch         `json:"batch"`
	Dispositions []trigger.Disposition `json:"dispositions"`
	Runs         []whereRun            `json:"runs"`
}

type whereRun struct {
	Run   scheduler.Run `json:"run"`
	Tasks []whereTask   `json:"tasks"`
}

type whereTask struct {
	ID      string          `json:"id"`
	Task    string          `json:"task"`
	State   scheduler.State `json:"state"`
	Tries   int             `json:"tries"`
	Command string          `json:"command,omitempty"`
}

func (s *Server) where(c echo.Context) error {
	if s.d.Store == nil {
		return errNoSchedule
	}
	if s.d.Catalogue == nil || s.d.Objects == nil || s.d.Codec == nil {
		return errNoObjects
	}
	since, err := time.ParseDuration(cmp.Or(c.QueryParam("since"), "72h"))
	if err != nil || since < 0 {
		return invalid("since is %q, want a duration such as 72h", c.QueryParam("since"))
	}
	ctx := c.Request().Context()
	w := &where{Query: param(c, "query"), Kind: "receipt", Batches: []whereBatch{}}
	receipt, err := ingest.ParseReceipt(w.Query)
	if err != nil {
		w.Kind = "id"
		if receipt, err = s.spansOf(ctx, w.Query, time.Now().Add(-since)); err != nil {
			return err
		}
	}
	look := &lookup{s: s, entries: map[entryKey]batcher.Entry{}, ids: map[string]bool{}}
	for _, span := range receipt {
		if room := int64(maxWhere - len(w.Events)); span.Last-span.First >= room {
			span.Last, w.Truncated = span.First+room-1, true
		}
		events, err := look.span(ctx, span)
		if err != nil {
			return err
		}
		w.Events = append(w.Events, events...)
	}
	if w.Batches, err = s.whereBatches(ctx, w.Events); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, w)
}

// spansOf finds the record that was kept for a sender's id: in the dedupe index, or in the sidecars, newest first.
func (s *Server) spansOf(ctx context.Context, id string, since time.Time) (ingest.Receipt, error) {
	var found ingest.Receipt
	if s.d.Finder != nil {
		names := []string{orphans}
		for _, src := range s.sources() {
			names = append(names, src.Name)
		}
		for _, name := range names {
			if stream, offset, ok := s.d.Finder.Find(ctx, ingest.DedupeID(name, id)); ok {
				found = append(found, ingest.Span{Stream: stream, First: offset, Last: offset})
			}
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	for before := ""; ; {
		batches, next, err := s.d.Store.Batches(ctx, scheduler.BatchQuery{Before: before, Limit: 200})
		if err != nil {
			return nil, err
		}
		for i := range batches {
			b := &batches[i]
			if b.CreatedAt.Before(since) {
				next = ""
				break
			}
			offset, ok, err := s.inSidecar(ctx, b, ingest.DedupeID(b.Source, id))
			if err != nil {
				return nil, err
			}
			if ok {
				return ingest.Receipt{{Stream: b.Stream, First: offset, Last: offset}}, nil
			}
		}
		if before = next; next == "" {
			return nil, fmt.Errorf("find event %q in the batches since %s (one that came a moment ago may be in none yet): %w",
				id, since.UTC().Format(time.RFC3339), scheduler.ErrNotFound)
		}
	}
}

func (s *Server) inSidecar(ctx context.Context, b *batcher.Batch, id [16]byte) (offset int64, ok bool, err error) {
	err = s.sidecar(ctx, b.ID, func(_ int, r SidecarRow) bool {
		if ok = r.ID == id; ok {
			offset = r.Offset
		}
		return !ok
	})
	return offset, ok, err
}

// sidecar calls row for each row of a batch, numbered from 1. A sidecar that does not exist has none.
func (s *Server) sidecar(ctx context.Context, batch string, row func(n int, r SidecarRow) bool) error {
	body, _, err := s.d.Objects.Get(ctx, batcher.IDsKey(batch))
	if errors.Is(err, batcher.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read sidecar of batch %s: %w", batch, err)
	}
	n := 0
	err = s.d.Codec.IDs(body, func(r SidecarRow) bool { n++; return row(n, r) })
	if err != nil {
		return fmt.Errorf("read sidecar of batch %s: %w", batch, err)
	}
	return nil
}

// lookup is the work for one request.
type lookup struct {
	s       *Server
	entries map[entryKey]batcher.Entry
	ids     map[string]bool // batches whose sidecar was read
}

type entryKey struct {
	stream ingest.Stream
	seq    int64
}

// span explains each offset of a span: from the ledger and the sidecars first, what is left from the chain.
func (l *lookup) span(ctx context.Context, span ingest.Span) ([]whereEvent, error) {
	events := make([]whereEvent, 0, span.Last-span.First+1)
	for o := span.First; o <= span.Last; o++ {
		events = append(events, whereEvent{Stream: span.Stream, Offset: o})
	}
	for i := range events {
		if events[i].Status != "" {
			continue
		}
		batches, _, err := l.s.d.Store.Batches(ctx, scheduler.BatchQuery{Stream: span.Stream, Offset: events[i].Offset, Limit: 1000})
		if err != nil {
			return nil, err
		}
		for j := range batches {
			if err := l.claim(ctx, &batches[j], events, ""); err != nil {
				return nil, err
			}
		}
		if events[i].Status == "" {
			if err := l.explain(ctx, events, i); err != nil {
				return nil, err
			}
		}
	}
	return events, nil
}

// claim marks the events that are rows of b, as status if it is set.
func (l *lookup) claim(ctx context.Context, b *batcher.Batch, events []whereEvent, status string) error {
	if l.ids[b.ID] {
		return nil
	}
	l.ids[b.ID] = true
	first := events[0].Offset
	return l.s.sidecar(ctx, b.ID, func(n int, r SidecarRow) bool {
		if i := r.Offset - first; i >= 0 && i < int64(len(events)) {
			e := &events[i]
			e.Source, e.Batch, e.URI, e.Row, e.ReceivedAt = b.Source, b.ID, b.URI, n, r.ReceivedAt
			e.Command = fmt.Sprintf("millrace batches cat %s | sed -n %dp", b.ID, n)
			switch {
			case status != "":
				e.Status, e.Command = status, ""
			case b.Void != "":
				e.Status, e.Reason, e.Row, e.Command = whereVoid, b.Void, 0, ""
			case b.Lane.Quarantine():
				e.Status, e.Reason = whereQuarantined, b.Lane.Value("reason")
			default:
				e.Status = whereBatched
			}
		}
		return true
	})
}

// back is how many entries before the one that passes an offset are read for the cut that has it; flight how many more once it looks like a
// duplicate, since a batch of another lane may be on its way: entries are at most 8 ahead of their objects.
const (
	back   = 64
	flight = 9
)

// explain says from the chain what became of an offset that is in no batch of the ledger.
func (l *lookup) explain(ctx context.Context, events []whereEvent, i int) error {
	e := &events[i]
	tail, err := l.s.d.Catalogue.Tail(ctx, e.Stream, 0)
	if errors.Is(err, batcher.ErrNotFound) {
		e.Status = whereOpen
		return nil
	}
	if err != nil {
		return fmt.Errorf("find tail of %s: %w", e.Stream, err)
	}
	from, err := l.passing(ctx, tail, e.Offset)
	if err != nil {
		return err
	}
	least := max(1, from-back)
	for seq := from; seq >= least; seq-- {
		entry, err := l.entry(ctx, e.Stream, seq)
		if err != nil {
			return err
		}
		if err := l.cuts(ctx, &entry, events, i); err != nil {
			return err
		}
		switch {
		case e.Status == whereDuplicate:
			least = max(least, seq-flight)
		case e.Status != "":
			return nil
		}
	}
	switch {
	case e.Status != "":
	case e.Offset >= tail.Low:
		e.Status = whereOpen
	default:
		e.Status, e.Reason = whereUnknown, fmt.Sprintf("no cut of entries %d to %d has it", least, from)
	}
	return nil
}

// cuts looks for event i in one entry.
func (l *lookup) cuts(ctx context.Context, entry *batcher.Entry, events []whereEvent, i int) error {
	e := &events[i]
	within := func(r batcher.Range) bool { return r.First <= e.Offset && e.Offset <= r.Last }
	if slices.ContainsFunc(entry.Lost, within) {
		e.Status, e.Reason = whereLost, "the log lost it before it was cut"
		return nil
	}
	for n := range entry.Cuts {
		cut := &entry.Cuts[n]
		if !within(batcher.Range{First: cut.First, Last: cut.Last}) {
			continue
		}
		if cut.Count > 0 {
			b := batcher.BatchOf(entry, n, batcher.Facts{}, l.s.d.Objects.URI(cut.Object))
			if err := l.claim(ctx, &b, events, whereInFlight); err != nil {
				return err
			}
		}
		if slices.ContainsFunc(cut.Dups, within) && (e.Status == "" || e.Status == whereDuplicate) {
			e.Status, e.Source = whereDuplicate, cut.Lane.Source()
			e.Reason = "repeats an earlier event; look for the event's own id to find that one"
		}
	}
	return nil
}

// passing returns the first entry whose Low is above the offset, or the tail.
func (l *lookup) passing(ctx context.Context, tail batcher.Entry, offset int64) (int64, error) {
	var failed error
	n := sort.Search(int(tail.Seq-1), func(i int) bool { // entries 1 to tail-1
		e, err := l.entry(ctx, tail.Stream, int64(i)+1)
		failed = errors.Join(failed, err)
		return err != nil || e.Low > offset
	})
	return int64(n) + 1, failed
}

func (l *lookup) entry(ctx context.Context, s ingest.Stream, seq int64) (batcher.Entry, error) {
	key := entryKey{s, seq}
	if e, ok := l.entries[key]; ok {
		return e, nil
	}
	e, err := l.s.d.Catalogue.Entry(ctx, s, seq)
	if err != nil {
		return e, fmt.Errorf("read entry %d of %s: %w", seq, s, err)
	}
	l.entries[key] = e
	return e, nil
}

// whereBatches tells of each batch that the events name and the ledger has.
func (s *Server) whereBatches(ctx context.Context, events []whereEvent) ([]whereBatch, error) {
	out := []whereBatch{}
	seen := map[string]bool{"": true}
	for i := range events {
		id := events[i].Batch
		if seen[id] || events[i].Status == whereInFlight {
			continue
		}
		seen[id] = true
		d, err := s.d.Store.Batch(ctx, id)
		if err != nil {
			return nil, err
		}
		runs, err := s.whereRuns(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, whereBatch{d.Batch, list(d.Dispositions), runs})
	}
	return out, nil
}

func (s *Server) whereRuns(ctx context.Context, batch string) ([]whereRun, error) {
	runs, _, err := s.d.Store.Runs(ctx, scheduler.RunQuery{Batch: batch})
	if err != nil {
		return nil, err
	}
	out := []whereRun{}
	for i := range runs {
		d, err := s.d.Store.Run(ctx, runs[i].ID)
		if err != nil {
			return nil, err
		}
		r := whereRun{Run: runOf(runs[i]), Tasks: []whereTask{}}
		for j := range d.Tasks {
			t := &d.Tasks[j]
			w := whereTask{ID: t.ID(), Task: t.Task, State: t.State, Tries: t.Try}
			if t.Try > 0 {
				w.Command = fmt.Sprintf("millrace runs logs %s --task %s", t.Run, t.Task)
				if t.MapIndex != scheduler.NoMap {
					w.Command += fmt.Sprintf(" --map-index %d", t.MapIndex)
				}
			}
			r.Tasks = append(r.Tasks, w)
		}
		out = append(out, r)
	}
	return out, nil
}
