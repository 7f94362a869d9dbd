package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fault is what an event meets on its way from an SDK to millrace.
type fault string

const (
	tooMany   fault = "429"         // 429 with Retry-After, as millrace answers beyond a rate
	busy      fault = "503"         // 503 with Retry-After, as millrace answers when its log is full
	down      fault = "bare 503"    // 503 with a page for people, as a load balancer answers that finds no server
	cutBefore fault = "cut"         // the connection ends before the request has reached millrace
	cutAfter  fault = "lost answer" // the connection ends after millrace has stored the events, but before the SDK knows
)

// faultyProxy stands between one SDK and millrace. Every event meets each fault of the plan once, in that order, and then passes; a request
// meets what is next for its event that is furthest behind.
type faultyProxy struct {
	server   *httptest.Server
	millrace string // host and port
	plan     []fault

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, at each change of what follows
	lasting bool          // the last fault of the plan lasts
	rated   bool          // millrace itself may answer 429
	hasty   bool          // the SDK may come again too early after that
	events  map[string]*passage
	stats   proxyStats
	wrong   []string // what must not be
}

// passage is what the proxy has seen of one event.
type passage struct {
	met      int // how many faults of the plan
	sent     int // how often the SDK sent it
	stored   int // how often millrace accepted it
	answered int // how often the SDK was told so

	notBefore time.Time // a 429 asked the SDK to wait so long
}

// proxyStats counts requests.
type proxyStats struct {
	posts, repeats, counted int // with events; of which with events that were sent before; of which said so in X-Retry-Count
	limited                 int // answered with 429 by millrace itself
	answers                 int // good ones that went back to the SDK
	preflights, settings    int
	took                    []time.Duration // how long millrace took for each accepted post
}

// newProxy starts a proxy. With faults ahead each request has a connection of its own, since a browser repeats by itself, without the SDK, what
// breaks off on a connection that was used before.
func newProxy(t *testing.T, millrace string, plan []fault) *faultyProxy {
	p := &faultyProxy{millrace: millrace, plan: plan, changed: make(chan struct{}), events: map[string]*passage{}}
	p.server = httptest.NewUnstartedServer(p)
	p.server.Config.SetKeepAlivesEnabled(len(plan) == 0)
	p.server.Start()
	t.Cleanup(p.server.Close)
	return p
}

func (p *faultyProxy) host() string { return strings.TrimPrefix(p.server.URL, "http://") }

func (p *faultyProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the SDK's process has ended
	}
	var ids []string
	if r.Method == http.MethodPost {
		ids = idsOf(body)
	}
	switch met := p.meet(r, ids); met {
	case tooMany:
		p.delay(ids, time.Second)
		p.refuse(w, r, met)
	case busy, down:
		p.refuse(w, r, met)
	case cutBefore:
		p.cut(w)
	default:
		p.relay(w, r, body, ids, met == cutAfter)
	}
}

// idsOf returns the message ids of a request's events.
func idsOf(body []byte) []string {
	type event struct {
		MessageID string `json:"messageId"`
	}
	var request struct {
		event
		Batch []event `json:"batch"`
	}
	_ = json.Unmarshal(body, &request)
	var ids []string
	for _, e := range append(request.Batch, request.event) {
		if e.MessageID != "" {
			ids = append(ids, e.MessageID)
		}
	}
	return ids
}

// meet counts a request and returns the fault that it meets, or "".
func (p *faultyProxy) meet(r *http.Request, ids []string) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case r.Method == http.MethodOptions:
		p.stats.preflights++
	case strings.HasSuffix(r.URL.Path, "/settings"):
		p.stats.settings++
	}
	if len(ids) == 0 {
		return ""
	}
	p.stats.posts++
	next, repeated := len(p.plan), false
	for _, id := range ids {
		if p.events[id] == nil {
			p.events[id] = &passage{}
		}
		e := p.events[id]
		if early := time.Until(e.notBefore); early > 0 {
			p.wrong = append(p.wrong, fmt.Sprintf("event %s was sent again %v before its Retry-After", id, early))
		}
		repeated = repeated || e.sent > 0
		e.sent++
		next = min(next, e.met)
	}
	if repeated {
		p.stats.repeats++
		if r.Header.Get("X-Retry-Count") != "" {
			p.stats.counted++
		}
	}
	if next == len(p.plan) {
		if p.lasting {
			return p.plan[next-1]
		}
		return ""
	}
	for _, id := range ids {
		if e := p.events[id]; e.met == next {
			e.met++
		}
	}
	p.change()
	return p.plan[next]
}

// delay notes that the SDK is asked not to send ids again before wait has passed. Clocks of timers may run a little fast.
func (p *faultyProxy) delay(ids []string, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		p.events[id].notBefore = time.Now().Add(wait * 95 / 100)
	}
}

func (p *faultyProxy) problem(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, fmt.Sprintf(format, args...))
}

// change wakes who waits; p.mu is held.
func (p *faultyProxy) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *faultyProxy) lasts() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lasting
}

// mend ends a fault that lasts.
func (p *faultyProxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lasting = false
}

func (p *faultyProxy) answers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats.answers
}

