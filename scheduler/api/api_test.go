package api

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

var update = flag.Bool("update", false, "write golden files")

// document loads openapi.yaml, and a router over it.
func document(t *testing.T) (*openapi3.T, routers.Router) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openapi)
	if err != nil {
		t.Fatalf("load document: %v", err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("document: %v", err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatalf("router: %v", err)
	}
	return doc, router
}

// TestDocumentHasRoutes holds the table of routes against the document, both ways.
func TestDocumentHasRoutes(t *testing.T) {
	t.Parallel()
	doc, _ := document(t)
	want := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			want[method+" /api/v1"+path] = true
		}
	}
	params := regexp.MustCompile(`:(\w+)`)
	for _, r := range newRig(t).routes {
		if !strings.HasPrefix(r.path, "/api/v1/") {
			continue // what is below /api/v2 is in Airflow's own document
		}
		name := r.method + " " + params.ReplaceAllString(r.path, "{$1}")
		if !want[name] {
			t.Errorf("%s is not in the document", name)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%s is in the document and nowhere else", name)
	}
}

// TestAnswersFitDocument makes real requests and checks request and answer against the document: OpenAPI 3.1 with JSON Schema 2020-12, in
// which schemas of objects permit no further properties. What is not checked is what the document leaves open: the report of verify, the
// settings, and the compiled form of a DAG.
func TestAnswersFitDocument(t *testing.T) {
	t.Parallel()
	_, router := document(t)
	r := newRig(t)
	old := r.archive()
	b, run := r.fill()
	r.chain.add(schedulertest.ExampleStream, batcher.Entry{Low: 0})
	receipt := ingest.Receipt{{Stream: b.Stream, First: b.First, Last: b.First + 4}}.String()
	seen := map[string]bool{}
	for _, tt := range append(append(backfillQuestions(b.ID), valueQuestions...), []question{
		{"GET", "/batches", "", 200}, {"GET", "/batches?limit=1&source=web", "", 200}, {"GET", "/batches?limit=x", "", 422},
		{"GET", "/batches/" + b.ID, "", 200}, {"GET", "/batches/none", "", 404},
		{"GET", "/batches/" + b.ID + "/rows?limit=2", "", 200}, {"GET", "/batches/none/rows", "", 404},
		{"GET", "/where/" + receipt, "", 200}, {"GET", "/where/m1?since=99999h", "", 200}, {"GET", "/where/nothing?since=1h", "", 404},
		{"GET", "/where/x?since=yesterday", "", 422},
		{"GET", "/dags/schema", "", 200}, {"GET", "/dags", "", 200}, {"GET", "/dags/load", "", 200}, {"GET", "/dags/none", "", 404},
		{"POST", "/dags/validate", "dag: load", 200}, {"POST", "/dags/validate", "bad: 1", 200},
		{"POST", "/dags/load/runs", `{"id":"a","params":{"x":1}}`, 201}, {"POST", "/dags/none/runs", `{}`, 404},
		{"POST", "/dags/load/pause", "", 200}, {"POST", "/dags/load/unpause", "", 200}, {"POST", "/dags/none/pause", "", 404}, {"POST", "/dags/none/unpause", "", 404},
		{"POST", "/dags/load/simulate", `{"on":[{"id":"clicks","kind":"batch"}],"from":"2026-11-20T10:00:00Z"}`, 200},
		{"POST", "/dags/load/simulate", `{"on":null,"from":"2026-11-20T10:00:00Z","to":"2026-11-21T10:00:00Z"}`, 200},
		{"POST", "/dags/load/simulate", `{"on":[]}`, 422}, {"POST", "/dags/load/simulate", `{"from":"2026-11-22T10:00:00Z","to":"2026-11-21T10:00:00Z"}`, 422},
		{"POST", "/dags/load/simulate", `{"on":[{"id":"clicks","kind":"batch","if":"faulty"}],"from":"2026-11-20T10:00:00Z"}`, 422},
		{"POST", "/dags/load/runs", `{"params":[1]}`, 422}, {"POST", "/dags/load/runs", `{"parms":{}}`, 422},
		{"GET", "/runs", "", 200}, {"GET", "/runs?state=failed&dag=load", "", 200}, {"GET", "/runs?state=odd", "", 422}, {"GET", "/runs?before=odd", "", 422},
		{"GET", "/runs/" + run.ID, "", 200}, {"GET", "/runs/none", "", 404}, {"GET", "/runs/" + run.ID + "/tasks", "", 200},
		{"GET", "/runs/" + run.ID + "/tasks/check/output", "", 200}, {"GET", "/runs/" + run.ID + "/tasks/none/output", "", 404},
		{"GET", "/runs/" + run.ID + "/tasks/check/output?map_index=x", "", 422},
		{"GET", "/runs/" + run.ID + "/wait", "", 200}, {"GET", "/runs/none/wait", "", 404}, {"GET", "/runs/" + run.ID + "/wait?seconds=61", "", 422},
		{"POST", "/runs/" + run.ID + "/clear", "", 200}, {"POST", "/runs/" + run.ID + "/clear", `{"tasks":["check"],"downstream":true,"dry_run":true,"by":"ann"}`, 200},
		{"POST", "/runs/none/clear", `{"failed":true}`, 404}, {"POST", "/runs/" + run.ID + "/clear", `{"task":"check"}`, 422},
		{"POST", "/runs/" + run.ID + "/clear", `{"by":"a\nb"}`, 422},
		{"POST", "/runs/" + run.ID + "/mark", `{"state":"success","task":"check"}`, 200}, {"POST", "/runs/none/mark", `{"state":"failed"}`, 404},
		{"POST", "/runs/" + run.ID + "/mark", `{"state":"failed"} {}`, 422},
		{"GET", "/approvals", "", 200}, {"GET", "/approvals?run=none", "", 200},
		{"POST", "/runs/r1/tasks/none/decision", `{"decision":"approve"}`, 404}, {"POST", "/runs/r1/tasks/ask/decision", `{"decision":"maybe"}`, 422},
		{"POST", "/runs/r1/tasks/ask/decision", `{"decision":"approve","by":"ann","comment":"c","option":"all","input":{"why":"x"},"map_index":-1}`, 200},
		{"POST", "/runs/r1/tasks/ask/decision", `{"decision":"reject"}`, 409}, {"POST", "/runs/r1/tasks/ask/decision", `{"approve":true}`, 422},
		{"POST", "/runs/" + run.ID + "/replay", "", 201}, {"POST", "/runs/" + run.ID + "/replay", `{"pin":"latest","emit":true}`, 201},
		{"POST", "/runs/none/replay", `{}`, 404}, {"POST", "/runs/" + run.ID + "/replay", `{"pinn":"latest"}`, 422},
		{"GET", "/runs?replay_of=" + run.ID + "&backfill=b", "", 200},
		{"POST", "/runs/" + run.ID + "/cancel", "", 200}, {"POST", "/runs/none/cancel", "", 404},
		{"GET", "/runs/" + run.ID + "/logs", "", 200}, {"GET", "/runs/" + run.ID + "/logs?task=none", "", 404},
		{"GET", "/explain/runs/" + run.ID, "", 200}, {"GET", "/explain/runs/none", "", 404}, {"GET", "/explain/batches/" + b.ID, "", 200},
		{"GET", "/explain/batches/none", "", 404}, {"GET", "/explain/tasks/" + run.ID + "/check", "", 200}, {"GET", "/pools", "", 200},
		{"GET", "/notices", "", 200}, {"GET", "/notices?state=pending&notifier=ops&run=" + run.ID, "", 200}, {"GET", "/notices?state=odd", "", 422}, {"GET", "/notices?before=odd", "", 422},
		{"POST", "/notices/" + exampleNotice(run.ID).ID + "/retry", "", 200}, {"POST", "/notices/none/retry", "", 404},
		{"GET", "/notifiers", "", 200}, {"POST", "/notifiers/ops/test", "", 200}, {"POST", "/notifiers/none/test", "", 404}, {"POST", "/notifiers/broken/test", "", 422},
		{"GET", "/explain/tasks/" + run.ID + "/none", "", 404}, {"GET", "/explain/tasks/" + run.ID + "/check?map_index=x", "", 422},
		{"GET", "/verify", "", 404}, {"POST", "/verify", "", 200}, {"GET", "/verify", "", 200},
		{"GET", "/mesos", "", 200}, {"POST", "/mesos/confirm", "", 200}, {"POST", "/mesos/register", "", 422}, {"POST", "/mesos/teardown", "", 503},
		{"POST", "/admin/archive", "", 200}, {"GET", "/archive", "", 200}, {"GET", "/archive?limit=0", "", 422},
		{"GET", "/archive/object?key=" + old.key, "", 200}, {"GET", "/archive/object?key=" + old.key + "x", "", 404}, {"GET", "/archive/object?key=other", "", 422},
		{"GET", "/runs/" + old.run, "", 200}, {"GET", "/runs/" + old.run + "/tasks", "", 200}, {"GET", "/runs/" + old.run + "/logs", "", 200},
		{"GET", "/config", "", 200}, {"GET", "/version", "", 200}, {"GET", "/status", "", 200}, {"GET", "/openapi.yaml", "", 200},
		{"GET", "/batches/tail?from=odd", "", 422}, {"GET", "/events/tail?from=odd", "", 422},
		{"POST", "/admin/resume", `{"since":"2026-11-23T10:00:00Z"}`, 200}, {"POST", "/admin/resume", `{"since":"2026-11-23T11:00:00Z"}`, 409},
		{"POST", "/admin/resume", `{"since":"yesterday"}`, 422}, {"POST", "/admin/resume", `{}`, 422},
	}...) {
		name := fmt.Sprintf("%s %s %d", tt.method, tt.path, tt.want)
		w := r.ask(tt.method, "/api/v1"+tt.path, tt.body)
		if w.Code != tt.want {
			t.Errorf("%s: got %d: %s", name, w.Code, w.Body)
			continue
		}
		route, err := fits(t, router, tt.method, tt.path, tt.body, w)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, w.Body)
		}
		seen[route] = true
	}
	for _, route := range r.routes {
		if strings.HasPrefix(route.path, "/api/v1/") && !seen[route.method+" "+regexp.MustCompile(`:(\w+)`).ReplaceAllString(route.path, "{$1}")] {
			t.Errorf("%s %s was not asked", route.method, route.path)
		}
	}
}

