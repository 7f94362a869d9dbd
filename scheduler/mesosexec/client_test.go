package mesosexec

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

// TestReplays: what a real master was seen to say comes in order, however it is cut into chunks, and a stream that ends is followed by another.
func TestReplays(t *testing.T) {
	t.Parallel()
	cuts := map[string]func(all string) []string{
		"in one piece": func(all string) []string { return []string{all} },
		"byte by byte": func(all string) []string { return strings.Split(all, "") },
		"in sevens": func(all string) (out []string) {
			for ; len(all) > 700; all = all[700:] {
				out = append(out, all[:700])
			}
			return append(out, all)
		},
	}
	records := 0
	for _, r := range replays(t) {
		for how, cut := range cuts {
			all := strings.Join(r.chunks, "")
			if how == "byte by byte" && len(all) > 20_000 {
				continue
			}
			records += len(r.events)
			t.Run(r.name+" "+how, func(t *testing.T) {
				t.Parallel()
				replayed(t, r, cut(all))
			})
		}
	}
	if records < 1000 {
		t.Errorf("got %d records, want more than 1000", records)
	}
}

func replayed(t *testing.T, r *replay, chunks []string) {
	again := make(chan struct{})
	m := newMaster(t, func(n int, w *answerer) {
		if n == 1 {
			close(again)
		}
		if n > 0 {
			w.status(http.StatusServiceUnavailable, "No leader elected")
			return
		}
		w.stream("stream", chunks...)
		if len(chunks)%2 == 0 {
			w.cut()
		}
	})
	c := run(t, List{m.URL}, Options{}, nil)
	last := r.events[len(r.events)-1]
	if last.Type == mesos.EventError {
		if err := c.over(t); !final(err) {
			t.Errorf("got %v after the error %q, want a final one", err, last.Error.Message)
		}
	} else {
		select {
		case <-again:
		case <-time.After(patience):
			t.Fatal("there is no second subscription")
		}
	}
	for i := range r.events {
		want := &r.events[i]
		if want.Type == mesos.EventHeartbeat || want.Type == mesos.EventError {
			continue
		}
		if diff := cmp.Diff(want, c.event(t)); diff != "" {
			t.Fatalf("event %d differs (-seen +got)\n%s", i, diff)
		}
	}
	if len(c.events) > 0 {
		t.Errorf("got %d events more", len(c.events))
	}
	if id := r.events[0].Subscribed; id != nil && c.ids.id != id.FrameworkID.Value {
		t.Errorf("got the id %q kept, want %q", c.ids.id, id.FrameworkID.Value)
	}
}

// TestSubscribe: the first time without an id, then with it in both places; never with a stream's. Calls have both.
func TestSubscribe(t *testing.T) {
	t.Parallel()
	m := newMaster(t, func(n int, w *answerer) {
		w.stream(fmt.Sprint("stream-", n), subscribed(t, 15))
		if n > 0 {
			w.hold()
		}
	})
	c := run(t, List{m.URL}, Options{}, nil)
	c.event(t)
	c.event(t)
	waitFor(t, "the second stream", func() bool { return c.Call(t.Context(), &mesos.Call{Type: mesos.CallRevive}) == nil })
	got := m.seen()
	for i, r := range got[:2] {
		id := []string{"", "F"}[i]
		if r.path != mesos.SchedulerPath || r.header.Get("Content-Type") != "application/json" || r.header.Get("Accept") != "application/json" {
			t.Errorf("got %s with %v", r.path, r.header)
		}
		if r.header.Get(mesos.StreamHeader) != "" || r.call.FrameworkID.Value != id || r.call.Subscribe.FrameworkInfo.ID.Value != id {
			t.Errorf("subscription %d: got %+v with stream %q, want the id %q twice", i, r.call, r.header.Get(mesos.StreamHeader), id)
		}
	}
	last := got[len(got)-1]
	if last.call.Type != mesos.CallRevive || last.call.FrameworkID.Value != "F" || last.header.Get(mesos.StreamHeader) != "stream-1" {
		t.Errorf("got %+v with stream %q, want REVIVE of F with stream-1", last.call, last.header.Get(mesos.StreamHeader))
	}
	s := c.Status()
	if !s.Subscribed || s.FrameworkID != "F" || s.Info.Version != "1.11.0" || s.Err != nil || s.Heard.IsZero() || "http://"+s.Master != m.URL {
		t.Errorf("got status %+v", s)
	}
}