// relay passes a request on, and its answer back unless lose is set.
func (p *faultyProxy) relay(w http.ResponseWriter, r *http.Request, body []byte, ids []string, lose bool) {
	from := time.Now()
	resp, answer, err := p.forward(r, body)
	if err != nil {
		p.problem("%s %s: %v", r.Method, r.URL, err)
		p.cut(w)
		return
	}
	if len(ids) > 0 {
		p.account(resp, answer, ids, time.Since(from), lose)
	}
	if lose {
		p.cut(w)
		return
	}
	copyHeader(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer)
	_ = http.NewResponseController(w).Flush() // before those who wait learn of it
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change()
}

// account notes what millrace answered to a post of events, and whether the SDK learns it.
func (p *faultyProxy) account(resp *http.Response, answer []byte, ids []string, took time.Duration, lose bool) {
	wait, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	if p.rated && resp.StatusCode == http.StatusTooManyRequests && wait > 0 {
		if !p.hasty {
			p.delay(ids, time.Duration(wait)*time.Second)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stats.limited++
		return
	}
	if resp.StatusCode != http.StatusOK {
		p.problem("millrace answered %d, Retry-After %d, %s", resp.StatusCode, wait, answer)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.took = append(p.stats.took, took)
	if !lose {
		p.stats.answers++
	}
	for _, id := range ids {
		p.events[id].stored++
		if !lose {
			p.events[id].answered++
		}
	}
}

// forward sends millrace what the SDK sent, with the Host that it sent it to.
func (p *faultyProxy) forward(r *http.Request, body []byte) (*http.Response, []byte, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", p.millrace, ""
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return resp, answer, err
}

// refuse answers with an error instead of millrace. Those that are millrace's own have the headers that millrace puts on what it refuses to this
// sender, which a browser needs to show them to the SDK: it is asked with a body that it must refuse.
func (p *faultyProxy) refuse(w http.ResponseWriter, r *http.Request, met fault) {
	h := w.Header()
	if met == down {
		h.Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "<html><body>no server is available</body></html>")
		return
	}
	resp, answer, err := p.forward(r, []byte("{"))
	if err != nil || resp.StatusCode != http.StatusBadRequest {
		p.problem("half an event: millrace answered %v %s, %v, want 400", resp, answer, err)
	}
	if err == nil {
		copyHeader(h, resp.Header)
	}
	h.Set("Retry-After", "1")
	h.Del("Content-Length")
	w.WriteHeader(map[fault]int{tooMany: http.StatusTooManyRequests, busy: http.StatusServiceUnavailable}[met])
	_, _ = io.WriteString(w, `{"success":false,"error":"come back later","code":"busy","message":"come back later"}`)
}

func copyHeader(dst, src http.Header) {
	for name, values := range src {
		dst[name] = values
	}
}

// cut ends the connection without an answer, as one that was reset.
func (p *faultyProxy) cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.problem("cut a connection: %v", err)
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// wait returns when ok holds for each of the events, or false when it has not for too long.
func (p *faultyProxy) wait(given map[string]string, ok func(passage) bool) bool {
	limit := time.After(patience)
	for {
		p.mu.Lock()
		changed, all := p.changed, true
		for id := range given {
			all = all && p.events[id] != nil && ok(*p.events[id])
		}
		p.mu.Unlock()
		if all {
			return true
		}
		select {
		case <-changed:
		case <-limit:
			return false
		}
	}
}

// check reports what went wrong, and events that did not meet the whole plan, that the SDK does not know to be delivered, or was never given.
func (p *faultyProxy) check(t *testing.T, given map[string]string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, problem := range p.wrong {
		t.Error(problem)
	}
	if p.rated && p.stats.limited == 0 {
		t.Error("millrace never answered 429")
	}
	for id, e := range p.events {
		switch want := 1 + count(p.plan, cutAfter); {
		case given[id] == "":
			t.Errorf("event %s was sent, but not given to the SDK", id)
		case e.met != len(p.plan) || e.answered == 0:
			t.Errorf("event %s (%s): met %d of %d faults, was sent %d times, answered %d times", id, given[id], e.met, len(p.plan), e.sent, e.answered)
		case e.stored < want:
			t.Errorf("event %s (%s): millrace accepted it %d times, want at least %d", id, given[id], e.stored, want)
		}
	}
	for id, typ := range given {
		if p.events[id] == nil {
			t.Errorf("event %s (%s) was never sent", id, typ)
		}
	}
}

func count(plan []fault, f fault) int {
	n := 0
	for _, g := range plan {
		if f == g {
			n++
		}
	}
	return n
}

func (s *proxyStats) String() string {
	took := slices.Clone(s.took)
	slices.Sort(took)
	if len(took) == 0 {
		took = []time.Duration{0}
	}
	return fmt.Sprintf("%d requests, %d repeats (%d with X-Retry-Count), %d refused by millrace, %d preflights; took millrace %.1f ms, at most %.1f ms",
		s.posts, s.repeats, s.counted, s.limited, s.preflights, took[len(took)/2].Seconds()*1000, took[len(took)-1].Seconds()*1000)
}