// fits checks an answer, and the request if it was a good one.
func fits(t *testing.T, router routers.Router, method, path, body string, w *httptest.ResponseRecorder) (string, error) {
	t.Helper()
	req := httptest.NewRequest(method, "/api/v1"+path, strings.NewReader(body))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
		if strings.HasSuffix(path, "/validate") {
			req.Header.Set("Content-Type", "application/yaml")
		}
	}
	found, params, err := router.FindRoute(req)
	if err != nil {
		return "", err
	}
	route := method + " /api/v1" + found.Path
	opts := &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: found, Options: opts}
	if w.Code < 300 {
		if err := openapi3filter.ValidateRequest(t.Context(), in); err != nil {
			return route, err
		}
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: w.Code, Header: w.Header(), Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())), Options: opts,
	}
	switch kind, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";"); kind {
	case "application/json", "application/problem+json":
		return route, openapi3filter.ValidateResponse(t.Context(), out)
	default: // Text has no schema: that its type is in the document is what there is to check.
		if found.Operation.Responses.Status(w.Code).Value.Content.Get(kind) == nil {
			return route, fmt.Errorf("type %s is not in the document", kind)
		}
		return route, nil
	}
}

// TestDocumentBites proves that the check of answers sees a field that is not in the document, and one that is missing.
func TestDocumentBites(t *testing.T) {
	t.Parallel()
	_, router := document(t)
	for _, body := range []string{`{"version":"1","revision":"r","go":"g","extra":1}`, `{"version":"1","revision":"r"}`, `{"version":1,"revision":"r","go":"g"}`} {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.WriteString(body)
		if _, err := fits(t, router, "GET", "/version", "", w); err == nil {
			t.Errorf("%s: got nil, want an error", body)
		}
	}
}

