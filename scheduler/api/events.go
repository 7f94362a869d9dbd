package api

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/tidwall/gjson"

	"millrace/batcher"
	"millrace/ingest"
)

// eventLine is a line of the stream of events.
type eventLine struct {
	Batch  string      `json:"batch"`
	Tenant string      `json:"tenant"`
	Source string      `json:"source"`
	Lane   ingest.Lane `json:"lane"`
	// Row counts from 1 in the batch.
	Row    int64           `json:"row"`
	Cursor string          `json:"cursor"`
	Event  json.RawMessage `json:"event"`
}

// maxFilters bounds the conditions of one reader; each is evaluated for each row.
const maxFilters = 16

// eventFilter selects rows. Zero fields do not select.
type eventFilter struct {
	tenant, source, lane, typ string
	where                     []condition
}

// condition is "path", "path=value" or "path!=value" of a row.
type condition struct {
	path, value string
	equal, not  bool
}

func parseCondition(text string) (condition, error) {
	path, value, equal := strings.Cut(text, "=")
	path, not := strings.CutSuffix(path, "!")
	if path = strings.TrimSpace(path); path == "" || strings.ContainsAny(path, "@#|") || not && !equal {
		return condition{}, invalid("where is %q, want FIELD, FIELD=VALUE or FIELD!=VALUE, such as properties.plan=pro", text)
	}
	return condition{path, strings.TrimSpace(value), equal, not}, nil
}

// holds looks a path up in a row. Below body, it goes on in the JSON that the body's text is.
func (c *condition) holds(row []byte) bool {
	got := gjson.GetBytes(row, c.path)
	if rest, ok := strings.CutPrefix(c.path, "body."); ok && !got.Exists() {
		if body := gjson.GetBytes(row, "body"); body.Type == gjson.String && gjson.Valid(body.Str) {
			got = gjson.Get(body.Str, rest)
		}
	}
	if !c.equal {
		return got.Exists()
	}
	return (got.Exists() && got.String() == c.value) != c.not
}

func (f *eventFilter) batch(b *batcher.Batch) bool {
	return b.Void == "" && (f.tenant == "" || f.tenant == b.Tenant) && (f.source == "" || f.source == b.Source) &&
		(f.lane == "" || f.lane == string(b.Lane)) && (f.typ == "" || b.Types[f.typ] > 0 || len(b.Types) == 0 || len(b.Types) >= batcher.MaxTypes)
}

func (f *eventFilter) row(row []byte) bool {
	if f.typ != "" && gjson.GetBytes(row, "type").String() != f.typ {
		return false
	}
	return !slices.ContainsFunc(f.where, func(c condition) bool { return !c.holds(row) })
}

// eventCursor is a place between two rows: after row Row of Batch, for a reader that has what is before cursor From.
type eventCursor struct {
	from  string
	batch string
	row   int64
}

func (c eventCursor) String() string {
	return c.from + "~" + c.batch + "~" + strconv.FormatInt(c.row, 10)
}

func parseEventCursor(text string) (eventCursor, error) {
	from, rest, inside := strings.Cut(text, "~")
	c := eventCursor{from: from}
	if !inside {
		return c, nil
	}
	batch, row, _ := strings.Cut(rest, "~")
	n, err := strconv.ParseInt(row, 10, 64)
	if err != nil || n < 0 || batch == "" {
		return c, invalid("from is %q, want start, now or a cursor", text)
	}
	c.batch, c.row = batch, n
	return c, nil
}

// eventTail is one reader of events.
type eventTail struct {
	s      *Server
	ctx    context.Context
	filter eventFilter
	mask   *masker // nil: shows all
	left   int64   // rows until the end; below 0: no end
	at     eventCursor
	sse    bool
	out    *stream
}

// errEnough ends a stream that has what was asked for.
var errEnough = errors.New("enough rows")

