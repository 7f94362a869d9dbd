package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
)

// told is the problem that a request is answered with.
func (r *rig) told(method, path, body string) problem {
	r.Helper()
	var p problem
	w := r.ask(method, path, body)
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code {
		r.Fatalf("%s %s: %d %s: %v", method, path, w.Code, w.Body, err)
	}
	return p
}

// TestNotHereNamesTheRole: a process without a role says which role has what it was asked for.
func TestNotHereNamesTheRole(t *testing.T) {
	t.Parallel()
	collect := newRig(t, func(d *Deps, _ *Options) { d.Store, d.Control = nil, nil })
	front := newRig(t, func(d *Deps, _ *Options) {
		d.Store, d.Control, d.Objects, d.Catalogue, d.Verify = nil, nil, nil, nil, nil
	})
	for _, tt := range []struct {
		r            *rig
		method, path string
		want         string
	}{
		{collect, "GET", "batches", "role schedule"},
		{collect, "GET", "batches/b", "role schedule"},
		{collect, "GET", "dags", "role schedule"},
		{collect, "POST", "dags/x/runs", "role schedule"},
		{collect, "GET", "runs", "role schedule"},
		{collect, "GET", "where/x", "role schedule"},
		{front, "POST", "verify", "role batch or schedule"},
		{front, "GET", "batches/tail", "role batch or schedule"},
	} {
		p := tt.r.told(tt.method, "/api/v1/"+tt.path, "")
		if p.Code != "not_here" || p.Status != http.StatusNotImplemented || !strings.Contains(p.Detail, tt.want) {
			t.Errorf("%s %s: got %+v, want a word of the %s", tt.method, tt.path, p, tt.want)
		}
	}
}

// TestDAGThatNeverCompiled: who asks for a DAG that has no version is pointed at the file, also where only the file's name is known.
func TestDAGThatNeverCompiled(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		heads []scheduler.DAGHead
		want  string
	}{
		{"no files", nil, "'millrace dags ls'"},
		{"broken file of that name", []scheduler.DAGHead{
			{ID: "a", File: "a.yaml", Error: "line 1"}, {ID: "orders", File: "team/orders.yaml", Error: "line 3"}, {ID: "z", File: "z.yaml", Error: "line 1"},
		}, "team/orders.yaml has never compiled: 'millrace dags show orders'"},
		{"broken file of another name", []scheduler.DAGHead{
			{ID: "my_file", File: "my file.yaml", Error: "line 3"}, {ID: "old", File: "old.yaml", Error: "line 1", Version: "v1"},
			{ID: "past", File: "past.yaml", Error: "line 1", Removed: true},
		}, "it may be in my file.yaml, which has never compiled: 'millrace dags show my_file'"},
	} {
		r := newRig(t)
		if err := r.store.Apply(t.Context(), &scheduler.Change{Heads: tt.heads}); err != nil {
			t.Fatal(err)
		}
		p := r.told("POST", "/api/v1/dags/orders/runs", "")
		if p.Code != "not_found" || !strings.Contains(p.Detail, `find dag "orders"`) || !strings.Contains(p.Detail, tt.want) {
			t.Errorf("%s: got %+v, want %q", tt.name, p, tt.want)
		}
	}
	if p := newRig(t).told("GET", "/api/v1/dags/orders", ""); p.Code != "not_found" || !strings.Contains(p.Detail, "'millrace dags ls'") {
		t.Errorf("show: got %+v", p)
	}
}

// TestDamagedObject: one damaged object is no outage, and its text says what to do.
func TestDamagedObject(t *testing.T) {
	t.Parallel()
	f := faultOf(fmt.Errorf("read object of batch b: %w", batcher.ErrDamaged))
	if f.code != "damaged" || f.status != http.StatusBadGateway || !strings.Contains(f.title, "millrace verify") {
		t.Errorf("got %+v", f)
	}
	if f := faultOf(fmt.Errorf("read object of batch b: %w", batcher.ErrUnavailable)); f.code != "unavailable" {
		t.Errorf("a store that is away: got %+v", f)
	}
}

// TestStuck: what waits for a person is on the page and in the status, with what to do.
func TestStuck(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(d *Deps, _ *Options) {
		d.Stuck = func() []Stuck {
			return []Stuck{{Partition: 7, Stream: ingest.Stream{Log: "log", Incarnation: "inc", Partition: 7}, Why: "records are gone " + evil, Next: "run --yes"}}
		}
	})
	if got := r.page("/"); !strings.Contains(got, "Partition 7: records are gone &lt;script&gt;") || !strings.Contains(got, "run --yes") {
		t.Errorf("the page does not say why, or not what to do:\n%s", got)
	}
	_, router := document(t)
	w := r.get("/api/v1/status")
	if _, err := fits(t, router, "GET", "/status", "", w); err != nil || !strings.Contains(w.Body.String(), "run --yes") {
		t.Errorf("status: %v\n%s", err, w.Body)
	}
	if got := newRig(t).page("/"); strings.Contains(got, "your word") {
		t.Errorf("nothing is stuck, and the page says:\n%s", got)
	}
}

// TestHeld: dispatch that is on hold is on the page and in the status, with what to do.
func TestHeld(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 23, 14, 30, 0, 0, time.UTC)
	r := newRig(t, func(d *Deps, _ *Options) { d.Held = func() time.Time { return since } })
	if got := r.page("/"); !strings.Contains(got, "millrace admin resume --since") {
		t.Errorf("the page does not say that dispatch is on hold:\n%s", got)
	}
	_, router := document(t)
	w := r.get("/api/v1/status")
	if _, err := fits(t, router, "GET", "/status", "", w); err != nil || !strings.Contains(w.Body.String(), `"held_since":"2026-11-23T14:30:00Z"`) {
		t.Errorf("status: %v\n%s", err, w.Body)
	}
	none := newRig(t, func(d *Deps, _ *Options) { d.Held = func() time.Time { return time.Time{} } })
	if got := none.page("/") + none.get("/api/v1/status").Body.String(); strings.Contains(got, "admin resume") || strings.Contains(got, "held_since") {
		t.Errorf("nothing is on hold, and it says:\n%s", got)
	}
}
