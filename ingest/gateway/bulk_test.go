package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"millrace/ingest"
)

var bearer = []string{"Authorization", "Bearer t0ken"}

func zstded(text string) string {
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

// result decodes an answer to a bulk upload, which is JSON of a known shape whatever happened.
func result(t testing.TB, w *httptest.ResponseRecorder) bulkAnswer {
	t.Helper()
	var got bulkAnswer
	d := json.NewDecoder(w.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatalf("answer %d: %v", w.Code, err)
	}
	return got
}

// bodies returns the lines that records have, as they came.
func bodies(t testing.TB, recs []ingest.Record) (lines, ids []string) {
	t.Helper()
	for _, r := range recs {
		var row struct{ ID, Body, Source, Method, Path, ContentType, ReceivedAt, Type string }
		if err := json.Unmarshal(r.Payload, &row); err != nil {
			t.Fatalf("row %s: %v", r.Payload, err)
		}
		if r.Dedupe != ingest.DedupeID("load", row.ID) || row.Source != "load" || row.Method != "POST" || row.Path != "/bulk/load" || row.ReceivedAt == "" {
			t.Errorf("row %s: its id does not dedupe, or it says the wrong things", r.Payload)
		}
		lines, ids = append(lines, row.Body), append(ids, row.ID)
	}
	return lines, ids
}

func TestBulk(t *testing.T) {
	t.Parallel()
	good := `{"id":"a","type":"sale","n":1}` + "\n" + `{"id":7,"text":"tab\tand \"quotes\" and é"}` + "\r\n\n  \n" + `{"x":[1, 2,	3]}`
	goodLines := []string{`{"id":"a","type":"sale","n":1}`, `{"id":7,"text":"tab\tand \"quotes\" and é"}`, `{"x":[1, 2,	3]}`}
	deep := strings.Repeat("[", 65) + strings.Repeat("]", 65)
	for _, tt := range []struct {
		name, coding, body string
		headers            []string
		code               int
		want               bulkAnswer
		lines              []string
	}{
		{"plain", "", good, nil, 200, bulkAnswer{Success: true, Lines: 5, DurableLines: 5, Accepted: 3}, goodLines},
		{"gzip", "gzip", zip(good), nil, 200, bulkAnswer{Success: true, Lines: 5, DurableLines: 5, Accepted: 3}, goodLines},
		{"zstd", "zstd", zstded(good), nil, 200, bulkAnswer{Success: true, Lines: 5, DurableLines: 5, Accepted: 3}, goodLines},
		{"two gzip members", "gzip", zip(good[:33]) + zip(good[33:]), nil, 200, bulkAnswer{Success: true, Lines: 5, DurableLines: 5, Accepted: 3}, goodLines},
		{"nothing", "", "", nil, 200, bulkAnswer{Success: true}, nil},
		{"one of each fault", "", "{}\n7\n{\"a\":1\n" + `{"a":` + deep + "}\n\"\xff\"\n" + strings.Repeat("x", 200) + "\n{}", nil, 200,
			bulkAnswer{Lines: 7, DurableLines: 7, Accepted: 2, Failed: 5, FailedRecords: []badLine{
				{2, "not_object", "an event is a JSON object"}, {3, "bad_json", "an event is JSON"}, {4, "too_deep", "an event nests at most 64 deep"},
				{5, "bad_json", "an event is JSON"}, {6, "too_large", "an event has at most ingest.max_event bytes"},
			}}, []string{"{}", "{}"}},
		{"no good line", "", "oops\n", nil, 400, bulkAnswer{Code: "bad_lines", Lines: 1, DurableLines: 1, Failed: 1,
			FailedRecords: []badLine{{1, "bad_json", "an event is JSON"}}}, nil},
		{"half a gzip", "gzip", zip(good)[:40], nil, 400, bulkAnswer{Code: "bad_encoding"}, nil},
		{"half a zstd", "zstd", zstded(good)[:40], nil, 400, bulkAnswer{Code: "bad_encoding"}, nil},
		{"not zstd", "zstd", good, nil, 400, bulkAnswer{Code: "bad_encoding"}, nil},
		{"another coding", "br", good, nil, 400, bulkAnswer{Code: "bad_encoding"}, nil},
		{"two codings", "gzip, gzip", zip(zip(good)), nil, 400, bulkAnswer{Code: "bad_encoding"}, nil},
		{"no token", "", good, []string{"Authorization", ""}, 401, bulkAnswer{Code: "bad_token"}, nil},
		{"another token", "", good, []string{"Authorization", "Bearer t0kem"}, 401, bulkAnswer{Code: "bad_token"}, nil},
		{"basic", "", good, []string{"Authorization", "Basic dDBrZW46"}, 401, bulkAnswer{Code: "bad_token"}, nil},
		{"the older token", "", good, []string{"Authorization", "bearer  old"}, 200, bulkAnswer{Success: true, Lines: 5, DurableLines: 5, Accepted: 3}, goodLines},
		{"a bad key", "", good, []string{"Idempotency-Key", "a b"}, 400, bulkAnswer{Code: "idempotency_key"}, nil},
		{"an empty key", "", good, []string{"Idempotency-Key", `""`}, 400, bulkAnswer{Code: "idempotency_key"}, nil},
		{"a long key", "", good, []string{"Idempotency-Key", strings.Repeat("k", 201)}, 400, bulkAnswer{Code: "idempotency_key"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := &fakeLog{}
			s := newServer(t, log, Options{Limits: Limits{MaxEvent: 150}})
			w := send(s, http.MethodPost, "/bulk/load", tt.body, slices.Concat(bearer, []string{"Content-Encoding", tt.coding}, tt.headers)...)
			receipt := w.Header().Get("X-Millrace-Receipt")
			got := result(t, w)
			if got.Code != "" && (got.Error == "" || got.Message == "") {
				t.Errorf("got %+v, want it to say what is wrong", got)
			}
			got.Error, got.Message = "", ""
			if len(got.FailedRecords) == 0 {
				got.FailedRecords = nil
			}
			if diff := cmp.Diff(tt.want, got); w.Code != tt.code || diff != "" {
				t.Errorf("got %d, want %d; answer (-want +got):\n%s", w.Code, tt.code, diff)
			}
			lines, _ := bodies(t, log.stored())
			if diff := cmp.Diff(tt.lines, lines); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			if (receipt != "") != (len(lines) > 0) {
				t.Errorf("got receipt %q for %d records", receipt, len(lines))
			}
		})
	}
}

func TestBulkSources(t *testing.T) {
	t.Parallel()
	s := newServer(t, &fakeLog{}, Options{})
	for _, path := range []string{"/bulk/nobody", "/bulk/web", "/bulk/demo"} {
		if w := send(s, http.MethodPost, path, "{}", bearer...); w.Code != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, w.Code)
		}
	}
	if w := send(s, http.MethodPost, "/hooks/load", "{}", bearer...); w.Code != http.StatusNotFound {
		t.Errorf("a source of events is no webhook: got %d, want 404", w.Code)
	}
	if w := send(s, http.MethodPost, "/v1/track", event, "X-Write-Key", "t0ken"); w.Code == http.StatusOK && s.sources.Load().keys["t0ken"] != nil {
		t.Error("a token is a write key")
	}
	if w := send(s, http.MethodGet, "/bulk/load", "", bearer...); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("got %d for GET, want 405", w.Code)
	}
}

