package clickstream

import "bytes"

// span is a run of bytes of the body; the zero value is none.
type span struct{ from, to int32 }

// field is a member of an event, or of a batch, that is read here.
type field uint8

const (
	other field = iota
	messageID
	eventType
	timestamp
	originalTimestamp
	sentAt
	receivedAt
	userID
	anonymousID
	eventName
	writeKey
	context
	integrations
	batch
	numFields
)

func fieldOf(name []byte) field {
	switch string(name) {
	case "messageId":
		return messageID
	case "type":
		return eventType
	case "timestamp":
		return timestamp
	case "originalTimestamp":
		return originalTimestamp
	case "sentAt":
		return sentAt
	case "receivedAt":
		return receivedAt
	case "userId":
		return userID
	case "anonymousId":
		return anonymousID
	case "event":
		return eventName
	case "writeKey":
		return writeKey
	case "context":
		return context
	case "integrations":
		return integrations
	case "batch":
		return batch
	}
	return other
}

// fieldSet has bit f for field f.
type fieldSet uint16

func (s fieldSet) has(f field) bool { return s>>f&1 != 0 }

const (
	// headFields are what the head of a row says, so they are left out of its rest. The write key is the transport's, not the event's.
	headFields fieldSet = 1<<messageID | 1<<eventType | 1<<timestamp | 1<<originalTimestamp | 1<<sentAt | 1<<receivedAt | 1<<writeKey
	// mergedFields of a batch are defaults for those of its events.
	mergedFields fieldSet = 1<<context | 1<<integrations
)

// item is one event as it stands in the body.
type item struct {
	// at is the whole event; vals are the values of its fields.
	at   span
	vals [numFields]span
	// runs says which of Decoder.runs are this event's: stretches of members that go into the row as they are.
	firstRun, lastRun int32
	// reason is why the event can not be used, as far as its bytes tell.
	reason Reason
	// multiline says that line breaks stand between its tokens.
	multiline bool
	// brace is the index behind the opening brace of the context; 0: it has none.
	brace int32
	// notes are what the context says of the sender.
	notes notes
}

// event scans the object at i, with the members in cut left out of its runs, and returns the index behind it or bad.
func (d *Decoder) event(it *item, i int, cut fieldSet) int {
	s := &d.scan
	it.firstRun = int32(len(d.runs))
	open := false
	i = s.space(i + 1)
	if s.at(i) == '}' {
		it.lastRun = it.firstRun
		return i + 1
	}
	for {
		from, escapes := i, s.escapes
		end, v := s.key(i)
		if v == bad {
			return bad
		}
		name := d.body[from+1 : end-1]
		if s.escapes != escapes {
			name = d.inside(name)
		}
		f := fieldOf(name)
		if f == context {
			i = d.noteContext(it, v)
		} else {
			i = s.value(v, 1)
		}
		if i == bad {
			return bad
		}
		it.vals[f] = span{int32(v), int32(i)}
		switch {
		case cut.has(f):
			open = false
		case open:
			d.runs[len(d.runs)-1].to = int32(i)
		default:
			d.runs = append(d.runs, span{int32(from), int32(i)})
			open = true
		}
		switch i = s.space(i); s.at(i) {
		case '}':
			it.lastRun = int32(len(d.runs))
			return i + 1
		case ',':
			i = s.space(i + 1)
		default:
			return bad
		}
	}
}

// name returns the text of the member's name whose quotes stand at from and before end.
func (d *Decoder) name(from, end int) []byte { return d.inside(d.body[from+1 : end-1]) }

// inside returns the text of the inside of a JSON string: itself, if nothing is escaped, which mostly holds for the whole body.
func (d *Decoder) inside(in []byte) []byte {
	if d.scan.escapes == 0 || bytes.IndexByte(in, '\\') < 0 {
		return in
	}
	from := len(d.text)
	d.text = unescape(d.text, in)
	return d.text[from:len(d.text):len(d.text)]
}

// raw returns the bytes of a span.
func (d *Decoder) raw(v span) []byte { return d.body[v.from:v.to] }

// scalar returns the text of a value that can be an id: a string without the white space around it, or a number. All else is nil.
func (d *Decoder) scalar(v span) []byte {
	raw := d.raw(v)
	if len(raw) == 0 {
		return nil
	}
	switch c := raw[0]; {
	case c == '"':
		return trim(d.inside(raw[1 : len(raw)-1]))
	case c == '-', c >= '0' && c <= '9':
		return raw
	}
	return nil
}

// trim is bytes.TrimSpace without a call for the usual text, which needs none.
func trim(text []byte) []byte {
	if n := len(text); n == 0 || text[0] > ' ' && text[0] < 0x80 && text[n-1] > ' ' && text[n-1] < 0x80 {
		return text
	}
	return bytes.TrimSpace(text)
}

// time returns a string's time, or noTime.
func (d *Decoder) time(v span) int64 {
	if raw := d.raw(v); len(raw) > 2 && raw[0] == '"' {
		return parseTime(raw[1 : len(raw)-1])
	}
	return noTime
}
