package send

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"millrace/ingest"
)

// ErrUnreachable is returned by [Run] if the first request got no answer at all.
var ErrUnreachable = errors.New("no answer")

// Options say what to send. The zero value sends the source's usual template once.
type Options struct {
	// Template is one of [TemplatesFor]; "" is the usual one. Data, if not nil, is the body instead.
	Template string
	Data     []byte
	// Count is the number of requests; 0 is 1. Rate bounds how many a second are begun; 0: as fast as they are answered.
	Count int
	Rate  float64
	// Connections is how many requests may be under way; 0 is 8.
	Connections int
	Client      *http.Client
}

// Result is what became of one request.
type Result struct {
	N int `json:"n"`
	// ID is the sender's id of the event, as far as the template has one.
	ID     string `json:"id,omitempty"`
	Status int    `json:"status"`
	// Accepted says that the answer was 2xx: the event is on stable storage. Receipt is what `millrace where` takes.
	Accepted bool   `json:"accepted"`
	Receipt  string `json:"receipt,omitempty"`
	// Answer is the body of an answer that is not 2xx, or why there was none.
	Answer  string  `json:"answer,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Summary counts results.
type Summary struct {
	Sent, Accepted int
	Took           time.Duration
}

// Run posts to src at base (scheme and host) and calls each with every result, one at a time, in the order of the answers. It returns when all
// were answered, ctx ends, or the first request got no answer ([ErrUnreachable]).
func Run(ctx context.Context, base string, src *ingest.Source, o Options, each func(Result)) (Summary, error) {
	p, err := newPoster(base, src, o)
	if err != nil {
		return Summary{}, err
	}
	begin := time.Now()
	var sum Summary
	first, err := p.post(ctx, 1)
	if err != nil {
		return sum, err
	}
	take := func(r Result) {
		sum.Sent++
		if r.Accepted {
			sum.Accepted++
		}
		each(r)
	}
	take(first)
	if first.Status == 0 {
		return sum, fmt.Errorf("post to %s: %w: %s", base, ErrUnreachable, first.Answer)
	}
	err = p.rest(ctx, max(o.Count, 1), take)
	sum.Took = time.Since(begin)
	return sum, err
}

// rest posts requests 2 to count, several at a time.
func (p *poster) rest(ctx context.Context, count int, take func(Result)) error {
	limit := rate.NewLimiter(rate.Inf, 1)
	if p.o.Rate > 0 {
		limit = rate.NewLimiter(rate.Limit(p.o.Rate), 1)
		limit.Allow() // the first request was one
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	todo := make(chan int) // closed by the goroutine that fills it
	results := make(chan Result)
	failed := make(chan error, p.o.Connections)
	var workers sync.WaitGroup
	go func() { // ends with the last number or with ctx; rest receives until results is closed, which is after it
		defer close(todo)
		for n := 2; n <= count && limit.Wait(ctx) == nil; n++ {
			select {
			case todo <- n:
			case <-ctx.Done():
				return
			}
		}
	}()
	for range p.o.Connections {
		workers.Go(func() { // ends with todo
			for n := range todo {
				r, err := p.post(ctx, n)
				if err != nil {
					failed <- err
					cancel()
					return
				}
				results <- r
			}
		})
	}
	go func() { // ends with the workers
		workers.Wait()
		close(results)
	}()
	for r := range results {
		take(r)
	}
	select {
	case err := <-failed:
		return err
	default:
		return context.Cause(ctx)
	}
}

// poster makes and posts requests.
type poster struct {
	base     string
	src      *ingest.Source
	o        Options
	template *compiled // nil: Data
	// authorize adds the proof that the source asks for.
	authorize func(r *http.Request, body []byte, now time.Time) error
}

func newPoster(base string, src *ingest.Source, o Options) (*poster, error) {
	if o.Connections <= 0 {
		o.Connections = 8
	}
	if o.Client == nil {
		o.Client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: o.Connections}}
	}
	p := &poster{base: strings.TrimRight(base, "/"), src: src, o: o}
	var err error
	if p.authorize, err = authorizer(src); err != nil || o.Data != nil {
		return p, err
	}
	if o.Template == "" {
		known := TemplatesFor(src)
		if len(known) == 0 {
			return nil, fmt.Errorf("no template for source %s of kind %s: give a body with --data", src.Name, src.Kind)
		}
		p.o.Template = known[0]
	}
	p.template, err = compile(p.o.Template)
	return p, err
}

func (p *poster) message(n int, now time.Time) (*message, error) {
	if p.template != nil {
		return p.template.fill(n, p.src.Name, now)
	}
	m := &message{method: http.MethodPost, body: p.o.Data, header: textproto.MIMEHeader{}}
	m.header.Set("Content-Type", "text/plain; charset=utf-8")
	if json.Valid(m.body) {
		m.header.Set("Content-Type", "application/json")
	}
	switch p.src.Kind {
	case ingest.KindClickstream:
		m.path = callOf(m.body)
	case ingest.KindEvents:
		m.path = "/bulk/" + p.src.Name
		m.header.Set("Content-Type", "application/x-ndjson")
	default:
		m.path = "/hooks/" + p.src.Name
	}
	return m, nil
}

// callOf returns the route that a clickstream body is for: its type says it, or that it has a batch.
func callOf(body []byte) string {
	var call struct {
		Type  string          `json:"type"`
		Batch json.RawMessage `json:"batch"`
	}
	_ = json.Unmarshal(body, &call) // what can not be read is the gateway's to judge
	switch {
	case call.Batch != nil:
		return "/v1/batch"
	case call.Type != "":
		return "/v1/" + call.Type
	}
	return "/v1/track"
}

// maxAnswer bounds how much of an answer is kept.
const maxAnswer = 2 << 10

// post sends request n. A request that can not be made is an error; one that is not answered is a result.
func (p *poster) post(ctx context.Context, n int) (Result, error) {
	now := time.Now()
	m, err := p.message(n, now)
	if err != nil {
		return Result{}, err
	}
	req, err := http.NewRequestWithContext(ctx, m.method, p.base+m.path, bytes.NewReader(m.body))
	if err != nil {
		return Result{}, fmt.Errorf("make request: %w", err)
	}
	for name, values := range m.header {
		req.Header[name] = values
	}
	if err := p.authorize(req, m.body, now); err != nil {
		return Result{}, err
	}
	r := Result{N: n, ID: m.id}
	resp, err := p.o.Client.Do(req)
	r.Seconds = time.Since(now).Seconds()
	if err != nil {
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		r.Answer = errors.Unwrap(err).Error()
		return r, nil
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the status is what counts
	r.Status, r.Receipt = resp.StatusCode, resp.Header.Get("X-Millrace-Receipt")
	if r.Accepted = resp.StatusCode/100 == 2; !r.Accepted {
		r.Answer = strings.TrimSpace(string(answer))
	}
	return r, nil
}