// TestBulkKey: a request that is sent again with its key has the same ids, line by line, and the same answer, whatever became of the first: an
// answer that was lost, or a log that was full half-way.
func TestBulkKey(t *testing.T) {
	t.Parallel()
	var body strings.Builder
	const lines = 5000
	for i := range lines {
		fmt.Fprintf(&body, `{"id":"own-%d","pad":%q}`+"\n", i, strings.Repeat("x", 150))
	}
	log := &fakeLog{}
	s := newServer(t, log, Options{})
	appends := 0
	log.before = func(context.Context, []ingest.Record) error {
		if appends++; appends == 3 {
			return ingest.ErrFull
		}
		return nil
	}
	headers := append(bearer, "Idempotency-Key", `"backfill-1"`)
	w := send(s, http.MethodPost, "/bulk/load", body.String(), headers...)
	retry := w.Header().Get("Retry-After")
	first := result(t, w)
	kept := len(log.stored())
	if w.Code != http.StatusServiceUnavailable || first.Code != "log_full" || retry != "10" || first.Accepted != kept || kept == 0 || first.DurableLines != kept {
		t.Fatalf("got %d, %+v, Retry-After %q with %d records, want 503 and how far it came", w.Code, first, retry, kept)
	}
	var answers []string
	for range 2 {
		w := send(s, http.MethodPost, "/bulk/load", body.String(), headers...)
		answers = append(answers, fmt.Sprint(w.Code, w.Body))
	}
	if answers[0] != answers[1] || !strings.Contains(answers[0], `"accepted":5000`) {
		t.Errorf("got %s, then %s, want the same", answers[0], answers[1])
	}
	_, ids := bodies(t, log.stored())
	seen := map[string]int{}
	for _, id := range ids {
		seen[id]++
	}
	if len(seen) != lines || len(ids) != kept+2*lines || seen["backfill-1#1"] != 3 || seen["backfill-1#5000"] != 2 {
		t.Errorf("got %d ids of %d records, want %d: each line its own, the same each time", len(seen), len(ids), lines)
	}
	send(s, http.MethodPost, "/bulk/load", `{"id":"own-1"}`, bearer...)
	if _, ids := bodies(t, log.stored()); ids[len(ids)-1] != "own-1" {
		t.Errorf("got id %s without a key, want the line's own", ids[len(ids)-1])
	}
}

