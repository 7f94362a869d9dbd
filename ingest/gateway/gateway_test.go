package gateway

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest"
)

const event = `{"event":"Paid","userId":"u1","messageId":"m1","type":"track"}`

// send serves one request without a network.
func send(s *Server, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

var devKey = []string{"Authorization", "Basic ZGV2Og=="}

func TestRoutes(t *testing.T) {
	t.Parallel()
	batch := `{"batch":[` + event + "," + event + `]}`
	for _, tt := range []struct {
		path, body string
		want       []string
	}{
		{"/v1/track", event, []string{"track"}},
		{"/v1/identify", event, []string{"identify"}},
		{"/v1/page", event, []string{"page"}},
		{"/v1/screen", event, []string{"screen"}},
		{"/v1/group", event, []string{"group"}},
		{"/v1/alias", event, []string{"alias"}},
		{"/v1/t", event, []string{"track"}},
		{"/v1/i", event, []string{"identify"}},
		{"/v1/p", event, []string{"page"}},
		{"/v1/s", event, []string{"screen"}},
		{"/v1/g", event, []string{"group"}},
		{"/v1/a", event, []string{"alias"}},
		{"/v1/track/", event, []string{"track"}},
		{"/v1/batch", batch, []string{"track", "track"}},
		{"/v1/import", batch, []string{"track", "track"}},
		{"/v1/b", batch, []string{"track", "track"}},
		{"/v1/b/", batch, []string{"track", "track"}},
		{"/v1/batch", `{"batch":[7,` + event + `,{"type":"page"}]}`, []string{"!not_object", "track", "!no_identity"}},
		{"/v1/batch", `{"batch":[]}`, nil},
		{"/v1/track", `{"userId":"u1"}`, []string{"!no_event"}},
	} {
		t.Run(tt.path, func(t *testing.T) {
			t.Parallel()
			log := &fakeLog{}
			s := newServer(t, log, Options{})
			w := send(s, http.MethodPost, tt.path, tt.body, devKey...)
			if w.Code != http.StatusOK || w.Body.String() != `{"success":true}` || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("got %d %q as %q, want success", w.Code, w.Body, w.Header().Get("Content-Type"))
			}
			var got []string
			for _, r := range log.stored() {
				if r.Lane.Source() != "web" {
					t.Errorf("got source %s, want web", r.Lane.Source())
				}
				if r.Lane.Quarantine() {
					got = append(got, "!"+r.Lane.Value("reason"))
				} else {
					got = append(got, r.Type)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("records differ (-want +got):\n%s", diff)
			}
			checkReceipt(t, w, len(tt.want))
		})
	}
}

// checkReceipt: the receipt names as many records as were stored.
func checkReceipt(t *testing.T, w *httptest.ResponseRecorder, records int) {
	t.Helper()
	text := w.Header().Get("X-Millrace-Receipt")
	if records == 0 && text == "" {
		return
	}
	got, err := ingest.ParseReceipt(text)
	if want := (ingest.Receipt{{Stream: testStream, First: 0, Last: int64(records) - 1}}); err != nil || !slices.Equal(got, want) {
		t.Errorf("got receipt %v, %v, want %v", got, err, want)
	}
}

// TestKeys: where the write key may be, and which one counts.
func TestKeys(t *testing.T) {
	t.Parallel()
	single := func(key string) string { return `{"event":"e","userId":"u","writeKey":"` + key + `"}` }
	batch := func(outer, inner string) string {
		return `{"batch":[{"type":"page","userId":"u","writeKey":"` + inner + `"}],"writeKey":"` + outer + `"}`
	}
	for _, tt := range []struct {
		name, path, body string
		headers          []string
		want             string
	}{
		{"basic", "/v1/track", event, []string{"Authorization", "Basic ZGV2Og=="}, "web"},
		{"basic without colon", "/v1/track", event, []string{"Authorization", "basic  ZGV2"}, "web"},
		{"basic with a password", "/v1/track", event, []string{"Authorization", "Basic ZGV2OnB3"}, "web"},
		{"basic before all others", "/v1/track?writeKey=app2", single("app1"), []string{"Authorization", "Basic ZGV2Og==", "X-Write-Key", "app1"}, "web"},
		{"basic that is no base64", "/v1/track", single("app1"), []string{"Authorization", "Basic ***"}, "app"},
		{"basic without user", "/v1/track", single("app1"), []string{"Authorization", "Basic Og=="}, "app"},
		{"bearer, key in the body", "/v1/track", single("app1"), []string{"Authorization", "Bearer dev"}, "app"},
		{"header before query", "/v1/track?writeKey=app2", event, []string{"X-Write-Key", "dev"}, "web"},
		{"query before body", "/v1/track?writeKey=dev", single("app1"), nil, "web"},
		{"body", "/v1/track", single("app2"), nil, "app"},
		{"batch before event", "/v1/batch", batch("dev", "app1"), nil, "web"},
		{"event of a batch", "/v1/batch", batch("", "app1"), nil, "app"},
		{"content types do not matter", "/v1/track", single("dev"), []string{"Content-Type", "image/png"}, "web"},
		{"unknown", "/v1/track", single("nobody"), nil, "_unknown"},
		{"unknown in the header", "/v1/track", single("dev"), []string{"X-Write-Key", "nobody"}, "_unknown"},
		{"none", "/v1/track", event, nil, "_unknown"},
		{"a webhook's name is no key", "/v1/track", single("demo"), nil, "_unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := &fakeLog{}
			w := send(newServer(t, log, Options{}), http.MethodPost, tt.path, tt.body, tt.headers...)
			recs := log.stored()
			if w.Code != http.StatusOK || len(recs) != 1 || recs[0].Lane.Source() != tt.want {
				t.Fatalf("got %d and %v, want 200 and one record of %s", w.Code, recs, tt.want)
			}
			if got, want := recs[0].Lane.Quarantine(), tt.want == "_unknown"; got != want {
				t.Errorf("got quarantine %v, want %v", got, want)
			}
		})
	}
}

