package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
)

// What every announcement of a batch says of itself. External subscribers build on these.
const (
	// Type is the CloudEvents type. A change of the data that old readers can not ignore gets a new one.
	Type = "io.millrace.batch.committed.v1"
	// SubjectPrefix is followed by "<tenant>.<source>".
	SubjectPrefix = "millrace.batches."
	// Subjects selects all announcements.
	Subjects = SubjectPrefix + ">"
	// Version is the field v of the data.
	Version = 1
	// MaxData is the longest data of an announcement, in bytes; Decode refuses longer ones unread.
	MaxData = 64 << 10
)

// ErrMalformed is returned by [Decode] for a message that [Encode] did not write.
var ErrMalformed = errors.New("not an announcement of a batch")

// data is the body: the batch as everybody sees it, with its version.
type data struct {
	V int `json:"v"`
	batcher.Batch
}

// Encode returns the announcement of b: a CloudEvent 1.0 in binary content mode, attributes in the headers "ce-<attribute>", data in the body.
// It is a pure function of b. The message's id is the batch's.
//
// Source: CloudEvents 1.0.2; NATS protocol binding 1.0.3 (header names, and values percent-encoded as in the HTTP binding §3.1.3.2);
// extension "distributed tracing" for traceparent, which is repeated without prefix for readers of W3C trace context.
func Encode(b batcher.Batch) (trigger.Message, error) {
	body, err := json.Marshal(data{V: Version, Batch: b})
	if err != nil {
		return trigger.Message{}, fmt.Errorf("encode announcement of batch %q: %w", b.ID, err)
	}
	if len(body) > MaxData {
		return trigger.Message{}, fmt.Errorf("encode announcement of batch %q: %d bytes of data, limit %d", b.ID, len(body), MaxData)
	}
	h := map[string]string{
		"ce-specversion":     "1.0",
		"ce-type":            Type,
		"ce-source":          "/tenants/" + b.Tenant + "/sources/" + b.Source,
		"ce-id":              b.ID,
		"ce-subject":         headerValue(b.Key),
		"ce-time":            b.CommittedAt.UTC().Format(time.RFC3339Nano),
		"ce-datacontenttype": "application/json",
		"content-type":       "application/json",
	}
	if b.Trace != "" {
		h["ce-traceparent"], h["traceparent"] = headerValue(b.Trace), headerValue(b.Trace)
	}
	return trigger.Message{ID: b.ID, Subject: SubjectPrefix + b.Tenant + "." + b.Source, Header: h, Data: body}, nil
}

// Hint is all that dispatch takes from an announcement: where to look. Nothing in it is believed before the chain says the same.
type Hint struct {
	Stream ingest.Stream
	Seq    int64
	// Batch picks one of the cuts of the entry; "" means all of them.
	Batch string
}

// Decode returns where an announcement points to; every fault is [ErrMalformed]. The stream's parts are safe as parts of keys.
func Decode(m trigger.Message) (Hint, error) {
	if len(m.Data) > MaxData {
		return Hint{}, fmt.Errorf("%w: %d bytes of data, limit %d", ErrMalformed, len(m.Data), MaxData)
	}
	if got := m.Header["ce-type"]; got != Type {
		return Hint{}, fmt.Errorf("%w: type %.64q", ErrMalformed, got)
	}
	var d struct {
		V      int           `json:"v"`
		ID     string        `json:"id"`
		Stream ingest.Stream `json:"stream"`
		Seq    int64         `json:"seq"`
	}
	if err := json.Unmarshal(m.Data, &d); err != nil {
		return Hint{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch {
	case d.V != Version:
		return Hint{}, fmt.Errorf("%w: version %d", ErrMalformed, d.V)
	case d.Seq < 1:
		return Hint{}, fmt.Errorf("%w: entry %d", ErrMalformed, d.Seq)
	case d.ID == "" || len(d.ID) > 64:
		return Hint{}, fmt.Errorf("%w: batch id %.64q", ErrMalformed, d.ID)
	case !keyPart(d.Stream.Log) || !keyPart(d.Stream.Incarnation):
		return Hint{}, fmt.Errorf("%w: stream %.64q", ErrMalformed, d.Stream)
	}
	return Hint{Stream: d.Stream, Seq: d.Seq, Batch: d.ID}, nil
}

// keyPart reports whether s may be a part of an object key: what comes over the bus must not reach files elsewhere.
func keyPart(s string) bool {
	if s == "" || s == "." || s == ".." || len(s) > 256 {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	}) < 0
}

// headerValue percent-encodes what the HTTP binding does not permit in a header: all but printable ASCII, and space, '"' and '%'.
func headerValue(s string) string {
	const hex = "0123456789ABCDEF"
	safe := func(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '%' }
	clean := true
	for i := 0; clean && i < len(s); i++ {
		clean = safe(s[i])
	}
	if clean {
		return s
	}
	out := make([]byte, 0, len(s)+16)
	for i := 0; i < len(s); i++ {
		if c := s[i]; safe(c) {
			out = append(out, c)
		} else {
			out = append(out, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(out)
}