func (s *Server) tailEvents(c echo.Context) error {
	if s.d.Catalogue == nil || s.d.Objects == nil || s.d.Codec == nil {
		return errNoObjects
	}
	e, err := s.newEventTail(c)
	if err != nil {
		return err
	}
	t := &tailer{cat: s.d.Catalogue, uri: s.d.Objects.URI, streams: map[ingest.Stream]*tailed{}, at: cursor{}}
	if from := e.at.from; from != "now" && from != "start" {
		if t.at, err = parseCursor(from); err != nil {
			return err
		}
	}
	if err := t.discover(e.ctx, e.at.from == "now"); err != nil {
		return err
	}
	t.resume()
	e.at.from = cmp.Or(t.at.String(), "start") // what is to come is all there is, if there is nothing yet
	kind := "application/x-ndjson"
	if e.sse {
		kind = eventStream
	}
	e.out = s.stream(c, kind)
	t.emit = e.emit
	c.Response().WriteHeader(http.StatusOK)
	if err := s.followTail(e.ctx, t, e.out); !errors.Is(err, errEnough) {
		return err
	}
	return nil
}

func (s *Server) newEventTail(c echo.Context) (*eventTail, error) {
	q := c.QueryParams()
	e := &eventTail{s: s, ctx: c.Request().Context(), sse: strings.Contains(c.Request().Header.Get(echo.HeaderAccept), eventStream)}
	e.filter = eventFilter{tenant: q.Get("tenant"), source: q.Get("source"), lane: q.Get("lane"), typ: q.Get("type")}
	if len(q["where"]) > maxFilters {
		return nil, invalid("where is given %d times, at most %d", len(q["where"]), maxFilters)
	}
	for _, text := range q["where"] {
		cond, err := parseCondition(text)
		if err != nil {
			return nil, err
		}
		e.filter.where = append(e.filter.where, cond)
	}
	limit, err := number(c, "limit", 0, 1<<40, 0)
	if err != nil {
		return nil, err
	}
	if e.left = limit; limit == 0 {
		e.left = -1
	}
	switch mask := q.Get("mask"); mask {
	case "", "on":
		e.mask = newMasker(append(slices.Clone(s.o.Redact), q["redact"]...))
	case "off":
	default:
		return nil, invalid("mask is %q, want on or off", mask)
	}
	e.at, err = parseEventCursor(cmp.Or(c.Request().Header.Get("Last-Event-ID"), q.Get("from"), "now"))
	return e, err
}

// emit writes the rows of one batch that are wanted; at is the cursor after it.
func (e *eventTail) emit(b batcher.Batch, at string) error {
	skip := int64(0)
	if b.ID == e.at.batch {
		skip = e.at.row
	}
	if e.filter.batch(&b) {
		if err := e.rows(&b, skip); err != nil {
			return err
		}
	}
	e.at = eventCursor{from: at}
	return nil
}

// rows reads an object. One that is gone or can not be read is passed over: it must not hide those after it.
func (e *eventTail) rows(b *batcher.Batch, skip int64) error {
	body, _, err := e.s.d.Objects.Get(e.ctx, b.Key)
	if errors.Is(err, batcher.ErrNotFound) {
		e.s.o.Logger.Warn("object of a batch is gone, its events are not shown", "batch", b.ID)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read object of batch %s: %w", b.ID, err)
	}
	rows, err := e.s.d.Codec.Rows(codecOf(b.Key), body)
	if err != nil {
		e.s.o.Logger.Warn("object of a batch can not be read, its events are not shown", "batch", b.ID, "err", err)
		return nil
	}
	defer rows.Close()
	lines := bufio.NewReaderSize(rows, 64<<10)
	for n := int64(1); ; n++ {
		row, err := lines.ReadBytes('\n')
		if len(row) > 1 && n > skip && e.filter.row(row) {
			if err := e.write(b, n, row[:len(row)-1]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read rows of batch %s: %w", b.ID, err)
		}
	}
}

func (e *eventTail) write(b *batcher.Batch, n int64, row []byte) error {
	if e.mask != nil {
		row = e.mask.row(row)
	}
	at := eventCursor{e.at.from, b.ID, n}
	line := eventLine{b.ID, b.Tenant, b.Source, b.Lane, n, at.String(), row}
	if err := writeLine(e.out, line, line.Cursor, e.sse); err != nil {
		return err
	}
	if e.left--; e.left == 0 {
		_ = e.out.flush() // the reader may have gone
		return errEnough
	}
	return nil
}
