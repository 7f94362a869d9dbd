package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"millrace/ingest"
	"millrace/ingest/clickstream"
)

// bulkType is the type of lines that have none.
const bulkType = "event"

// upload is one bulk request on its way. What it has of the body is in x.body, the rows of its lines are in out.
type upload struct {
	x    *exchange
	src  *source
	key  string
	from io.Reader

	base     int   // what x was charged with before
	plain    int64 // bytes after decompression
	line     int   // the number of the last line that was looked at, from 1
	skipping bool  // within a line that is too long, whose beginning is gone

	out        []byte
	recs       []ingest.Record
	head, tail []byte // of every row, between id and type, and between type and body

	accepted, failed int
	failures         []badLine
	durable          int // up to which line all are durable, or failed
	receipt          ingest.Receipt
}

// badLine is a line that was not taken.
type badLine struct {
	Line    int    `json:"line"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// begin writes what all rows have in common; the rows of a webhook are the model, see webhook/FORMAT.md.
func (u *upload) begin() {
	u.failures, u.base = []badLine{}, u.x.held
	u.head = fmt.Appendf(nil, `,"source":%q,"type":`, u.src.Name)
	u.tail = fmt.Appendf(nil, `,"receivedAt":"%s","method":"POST","path":"/bulk/%s","query":{},"headers":{},"contentType":"application/json","body":`,
		u.x.received.Format("2006-01-02T15:04:05.000Z"), u.src.Name)
}

// run reads the body to its end and makes its lines durable, chunk by chunk. The last chunk is stored only if the body came whole, so a body
// that fits one chunk is all or nothing.
func (u *upload) run() error {
	for {
		err := u.read()
		if err != nil && err != io.EOF {
			return err
		}
		u.split()
		if err == io.EOF {
			if rest := u.x.body; len(rest) > 0 {
				u.line++
				u.take(rest)
			}
			return u.flush()
		}
		if len(u.out) >= bulkChunk {
			if err := u.flush(); err != nil {
				return err
			}
		}
	}
}

// read reads some more of the body, or returns io.EOF at its end.
func (u *upload) read() error {
	x := u.x
	if len(x.body) == cap(x.body) {
		x.body = slices.Grow(x.body, max(len(x.body), 64<<10))
	}
	if over := u.base + cap(x.body) + cap(u.out) - x.held; over > 0 && !x.charge(over) {
		return errBusy
	}
	n, err := u.from.Read(x.body[len(x.body):cap(x.body)])
	x.body = x.body[:len(x.body)+n]
	switch u.plain += int64(n); {
	case u.plain > x.limits.MaxBulk:
		return fmt.Errorf("read bulk of more than %d bytes: %w", x.limits.MaxBulk, errTooLong)
	case x.bomb(u.plain):
		return fmt.Errorf("decompress %d bytes to more than %d: %w", x.wire.n, u.plain, errRatio)
	case err != nil && err != io.EOF && u.from == io.Reader(&x.wire):
		return fmt.Errorf("read bulk: %w: %w", brokeOff(err), err)
	case err != nil && err != io.EOF:
		return x.unpacked(err)
	}
	return err
}

// split takes all whole lines of what was read, and keeps the rest.
func (u *upload) split() {
	rest := u.x.body
	for {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			break
		}
		if u.skipping {
			u.skipping = false
		} else {
			u.line++
			u.take(rest[:end])
		}
		rest = rest[end+1:]
	}
	if u.skipping {
		rest = nil
	} else if len(rest) > u.x.limits.MaxEvent+1 { // a line break may be \r\n
		u.line++
		u.fail(clickstream.TooLarge)
		u.skipping, rest = true, nil
	}
	u.x.body = u.x.body[:copy(u.x.body, rest)]
}

// take makes a record of a line, or says why not.
func (u *upload) take(line []byte) {
	if line = bytes.Trim(line, " \t\r"); len(line) == 0 {
		return
	}
	reason := clickstream.TooLarge
	if len(line) <= u.x.limits.MaxEvent {
		reason = clickstream.Judge(line)
	}
	if reason != 0 {
		u.fail(reason)
		return
	}
	found := gjson.GetManyBytes(line, "id", "type")
	id, typ := u.id(found[0]), bulkType
	if found[1].Type == gjson.String && found[1].Str != "" {
		typ = found[1].Str
	}
	from := len(u.out)
	u.out = append(u.out, `{"id":`...)
	u.out = appendQuoted(u.out, id)
	u.out = append(u.out, u.head...)
	u.out = appendQuoted(u.out, typ)
	u.out = append(u.out, u.tail...)
	u.out = appendQuoted(u.out, line)
	u.out = append(u.out, `,"verified":true}`...)
	u.recs = append(u.recs, ingest.Record{
		Lane: u.src.lane, Type: shorten(typ, ingest.MaxType), Dedupe: ingest.DedupeID(u.src.Name, id), ReceivedAt: u.x.received,
		Trace: u.x.trace(), Payload: u.out[from:len(u.out):len(u.out)], RoutingKey: u.src.Tenant + "/" + u.src.Name,
	})
}

// id is what the line is known by: its place in the request, if that has a key; else the id that it has; else a random one.
func (u *upload) id(own gjson.Result) string {
	switch {
	case u.key != "":
		return u.key + "#" + strconv.Itoa(u.line)
	case own.Type == gjson.String && own.Str != "":
		return own.Str
	case own.Type == gjson.Number:
		return own.Raw
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}

func (u *upload) fail(r clickstream.Reason) {
	u.failed++
	u.src.count.rejected[r].Inc()
	if len(u.failures) < maxFailures {
		u.failures = append(u.failures, badLine{Line: u.line, Code: r.String(), Message: r.Rule()})
	}
}

// flush makes the lines so far durable. A source that is too fast waits: it could never finish, if it began again each time.
func (u *upload) flush() error {
	if len(u.recs) > 0 {
		begun := time.Now()
		receipt, err := u.x.store(u.recs)
		for early := (*limited)(nil); errors.As(err, &early); {
			if err := u.wait(early.wait); err != nil {
				return err
			}
			receipt, err = u.x.store(u.recs)
		}
		if err != nil {
			return err
		}
		u.x.wire.pause(time.Since(begun))
		u.add(receipt)
		u.accepted += len(u.recs)
		u.src.count.events[0].Add(float64(len(u.recs)))
	}
	u.durable, u.out, u.recs = u.line, u.out[:0], u.recs[:0]
	return nil
}

// wait waits until the source may bring more.
func (u *upload) wait(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-u.x.r.Context().Done():
		return context.Cause(u.x.r.Context())
	}
}

// maxSpans is how many spans of a receipt an upload's answer names one by one.
const maxSpans = 16

// add adds to the receipt. One with too many spans names the whole range between them, in which are also records of others.
func (u *upload) add(receipt ingest.Receipt) {
	for _, s := range receipt {
		i := len(u.receipt) - 1
		for i >= 0 && u.receipt[i].Stream != s.Stream {
			i--
		}
		if i >= 0 && (u.receipt[i].Last+1 == s.First || len(u.receipt) >= maxSpans) {
			u.receipt[i].Last = s.Last
		} else {
			u.receipt = append(u.receipt, s)
		}
	}
}

// appendQuoted appends text, which is UTF-8, as a JSON string.
func appendQuoted[T string | []byte](dst []byte, text T) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := range len(text) {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(dst, text[from:]...), '"')
}

// shorten returns at most n bytes of text, whole characters.
func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