// TestAnswersToSubscribe: what can not be mended ends Run, the rest is tried again, and Status says why.
func TestAnswersToSubscribe(t *testing.T) {
	t.Parallel()
	event := func(e string) func(*answerer) {
		return func(w *answerer) { w.stream("s", string(mesos.AppendRecord(nil, []byte(e)))); w.hold() }
	}
	status := func(code int, text string) func(*answerer) { return func(w *answerer) { w.status(code, text) } }
	tests := []struct {
		name   string
		answer func(w *answerer)
		want   error
		text   string
	}{
		{"recovering", status(503, "Master has not finished recovery"), scheduler.ErrUnavailable, "has not finished recovery"},
		{"unauthorised", status(401, "401 Unauthorized."), ErrUnauthorised, "401 Unauthorized."},
		{"forbidden", status(403, "no"), ErrUnauthorised, "403"},
		{"not found", status(404, ""), ErrNotMesos, "404"},
		{"another type", status(415, "Expecting 'Content-Type' of application/json"), ErrNotMesos, "Content-Type"},
		{"a page", status(200, "<html>"), ErrNotMesos, "text/plain"},
		{"another principal", status(400, "Authenticated principal 'a' does not match"), ErrRefused, "principal 'a'"},
		{"not RecordIO", func(w *answerer) { w.stream("s", "<html>") }, mesos.ErrRecord, "length"},
		{"no event", func(w *answerer) { w.stream("s") }, ErrNotSubscribed, "ended"},
		{"cut within its first event", func(w *answerer) { w.stream("s", "400\n{"); w.cut() }, nil, "unexpected EOF"},
		{"another first event", event(`{"type":"OFFERS","offers":{}}`), ErrNotMesos, "OFFERS"},
		{"no stream id", func(w *answerer) { w.stream("", subscribed(t, 15)); w.hold() }, ErrNotMesos, "stream id"},
		{"a long stream id", func(w *answerer) { w.stream(strings.Repeat("x", 129), subscribed(t, 15)); w.hold() }, ErrNotMesos, "stream id"},
		{"no framework id", event(`{"type":"SUBSCRIBED","subscribed":{"framework_id":{"value":""}}}`), ErrNotMesos, "no id"},
		{"removed", event(`{"type":"ERROR","error":{"message":"Framework has been removed"}}`), ErrRemoved, "only a person"},
		{"superseded", event(`{"type":"ERROR","error":{"message":"Framework failed over"}}`), ErrSuperseded, ""},
		{"invalid", event(`{"type":"ERROR","error":{"message":"Role '/x' is invalid"}}`), ErrRefused, "Role '/x'"},
		{"on, without saying where", func(w *answerer) { w.WriteHeader(307) }, ErrNotMesos, "without saying where"},
		{"on in a circle", func(w *answerer) { w.to("//" + w.r.Host + "/master" + mesos.SchedulerPath) }, ErrNotSubscribed, "6 times"},
		{"on to nothing", func(w *answerer) { w.to("//127.0.0.1:1/master" + mesos.SchedulerPath) }, scheduler.ErrUnavailable, "refused"},
		{"on in clear", func(w *answerer) { w.to("ftp://" + w.r.Host + mesos.SchedulerPath) }, ErrNotMesos, "from http to ftp"},
		{"on to a page", func(w *answerer) { w.to("/login") }, ErrNotMesos, "/login"},
		{"on to no address", func(w *answerer) { w.to("//[") }, scheduler.ErrUnavailable, "//["},
		{"silent", func(w *answerer) { w.hold() }, ErrNotSubscribed, "silent"},
		{"silent behind its head", func(w *answerer) { w.stream("s"); w.hold() }, ErrNotSubscribed, "silent"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMaster(t, func(_ int, w *answerer) { test.answer(w) })
			opt := Options{}
			if strings.HasPrefix(test.name, "silent") {
				opt.ConnectTimeout = 50 * time.Millisecond
			}
			c := run(t, List{m.URL}, opt, nil)
			var err error
			if test.want != nil && final(test.want) {
				err = c.over(t)
			}
			waitFor(t, "a reason", func() bool { return c.Status().Err != nil })
			if err == nil {
				err = c.Status().Err
			}
			if test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.text)
			}
			if !final(err) {
				waitFor(t, "another try", func() bool { return len(m.seen()) > maxRedirects+2 })
			}
			if len(c.events) > 0 || c.ids.id != "" {
				t.Errorf("got events, or the id %q, of such a master", c.ids.id)
			}
			if err := c.Call(t.Context(), &mesos.Call{Type: mesos.CallRevive}); !errors.Is(err, ErrNotSubscribed) {
				t.Errorf("got %v for a call, want %v", err, ErrNotSubscribed)
			}
		})
	}
}