// TestOrphansAreBounded: strangers fill the disk only as fast as they may; then they get 400, and those who are known are not hit.
func TestOrphansAreBounded(t *testing.T) {
	t.Parallel()
	log := &fakeLog{}
	s := newServer(t, log, Options{Limits: Limits{OrphanRate: 1, MaxEvent: 1000, MaxRequest: 1000}})
	stored := 0
	for ; send(s, http.MethodPost, "/v1/track", event).Code == http.StatusOK; stored++ {
		if stored > 100 {
			t.Fatal("strangers are never refused")
		}
	}
	if want := 1000 / len(event); stored != want || len(log.stored()) != want {
		t.Errorf("got %d answers and %d records, want %d", stored, len(log.stored()), want)
	}
	if w := send(s, http.MethodPost, "/v1/track", event, devKey...); w.Code != http.StatusOK {
		t.Errorf("got %d for a known key, want 200", w.Code)
	}
	both := `{"batch":[{"type":"page","userId":"u","writeKey":"nobody"},{"type":"page","userId":"u","writeKey":"dev"}]}`
	if w := send(s, http.MethodPost, "/v1/batch", both); w.Code != http.StatusOK || len(log.stored()) != stored+2 {
		t.Errorf("got %d and %d records, want 200 and the known one stored", w.Code, len(log.stored()))
	}
	strict := newServer(t, log, Options{Limits: Limits{OrphanRate: -1}})
	if w := send(strict, http.MethodPost, "/v1/track", event); w.Code != http.StatusBadRequest {
		t.Errorf("got %d where none is kept, want 400", w.Code)
	}
}

// TestLostAnswer is the gateway's half of a lost 2xx: what the sender sends again, because it never saw the answer, has the same dedupe ids, also
// for an event that was set aside, and with another sentAt.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	log := &fakeLog{}
	s := newServer(t, log, Options{})
	body := `{"batch":[` + event + `,{"type":"page","messageId":"m2"}],"sentAt":"2026-11-23T08:38:%dZ"}`
	lost := true
	log.after = func(context.Context, []ingest.Record) error {
		if lost {
			return context.Canceled // stored, but the answer never comes
		}
		return nil
	}
	if w := send(s, http.MethodPost, "/v1/batch", fmt.Sprintf(body, 10), devKey...); w.Code != http.StatusServiceUnavailable {
		t.Fatalf("got %d, want 503", w.Code)
	}
	lost = false
	if w := send(s, http.MethodPost, "/v1/batch", fmt.Sprintf(body, 20), append(devKey, "X-Retry-Count", "1")...); w.Code != http.StatusOK {
		t.Fatalf("got %d, want 200", w.Code)
	}
	recs := log.stored()
	if len(recs) != 4 || recs[0].Dedupe != recs[2].Dedupe || recs[1].Dedupe != recs[3].Dedupe || recs[0].Dedupe == recs[1].Dedupe {
		t.Errorf("got ids of %d records that do not repeat: %v", len(recs), recs)
	}
}