// TestGolden fixes the bodies that other programs read.
func TestGolden(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b, run := r.fill()
	receipt := ingest.Receipt{{Stream: b.Stream, First: b.First, Last: b.First}}.String()
	for name, path := range map[string]string{
		"batches": "/batches", "batch": "/batches/" + b.ID, "runs": "/runs", "run": "/runs/" + run.ID, "tasks": "/runs/" + run.ID + "/tasks",
		"dags": "/dags", "dag": "/dags/load", "where": "/where/" + receipt, "not_found": "/runs/none",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			if err := json.Indent(&got, r.get("/api/v1"+path).Body.Bytes(), "", "  "); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got\n%s\nwant\n%s", got.Bytes(), want)
			}
		})
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b, _ := r.fill()
	long := schedulertest.ExampleBatch(2)
	change := &scheduler.Change{}
	change.Arrivals = append(change.Arrivals, arrivalOf(long))
	if err := r.store.Apply(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 200_000) + "\n"
	r.put(long.Key, []byte(line+line+"end"))
	for path, want := range map[string]string{
		b.ID + "/rows?limit=1":             "{\"messageId\":\"m0\"}\n",
		b.ID + "/rows?offset=2":            "{\"messageId\":\"m2\"}\n",
		b.ID + "/rows?offset=3":            "",
		long.ID + "/rows?limit=1":          line,
		long.ID + "/rows?offset=1&limit=1": line,
		long.ID + "/rows?offset=2&limit=9": "end",
		long.ID + "/rows":                  line + line + "end",
	} {
		if got := r.page("/api/v1/batches/" + path); got != want {
			t.Errorf("%s: got %d bytes, want %d", path, len(got), len(want))
		}
	}
}