// TestLeader: a master that follows sends on to its leader; the calls go there, too. One that is dead is passed over.
func TestLeader(t *testing.T) {
	t.Parallel()
	leader := newMaster(t, steady(t))
	follower := newMaster(t, func(_ int, w *answerer) {
		w.to("//" + leader.Listener.Addr().String() + "/master" + mesos.SchedulerPath)
	})
	dead := httptest.NewServer(nil)
	dead.Close()
	c := run(t, List{dead.URL, follower.URL}, Options{}, nil)
	c.event(t)
	if err := c.Call(t.Context(), &mesos.Call{Type: mesos.CallRevive}); err != nil {
		t.Error(err)
	}
	for _, r := range leader.seen() {
		if r.path != "/master"+mesos.SchedulerPath {
			t.Errorf("%s: got path %s, want that of the redirection", r.call.Type, r.path)
		}
	}
	if got := len(leader.seen()); got != 2 {
		t.Errorf("got %d requests at the leader, want 2", got)
	}
}

// changing is a detector whose answer changes.
type changing struct {
	first, then string
	changed     chan struct{}
}

func (d *changing) Masters(context.Context) ([]string, <-chan struct{}, error) {
	select {
	case <-d.changed:
		return []string{d.then}, nil, nil
	default:
		return []string{d.first}, d.changed, nil
	}
}

func TestLeaderChanges(t *testing.T) {
	t.Parallel()
	one, two := newMaster(t, steady(t)), newMaster(t, steady(t))
	d := &changing{one.URL, two.URL, make(chan struct{})}
	c := run(t, d, Options{}, nil)
	c.event(t)
	close(d.changed)
	c.event(t)
	if got := "http://" + c.Status().Master; got != two.URL {
		t.Errorf("got master %s, want %s", got, two.URL)
	}
}

// nobody is a detector that finds no master.
type nobody struct{}

func (nobody) Masters(ctx context.Context) ([]string, <-chan struct{}, error) {
	<-ctx.Done()
	return nil, nil, fmt.Errorf("nobody leads: %w", ctx.Err())
}

// none is a detector that returns none.
type none struct{}

func (none) Masters(context.Context) ([]string, <-chan struct{}, error) { return nil, nil, nil }

// TestNobodyLeads: a client that waits for a master says so.
func TestNobodyLeads(t *testing.T) {
	t.Parallel()
	for d, want := range map[Detector]string{nobody{}: "nobody leads", none{}: "none is known"} {
		c := run(t, d, Options{ConnectTimeout: 5 * time.Millisecond}, nil)
		waitFor(t, "a reason", func() bool { return c.Status().Err != nil })
		if err := c.Status().Err; !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want that %s", err, want)
		}
	}
}

// TestIDIsKeptFirst: a framework without an id that is kept does nothing.
func TestIDIsKeptFirst(t *testing.T) {
	t.Parallel()
	m := newMaster(t, steady(t))
	ids := &memory{fails: 3}
	r := &running{ids: ids, ended: make(chan error, 1)}
	kept := make(chan string, 1)
	r.start(t, List{m.URL}, Options{}, func(ctx context.Context, e *mesos.Event) error {
		id, err := ids.FrameworkID(ctx)
		kept <- id
		return err
	})
	select {
	case id := <-kept:
		if id != "F" {
			t.Errorf("got the id %q at the first event, want F", id)
		}
	case <-time.After(patience):
		t.Fatal("no event comes")
	}
	if n := len(m.seen()); n != 1 {
		t.Errorf("got %d subscriptions, want one: each would be another framework", n)
	}
}

// TestAnotherID: a framework that has an id gets no other.
func TestAnotherID(t *testing.T) {
	t.Parallel()
	m := newMaster(t, steady(t))
	c := run(t, List{m.URL}, Options{}, &memory{id: "G"})
	if err := c.over(t); !errors.Is(err, ErrRefused) || c.ids.id != "G" {
		t.Errorf("got %v and the id %q, want %v and G", err, c.ids.id, ErrRefused)
	}
}

// TestStrangeEvents: what is not known is left out, and what follows comes.
func TestStrangeEvents(t *testing.T) {
	t.Parallel()
	strange := func(text string) string { return string(mesos.AppendRecord(nil, []byte(text))) }
	m := newMaster(t, func(_ int, w *answerer) {
		w.stream("s", strange(`{"type":"WIBBLE"}`)+strange(`{"type":"HEARTBEAT"}`)+subscribed(t, 15)+strange(`{"type":"WIBBLE","wibble":{}}`)+strange(`{}`)+strange(`{"type":"HEARTBEAT"}`)+strange(`{"type":"RESCIND","rescind":7}`)+
			strange(``)+strange(`{"type":"RESCIND","wibble":[1],"rescind":{"offer_id":{"value":"O1"},"why":null}}`))
		w.hold()
	})
	c := run(t, List{m.URL}, Options{}, nil)
	if e := c.event(t); e.Type != mesos.EventSubscribed {
		t.Errorf("got %s first, want SUBSCRIBED", e.Type)
	}
	if e := c.event(t); e.Type != mesos.EventRescind || e.Rescind.OfferID.Value != "O1" {
		t.Errorf("got %+v, want RESCIND of O1", e)
	}
}

