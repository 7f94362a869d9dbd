package vault

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
)

// fake answers as the documented API of Vault does: KV version 2, mounted at kv, in the namespace team.
type fake struct {
	status atomic.Int64 // what it answers with instead, or 0
	asked  atomic.Int64
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.asked.Add(1)
	w.Header().Set("Content-Type", "application/json")
	fail := func(status int, errs ...string) {
		w.WriteHeader(status)
		if errs == nil {
			errs = []string{}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": errs})
	}
	switch status := int(f.status.Load()); {
	case status != 0:
		fail(status, "Vault is sealed")
	case r.Header.Get("X-Vault-Token") != "s.token" || r.Header.Get("X-Vault-Namespace") != "team":
		fail(http.StatusForbidden, "permission denied")
	case r.URL.Path == "/v1/kv/data/apps/stripe":
		_, _ = w.Write([]byte(`{"request_id":"1","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"key":"sk_live_1","n":7},` +
			`"metadata":{"created_time":"2026-11-23T18:00:00Z","deletion_time":"","destroyed":false,"version":2}},"wrap_info":null,"warnings":null,"auth":null}`))
	case r.URL.Path == "/v1/kv/data/apps/gone": // deleted: 404 with metadata
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"data":{"data":null,"metadata":{"deletion_time":"2026-11-23T18:00:00Z","destroyed":false,"version":1}}}`))
	default:
		fail(http.StatusNotFound)
	}
}

func client(t *testing.T, h http.Handler, change func(*Options)) *Client {
	t.Helper()
	o := Options{
		Address: "http://vault.test:8200", Mount: "kv", Namespace: "team", Token: func() (string, error) { return "s.token", nil },
		Client: &http.Client{Transport: direct{h}},
	}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// direct hands requests to a handler without a network, so that a bubble's clock can be used.
type direct struct{ h http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	rec := httptest.NewRecorder()
	d.h.ServeHTTP(rec, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return rec.Result(), nil
}

func TestRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, path, key string
		change          func(*Options)
		status          int
		want            string
		err             error
		says            string
	}{
		{name: "text", path: "apps/stripe", key: "key", want: "sk_live_1"},
		{name: "slashes", path: "/apps/stripe/", key: "key", want: "sk_live_1"},
		{name: "number", path: "apps/stripe", key: "n", want: "7"},
		{name: "no field", path: "apps/stripe", key: "no", err: scheduler.ErrNoValue, says: `no field "no"`},
		{name: "no secret", path: "apps/none", key: "key", err: scheduler.ErrNoValue, says: "no such secret"},
		{name: "deleted", path: "apps/gone", key: "key", err: scheduler.ErrNoValue, says: "deleted"},
		{name: "upwards", path: "apps/../stripe", key: "key", err: scheduler.ErrNoValue, says: "dots"},
		{name: "sealed", path: "apps/stripe", key: "key", status: 503, err: scheduler.ErrValueBusy, says: "Vault is sealed"},
		{name: "limited", path: "apps/stripe", key: "key", status: 429, err: scheduler.ErrValueBusy, says: "429"},
		{name: "wrong token", path: "apps/stripe", key: "key", says: "permission denied",
			change: func(o *Options) { o.Token = func() (string, error) { return "s.other", nil } }},
		{name: "no token", path: "apps/stripe", key: "key", err: scheduler.ErrValueBusy, says: "token can not be read",
			change: func(o *Options) { o.Token = func() (string, error) { return "", errors.New("no such file") } }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := &fake{}
			f.status.Store(int64(c.status))
			got, err := client(t, f, c.change).Read(t.Context(), c.path, c.key)
			if c.says == "" {
				if err != nil || got != c.want {
					t.Errorf("got %q, %v, want %q", got, err, c.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) || c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("got %v, want %v that says %q", err, c.err, c.says)
			}
			if c.err == nil && (errors.Is(err, scheduler.ErrNoValue) || errors.Is(err, scheduler.ErrValueBusy)) {
				t.Errorf("got %v, want neither of the two that are retried or hidden", err)
			}
		})
	}
}

// A secret is asked for once while it is in memory, and a server that does not answer is left alone for a moment.
func TestCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		c := client(t, f, nil)
		read := func(want error, asked int64) {
			t.Helper()
			if _, err := c.Read(t.Context(), "apps/stripe", "key"); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			if got := f.asked.Load(); got != asked {
				t.Errorf("asked %d times, want %d", got, asked)
			}
		}
		read(nil, 1)
		read(nil, 1)
		time.Sleep(31 * time.Second)
		f.status.Store(503)
		read(scheduler.ErrValueBusy, 2)
		read(scheduler.ErrValueBusy, 2)
		f.status.Store(0)
		time.Sleep(pause)
		read(nil, 3)
	})
}

// A server that hangs costs no more than the timeout.
func TestTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		began := time.Now()
		_, err := client(t, hang, nil).Read(t.Context(), "apps/stripe", "key")
		if took := time.Since(began); !errors.Is(err, scheduler.ErrValueBusy) || !errors.Is(err, context.DeadlineExceeded) || took != 5*time.Second {
			t.Errorf("got %v after %v, want busy after 5s", err, took)
		}
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := New(Options{Address: "vault:8200", Timeout: -1})
	for _, want := range []string{"address", "token", "timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}
