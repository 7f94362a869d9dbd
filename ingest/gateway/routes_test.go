package gateway

import (
	"net/http"
	"strings"
	"testing"

	"millrace/ingest"
)

// TestAliases: what SDKs make of a host setting finds its route, whatever is in front of it; what others post to does not.
func TestAliases(t *testing.T) {
	t.Parallel()
	batch := `{"batch":[` + event + `],"writeKey":"dev"}`
	single := `{"event":"Paid","userId":"u1","writeKey":"dev"}`
	for _, tt := range []struct {
		path, body string
		want       int
		typ        string
	}{
		{"/v1/batch/", batch, 200, "track"},
		{"//v1/batch", batch, 200, "track"},                    // a host setting that ends in a slash
		{"/v1/v1/b", batch, 200, "track"},                      // a host setting that ends in /v1, in an SDK that adds it
		{"/v1/batch/b", batch, 200, "track"},                   // a host setting that ends in /v1/batch
		{"/batch/b", batch, 200, "track"},                      // the same without /v1
		{"/b", batch, 200, "track"},                            // mobile SDKs add only this
		{"/t", single, 200, "track"},                           // and analytics.js this
		{"/i", single, 200, "identify"},                        //
		{"/collect/v1/track", single, 200, "track"},            // a path of one's own
		{"/a/b/c/v1/page/", single, 200, "page"},               //
		{"/collect/t", single, 200, "track"},                   //
		{"/beacon/v1/batch?writeKey=dev", batch, 200, "track"}, // Rudder's
		{"/v1/merge", `{"mergeProperties":[],"writeKey":"dev"}`, 200, "merge"},
		{"/v1/m", `{"series":[{"type":"Counter","metric":"analytics_js.invoke","value":1}]}`, 200, ""},
		{"/v1/nothing", single, 404, ""},
		{"/v1", single, 404, ""},
		{"/", single, 404, ""},
		{"/hooks/a/b/track", single, 404, ""}, // webhooks are no events, wherever they are lost
		{"/bulk/a/b", single, 404, ""},
		{"/events/a/b", single, 404, ""},
		{"/v1/pixel/track", single, 405, ""},
		{"/v1/projects/dev/settings", single, 405, ""},
	} {
		t.Run(tt.path, func(t *testing.T) {
			t.Parallel()
			log := &fakeLog{}
			w := send(newServer(t, log, Options{}), http.MethodPost, tt.path, tt.body)
			if w.Code != tt.want {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, tt.want)
			}
			typ := ""
			if recs := log.stored(); len(recs) > 0 {
				typ = recs[0].Type
				if recs[0].Lane.Source() != "web" || recs[0].Lane.Quarantine() {
					t.Errorf("got lane %s, want the events of web", recs[0].Lane)
				}
			}
			if typ != tt.typ {
				t.Errorf("got an event of type %q, want %q", typ, tt.typ)
			}
		})
	}
	s := newServer(t, nullLog{}, Options{})
	for _, path := range []string{"/v1/track", "/v1/batch", "/x/v1/t"} {
		if w := send(s, http.MethodGet, path, ""); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: got %d, want 405", path, w.Code)
		}
	}
}