func TestVerifyOnce(t *testing.T) {
	t.Parallel()
	started, finish := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(d *Deps, _ *Options) {
		d.Verify = func(context.Context) (any, error) {
			close(started)
			<-finish
			return map[string]int{"lost": 0}, nil
		}
	})
	done := make(chan int, 1)
	go func() { done <- r.ask("POST", "/api/v1/verify", "").Code }()
	<-started
	if w := r.ask("POST", "/api/v1/verify", ""); w.Code != http.StatusConflict {
		t.Errorf("second check: got %d, want 409", w.Code)
	}
	close(finish)
	if code := <-done; code != http.StatusOK {
		t.Errorf("first check: got %d, want 200", code)
	}
	if w := r.get("/api/v1/verify"); strings.TrimSpace(w.Body.String()) != `{"lost":0}` {
		t.Errorf("got %s, want the report", w.Body)
	}
}

// TestProfiles: profiles are there if they were asked for, and for those with the token.
func TestProfiles(t *testing.T) {
	t.Parallel()
	on := newRig(t, func(_ *Deps, o *Options) { o.Pprof = true })
	for path, want := range map[string]string{"/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile: total", "/debug/pprof/cmdline": "test"} {
		if w := on.get(path); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: got %d, want %q in\n%.300s", path, w.Code, want, w.Body)
		}
		if w := newRig(t).get(path); w.Code != http.StatusNotFound {
			t.Errorf("%s without pprof: got %d, want 404", path, w.Code)
		}
	}
}

// TestNotHere is a process that only takes events in: the open routes answer, nothing else pretends to.
func TestNotHere(t *testing.T) {
	t.Parallel()
	s, err := New(Deps{}, Options{Token: testToken})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, Server: s}
	for path, want := range map[string]int{
		"/livez": 200, "/readyz": 200, "/": 200, "/api/v1/status": 200, "/api/v1/version": 200, "/api/v1/runs": 501, "/api/v1/batches": 501,
		"/api/v1/dags": 501, "/api/v1/config": 501, "/api/v1/where/x": 501, "/api/v1/batches/tail": 501, "/runs/x": 501, "/dags/x": 501,
	} {
		if w := r.get(path); w.Code != want {
			t.Errorf("%s: got %d, want %d: %s", path, w.Code, want, w.Body)
		}
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(d *Deps, _ *Options) { d.Ready = func() error { return ingest.ErrFull } })
	w := httptest.NewRecorder()
	r.ServeHTTP(w, request("GET", "/readyz", ""))
	if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "full") {
		t.Errorf("got %d %q, want 503 without the reason", w.Code, w.Body)
	}
	if got := r.page("/api/v1/status"); !strings.Contains(got, ingest.ErrFull.Error()) {
		t.Errorf("got %s, want the reason", got)
	}
}

// TestErrors proves that internal text stays inside, and that errors keep their codes.
func TestErrors(t *testing.T) {
	t.Parallel()
	secret := "dial tcp 10.0.0.1: secret"
	for _, tt := range []struct {
		err  error
		code int
		want string
	}{
		{fmt.Errorf("%s", secret), 500, "internal"},
		{fmt.Errorf("apply %s: %w", secret, scheduler.ErrUnavailable), 503, "unavailable"},
		{fmt.Errorf("apply %s: %w", secret, scheduler.ErrConflict), 409, "conflict"},
		{context.DeadlineExceeded, 504, "timeout"},
		{invalid("param x is missing"), 422, "invalid"},
	} {
		r := newRig(t)
		r.control.fail = tt.err
		w := r.ask("POST", "/api/v1/dags/load/runs", "{}")
		var p problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != tt.code || p.Code != tt.want || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%v: got %d %s, want %d %s and nothing internal", tt.err, w.Code, w.Body, tt.code, tt.want)
		}
	}
	if w := newRig(t).ask("POST", "/api/v1/dags/load/runs", `{"id":"`+strings.Repeat("x", maxBody)+`"}`); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("large body: got %d, want 413", w.Code)
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(d *Deps, _ *Options) { d.Config = func() any { panic("oops") } })
	if w := r.get("/api/v1/config"); w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "oops") {
		t.Errorf("got %d %s, want 500 and no more", w.Code, w.Body)
	}
}

// TestRun serves on a socket, follows a log over it, and ends while the log is being followed.
func TestRun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := r.running()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Server.Run(ctx, ln) }()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+ln.Addr().String()+"/api/v1/runs/"+run+"/logs?follow=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatalf("first bytes: %v", err)
	}
	cancel()
	if rest, err := io.ReadAll(resp.Body); err != nil {
		t.Errorf("got %q, %v, want the stream to end", rest, err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("run: got %v, want nil", err)
		}
	case <-time.After(drain + 5*time.Second):
		t.Error("run did not end")
	}
}
