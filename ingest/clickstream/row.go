package clickstream

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"
	"unicode/utf8"
	"unsafe"

	"millrace/ingest"
)

// OrphanSource is the source, of the default tenant, whose quarantine takes events with unknown write keys. It is no valid name of a source.
const OrphanSource = "_unknown"

// Target is where the events of one source go. Safe for concurrent use by many decoders.
type Target struct {
	source     string
	quarantine string // the source's name where ids of events that were set aside are told apart; no source has such a name
	lanes      *lanes
	rank       rank // what is kept of addresses
	aside      [NumReasons]ingest.Lane
}

// NewTarget returns the target of a clickstream source. Its lanes in use are remembered in the target.
func NewTarget(src *ingest.Source) *Target {
	t := &Target{source: src.Name, quarantine: "quarantine/" + src.Name, lanes: newLanes(src), rank: rankOf(src.IP)}
	for r := BadJSON; r < NumReasons; r++ {
		t.aside[r] = ingest.QuarantineLane(src.Tenant, src.Name, r.String())
	}
	return t
}

// With returns the target of the same source by another definition, in which lanes in use stay in use: t itself, if it does.
func (t *Target) With(src *ingest.Source) *Target {
	next := NewTarget(src)
	if !next.lanes.like(t.lanes) {
		return next
	}
	if next.rank == t.rank {
		return t
	}
	next.lanes = t.lanes
	return next
}

// Router knows whose write key is whose.
type Router interface {
	// Route returns the target of a write key, or nil if no source has it. The key is good only during the call.
	Route(key []byte) *Target
}

// orphans is the target of unknown keys.
var orphans = NewTarget(&ingest.Source{Tenant: ingest.DefaultTenant, Name: OrphanSource})

// Input is what Records must know that the body does not say.
type Input struct {
	// Received is when the request came: UTC, microseconds.
	Received time.Time
	// Trace is the request's W3C traceparent, or "".
	Trace string
	// Key is the write key of the request or the batch; if it is empty, each event's own counts.
	Key []byte
	// Sender is who sent the request.
	Sender Sender
	// Orphan is asked whether an event of so many bytes with an unknown key is kept, in the quarantine of OrphanSource; one that is not is
	// only counted. nil: none is kept.
	Orphan func(bytes int) bool
}

// Tally says what a request brought to one target.
type Tally struct {
	// Target is nil for unknown write keys.
	Target   *Target
	Accepted [NumTypes]int
	Rejected [NumReasons]int
}

const (
	itemBytes   = int(unsafe.Sizeof(item{}))
	recordBytes = int(unsafe.Sizeof(ingest.Record{}))
	// headRoom is what a head adds to an event, at most, if its times and ids are of the usual length.
	headRoom = 256
)

// Records returns the records of the body that Scan read, in its order. They are good until the decoder is used again.
// Errors: ingest.ErrTooLarge if they would be larger than Limits.MaxRows.
func (d *Decoder) Records(router Router, in Input) ([]ingest.Record, error) {
	if need := len(d.body) + len(d.items)*headRoom; cap(d.out) < need {
		d.out = make([]byte, 0, need)
	}
	d.out, d.recs, d.tallies = d.out[:0], d.recs[:0], d.tallies[:0]
	d.readDefaults()
	w := rows{d: d, rank: rankOf(in.Sender.Policy), in: in, received: in.Received.UnixMicro(), sent: d.env.vals[sentAt], sentMicros: d.time(d.env.vals[sentAt])}
	w.agent = w.agentMember()
	d.clock = appendTime(d.clock[:0], w.received)
	var target *Target
	if len(in.Key) > 0 {
		target = router.Route(in.Key)
	}
	for i := range d.items {
		it := &d.items[i]
		if len(in.Key) == 0 {
			target = router.Route(d.scalar(it.vals[writeKey]))
		}
		w.add(it, target)
		if len(d.out) > d.limits.MaxRows {
			return nil, fmt.Errorf("write rows of more than %d bytes: %w", d.limits.MaxRows, ingest.ErrTooLarge)
		}
	}
	return d.recs, nil
}

// Tallies returns what the records of the last call of Records were, by target. Good until the decoder is used again.
func (d *Decoder) Tallies() []Tally { return d.tallies }

func (d *Decoder) tally(t *Target) *Tally {
	for i := range d.tallies {
		if d.tallies[i].Target == t {
			return &d.tallies[i]
		}
	}
	d.tallies = append(d.tallies, Tally{Target: t})
	return &d.tallies[len(d.tallies)-1]
}

// rows writes the rows of one body.
type rows struct {
	d          *Decoder
	in         Input
	received   int64
	sent       span // of the batch
	sentMicros int64
	rank       rank             // what the request asks for
	ips        [numRanks][]byte // members for the sender's address, made when one is needed
	agent      []byte           // the member for its user agent
}

