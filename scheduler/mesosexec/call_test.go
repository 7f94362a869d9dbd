package mesosexec

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
)

// TestAnswersToCalls: with again, the stream is of no use any more and there is another.
func TestAnswersToCalls(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer func(w *answerer)
		want   error
		text   string
		again  bool
	}{
		{"read", func(w *answerer) { w.WriteHeader(202) }, nil, "", false},
		{"done", func(w *answerer) { w.WriteHeader(200) }, nil, "", false},
		{"wrong", func(w *answerer) { w.status(400, "Failed to validate scheduler::Call: Expecting 'kill' to be present") }, ErrRefused, "'kill'", false},
		{"another stream", func(w *answerer) {
			w.status(400, "The stream ID 'x' included in this request didn't match the stream ID currently associated with framework ID F")
		}, ErrNotSubscribed, "didn't match", false},
		{"unknown framework", func(w *answerer) { w.status(400, "Framework cannot be found") }, ErrNotSubscribed, "cannot be found", false},
		{"not subscribed", func(w *answerer) { w.status(403, "Framework is not subscribed") }, ErrNotSubscribed, "is not subscribed", true},
		{"forbidden", func(w *answerer) { w.status(403, "Forbidden") }, ErrUnauthorised, "", false},
		{"another leads", func(w *answerer) { w.to("//127.0.0.1:1/master" + mesos.SchedulerPath) }, ErrNotSubscribed, "another master", true},
		{"unauthorised", func(w *answerer) { w.status(401, "") }, ErrUnauthorised, "401", false},
		{"not now", func(w *answerer) { w.status(503, "No leader elected") }, scheduler.ErrUnavailable, "No leader", false},
		{"broken off", func(w *answerer) { w.cut() }, scheduler.ErrUnavailable, "EOF", false},
		{"slow", func(w *answerer) { w.hold() }, scheduler.ErrUnavailable, "deadline", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMaster(t, steady(t))
			m.call = func(_ *mesos.Call, w *answerer) { test.answer(w) }
			opt := Options{}
			if test.name == "slow" {
				opt.CallTimeout = 30 * time.Millisecond
			}
			c := run(t, List{m.URL}, opt, nil)
			c.event(t)
			err := c.Call(t.Context(), &mesos.Call{Type: mesos.CallKill})
			if !errors.Is(err, test.want) || test.want == nil && err != nil || test.want != nil && !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.text)
			}
			if test.want != nil && errors.Is(err, scheduler.ErrUnavailable) == errors.Is(err, ErrRefused) {
				t.Errorf("got %v, want it to be either temporary or refused", err)
			}
			if test.again {
				c.event(t)
				return
			}
			m.mu.Lock()
			m.call = func(_ *mesos.Call, w *answerer) { w.WriteHeader(202) }
			m.mu.Unlock()
			if err := c.Call(t.Context(), &mesos.Call{Type: mesos.CallRevive}); err != nil && test.name != "slow" || len(c.events) > 0 {
				t.Errorf("got %v and %d events, want the same stream to go on", err, len(c.events))
			}
		})
	}
}

// TestTeardown: a framework that was torn down stays so.
func TestTeardown(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	m := newMaster(t, func(n int, w *answerer) {
		if n == 0 {
			w.stream("s", subscribed(t, 15))
			<-over
			return
		}
		w.stream("s2", record(t, mesos.Event{Type: mesos.EventError, Error: &mesos.Error{Message: "Framework has been removed"}}))
	})
	m.call = func(_ *mesos.Call, w *answerer) { close(over); w.WriteHeader(202) }
	c := run(t, List{m.URL}, Options{}, nil)
	c.event(t)
	if err := c.Call(t.Context(), &mesos.Call{Type: mesos.CallTeardown}); err != nil {
		t.Fatal(err)
	}
	if err := c.over(t); !errors.Is(err, ErrRemoved) || c.ids.id != "F" {
		t.Errorf("got %v and the id %q, want %v and F as before", err, c.ids.id, ErrRemoved)
	}
}

