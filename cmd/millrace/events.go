package main

import (
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newEvents(g *global) *cobra.Command {
	return group("events", "Look at events", newEventsTail(g))
}

// tailedEvent is a line of events tail.
type tailedEvent struct {
	Batch  string          `json:"batch"`
	Tenant string          `json:"tenant"`
	Source string          `json:"source"`
	Row    int64           `json:"row"`
	Cursor string          `json:"cursor"`
	Event  json.RawMessage `json:"event"`
}

// head is what all rows have, under the names of either kind.
func (e *tailedEvent) head() (id, typ, received string) {
	var h struct {
		MessageID  string `json:"messageId"`
		ID         string `json:"id"`
		Type       string `json:"type"`
		Event      any    `json:"event"`
		ReceivedAt string `json:"receivedAt"`
	}
	_ = json.Unmarshal(e.Event, &h) // what a row lacks is shown as a dash
	if h.MessageID == "" {
		h.MessageID = h.ID
	}
	if name, ok := h.Event.(string); ok && name != "" {
		h.Type += " " + name
	}
	return h.MessageID, h.Type, h.ReceivedAt
}

var eventColumns = []column[tailedEvent]{
	{"RECEIVED", func(e tailedEvent) string {
		_, _, at := e.head()
		t, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return dash(at)
		}
		return clock(t)
	}},
	{"SOURCE", func(e tailedEvent) string { return e.Source }},
	{"TYPE", func(e tailedEvent) string { _, typ, _ := e.head(); return dash(typ) }},
	{"ID", func(e tailedEvent) string { id, _, _ := e.head(); return dash(id) }},
	{"CONTENT", func(e tailedEvent) string { return e.content() }},
}

// content is what the sender said, shortened to a line of a terminal; machine formats have all of it.
func (e *tailedEvent) content() string {
	const most = 120
	var c map[string]json.RawMessage
	_ = json.Unmarshal(e.Event, &c)
	text := string(e.Event)
	for _, key := range []string{"properties", "traits", "body", "data"} {
		if v, ok := c[key]; ok {
			text = string(v)
			break
		}
	}
	var plain string
	if json.Unmarshal([]byte(text), &plain) == nil {
		text = strings.Join(strings.Fields(plain), " ")
	}
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return text
}

func newEventsTail(g *global) *cobra.Command {
	var from, source, tenant, lane, typ string
	var where, redact []string
	var unmasked bool
	var limit int
	c := &cobra.Command{
		Use: "tail", Short: "Follow events as they are committed", Args: exactArgs(0),
		Long: `Follow events as they are committed: one comes when its batch is, so after batch.max_age at the latest, each once and in the order of its
chain. 'millrace batches tail' follows the batches themselves.

Values of fields whose names look like secrets (password, token, api_key, …) are shown as ***, as are the fields that the server's settings
and --redact name; the server does it, before they travel. --unmasked shows them.

--where takes FIELD=VALUE, FIELD!=VALUE or FIELD (it is there), and all that are given must hold. FIELD is a path in the row, such as
properties.plan; below body. it goes on in a webhook's JSON. The connection is made again when it breaks, after the last event that came.`,
		Example: `  millrace events tail
  millrace events tail --source web --type track --where properties.plan=pro
  millrace events tail --source stripe --where body.type=charge.succeeded -o jsonl
  millrace events tail --from start --limit 10 -o json`,
		RunE: func(c *cobra.Command, _ []string) error {
			query := url.Values{"from": {from}, "where": where, "redact": redact}
			setIf(query, "source", source)
			setIf(query, "tenant", tenant)
			setIf(query, "lane", lane)
			setIf(query, "type", typ)
			if unmasked {
				query.Set("mask", "off")
			}
			return follow(c, g, "/events/tail", query, limit, tailOf[tailedEvent]{
				cursor: func(e tailedEvent) string { return e.Cursor },
				rows:   newRowStream(g, func(e tailedEvent) string { id, _, _ := e.head(); return id }, eventColumns),
			})
		},
	}
	f := c.Flags()
	f.StringVar(&from, "from", "now", "start, now, or a cursor")
	f.StringVar(&source, "source", "", "only events of this source")
	f.StringVar(&tenant, "tenant", "", "only events of this tenant")
	f.StringVar(&lane, "lane", "", "only events of this lane, as 'batches show' names it")
	f.StringVar(&typ, "type", "", "only events of this type (track, invoice.paid)")
	f.StringArrayVar(&where, "where", nil, "only events of which this holds")
	f.StringArrayVar(&redact, "redact", nil, "another field to mask: a path, or *.NAME for a name anywhere")
	f.BoolVar(&unmasked, "unmasked", false, "show secrets, too")
	f.IntVar(&limit, "limit", 0, "end after so many (0: never)")
	g.serverFlags(c)
	g.streamFlags(c, "table")
	return c
}

// tailOf says how the lines of an endless answer are printed, and resumed after.
type tailOf[T any] struct {
	cursor func(T) string
	rows   *rowStream[T]
}

// follow prints an endless answer until ^C, or until limit lines were printed. When the connection breaks it is made again, after the last line
// that came. The first one must come about.
func follow[T any](c *cobra.Command, g *global, path string, query url.Values, limit int, to tailOf[T]) error { //layout:allow params what is asked and how it is shown
	api, err := g.client()
	if err != nil {
		return err
	}
	printed := 0
	connect := func() error {
		if limit > 0 {
			query.Set("limit", strconv.Itoa(limit-printed))
		}
		body, err := api.do(c.Context(), "GET", path, query, nil)
		if err != nil {
			return err
		}
		defer func() { _ = body.Close() }()
		dec := json.NewDecoder(body)
		for {
			var line answer[T]
			if dec.Decode(&line) != nil {
				return nil // the server ended, or the way to it broke
			}
			if err := to.rows.print(line.v, line.raw); err != nil {
				return &codeError{exitFailed, err} // nobody reads any more
			}
			printed++
			query.Set("from", to.cursor(line.v))
		}
	}
	if err = connect(); err != nil {
		return ended(c, err, to.rows.end)
	}
	err = every(c.Context(), time.Second, func() (bool, error) {
		if limit > 0 && printed >= limit {
			return true, nil
		}
		err := connect()
		if again := errCode(err); again == exitUnreachable {
			err = nil
		}
		return false, err
	})
	return ended(c, err, to.rows.end)
}

// ended closes what was printed. ^C is how an endless answer ends, and no failure.
func ended(c *cobra.Command, err error, end func() error) error {
	if c.Context().Err() != nil {
		err = nil
	}
	if endErr := end(); err == nil {
		err = endErr
	}
	return err
}

// errCode is the exit code that an error asks for, or 0.
func errCode(err error) int {
	var code *codeError
	if errors.As(err, &code) {
		return code.code
	}
	return exitOK
}