// add appends the record of one event.
func (w *rows) add(it *item, target *Target) {
	d := w.d
	tally := d.tally(target)
	typ, reason := w.judge(it)
	if target == nil {
		tally.Rejected[UnknownKey]++
		if w.in.Orphan != nil && w.in.Orphan(int(it.at.to-it.at.from)) {
			w.orphan(it, typ, reason)
		}
		return
	}
	if reason != 0 {
		tally.Rejected[reason]++
		w.setAside(it, typ, reason, target)
		return
	}
	tally.Accepted[typ]++
	from := len(d.out)
	id, at := w.row(it, typ, nil)
	w.rest(it, max(w.rank, target.rank))
	d.out = append(d.out, '}')
	d.recs = append(d.recs, ingest.Record{
		Lane: d.laneOf(it, typ, target.lanes, w.in.Received), Type: typ.String(), Dedupe: ingest.DedupeID(target.source, alias(id)),
		ReceivedAt: w.in.Received, EventAt: time.UnixMicro(at).UTC(), Trace: w.in.Trace,
		Payload: d.out[from:len(d.out):len(d.out)], RoutingKey: alias(d.routing(it, id)),
	})
}

// judge returns the event's type and why it can not be used, if so.
func (w *rows) judge(it *item) (Type, Reason) {
	d := w.d
	typ := d.fixed
	if typ == 0 {
		typ = typeOf(d.scalar(it.vals[eventType]))
	}
	switch {
	case it.reason != 0:
		return typ, it.reason
	case int(it.at.to-it.at.from) > d.limits.MaxEvent:
		return typ, TooLarge
	case typ == 0:
		return typ, BadType
	case typ != Merge && len(d.scalar(it.vals[userID])) == 0 && len(d.scalar(it.vals[anonymousID])) == 0:
		return typ, NoIdentity
	case typ == Track && !d.named(it.vals[eventName]):
		return typ, NoEvent
	}
	return typ, 0
}

// named reports whether v is a string that is not blank.
func (d *Decoder) named(v span) bool {
	return v.to > v.from && d.body[v.from] == '"' && len(d.scalar(v)) > 0
}

// routing returns the routing key: the event's user, else its device, else itself.
func (d *Decoder) routing(it *item, id []byte) []byte {
	if key := d.scalar(it.vals[userID]); len(key) > 0 {
		return key
	}
	if key := d.scalar(it.vals[anonymousID]); len(key) > 0 {
		return key
	}
	return id
}

// row appends the head of the event's row and returns its id and when it happened. key, if not nil, becomes the row's writeKey.
func (w *rows) row(it *item, typ Type, key []byte) (id []byte, at int64) {
	d := w.d
	d.out = append(d.out, `{"messageId":`...)
	id = w.messageID(it)
	d.out = append(d.out, `,"type":"`...)
	d.out = append(d.out, typ.String()...)
	original, sent, sentMicros := it.vals[originalTimestamp], w.sent, w.sentMicros
	for _, next := range [...]span{it.vals[timestamp], d.env.vals[timestamp]} {
		if !d.says(original) {
			original = next
		}
	}
	if own := it.vals[sentAt]; d.says(own) {
		sent, sentMicros = own, d.time(own)
	}
	at = corrected(d.time(original), sentMicros, w.received)
	d.out = append(d.out, `","timestamp":"`...)
	d.out = appendTime(d.out, at)
	d.out = append(d.out, '"')
	if d.says(original) {
		d.out = append(d.out, `,"originalTimestamp":`...)
		d.out = appendFlat(d.out, d.raw(original), it.multiline)
	}
	if d.says(sent) {
		d.out = append(d.out, `,"sentAt":`...)
		d.out = appendFlat(d.out, d.raw(sent), d.body[sent.from] != '"')
	}
	d.out = append(d.out, `,"receivedAt":"`...)
	d.out = append(d.out, d.clock...)
	d.out = append(d.out, '"')
	if key != nil {
		d.out = appendQuoted(append(d.out, `,"writeKey":`...), key)
	}
	return id, at
}

// says reports whether v is there and not null.
func (d *Decoder) says(v span) bool { return v.to > v.from && d.body[v.from] != 'n' }

