package gateway

import (
	"encoding/base64"
	"net/url"
	"strings"

	"millrace/ingest/clickstream"
)

// clickstream answers a route of Segment's: one event of type typ, or a batch if typ is 0.
func (s *Server) clickstream(typ clickstream.Type) func(*exchange) error {
	return func(x *exchange) error {
		limit := x.limits.MaxEvent
		if typ == 0 {
			limit = x.limits.MaxRequest
		}
		if err := x.readPlain(limit); err != nil {
			return err
		}
		d := x.decoder
		if err := d.Scan(x.body, typ); err != nil {
			return err
		}
		sources := s.sources.Load()
		x.key = appendKey(x.key[:0], x)
		key := x.key
		if len(key) == 0 {
			key = d.WriteKey()
		}
		recs, err := d.Records(sources, clickstream.Input{Received: x.received, Trace: x.trace(), Key: key, Orphan: x.keepOrphan})
		if err != nil {
			return err
		}
		tallies := d.Tallies()
		if len(tallies) > 0 {
			x.count = s.countersOf(sources, &tallies[0])
		}
		if len(recs) == 0 {
			return x.acceptNone(tallies)
		}
		if err := x.append(recs); err != nil {
			return err
		}
		for i := range tallies {
			s.countersOf(sources, &tallies[i]).tally(&tallies[i])
		}
		return nil
	}
}

// acceptNone answers a request that has nothing to store: an empty batch is welcome, events of strangers beyond the bound are not.
func (x *exchange) acceptNone(tallies []clickstream.Tally) error {
	if len(tallies) > 0 {
		x.s.metrics.unknown.tally(&tallies[0])
		return errUnknownKey
	}
	x.accept(nil)
	return nil
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
		if user := basicUser(dst, auth[0]); len(user) > 0 {
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
