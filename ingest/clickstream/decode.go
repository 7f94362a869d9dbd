package clickstream

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"millrace/ingest"
)

// ErrBadBody is returned for a body that is not what its route takes: not JSON, or a batch without an array of events. Nothing of it can be
// used, so the sender must not come back with it.
var ErrBadBody = errors.New("body is not JSON of this protocol")

// Limits bound what one request may ask for.
type Limits struct {
	// MaxEvent is the longest event in bytes, as sent; longer ones of a batch are set aside. 0: 1 MiB.
	MaxEvent int
	// MaxEvents is how many events a batch may have. 0: 10,000 (Segment takes 2,500).
	MaxEvents int
	// MaxRows bounds the sum of a request's payloads, which defaults of a batch can make larger than its body. 0: 16 MiB.
	MaxRows int
}

func (l Limits) withDefaults() Limits {
	if l.MaxEvent <= 0 {
		l.MaxEvent = 1 << 20
	}
	if l.MaxEvents <= 0 {
		l.MaxEvents = 10_000
	}
	if l.MaxRows <= 0 {
		l.MaxRows = 16 << 20
	}
	return l
}

// Decoder turns one body after the other into records. It is made for reuse: after the first bodies it allocates nothing. Not safe for
// concurrent use.
//
//	Scan ──▶ WriteKey (may be in the body only) ──▶ Records ──▶ Tallies
type Decoder struct {
	limits Limits

	body []byte
	scan scanner
	// env has the fields of the batch around the events; empty for a single event.
	env item
	// fixed is the type that the path gave, or 0: events name their own.
	fixed Type
	items []item
	runs  []span

	// text holds unescaped strings. Like out it only grows while a body is worked on, so what points into it stays good.
	text     []byte
	out      []byte
	lane     []byte
	clock    []byte // the time of receipt, as text
	recs     []ingest.Record
	tallies  []Tally
	defaults defaults
}

// NewDecoder returns a decoder with these limits.
func NewDecoder(limits Limits) *Decoder { return &Decoder{limits: limits.withDefaults()} }

// Footprint is how many bytes the decoder keeps for reuse, about.
func (d *Decoder) Footprint() int {
	return cap(d.out) + cap(d.text) + cap(d.items)*itemBytes + cap(d.recs)*recordBytes
}

// Scan reads body: one event of type typ, or a batch if typ is 0. The decoder keeps body until it is used again.
// Errors: ErrBadBody, or ingest.ErrTooLarge for too many events.
func (d *Decoder) Scan(body []byte, typ Type) error {
	if !utf8.Valid(body) {
		body = bytes.ToValidUTF8(body, []byte("\uFFFD"))
	}
	d.body, d.scan, d.fixed, d.env = body, scanner{buf: body}, typ, item{}
	d.items, d.runs, d.text = d.items[:0], d.runs[:0], d.text[:0]
	var end int
	start := d.scan.space(0)
	if typ != 0 {
		end = d.single(start)
	} else {
		end = d.batch(start)
	}
	switch {
	case len(d.items) > d.limits.MaxEvents:
		return fmt.Errorf("read batch of more than %d events: %w", d.limits.MaxEvents, ingest.ErrTooLarge)
	case end == bad || d.scan.space(end) != len(body):
		return fmt.Errorf("read %s of %d bytes: %w", d.what(), len(body), ErrBadBody)
	case typ == 0 && d.env.vals[batch] == span{}:
		return fmt.Errorf("read batch without events: %w", ErrBadBody)
	}
	return nil
}

func (d *Decoder) what() string {
	if d.fixed != 0 {
		return "event"
	}
	return "batch"
}

// WriteKey returns the write key in the body: the batch's, or the single event's. It is good until the decoder is used again.
func (d *Decoder) WriteKey() []byte {
	env := &d.env
	if d.fixed != 0 && len(d.items) > 0 {
		env = &d.items[0]
	}
	return d.scalar(env.vals[writeKey])
}

// single reads the body as one event.
func (d *Decoder) single(i int) int {
	d.items = append(d.items, item{})
	it := &d.items[0]
	end := d.value(it, i)
	if end == bad && d.scan.deep {
		it.reason = TooDeep
		end = len(d.body)
	}
	it.at = span{int32(i), int32(end)}
	return end
}

// value reads one event, or what stands in its place.
func (d *Decoder) value(it *item, i int) int {
	d.scan.multiline, d.scan.deep = false, false
	var end int
	if d.scan.at(i) == '{' {
		end = d.event(it, i, headFields)
	} else {
		it.reason = NotObject
		end = d.scan.value(i, 0)
	}
	it.multiline = d.scan.multiline
	return end
}

// batch reads the object around an array of events.
func (d *Decoder) batch(i int) int {
	s := &d.scan
	if s.at(i) != '{' {
		return bad
	}
	if i = s.space(i + 1); s.at(i) == '}' {
		return i + 1
	}
	for {
		from := i
		end, v := s.key(i)
		if v == bad {
			return bad
		}
		f := fieldOf(d.name(from, end))
		if f == batch {
			i = d.array(v)
		} else {
			i = s.value(v, 1)
		}
		if i == bad {
			return bad
		}
		d.env.vals[f] = span{int32(v), int32(i)}
		switch i = s.space(i); s.at(i) {
		case '}':
			return i + 1
		case ',':
			i = s.space(i + 1)
		default:
			return bad
		}
	}
}

// array reads the events of a batch. If a batch has two arrays, the last one counts.
func (d *Decoder) array(i int) int {
	s := &d.scan
	d.items, d.runs = d.items[:0], d.runs[:0]
	if s.at(i) != '[' {
		return bad
	}
	if i = s.space(i + 1); s.at(i) == ']' {
		return i + 1
	}
	for {
		if len(d.items) > d.limits.MaxEvents {
			return bad
		}
		d.items = append(d.items, item{})
		if i = d.element(&d.items[len(d.items)-1], i); i == bad {
			return bad
		}
		if s.at(i) == ']' {
			return i + 1
		}
		i = s.space(i + 1)
	}
}

// element reads one event of a batch and returns the index of the comma or bracket behind it. An event that is not JSON ends where item says.
func (d *Decoder) element(it *item, i int) int {
	s := &d.scan
	end := d.value(it, i)
	if end != bad {
		it.at = span{int32(i), int32(end)}
		if end = s.space(end); s.at(end) == ',' || s.at(end) == ']' {
			return end
		}
	}
	*it = item{reason: BadJSON}
	if s.deep {
		it.reason = TooDeep
	}
	if end = s.item(i); end != bad {
		it.at = span{int32(i), int32(i + len(bytes.TrimRight(d.body[i:end], " \t\r\n")))}
	}
	return end
}