// TestSilence: a stream on which no heartbeats come is dropped; while the handler is at work nothing is missed.
func TestSilence(t *testing.T) {
	t.Parallel()
	const beat = 20 * time.Millisecond
	m := newMaster(t, func(n int, w *answerer) {
		w.stream(fmt.Sprint("stream-", n), subscribed(t, beat.Seconds()))
		if n == 0 {
			w.say(rescind(t, "O1") + rescind(t, "O2"))
		}
		w.hold()
	})
	r := &running{ended: make(chan error, 1)}
	got := make(chan string, 100)
	r.start(t, List{m.URL}, Options{MissedHeartbeats: 2}, func(_ context.Context, e *mesos.Event) error {
		if e.Type == mesos.EventRescind {
			<-time.After(10 * beat) // longer than a master may be silent
			got <- e.Rescind.OfferID.Value
			return nil
		}
		got <- e.Type
		return nil
	})
	for _, want := range []string{"SUBSCRIBED", "O1", "O2", "SUBSCRIBED"} {
		select {
		case e := <-got:
			if e != want {
				t.Fatalf("got %s, want %s", e, want)
			}
		case <-time.After(patience):
			t.Fatalf("%s does not come", want)
		}
	}
}

// TestHandlerRefuses: what a handler does not take comes on another stream.
func TestHandlerRefuses(t *testing.T) {
	t.Parallel()
	m := newMaster(t, func(_ int, w *answerer) {
		w.stream("s", subscribed(t, 15), rescind(t, "O1"), rescind(t, "O2"))
		w.hold()
	})
	r := &running{ended: make(chan error, 1)}
	var got []string
	done := make(chan struct{})
	r.start(t, List{m.URL}, Options{}, func(_ context.Context, e *mesos.Event) error {
		if e.Rescind == nil {
			got = append(got, "s")
			return nil
		}
		got = append(got, e.Rescind.OfferID.Value)
		switch len(got) {
		case 2:
			return errors.New("not now")
		case 5:
			close(done)
		}
		return nil
	})
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the events do not come again")
	}
	r.stop()
	_ = r.over(t)
	if diff := cmp.Diff([]string{"s", "O1", "s", "O1", "O2"}, got); diff != "" {
		t.Errorf("events differ (-want +got)\n%s", diff)
	}
}

// TestEnd: the end of ctx ends Run, wherever it is.
func TestEnd(t *testing.T) {
	t.Parallel()
	waiting := make(chan struct{}, 1)
	tests := map[string]func(n int, w *answerer){
		"before an answer":  func(_ int, w *answerer) { waiting <- struct{}{}; w.hold() },
		"within an event":   func(_ int, w *answerer) { w.stream("s", subscribed(t, 15), "500\n{"); waiting <- struct{}{}; w.hold() },
		"between two tries": func(_ int, w *answerer) { w.status(503, ""); waiting <- struct{}{} },
	}
	for name, subscribe := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMaster(t, subscribe)
			c := run(t, List{m.URL}, Options{MinPause: time.Hour, MaxPause: time.Hour}, nil)
			<-waiting
			c.stop()
			if err := c.over(t); err != nil {
				t.Errorf("got %v, want nil", err)
			}
		})
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	c, err := New(List{"http://h:1"}, &memory{}, framework, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for tries := 1; tries < 100; tries++ {
		most := 15 * time.Second
		if tries < 9 {
			most = 100 * time.Millisecond << (tries - 1)
		}
		if got := c.pause(tries); got < most/2 || got > most {
			t.Errorf("pause %d: got %s, want between half of %s and that", tries, got, most)
		}
	}
	for _, bad := range []Options{{CallTimeout: -1}, {MinPause: 2, MaxPause: 1}, {MissedHeartbeats: -1}} {
		if _, err := New(List{}, &memory{}, framework, bad); err == nil {
			t.Errorf("%+v: got no error", bad)
		}
	}
}

func TestNewList(t *testing.T) {
	t.Parallel()
	got, err := NewList("10.0.0.1", "http://b:5051/", "https://c", "[::1]:7")
	if diff := cmp.Diff(List{"http://10.0.0.1:5050", "http://b:5051", "https://c:5050", "http://[::1]:7"}, got); diff != "" || err != nil {
		t.Errorf("%v, addresses differ (-want +got)\n%s", err, diff)
	}
	for bad, want := range map[string]string{
		"zk://a": "scheme", "http://u:hunter2@h": "credentials", "http://h/mesos": "more than", "http://": "without a host", "http://h:x": "port",
	} {
		if _, err := NewList(bad); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want something of %q", bad, err, want)
		}
	}
	if _, err := NewList(); err == nil {
		t.Error("no master: got no error")
	}
}
