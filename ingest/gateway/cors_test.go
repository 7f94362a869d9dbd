package gateway

import (
	"net/http"
	"strings"
	"testing"

	"millrace/ingest"
)

func listedSources() []ingest.Source {
	return []ingest.Source{
		{Name: "shop", Kind: ingest.KindClickstream, WriteKeys: []string{"shop"}, Origins: []string{"https://shop.example.com", "https://*.shop.example.com:8443"}},
		{Name: "blog", Kind: ingest.KindClickstream, WriteKeys: []string{"blog"}, Origins: []string{"http://localhost:3000", "null"}},
	}
}

// asked are the headers that analytics-next 1.84 asks for before a retry.
const asked = "authorization,content-type,x-retry-count"

func TestPreflight(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path, origin string
		listed             bool
		want               int
		allow              string // Access-Control-Allow-Origin
	}{
		{"any", "/v1/t", "https://a.example", false, 204, "*"},
		{"any, sandboxed page", "/v1/t", "null", false, 204, "*"},
		{"batch", "/v1/batch/", "https://a.example", false, 204, "*"},
		{"alias", "/x/v1/b", "https://a.example", false, 204, "*"},
		{"settings", "/v1/projects/dev/settings", "https://a.example", false, 204, "*"},
		{"self metrics", "/v1/m", "https://a.example", false, 204, "*"},
		{"listed", "/v1/t", "https://shop.example.com", true, 204, "https://shop.example.com"},
		{"listed by another source", "/v1/t", "http://localhost:3000", true, 204, "http://localhost:3000"},
		{"listed null", "/v1/t", "null", true, 204, "null"},
		{"below a listed domain", "/v1/t", "https://a.b.shop.example.com:8443", true, 204, "https://a.b.shop.example.com:8443"},
		{"the domain itself", "/v1/t", "https://.shop.example.com:8443", true, 204, ""},
		{"below, without its port", "/v1/t", "https://a.shop.example.com", true, 204, ""},
		{"ends alike", "/v1/t", "https://evilshop.example.com", true, 204, ""},
		{"other scheme", "/v1/t", "http://shop.example.com", true, 204, ""},
		{"not listed", "/v1/t", "https://a.example", true, 204, ""},
		{"no origin", "/v1/t", "", false, 204, ""},
		{"no route", "/v1/nothing", "https://a.example", false, 404, ""},
		{"webhooks are not for pages", "/hooks/a/b/track", "https://a.example", false, 404, ""},
		{"bulk is not for pages", "/bulk/x", "https://a.example", false, 204, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sources := testSources()
			if tt.listed {
				sources = listedSources()
			}
			s, err := New(nullLog{}, sources, Options{})
			if err != nil {
				t.Fatal(err)
			}
			headers := []string{"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", asked}
			if tt.origin != "" {
				headers = append(headers, "Origin", tt.origin)
			}
			w := send(s, http.MethodOptions, tt.path, "", headers...)
			h := w.Header()
			if w.Code != tt.want || h.Get("Access-Control-Allow-Origin") != tt.allow {
				t.Errorf("got %d for %q, want %d for %q", w.Code, h.Get("Access-Control-Allow-Origin"), tt.want, tt.allow)
			}
			if h.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("got credentials allowed, want never")
			}
			if tt.allow == "" {
				return
			}
			for name, want := range map[string]string{"Access-Control-Allow-Headers": asked, "Access-Control-Max-Age": "86400",
				"Access-Control-Allow-Methods": "GET, POST, HEAD, OPTIONS", "Vary": "Origin, Access-Control-Request-Headers"} {
				if got := h.Get(name); got != want {
					t.Errorf("got %s %q, want %q", name, got, want)
				}
			}
		})
	}
}

// TestOrigins: an answer can be read by the pages that may post, faults too, since Retry-After is in their headers; what a page posts that may
// not is not stored, whether or not its browser asked first. Who is no browser is not asked.
func TestOrigins(t *testing.T) {
	t.Parallel()
	single := func(key string) string { return `{"event":"e","userId":"u","writeKey":"` + key + `"}` }
	for _, tt := range []struct {
		name, path, body, origin string
		code                     int
		allow                    string
		stored                   int
	}{
		{"its own page", "/v1/t", single("shop"), "https://shop.example.com", 200, "https://shop.example.com", 1},
		{"another source's page", "/v1/t", single("shop"), "http://localhost:3000", 400, "", 0},
		{"nobody's page", "/v1/t", single("shop"), "https://a.example", 400, "", 0},
		{"no browser", "/v1/t", single("shop"), "", 200, "", 1},
		{"beacon to a batch", "/v1/b", `{"batch":[{"type":"page","userId":"u"}],"writeKey":"shop"}`, "http://localhost:3000", 400, "", 0},
		{"two sources, one not permitted", "/v1/b", `{"batch":[{"type":"page","userId":"u","writeKey":"blog"},{"type":"page","userId":"u","writeKey":"shop"}]}`,
			"http://localhost:3000", 400, "", 0},
		{"stranger's key, known page", "/v1/t", single("x"), "https://shop.example.com", 200, "https://shop.example.com", 1},
		{"broken body", "/v1/t", "{", "https://shop.example.com", 400, "https://shop.example.com", 0},
		{"log is full", "/v1/t", `{"event":"full","userId":"u","writeKey":"shop"}`, "https://shop.example.com", 503, "https://shop.example.com", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := &fakeLog{before: fullFor("full")}
			s, err := New(log, listedSources(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			headers := []string{"Content-Type", "text/plain;charset=UTF-8"}
			if tt.origin != "" {
				headers = append(headers, "Origin", tt.origin)
			}
			w := send(s, http.MethodPost, tt.path, tt.body, headers...)
			h := w.Header()
			if w.Code != tt.code || h.Get("Access-Control-Allow-Origin") != tt.allow || len(log.stored()) != tt.stored {
				t.Errorf("got %d for %q and %d records, want %d for %q and %d", w.Code, h.Get("Access-Control-Allow-Origin"), len(log.stored()), tt.code, tt.allow, tt.stored)
			}
			if tt.code == 400 && tt.allow == "" && !strings.Contains(w.Body.String(), `"code":"origin"`) {
				t.Errorf("got %s, want it to say that it is the origin", w.Body)
			}
			if tt.allow != "" && h.Get("Access-Control-Expose-Headers") != "Retry-After, X-RateLimit-Reset, X-Millrace-Receipt" {
				t.Errorf("got %q exposed", h.Get("Access-Control-Expose-Headers"))
			}
			if h.Get("Vary") != "Origin" || h.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("got Vary %q, credentials %q, want Origin and none", h.Get("Vary"), h.Get("Access-Control-Allow-Credentials"))
			}
		})
	}
	if w := send(newServer(t, nullLog{}, Options{}), http.MethodPost, "/hooks/demo", "x", "Origin", "https://a.example"); len(w.Header()["Access-Control-Allow-Origin"]) > 0 {
		t.Error("a page can read what a webhook is answered, want not")
	}
}

func TestParseOrigins(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"*": true, "null": true, "https://a.example": true, "http://localhost:3000": true, "https://*.a.example": true, "https://[::1]:80": true,
		"a.example": false, "https://": false, "https://A.example": false, "https://a.example/": false, "https://a.example?x": false,
		"https://u@a.example": false, "https://a.*.example": false, "https://**.a": false, "": false,
	} {
		if _, err := parseOrigins([]string{text}); (err == nil) != ok {
			t.Errorf("%q: got %v, want accepted %v", text, err, ok)
		}
	}
}