// TestPanic: 500 for the request, nothing stored of it, and all others are served, by buffers that the broken one never gave back.
func TestPanic(t *testing.T) {
	t.Parallel()
	log := &fakeLog{before: func(_ context.Context, recs []ingest.Record) error {
		if bytes.Contains(recs[0].Payload, []byte("boom")) {
			panic("boom")
		}
		return nil
	}}
	s := newServer(t, log, Options{})
	for range 3 {
		w := send(s, http.MethodPost, "/v1/track", strings.Replace(event, "Paid", "boom", 1), devKey...)
		if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), `"code":"internal"`) || strings.Contains(w.Body.String(), "boom") {
			t.Errorf("got %d %s, want 500 that says nothing internal", w.Code, w.Body)
		}
		if w := send(s, http.MethodPost, "/v1/track", event, devKey...); w.Code != http.StatusOK {
			t.Errorf("got %d after a panic, want 200", w.Code)
		}
	}
	if n := len(log.stored()); n != 3 {
		t.Errorf("got %d records, want the 3 of the others", n)
	}
	if held, open := s.held.Load(), s.metrics.inflight.Load(); held != 0 || open != 0 {
		t.Errorf("got %d bytes and %d requests in flight after all ended, want 0", held, open)
	}
}

// TestConcurrent: requests at the same time, of different sizes and fates, never see each other's bytes.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	log := &fakeLog{}
	s := newServer(t, log, Options{})
	var wg sync.WaitGroup
	const senders, each = 16, 30
	for g := range senders {
		wg.Go(func() {
			for i := range each {
				pad := strings.Repeat(string(rune('a'+g)), (g*i*37)%3000)
				body := fmt.Sprintf(`{"batch":[{"type":"page","userId":"u%d","messageId":"%d-%d","pad":"%s"},{"type":"page","messageId":"%d-%d-bad"}]}`, g, g, i, pad, g, i)
				if w := send(s, http.MethodPost, "/v1/batch", body, devKey...); w.Code != http.StatusOK {
					t.Errorf("got %d, want 200", w.Code)
				}
				send(s, http.MethodPost, "/v1/batch", body[:len(body)/2], devKey...)
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, r := range log.stored() {
		var row struct{ MessageID, UserID, Pad string }
		if r.Lane.Quarantine() {
			continue
		}
		if err := json.Unmarshal(r.Payload, &row); err != nil {
			t.Fatalf("%s: %v", r.Payload, err)
		}
		var g, i int
		if _, err := fmt.Sscanf(row.MessageID, "%d-%d", &g, &i); err != nil || row.UserID != fmt.Sprintf("u%d", g) || r.RoutingKey != row.UserID ||
			row.Pad != strings.Repeat(string(rune('a'+g)), (g*i*37)%3000) || seen[row.MessageID] {
			t.Fatalf("got a row that nobody sent, or twice: %s", r.Payload)
		}
		seen[row.MessageID] = true
	}
	if len(seen) != senders*each || len(log.stored()) != 2*senders*each {
		t.Errorf("got %d events and %d records, want %d and twice as many", len(seen), len(log.stored()), senders*each)
	}
}

func zip(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

func TestCompressed(t *testing.T) {
	t.Parallel()
	good := zip(event)
	for _, tt := range []struct {
		name, coding, body string
		code               int
		want               string
	}{
		{"gzip", "gzip", good, 200, ""},
		{"x-gzip", "x-gzip", good, 200, ""},
		{"any case", "GZip", good, 200, ""},
		{"two members", "gzip", zip(event[:20]) + zip(event[20:]), 200, ""},
		{"identity", "identity", event, 200, ""},
		{"bomb", "gzip", zip(strings.Repeat(" ", 1<<22)), 400, "too_large"},
		{"long before it is unpacked", "gzip", strings.Repeat("\x1f\x8b\x08\x00", 300_000), 400, "bad_encoding"},
		{"not gzip", "gzip", event, 400, "bad_encoding"},
		{"cut off", "gzip", good[:len(good)-6], 400, "bad_encoding"},
		{"wrong checksum", "gzip", good[:len(good)-8] + "abcdefgh", 400, "bad_encoding"},
		{"flipped bit", "gzip", good[:15] + "\xff" + good[16:], 400, "bad_encoding"},
		{"other coding", "br", event, 400, "bad_encoding"},
		{"empty", "gzip", "", 400, "bad_encoding"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := &fakeLog{}
			w := send(newServer(t, log, Options{}), http.MethodPost, "/v1/track", tt.body, append(devKey, "Content-Encoding", tt.coding)...)
			if w.Code != tt.code || tt.want != "" && !strings.Contains(w.Body.String(), `"code":"`+tt.want+`"`) {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, tt.code, tt.want)
			}
			if got, want := len(log.stored()) == 1, tt.code == 200; got != want {
				t.Errorf("got %d records", len(log.stored()))
			}
		})
	}
}

// TestTrace: a traceparent goes into the record, if it is one.
func TestTrace(t *testing.T) {
	t.Parallel()
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" // the example of W3C Trace Context, section 3.2
	for _, tt := range []struct{ header, want string }{
		{good, good},
		{strings.ToUpper(good), ""},
		{"01" + good[2:], ""},
		{good + "-00", ""},
		{strings.Replace(good, "-b7", "0b7", 1), ""},
		{strings.Replace(good, "0af", "0-f", 1), ""},
		{good[:54] + "\"", ""},
		{"", ""},
	} {
		for _, path := range []string{"/v1/track", "/hooks/demo"} {
			log := &fakeLog{}
			send(newServer(t, log, Options{}), http.MethodPost, path, event, append(devKey, "Traceparent", tt.header)...)
			if got := log.stored()[0].Trace; got != tt.want {
				t.Errorf("%s with %q: got %q, want %q", path, tt.header, got, tt.want)
			}
		}
	}
}

// TestSetSources: a set with faults changes nothing and all of them are told; one without takes effect, and lanes in use stay in use.
func TestSetSources(t *testing.T) {
	t.Parallel()
	log := &fakeLog{}
	s := newServer(t, log, Options{})
	err := s.SetSources([]ingest.Source{
		{Name: "Bad Name", Kind: ingest.KindClickstream, WriteKeys: []string{"a"}},
		{Name: "a", Kind: "odd"},
		{Name: "b", Kind: ingest.KindClickstream},
		{Name: "c", Kind: ingest.KindClickstream, WriteKeys: []string{"k", ""}},
		{Name: "d", Kind: ingest.KindClickstream, WriteKeys: []string{"k"}},
		{Name: "e", Kind: ingest.KindWebhook, Scheme: "odd"},
		{Name: "f", Kind: ingest.KindWebhook, Scheme: "stripe"},
		{Name: "g", Kind: ingest.KindWebhook, Scheme: "none", LaneKeys: []ingest.LaneKey{{Name: "a", Path: "a"}}},
		{Name: "g", Kind: ingest.KindWebhook, Scheme: "none"},
		{Name: "h", Tenant: "Bad Tenant", Kind: ingest.KindEvents},
		{Name: "i", Kind: ingest.KindEvents},
		{Name: "j", Kind: ingest.KindEvents, Tokens: []ingest.Secret{"t"}, LaneKeys: []ingest.LaneKey{{Name: "a", Path: "a"}}},
	})
	for _, want := range []string{"Bad Name", `"a"`, `"b"`, `"c"`, `"d"`, `"e"`, `"f"`, `"g": a webhook`, `"g" is there twice`, "Bad Tenant",
		`"i": a source of events needs`, `"j": a source of events has no lane`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to tell of %s", err, want)
		}
	}
	before := s.sources.Load()
	if w := send(s, http.MethodPost, "/v1/track", event, devKey...); w.Code != 200 || len(log.stored()) != 1 {
		t.Errorf("got %d, want the old sources to be there", w.Code)
	}
	err = s.SetSources([]ingest.Source{{Name: "web", Kind: ingest.KindClickstream, WriteKeys: []string{"new"}}, {Name: "ev", Kind: ingest.KindEvents, Tokens: []ingest.Secret{"t"}}})
	if err != nil {
		t.Fatal(err)
	}
	if s.sources.Load().keys["new"].target != before.keys["dev"].target || s.sources.Load().keys["new"].count != before.keys["dev"].count {
		t.Error("got a new target or new counters for the same source, want the old ones")
	}
	if w := send(s, http.MethodPost, "/hooks/demo", ""); w.Code != http.StatusNotFound {
		t.Errorf("got %d for a source that is gone, want 404", w.Code)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if err := (Options{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	err := Options{Limits: Limits{MaxEvent: 10, MaxRequest: 5, MaxInflight: 1}}.Validate()
	if err == nil || !strings.Contains(err.Error(), "max_request") || !strings.Contains(err.Error(), "max_inflight") {
		t.Errorf("got %v, want both faults", err)
	}
	if _, err := New(nullLog{}, []ingest.Source{{Name: "x", Kind: "odd"}}, Options{}); err == nil || errors.Is(err, ingest.ErrFull) {
		t.Errorf("got %v, want the source's fault", err)
	}
}