// messageID appends the event's id as it was sent, but for white space around it, or a new random one, and returns its text.
func (w *rows) messageID(it *item) []byte {
	d := w.d
	v := it.vals[messageID]
	if id := d.scalar(v); len(id) > 0 {
		raw := d.raw(v)
		if raw[0] == '"' && len(id) < len(d.inside(raw[1:len(raw)-1])) {
			d.out = appendQuoted(d.out, id)
		} else {
			d.out = append(d.out, raw...)
		}
		return id
	}
	var u [16]byte
	rand.Read(u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80 // RFC 9562, version 4
	from := len(d.out) + 1
	d.out = append(d.out, '"')
	for i, part := range [...][]byte{u[:4], u[4:6], u[6:8], u[8:10], u[10:]} {
		if i > 0 {
			d.out = append(d.out, '-')
		}
		d.out = hex.AppendEncode(d.out, part)
	}
	d.out = append(d.out, '"')
	return d.out[from : len(d.out)-1]
}

// rest appends what the head leaves out of the event, with the batch's defaults under its context and integrations, and with what r permits
// of the sender in its context.
func (w *rows) rest(it *item, r rank) {
	d := w.d
	l, simple := w.plan(it, r)
	if simple && !d.defaults.any {
		w.copyRuns(it, it.brace, l)
		return
	}
	cut := headFields | 1<<context
	if d.defaults.any {
		cut |= mergedFields
	}
	merged, runs := *it, len(d.runs)
	d.event(&merged, int(it.at.from), cut)
	w.copyRuns(&merged, 0, lead{})
	d.runs = d.runs[:runs]
	w.context(it, r)
	if d.defaults.any {
		d.appendIntegrations(it)
	}
}

// copyRuns appends the event's runs, with l put in at brace; if that is 0, there is no context yet.
func (w *rows) copyRuns(it *item, brace int32, l lead) {
	d := w.d
	for _, run := range d.runs[it.firstRun:it.lastRun] {
		d.out = append(d.out, ',')
		if run.from < brace && brace < run.to {
			d.out = appendFlat(d.out, d.raw(span{run.from, brace}), it.multiline)
			d.out = append(append(d.out, l.ip...), l.agent...)
			run.from = brace
		}
		d.out = appendFlat(d.out, d.raw(run), it.multiline)
	}
	if brace == 0 && (l.ip != nil || l.agent != nil) {
		d.out = append(append(append(d.out, `,"context":{`...), l.ip...), l.agent...)
		d.out[len(d.out)-1] = '}' // for the comma
	}
}

// setAside appends the record of an event that can not be used.
func (w *rows) setAside(it *item, typ Type, reason Reason, target *Target) {
	d := w.d
	from := len(d.out)
	w.openAside(reason)
	if it.reason == 0 && reason != TooLarge {
		d.out = appendFlat(d.out, d.raw(it.at), it.multiline)
	} else {
		d.out = appendQuoted(d.out, d.excerpt(it.at))
	}
	d.out = append(d.out, '}')
	w.aside(from, typ, target.aside[reason], w.asideID(it, target.quarantine))
}

// orphan appends the record of an event with an unknown write key: its row with that key, so that it can be admitted once the key is known.
func (w *rows) orphan(it *item, typ Type, reason Reason) {
	d := w.d
	from := len(d.out)
	w.openAside(UnknownKey)
	if reason == 0 {
		key := w.in.Key
		if len(key) == 0 {
			key = d.scalar(it.vals[writeKey])
		}
		w.row(it, typ, append([]byte{}, key...))
		sender := w.in.Sender
		w.in.Sender = Sender{} // it is not known how much of it may be kept
		w.rest(it, keeps)
		w.in.Sender = sender
		d.out = append(d.out, '}')
	} else {
		d.out = appendQuoted(d.out, d.excerpt(it.at))
	}
	d.out = append(d.out, '}')
	w.aside(from, typ, orphans.aside[UnknownKey], w.asideID(it, orphans.source))
}

func (w *rows) openAside(reason Reason) {
	d, why := w.d, &reasons[reason]
	d.out = append(append(d.out, `{"reason":"`...), why.code...)
	d.out = append(append(d.out, `","rule":"`...), why.rule...)
	d.out = append(append(d.out, `","field":"`...), why.field...)
	d.out = append(d.out, `","raw":`...)
}

// aside appends the record whose payload begins at from.
func (w *rows) aside(from int, typ Type, lane ingest.Lane, id [16]byte) {
	d := w.d
	d.recs = append(d.recs, ingest.Record{
		Lane: lane, Type: typ.String(), Dedupe: id, ReceivedAt: w.in.Received, Trace: w.in.Trace,
		Payload: d.out[from:len(d.out):len(d.out)], RoutingKey: string(lane),
	})
}

// asideID folds repeats of an event that was set aside. It is another id than the event would have had, so that the event, once it is put
// right and sent again, is no duplicate of this.
func (w *rows) asideID(it *item, source string) (id [16]byte) {
	if text := w.d.scalar(it.vals[messageID]); len(text) > 0 {
		return ingest.DedupeID(source, alias(text))
	}
	rand.Read(id[:])
	return id
}

// excerpt returns the text of v, at most MaxEvent bytes of it, cut between characters.
func (d *Decoder) excerpt(v span) []byte {
	text := d.raw(v)
	if len(text) <= d.limits.MaxEvent {
		return text
	}
	end := d.limits.MaxEvent
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