// TestAddress: whose address it is, with so many proxies of ours in front.
func TestAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		peer    string
		proxies int
		header  []string
		want    string
	}{
		{"peer", "192.0.2.1:1234", 0, nil, "192.0.2.1"},
		{"peer of IPv6", "[2001:db8::1]:1234", 0, nil, "2001:db8::1"},
		{"no proxy of ours: anybody can write that header", "192.0.2.1:1", 0, []string{"203.0.113.7"}, "192.0.2.1"},
		{"one proxy", "10.0.0.1:1", 1, []string{"203.0.113.7"}, "203.0.113.7"},
		{"one proxy, and what the sender claims", "10.0.0.1:1", 1, []string{"1.1.1.1, 203.0.113.7"}, "203.0.113.7"},
		{"two proxies", "10.0.0.1:1", 2, []string{"1.1.1.1, 203.0.113.7 , 10.0.0.2"}, "203.0.113.7"},
		{"two proxies, two lines", "10.0.0.1:1", 2, []string{"1.1.1.1", "203.0.113.7", "10.0.0.2"}, "203.0.113.7"},
		{"two proxies, mixed lines", "10.0.0.1:1", 2, []string{"1.1.1.1,203.0.113.7", "10.0.0.2"}, "203.0.113.7"},
		{"passed only one of two", "10.0.0.1:1", 2, []string{"203.0.113.7"}, "203.0.113.7"},
		{"no header", "10.0.0.1:1", 1, nil, "10.0.0.1"},
		{"with a port", "10.0.0.1:1", 1, []string{"203.0.113.7:443"}, "203.0.113.7"},
		{"IPv6 with a port", "10.0.0.1:1", 1, []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		{"IPv6 in brackets", "10.0.0.1:1", 1, []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"unknown", "10.0.0.1:1", 1, []string{"unknown"}, "invalid IP"},
		{"text", "10.0.0.1:1", 1, []string{`1.1.1.1, "},{"`}, "invalid IP"},
		{"empty", "10.0.0.1:1", 1, []string{" , "}, "invalid IP"},
		{"no peer", "@", 0, nil, "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{"X-Forwarded-For": tt.header}}
		if got := addressOf(r, tt.proxies).String(); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestSender: what the connection and the headers make of the event's context.
func TestSender(t *testing.T) {
	t.Parallel()
	const mozilla = "Mozilla/5.0 (X11; Linux x86_64)"
	for _, tt := range []struct {
		name    string
		policy  ingest.IPPolicy
		headers []string
		want    string
	}{
		{"anybody", ingest.IPKeep, nil, `"context":{"ip":"192.0.2.1"}`},
		{"forwarded", ingest.IPKeep, []string{"X-Forwarded-For", "203.0.113.7"}, `"context":{"ip":"203.0.113.7"}`},
		{"browser", ingest.IPKeep, []string{"User-Agent", mozilla}, `"context":{"ip":"192.0.2.1","userAgent":"` + mozilla + `"}`},
		{"phone", ingest.IPKeep, []string{"User-Agent", "analytics-kotlin/1.24.1"}, `"context":{"ip":"192.0.2.1"}`},
		{"server", ingest.IPKeep, []string{"User-Agent", "analytics-python/2.4.0"}, ``},
		{"other server", ingest.IPKeep, []string{"User-Agent", "analytics-node-next/latest"}, ``},
		{"request anonymizes", ingest.IPKeep, []string{"X-IP-Policy", "stripLastOctet"}, `"context":{"ip":"192.0.2.0"}`},
		{"request removes", ingest.IPAnonymize, []string{"X-IP-Policy", "remove"}, ``},
		{"request can not keep more", ingest.IPDrop, []string{"X-IP-Policy", "keep"}, ``},
		{"source anonymizes", ingest.IPAnonymize, nil, `"context":{"ip":"192.0.2.0"}`},
		{"source drops", ingest.IPDrop, nil, ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := &fakeLog{}
			src := ingest.Source{Name: "web", Kind: ingest.KindClickstream, WriteKeys: []string{"dev"}, IP: tt.policy}
			o := Options{}
			if tt.name == "forwarded" {
				o.TrustedProxies = 1
			}
			s, err := New(log, []ingest.Source{src}, o)
			if err != nil {
				t.Fatal(err)
			}
			if w := send(s, http.MethodPost, "/v1/track", event, append(devKey[:2:2], tt.headers...)...); w.Code != http.StatusOK {
				t.Fatalf("got %d, want 200", w.Code)
			}
			row := string(log.stored()[0].Payload)
			_, got, _ := strings.Cut(row, `"userId":"u1",`)
			if got = strings.TrimSuffix(got, "}"); got != tt.want {
				t.Errorf("got %s at the end of the row, want %s", got, tt.want)
			}
		})
	}
}

func TestFront(t *testing.T) {
	t.Parallel()
	bad := Options{Front: Front{TrustedProxies: -1, PublicURL: "ingest.example.com"}}
	if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "trusted_proxies") || !strings.Contains(err.Error(), "public_url") {
		t.Errorf("got %v, want both faults", err)
	}
	odd := ingest.Source{Name: "web", Kind: ingest.KindClickstream, WriteKeys: []string{"k"}, IP: "odd", Origins: []string{"https://x/", "*.x.com"}}
	_, err := New(nullLog{}, []ingest.Source{odd}, Options{})
	for _, want := range []string{`"odd"`, `"https://x/"`, `"*.x.com"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to tell of %s", err, want)
		}
	}
}
