package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"millrace/batcher"
	"millrace/ingest"
)

// position is the last batch of a stream that a reader has: cut Cut of entry Seq.
type position struct {
	Seq int64
	Cut int
}

// cursor says what a reader of all batches has: its place in each stream. A stream that another one names as its predecessor is not in it:
// whoever has begun the successor has all of the predecessor.
type cursor map[ingest.Stream]position

func (c cursor) String() string {
	var parts []string
	for s, p := range c {
		parts = append(parts, fmt.Sprintf("%s:%d.%d", s, p.Seq, p.Cut))
	}
	slices.Sort(parts)
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, ",")))
}

func parseCursor(text string) (cursor, error) {
	bad := invalid("from is %q, want start, now or a cursor", text)
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, bad
	}
	c := cursor{}
	for part := range strings.SplitSeq(string(b), ",") {
		name, at, ok := strings.Cut(part, ":")
		seq, cut, ok2 := strings.Cut(at, ".")
		s, err := ingest.ParseStream(name)
		n, err2 := strconv.ParseInt(seq, 10, 64)
		i, err3 := strconv.Atoi(cut)
		if !ok || !ok2 || errors.Join(err, err2, err3) != nil || n < 0 || i < 0 {
			return nil, bad
		}
		c[s] = position{n, i}
	}
	return c, nil
}

// tailer walks chains. It emits a batch when an entry says that its object exists, in the order of the cuts; so it needs nothing but entries.
type tailer struct {
	cat     batcher.Catalogue
	uri     func(key string) string
	streams map[ingest.Stream]*tailed
	at      cursor
	emit    func(b batcher.Batch, at string) error
}

// tailed is the place in one stream.
type tailed struct {
	prev ingest.Stream
	// next is the entry to read next. open are cuts whose objects no entry has confirmed.
	next int64
	open []openCut
	// over says that a successor has begun, and that all of this one was read after that: nothing more comes.
	over bool
}

type openCut struct {
	entry *batcher.Entry
	cut   int
}

// discover adds streams that are new, from their beginning, or from now.
func (t *tailer) discover(ctx context.Context, now bool) error {
	streams, err := t.cat.Streams(ctx)
	if err != nil {
		return err
	}
	for _, s := range streams {
		if t.streams[s] != nil {
			continue
		}
		first, err := t.cat.Entry(ctx, s, 1)
		if errors.Is(err, batcher.ErrNotFound) {
			continue // It is about to begin.
		}
		if err != nil {
			return err
		}
		d := &tailed{next: 1}
		if first.Prev != nil {
			d.prev = *first.Prev
		}
		t.streams[s] = d
	}
	if now {
		return t.skip(ctx)
	}
	return nil
}

// skip begins each stream that has no successor after what its tail has confirmed, and leaves the others alone.
func (t *tailer) skip(ctx context.Context) error {
	for _, d := range t.streams {
		if prev := t.streams[d.prev]; prev != nil {
			prev.over = true
		}
	}
	for s, d := range t.streams {
		if d.over {
			continue
		}
		tail, err := t.cat.Tail(ctx, s, 0)
		if err != nil {
			return err
		}
		d.next, t.at[s] = tail.Done+1, position{Seq: tail.Done, Cut: allCuts}
	}
	return nil
}

// allCuts is above the number of any cut.
const allCuts = 1 << 30

// resume puts each stream where the cursor says, and takes the predecessors of its streams as read.
func (t *tailer) resume() {
	for s, p := range t.at {
		d := t.streams[s]
		if d == nil {
			continue
		}
		d.next = max(p.Seq, 1)
		t.ancestors(d, func(_ ingest.Stream, older *tailed) { older.over = true })
	}
}

// ancestors calls f for the predecessor of d, its predecessor, and so on.
func (t *tailer) ancestors(d *tailed, f func(ingest.Stream, *tailed)) {
	for range t.streams { // A chain of predecessors is no longer than that, whatever it says.
		older := t.streams[d.prev]
		if older == nil {
			return
		}
		f(d.prev, older)
		d = older
	}
}

