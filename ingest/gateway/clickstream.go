package gateway

import (
	"encoding/base64"
	"net/url"
	"strings"

	"millrace/ingest"
	"millrace/ingest/clickstream"
)

// clickstream answers a route of Segment's: one event of type typ, or a batch if typ is 0.
func (s *Server) clickstream(typ clickstream.Type) func(*exchange) error {
	return func(x *exchange) error {
		limit := x.limits.MaxEvent
		if typ == 0 {
			limit = x.limits.MaxRequest
		}
		sources := s.sources.Load()
		sources.cors(x.w.Header(), x.r)
		if err := x.readPlain(limit); err != nil {
			return err
		}
		x.key = appendKey(x.key[:0], x)
		recs, err := x.records(sources, typ, x.sender())
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			x.accept(nil)
			return nil
		}
		if err := x.append(recs); err != nil {
			return err
		}
		x.tally(sources)
		return nil
	}
}

// records makes records of the body. None: an empty batch, which is welcome.
func (x *exchange) records(sources *registry, typ clickstream.Type, from clickstream.Sender) ([]ingest.Record, error) {
	d := x.decoder
	if err := d.Scan(x.body, typ); err != nil {
		return nil, err
	}
	key := x.key
	if len(key) == 0 {
		key = d.WriteKey()
	}
	recs, err := d.Records(sources, clickstream.Input{Received: x.received, Trace: x.trace(), Key: key, Sender: from, Orphan: x.keepOrphan})
	if err != nil {
		return nil, err
	}
	tallies := d.Tallies()
	if len(tallies) == 0 {
		return nil, nil
	}
	x.count = x.s.countersOf(sources, &tallies[0])
	for i := range tallies {
		if err := x.admit(sources.targets[tallies[i].Target]); err != nil {
			return nil, err
		}
	}
	if len(recs) == 0 { // events of strangers beyond the bound
		x.s.metrics.unknown.tally(&tallies[0])
		return nil, errUnknownKey
	}
	return recs, nil
}

// tally counts what the records were, once they are durable.
func (x *exchange) tally(sources *registry) {
	tallies := x.decoder.Tallies()
	for i := range tallies {
		x.s.countersOf(sources, &tallies[i]).tally(&tallies[i])
	}
}

func (s *Server) countersOf(sources *registry, t *clickstream.Tally) *sourceCounters {
	if t.Target == nil {
		return s.metrics.unknown
	}
	return sources.targets[t.Target].count
}

// appendKey appends the write key outside the body, if there is one: the user of Authorization: Basic, whose colon may be missing, else
// X-Write-Key, else the query's writeKey. With Authorization: Bearer, the key is in the body.
func appendKey(dst []byte, x *exchange) []byte {
	if auth := x.r.Header["Authorization"]; len(auth) > 0 {
		if auth[0] == x.auth && x.auth != "" { // mostly the same source's
			return append(dst, x.user...)
		}
		if user := basicUser(dst, auth[0]); len(user) > 0 {
			if len(auth[0]) <= maxAuth {
				x.auth, x.user = auth[0], append(x.user[:0], user...)
			}
			return user
		}
	}
	if key := x.r.Header["X-Write-Key"]; len(key) > 0 {
		return append(dst, key[0]...)
	}
	if x.r.URL.RawQuery != "" {
		query, _ := url.ParseQuery(x.r.URL.RawQuery)
		return append(dst, query.Get("writeKey")...)
	}
	return dst
}

// maxAuth is the longest Authorization that an exchange remembers.
const maxAuth = 256

// basicUser appends the user of Authorization: Basic.
func basicUser(dst []byte, auth string) []byte {
	scheme, coded, ok := strings.Cut(auth, " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return dst
	}
	from := len(dst)
	text, err := base64.StdEncoding.AppendDecode(dst, []byte(strings.TrimSpace(coded)))
	if err != nil {
		return dst[:from]
	}
	for i, c := range text[from:] {
		if c == ':' {
			return text[:from+i]
		}
	}
	return text
}
