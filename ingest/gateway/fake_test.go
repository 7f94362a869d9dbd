package gateway

import (
	"context"
	"slices"
	"sync"
	"testing"

	"millrace/ingest"
)

// fakeLog keeps the contract of ingest.Appender: it copies what it stores, all or nothing, and answers with where.
type fakeLog struct {
	mu   sync.Mutex
	recs []ingest.Record
	// before, if not nil, runs in Append before anything is stored; an error of it is Append's. after runs when all is stored.
	before, after func(ctx context.Context, recs []ingest.Record) error
}

var testStream = ingest.Stream{Log: "01jd0000000000000000000000", Incarnation: "01jd0000000000000000000001"}

func (l *fakeLog) Append(ctx context.Context, recs []ingest.Record) (ingest.Receipt, error) {
	if l.before != nil {
		if err := l.before(ctx, recs); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	first := int64(len(l.recs))
	for _, r := range recs {
		if err := r.Validate(); err != nil {
			l.mu.Unlock()
			return nil, err
		}
		r.Payload, r.RoutingKey = slices.Clone(r.Payload), string([]byte(r.RoutingKey))
		l.recs = append(l.recs, r)
	}
	l.mu.Unlock()
	if l.after != nil {
		if err := l.after(ctx, recs); err != nil {
			return nil, err
		}
	}
	return ingest.Receipt{{Stream: testStream, First: first, Last: first + int64(len(recs)) - 1}}, nil
}

func (l *fakeLog) stored() []ingest.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.recs)
}

// nullLog takes everything and keeps nothing.
type nullLog struct{}

func (nullLog) Append(_ context.Context, recs []ingest.Record) (ingest.Receipt, error) {
	return ingest.Receipt{{Stream: testStream, First: 123456789, Last: 123456788 + int64(len(recs))}}, nil
}

func testSources() []ingest.Source {
	return []ingest.Source{
		{Name: "web", Kind: ingest.KindClickstream, WriteKeys: []string{"dev"}},
		{Name: "app", Kind: ingest.KindClickstream, WriteKeys: []string{"app1", "app2"}},
		{Name: "demo", Kind: ingest.KindWebhook, Scheme: "none"},
		{Name: "stripe", Kind: ingest.KindWebhook, Scheme: "stripe", Secrets: []ingest.Secret{"whsec_dev"}},
		{Name: "load", Kind: ingest.KindEvents, Tokens: []ingest.Secret{"old", "t0ken"}},
	}
}

func newServer(t testing.TB, log ingest.Appender, o Options) *Server {
	t.Helper()
	s, err := New(log, testSources(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