// step reads what is new in each stream.
func (t *tailer) step(ctx context.Context) error {
	order := make([]ingest.Stream, 0, len(t.streams))
	for s := range t.streams {
		order = append(order, s)
	}
	slices.SortFunc(order, func(a, b ingest.Stream) int { return cmp.Compare(a.String(), b.String()) })
	for _, s := range order {
		if err := t.visit(ctx, s, t.streams[s]); err != nil {
			return err
		}
	}
	return nil
}

// visit reads a stream up to its tail, and before it the predecessor: that one was complete before this one began, so what is read of it now
// is all.
func (t *tailer) visit(ctx context.Context, s ingest.Stream, d *tailed) error {
	if d.over {
		return nil
	}
	if prev := t.streams[d.prev]; prev != nil && !prev.over {
		if err := t.visit(ctx, d.prev, prev); err != nil {
			return err
		}
		prev.over = true
	}
	for {
		e, err := t.cat.Entry(ctx, s, d.next)
		if errors.Is(err, batcher.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.take(s, d, &e); err != nil {
			return err
		}
		d.next++
	}
}

// take emits what e confirms, and notes what it cuts.
func (t *tailer) take(s ingest.Stream, d *tailed, e *batcher.Entry) error {
	for i := range e.Facts {
		f := &e.Facts[i]
		at := slices.IndexFunc(d.open, func(o openCut) bool { return o.entry.Cuts[o.cut].Batch == f.Batch })
		if at < 0 {
			continue // The reader has it.
		}
		o := d.open[at]
		d.open = slices.Delete(d.open, 0, at+1)
		t.at[s] = position{o.entry.Seq, o.cut}
		t.ancestors(d, func(older ingest.Stream, _ *tailed) { delete(t.at, older) })
		b := batcher.BatchOf(o.entry, o.cut, *f, t.uri(o.entry.Cuts[o.cut].Object))
		if err := t.emit(b, t.at.String()); err != nil {
			return err
		}
	}
	have, began := t.at[s]
	for i := range e.Cuts {
		if e.Cuts[i].Count > 0 && (!began || e.Seq > have.Seq || e.Seq == have.Seq && i > have.Cut) {
			d.open = append(d.open, openCut{e, i})
		}
	}
	return nil
}

// tailLine is a line of the stream.
type tailLine struct {
	batcher.Batch
	Cursor string `json:"cursor"`
}

func (s *Server) tailBatches(c echo.Context) error {
	if s.d.Catalogue == nil || s.d.Objects == nil {
		return errNoObjects
	}
	from := cmp.Or(c.Request().Header.Get("Last-Event-ID"), c.QueryParam("from"), "now")
	t := &tailer{cat: s.d.Catalogue, uri: s.d.Objects.URI, streams: map[ingest.Stream]*tailed{}, at: cursor{}}
	if from != "now" && from != "start" {
		var err error
		if t.at, err = parseCursor(from); err != nil {
			return err
		}
	}
	ctx := c.Request().Context()
	if err := t.discover(ctx, from == "now"); err != nil {
		return err
	}
	t.resume()
	sse := strings.Contains(c.Request().Header.Get(echo.HeaderAccept), eventStream)
	kind := "application/x-ndjson"
	if sse {
		kind = eventStream
	}
	out := s.stream(c, kind)
	t.emit = func(b batcher.Batch, at string) error { return writeLine(out, tailLine{b, at}, at, sse) }
	c.Response().WriteHeader(http.StatusOK)
	return s.followTail(ctx, t, out)
}

func (s *Server) followTail(ctx context.Context, t *tailer, out *stream) error {
	const again = 20 // steps between two looks for new streams
	for n := 1; ; n++ {
		if err := t.step(ctx); err != nil {
			return err
		}
		if err := out.flush(); err != nil {
			return nil // The reader has gone.
		}
		if !s.wait(ctx, 4*s.o.Poll) {
			return nil
		}
		if n%again == 0 {
			if err := t.discover(ctx, false); err != nil {
				return err
			}
		}
	}
}

// writeLine writes a line of a stream; id is where a reader of it goes on.
func writeLine(w io.Writer, line any, id string, sse bool) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // events are shown as they were sent
	if err := enc.Encode(line); err != nil {
		return err
	}
	var err error
	if sse {
		_, err = fmt.Fprintf(w, "id: %s\ndata: %s\n", id, b.Bytes()) // the line's own end and an empty one
	} else {
		_, err = w.Write(b.Bytes())
	}
	return err
}
