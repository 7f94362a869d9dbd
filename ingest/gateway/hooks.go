package gateway

import (
	"millrace/ingest"
	"millrace/ingest/webhook"
)

// hook answers /hooks/{source}: the signature is checked over the bytes as they came, then they become one record.
func (s *Server) hook(x *exchange) error {
	src := s.sources.Load().hooks[x.name]
	if src == nil {
		return errNoSource
	}
	x.count = src.count
	if err := x.read(s.opts.MaxEvent); err != nil {
		return err
	}
	d := &webhook.Delivery{
		Method: x.r.Method, Path: x.r.URL.Path, RawQuery: x.r.URL.RawQuery, Header: x.r.Header, Body: x.body, Received: x.received,
	}
	if err := src.scheme.Verify(d, src.Secrets); err != nil {
		src.count.badSignature(err)
		return err
	}
	rec, err := webhook.Row(&src.Source, src.scheme, d, src.lane)
	if err != nil {
		return err
	}
	rec.Trace = x.trace()
	if err := x.append([]ingest.Record{rec}); err != nil {
		return err
	}
	src.count.hook()
	return nil
}
