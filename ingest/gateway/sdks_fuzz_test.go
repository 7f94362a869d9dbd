package gateway

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"millrace/ingest"
)

// checkStored holds for every record that a gateway appends, whatever came in.
func checkStored(t *testing.T, recs []ingest.Record) {
	t.Helper()
	for i := range recs {
		if err := recs[i].Validate(); err != nil || !json.Valid(recs[i].Payload) || bytes.ContainsAny(recs[i].Payload, "\r\n") {
			t.Errorf("got record %q, %v, want one line of JSON", recs[i].Payload, err)
		}
	}
}

// FuzzClickstream: whatever a post is, its answer is one that SDKs get right, and says success exactly if all that was stored is durable.
func FuzzClickstream(f *testing.F) {
	f.Add("/v1/batch", "Basic ZGV2Og==", "gzip", []byte(zip(`{"batch":[`+event+`,7]}`)))
	f.Add("/x/v1/t/", "Bearer x", "", []byte(`{"event":"e","userId":"\ud800\u0000","writeKey":"dev","writeKey":"app1"}`))
	f.Fuzz(func(t *testing.T, path, auth, coding string, body []byte) {
		log := &fakeLog{}
		s := newServer(t, log, Options{Limits: Limits{MaxEvent: 64 << 10, MaxRequest: 256 << 10}})
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		u, err := url.ParseRequestURI(path)
		if err != nil || strings.HasPrefix(path, "/hooks") || strings.HasPrefix(path, "/bulk") {
			return
		}
		r.URL = u
		r.Header.Set("Authorization", auth)
		r.Header.Set("X-Forwarded-For", auth)
		if coding != "" {
			r.Header.Set("Content-Encoding", coding)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		var answer struct {
			Success       *bool
			Code, Message string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Success == nil {
			t.Fatalf("got %d %q, want JSON that says success or not", w.Code, w.Body)
		}
		switch w.Code {
		case http.StatusOK:
			if !*answer.Success || (w.Header().Get("X-Millrace-Receipt") != "") != (len(log.stored()) > 0) {
				t.Errorf("got success %v, receipt %q with %d records", *answer.Success, w.Header().Get("X-Millrace-Receipt"), len(log.stored()))
			}
		case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed:
			if *answer.Success || answer.Code == "" || answer.Message == "" || len(log.stored()) > 0 {
				t.Errorf("got %s with %d records, want none and a reason", w.Body, len(log.stored()))
			}
		default:
			t.Errorf("got %d %s, want 200, 400 or no such route", w.Code, w.Body)
		}
		checkStored(t, log.stored())
	})
}

// FuzzPixel: whatever the query, the answer is the image, and what is stored is a row.
func FuzzPixel(f *testing.F) {
	f.Add("data=eyJ3cml0ZUtleSI6ImRldiIsInVzZXJJZCI6ImEifQ")
	f.Add("writeKey=dev&userId=a&p.q=1&p=2&p..=3&.=4")
	f.Fuzz(func(t *testing.T, query string) {
		log := &fakeLog{}
		r := httptest.NewRequest(http.MethodGet, "/v1/pixel/page", nil)
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		newServer(t, log, Options{}).Handler().ServeHTTP(w, r)
		if w.Code != http.StatusOK || !bytes.Equal(w.Body.Bytes(), image) || len(log.stored()) > 1 {
			t.Errorf("got %d, %d bytes and %d records, want 200, the image and at most one", w.Code, w.Body.Len(), len(log.stored()))
		}
		checkStored(t, log.stored())
	})
}

// FuzzAddress: no header makes an address of what is none, and the fast way reads what the slow one does.
func FuzzAddress(f *testing.F) {
	for _, text := range []string{"192.0.2.1:80", "1.2.3.4:", "256.1.1.1:1", "1.2.3:4", "01.2.3.4:5", "1..2.3:4", "[::1]:80", "[::1", "::1%\"},{", "1.2.3.4:99999"} {
		f.Add(text, 1)
	}
	f.Fuzz(func(t *testing.T, text string, proxies int) {
		got := addressOf(&http.Request{RemoteAddr: "192.0.2.9:1", Header: http.Header{"X-Forwarded-For": {text, "10.0.0.1"}}}, proxies%4)
		if zone := got.Zone(); got.IsValid() && strings.ContainsAny(got.WithZone("").String(), `"\`) {
			t.Errorf("got address %v with zone %q", got, zone)
		}
		fast, ok := parseIPv4(text)
		if slow, err := netip.ParseAddrPort(text); err == nil && slow.Addr().Is4() && (!ok || fast != slow.Addr()) {
			t.Errorf("got %v, %v for %q, want %v", fast, ok, text, slow.Addr())
		}
		host, _, _ := strings.Cut(text, ":")
		if ip, err := netip.ParseAddr(host); ok && (err != nil || ip != fast) {
			t.Errorf("got %v for %q, want what netip reads: %v, %v", fast, text, ip, err)
		}
	})
}
