package mesosexec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"millrace/scheduler/mesos"
)

// master is a server that says what a test wants it to say.
type master struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex // guards the rest
	requests []request
	// subscribe answers SUBSCRIBE, the n'th from 0; call the others.
	subscribe     func(n int, w *answerer)
	call          func(c *mesos.Call, w *answerer)
	subscriptions int
}

type request struct {
	call   mesos.Call
	header http.Header
	path   string
}

func newMaster(t *testing.T, subscribe func(n int, w *answerer)) *master {
	t.Helper()
	m := &master{t: t, subscribe: subscribe, call: func(_ *mesos.Call, w *answerer) { w.WriteHeader(http.StatusAccepted) }}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

// ServeHTTP implements http.Handler.
func (m *master) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var c mesos.Call
	body, err := io.ReadAll(r.Body)
	if err := errors.Join(err, json.Unmarshal(body, &c)); err != nil || r.Method != http.MethodPost {
		m.t.Errorf("%s with %q: %v", r.Method, body, err)
	}
	m.mu.Lock()
	m.requests = append(m.requests, request{c, r.Header.Clone(), r.URL.Path})
	n, subscribe, call := m.subscriptions, m.subscribe, m.call
	if c.Type == mesos.CallSubscribe {
		m.subscriptions++
	}
	m.mu.Unlock()
	a := &answerer{ResponseWriter: w, r: r}
	if c.Type == mesos.CallSubscribe {
		subscribe(n, a)
		return
	}
	call(&c, a)
}

func (m *master) seen() []request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]request(nil), m.requests...)
}

// answerer writes answers.
type answerer struct {
	http.ResponseWriter
	r *http.Request
}

// stream begins a stream and says the chunks, each as one of HTTP.
func (a *answerer) stream(id string, chunks ...string) {
	a.Header().Set("Content-Type", "application/json")
	a.Header().Set(mesos.StreamHeader, id)
	a.WriteHeader(http.StatusOK)
	a.say(chunks...)
}

func (a *answerer) say(chunks ...string) {
	for _, c := range chunks {
		_, _ = io.WriteString(a, c)
		_ = http.NewResponseController(a.ResponseWriter).Flush()
	}
}

// hold keeps the stream open until the client has gone.
func (a *answerer) hold() { <-a.r.Context().Done() }

// cut ends the connection without the last chunk.
func (a *answerer) cut() { panic(http.ErrAbortHandler) }

func (a *answerer) status(code int, text string) {
	a.Header().Set("Content-Type", "text/plain; charset=utf-8")
	a.WriteHeader(code)
	_, _ = io.WriteString(a, text)
}

// to sends on, as Mesos does.
func (a *answerer) to(location string) {
	a.Header().Set("Location", location)
	a.WriteHeader(http.StatusTemporaryRedirect)
}

func record(t *testing.T, e any) string {
	t.Helper()
	body, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(mesos.AppendRecord(nil, body))
}

// subscribed is the first event of a stream.
func subscribed(t *testing.T, heartbeat float64) string {
	t.Helper()
	return record(t, mesos.Event{Type: mesos.EventSubscribed, Subscribed: &mesos.Subscribed{
		FrameworkID: mesos.ID{Value: "F"}, HeartbeatIntervalSeconds: heartbeat, MasterInfo: &mesos.MasterInfo{ID: "M", Version: "1.11.0"},
	}})
}

func rescind(t *testing.T, id string) string {
	t.Helper()
	return record(t, mesos.Event{Type: mesos.EventRescind, Rescind: &mesos.Rescind{OfferID: mesos.ID{Value: id}}})
}

// steady is a master that takes every subscription and says nothing more.
func steady(t *testing.T) func(n int, w *answerer) {
	return func(n int, w *answerer) {
		w.stream(fmt.Sprint("stream-", n), subscribed(t, 15))
		w.hold()
	}
}

// memory keeps an id.
type memory struct {
	mu    sync.Mutex // guards the rest
	id    string
	fails int // so many times it can not keep it
}

func (m *memory) FrameworkID(context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id, nil
}

func (m *memory) KeepFrameworkID(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails--; m.fails >= 0 {
		return errors.New("disk is full")
	}
	m.id = id
	return nil
}

func framework() mesos.Subscribe {
	return mesos.Subscribe{FrameworkInfo: mesos.FrameworkInfo{User: "root", Name: "millrace", Roles: []string{"*"}}}
}

// running is a client that runs.
type running struct {
	*Client
	ids    *memory
	events chan *mesos.Event
	ended  chan error
	stop   context.CancelFunc
}

// run starts a client, which is stopped with the test.
func run(t *testing.T, d Detector, opt Options, ids *memory) *running {
	t.Helper()
	r := &running{ids: ids, events: make(chan *mesos.Event, 10000), ended: make(chan error, 1)}
	return r.start(t, d, opt, func(_ context.Context, e *mesos.Event) error {
		r.events <- e
		return nil
	})
}

func (r *running) start(t *testing.T, d Detector, opt Options, handle Handler) *running {
	t.Helper()
	if opt.MaxPause == 0 {
		opt.MinPause, opt.MaxPause = time.Millisecond, 5*time.Millisecond
	}
	if r.ids == nil {
		r.ids = &memory{}
	}
	var err error
	if r.Client, err = New(d, r.ids, framework, opt); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() { r.ended <- r.Run(ctx, handle) }() // It ends with stop; the cleanup waits for it.
	t.Cleanup(func() {
		stop()
		select {
		case <-r.ended:
		case <-time.After(patience):
			t.Error("the client does not end")
		}
	})
	return r
}

// over waits for the end of Run.
func (r *running) over(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		r.ended <- err
		return err
	case <-time.After(patience):
		t.Fatal("the client does not end")
		return nil
	}
}

// event waits for the next event.
func (r *running) event(t *testing.T) *mesos.Event {
	t.Helper()
	select {
	case e := <-r.events:
		return e
	case <-time.After(patience):
		t.Fatalf("no event comes; status %+v", r.Status())
		return nil
	}
}

const patience = 60 * time.Second

// waitFor waits until ok says so.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// traceLine is one of a trace of package mesos.
type traceLine struct {
	Kind   string          `json:"kind"`
	Conn   int             `json:"conn"`
	Path   string          `json:"path"`
	Text   string          `json:"text"`
	Reason string          `json:"reason"`
	JSON   json.RawMessage `json:"json"`
}

// replay is one stream of a trace.
type replay struct {
	name   string
	chunks []string
	events []mesos.Event
}

// replays returns the streams of all traces.
func replays(t *testing.T) []*replay {
	t.Helper()
	names, err := filepath.Glob("../mesos/testdata/traces/*.jsonl")
	if err != nil || len(names) == 0 {
		t.Fatalf("no traces: %v", err)
	}
	var out []*replay
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		streams := map[int]*replay{}
		for text := range bytes.Lines(data) {
			var l traceLine
			if err := json.Unmarshal(text, &l); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if l.Kind != "chunk" && l.Kind != "event" {
				continue
			}
			if streams[l.Conn] == nil {
				streams[l.Conn] = &replay{name: fmt.Sprintf("%s, connection %d", filepath.Base(name), l.Conn)}
				out = append(out, streams[l.Conn])
			}
			if l.Kind == "chunk" {
				streams[l.Conn].chunks = append(streams[l.Conn].chunks, l.Text)
				continue
			}
			var e mesos.Event
			if err := json.Unmarshal(l.JSON, &e); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			streams[l.Conn].events = append(streams[l.Conn].events, e)
		}
	}
	return out
}