// TestBulkMemory: an upload of 64 MB needs no more memory than a chunk, and leaves nothing charged.
func TestBulkMemory(t *testing.T) {
	t.Parallel()
	s := newServer(t, nullLog{}, Options{Limits: Limits{MaxInflight: 8 << 20}})
	line := []byte(`{"id":"x","pad":"` + strings.Repeat("y", 480) + `"}` + "\n")
	from := &endless{line: line, left: 64 << 20 / len(line)}
	most := int64(0)
	from.look = func() { most = max(most, s.held.Load()) }
	r := httptest.NewRequest(http.MethodPost, "/bulk/load", from)
	r.Header.Set("Authorization", "Bearer t0ken")
	w := httptest.NewRecorder()
	want := from.left
	s.Handler().ServeHTTP(w, r)
	if got := result(t, w); w.Code != 200 || got.Accepted != want {
		t.Fatalf("got %d and %+v, want %d lines", w.Code, got, want)
	}
	if most == 0 || most > 2<<20 || s.held.Load() != 0 {
		t.Errorf("got %d bytes charged at most and %d at the end, want at most 2 MiB and 0", most, s.held.Load())
	}
	if got := len(w.Header().Get("X-Millrace-Receipt")); got == 0 || got > 4<<10 {
		t.Errorf("got a receipt of %d bytes", got)
	}
}

// endless is a body of left lines.
type endless struct {
	line []byte
	left int
	rest []byte
	look func()
}

func (e *endless) Read(p []byte) (int, error) {
	e.look()
	n := 0
	for n < len(p) && (len(e.rest) > 0 || e.left > 0) {
		if len(e.rest) == 0 {
			e.rest = e.line
			e.left--
		}
		k := copy(p[n:], e.rest)
		n, e.rest = n+k, e.rest[k:]
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// TestReceiptOfManyAppends: spans that touch are one; beyond a few the last one widens, so that a receipt stays a header.
func TestReceiptOfManyAppends(t *testing.T) {
	t.Parallel()
	u := &upload{}
	for i := range int64(100) {
		u.add(ingest.Receipt{{Stream: testStream, First: 10 * i, Last: 10*i + 4}})
		u.add(ingest.Receipt{{Stream: testStream, First: 10*i + 5, Last: 10*i + 6}})
	}
	if n := len(u.receipt); n != maxSpans {
		t.Fatalf("got %d spans, want %d", n, maxSpans)
	}
	if got, want := u.receipt[0], (ingest.Span{Stream: testStream, First: 0, Last: 6}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := u.receipt[maxSpans-1], (ingest.Span{Stream: testStream, First: 150, Last: 996}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