// TestSecretIsReplaced: a secret that is not accepted is read again, for subscribing and for calls, and used from then on.
func TestSecretIsReplaced(t *testing.T) {
	t.Parallel()
	for _, bearer := range []bool{false, true} {
		file := filepath.Join(t.TempDir(), "secret")
		write := func(secret string) {
			if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
				t.Error(err)
			}
		}
		write("old")
		creds, wants := Basic("millrace", SecretFile(file)), map[string]string{"old": "Basic bWlsbHJhY2U6b2xk", "new": "Basic bWlsbHJhY2U6bmV3", "newer": "Basic bWlsbHJhY2U6bmV3ZXI="}
		if bearer {
			creds, wants = Bearer(SecretFile(file)), map[string]string{"old": "Bearer old", "new": "Bearer new", "newer": "Bearer newer"}
		}
		want := make(chan string, 1)
		want <- wants["new"]
		check := func(w *answerer) bool {
			now := <-want
			defer func() { want <- now }()
			if w.r.Header.Get("Authorization") == now {
				return true
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="mesos-master-scheduler"`)
			w.status(401, "401 Unauthorized.")
			return false
		}
		m := newMaster(t, func(n int, w *answerer) {
			if !check(w) {
				write("new") // just in time
				return
			}
			steady(t)(n, w)
		})
		m.call = func(_ *mesos.Call, w *answerer) {
			if check(w) {
				w.WriteHeader(202)
			}
		}
		c := run(t, List{m.URL}, Options{Credentials: creds}, nil)
		c.event(t)
		if got := m.seen()[0].header.Get("Authorization"); got != wants["old"] {
			t.Errorf("got %q first, want %q", got, wants["old"])
		}
		<-want
		want <- wants["newer"]
		if err := c.Call(t.Context(), &mesos.Call{Type: mesos.CallRevive}); !errors.Is(err, ErrUnauthorised) {
			t.Errorf("got %v, want %v", err, ErrUnauthorised)
		}
		write("newer")
		for range 2 {
			if err := c.Call(t.Context(), &mesos.Call{Type: mesos.CallRevive}); err != nil {
				t.Errorf("got %v with the new secret", err)
			}
		}
		if n := len(m.seen()); n != 2+2+2+1 {
			t.Errorf("got %d requests, want the last one to be accepted at once", n)
		}
	}
}

func TestSecretFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": " \n", "lines": "a\nb"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"empty", "lines", "missing"} {
		if got, err := Basic("p", SecretFile(filepath.Join(dir, name))).authorization(""); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		}
	}
	c, err := New(List{"http://127.0.0.1:1"}, &memory{}, framework, Options{Credentials: Basic("p", SecretFile(filepath.Join(dir, "missing")))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.round(t.Context(), nil); !errors.Is(err, ErrUnauthorised) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("got %v, want %v with the name of the file", err, ErrUnauthorised)
	}
}

// TestTLS: an own authority is believed, another is not, and nobody is sent on to http.
func TestTLS(t *testing.T) {
	t.Parallel()
	m := &master{t: t, subscribe: steady(t), call: func(_ *mesos.Call, w *answerer) { w.WriteHeader(202) }}
	m.Server = httptest.NewTLSServer(m)
	t.Cleanup(m.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	conf, err := TLS(file, "", "")
	if err != nil {
		t.Fatal(err)
	}
	c := run(t, List{m.URL}, Options{TLS: conf}, nil)
	c.event(t)
	if err := c.Call(t.Context(), &mesos.Call{Type: mesos.CallRevive}); err != nil {
		t.Error(err)
	}
	stranger := run(t, List{m.URL}, Options{}, nil)
	waitFor(t, "a reason", func() bool { return stranger.Status().Err != nil })
	if err := stranger.Status().Err; !errors.As(err, new(*tls.CertificateVerificationError)) {
		t.Errorf("got %v, want the certificate not to be believed", err)
	}
	m.mu.Lock()
	m.subscribe = func(_ int, w *answerer) { w.to("http://" + w.r.Host + mesos.SchedulerPath) }
	m.mu.Unlock()
	lured := run(t, List{m.URL}, Options{TLS: conf}, nil)
	waitFor(t, "a reason", func() bool { return lured.Status().Err != nil })
	if err := lured.Status().Err; !errors.Is(err, ErrNotMesos) || !strings.Contains(err.Error(), "from https to http") {
		t.Errorf("got %v, want it not to follow to http", err)
	}
	for _, bad := range [][3]string{{"missing"}, {"call_test.go"}, {"", "missing", "missing"}} {
		if _, err := TLS(bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("%q: got no error", bad)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m := newMaster(t, steady(t))
	reg := prometheus.NewRegistry()
	c := run(t, List{m.URL}, Options{Registerer: reg}, nil)
	c.event(t)
	if err := c.Call(t.Context(), &mesos.Call{Type: mesos.CallRevive}); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, one := range f.GetMetric() {
			name := f.GetName()
			for _, l := range one.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = one.GetGauge().GetValue() + one.GetCounter().GetValue() + float64(one.GetHistogram().GetSampleCount())
		}
	}
	want := map[string]float64{
		"millrace_mesos_subscribed": 1, "millrace_mesos_streams_total": 1, "millrace_mesos_events_total SUBSCRIBED": 1, "millrace_mesos_call_seconds ok REVIVE": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics differ (-want +got)\n%s", diff)
	}
	if _, err := New(List{}, &memory{}, framework, Options{Registerer: reg}); err == nil {
		t.Error("the same metrics twice: got no error")
	}
}

var _ http.Handler = (*master)(nil)
