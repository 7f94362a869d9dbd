package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/ingest"
	"millrace/ingest/webhook"
)

// signed makes a header as Stripe does; that it does is proven in package webhook, with Stripe's own vector.
func signed(secret, body string, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%x", at.Unix(), mac.Sum(nil))
}

func TestHooks(t *testing.T) {
	t.Parallel()
	const paid = "{\n  \"id\": \"evt_1\", \"type\": \"invoice.paid\"\n}"
	now := time.Now()
	for _, tt := range []struct {
		name, method, path, body, signature string
		code                                int
		want                                string // the row's type
	}{
		{"unsigned", "POST", "/hooks/demo", "hello", "", 200, "webhook"},
		{"unsigned by GET", "GET", "/hooks/demo?challenge=1", "", "", 200, "webhook"},
		{"unsigned by PUT", "PUT", "/hooks/demo", "\x00\xff", "", 200, "webhook"},
		{"stripe", "POST", "/hooks/stripe", paid, signed("whsec_dev", paid, now), 200, "invoice.paid"},
		{"stripe, other secret", "POST", "/hooks/stripe", paid, signed("other", paid, now), 401, ""},
		{"stripe, other body", "POST", "/hooks/stripe", paid + " ", signed("whsec_dev", paid, now), 401, ""},
		{"stripe, replayed", "POST", "/hooks/stripe", paid, signed("whsec_dev", paid, now.Add(-time.Hour)), 401, ""},
		{"stripe, unsigned", "POST", "/hooks/stripe", paid, "", 401, ""},
		{"too long", "POST", "/hooks/demo", strings.Repeat("x", 1<<20+1), "", 400, ""},
		{"unknown", "POST", "/hooks/nobody", paid, "", 404, ""},
		{"a clickstream source is no webhook", "POST", "/hooks/web", paid, "", 404, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := &fakeLog{}
			w := send(newServer(t, log, Options{}), tt.method, tt.path, tt.body, "Stripe-Signature", tt.signature)
			if w.Code != tt.code {
				t.Fatalf("got %d %s, want %d", w.Code, w.Body, tt.code)
			}
			if tt.code != http.StatusOK {
				if len(log.stored()) != 0 {
					t.Errorf("got %d records, want none", len(log.stored()))
				}
				return
			}
			checkReceipt(t, w, 1)
			var row struct {
				Type, Method, Source string
				Verified             bool
			}
			if err := json.Unmarshal(log.stored()[0].Payload, &row); err != nil || row.Type != tt.want || row.Method != tt.method ||
				row.Source != strings.TrimPrefix(strings.Split(tt.path, "?")[0], "/hooks/") || row.Verified != (tt.signature != "") {
				t.Errorf("got %+v, %v, want type %s", row, err, tt.want)
			}
		})
	}
}

// hookServer is a server with one webhook, named hook.
func hookServer(t *testing.T, log ingest.Appender, src ingest.Source, o Options) *Server {
	t.Helper()
	src.Name, src.Kind = "hook", ingest.KindWebhook
	s, err := New(log, []ingest.Source{src}, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sign returns the headers of a delivery as its sender makes them; that they are what the sender makes is proven in package webhook.
func sign(t *testing.T, src ingest.Source, d webhook.Delivery) []string {
	t.Helper()
	v, err := webhook.New(&src)
	if err != nil {
		t.Fatal(err)
	}
	d.Received = time.Now()
	d.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	h, err := v.Sign(&d)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{"Content-Type", d.Header.Get("Content-Type")}
	for name := range h {
		out = append(out, name, h.Get(name))
	}
	return out
}

// TestHookAnswers: what a sender sees of each scheme: once signed right, once with a byte of the body changed.
func TestHookAnswers(t *testing.T) {
	t.Parallel()
	for _, scheme := range webhook.Names() {
		src := ingest.Source{Scheme: scheme, Secrets: []ingest.Secret{"b3RoZXI6c2VjcmV0"}}
		switch scheme {
		case webhook.Custom, "sendgrid", "adyen":
			continue // nothing declared, or not to be signed here
		case "standard-ed25519":
			src.Secrets[0] = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="
		}
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			log := &fakeLog{}
			s := hookServer(t, log, src, Options{})
			headers := sign(t, src, webhook.Delivery{Method: "POST", Body: []byte("a=b"), URL: "http://example.com/hooks/hook"})
			w := send(s, "POST", "/hooks/hook", "a=b", headers...)
			wantType, wantBody := "application/json", `{"success":true}`
			switch scheme {
			case "slack":
				wantType, wantBody = "", ""
			case "twilio":
				wantType, wantBody = "text/xml; charset=utf-8", "<Response/>"
			}
			if w.Code != http.StatusOK || w.Body.String() != wantBody || w.Header().Get("Content-Type") != wantType || w.Header().Get("X-Millrace-Receipt") == "" {
				t.Fatalf("got %d %v %s, want 200 %s %s and a receipt", w.Code, w.Header(), w.Body, wantType, wantBody)
			}
			if row := string(log.stored()[0].Payload); !strings.Contains(row, `"body":"a=b"`) || !strings.Contains(row, fmt.Sprintf(`"verified":%v`, scheme != "none")) {
				t.Errorf("got row %s, want the body as it came", row)
			}
			if w := send(s, "POST", "/hooks/hook", "a=c", headers...); scheme != "none" && scheme != "token" && scheme != "basic" && scheme != "gitlab" && w.Code != http.StatusUnauthorized {
				t.Errorf("got %d %s for another body, want 401", w.Code, w.Body)
			}
			if w := send(s, "POST", "/hooks/hook", "a=b"); scheme != "none" && w.Code != http.StatusUnauthorized {
				t.Errorf("got %d %s without a signature, want 401", w.Code, w.Body)
			}
		})
	}
}

func TestHookRefusals(t *testing.T) {
	t.Parallel()
	github := ingest.Source{Scheme: "github", Secrets: []ingest.Secret{"s3cret"}}
	for _, tt := range []struct {
		name    string
		src     ingest.Source
		headers []string
		reason  string
		detail  string
		ask     string
	}{
		{name: "no header", src: github, reason: "unsigned", detail: "has no header X-Hub-Signature-256"},
		{name: "unreadable", src: github, headers: []string{"X-Hub-Signature-256", "sha256=<>"}, reason: "unsigned", detail: "can not be read"},
		{name: "other secret", src: github, headers: []string{"X-Hub-Signature-256", "sha256=00"}, reason: "mismatch", detail: "the secret is another one"},
		{name: "old", src: ingest.Source{Scheme: "stripe", Secrets: []ingest.Secret{"s3cret"}}, reason: "stale", detail: "5m0s is tolerated",
			headers: []string{"Stripe-Signature", signed("s3cret", "{}", time.Now().Add(-time.Hour))}},
		{name: "no password", src: ingest.Source{Scheme: "basic", Secrets: []ingest.Secret{"a:s3cret"}}, reason: "unsigned", detail: "has no header Authorization",
			ask: `Basic realm="hook", charset="UTF-8"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := &fakeLog{}
			o := Options{Metrics: prometheus.NewRegistry()}
			s := hookServer(t, log, tt.src, o)
			w := send(s, "POST", "/hooks/hook", "{}", tt.headers...)
			var got struct{ Error, Code, Reason string }
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusUnauthorized || got.Code != "bad_signature" {
				t.Fatalf("got %d %s, %v", w.Code, w.Body, err)
			}
			if got.Reason != tt.reason || !strings.Contains(got.Error, tt.detail) || w.Header().Get("WWW-Authenticate") != tt.ask {
				t.Errorf("got %+v %v, want reason %s and %q", got, w.Header(), tt.reason, tt.detail)
			}
			if strings.Contains(w.Body.String(), "s3cret") || len(log.stored()) > 0 {
				t.Errorf("got %s and %d records, want no secret and nothing stored", w.Body, len(log.stored()))
			}
			counts := gather(t, o.Metrics.(*prometheus.Registry))
			for _, f := range signatureFaults {
				if n := counts["signature_failures_total "+f.reason+" hook"]; (n == 1) != (f.reason == tt.reason) {
					t.Errorf("counted %v for %s", n, f.reason)
				}
			}
		})
	}
}

func TestHookHandshake(t *testing.T) {
	t.Parallel()
	const body = `{"type":"url_verification","challenge":"<b>3eZ</b>"}`
	src := ingest.Source{Scheme: "slack", Secrets: []ingest.Secret{"s3cret"}}
	log := &fakeLog{}
	s := hookServer(t, log, src, Options{})
	w := send(s, "POST", "/hooks/hook", body, sign(t, src, webhook.Delivery{Method: "POST", Body: []byte(body)})...)
	h := w.Header()
	if w.Code != http.StatusOK || w.Body.String() != "<b>3eZ</b>" || h.Get("Content-Type") != "text/plain; charset=utf-8" ||
		h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Millrace-Receipt") != "" {
		t.Errorf("got %d %v %s, want the challenge as text, and no receipt", w.Code, h, w.Body)
	}
	if w := send(s, "POST", "/hooks/hook", body); w.Code != http.StatusUnauthorized {
		t.Errorf("got %d %s without a signature, want 401", w.Code, w.Body)
	}
	if n := len(log.stored()); n > 0 {
		t.Errorf("got %d records, want none of handshakes", n)
	}
}

// TestHookRepeats: a delivery that is sent again has the same dedupe id, another one has another.
func TestHookRepeats(t *testing.T) {
	t.Parallel()
	log := &fakeLog{}
	src := ingest.Source{Scheme: "github", Secrets: []ingest.Secret{"s3cret"}}
	s := hookServer(t, log, src, Options{})
	headers := sign(t, src, webhook.Delivery{Body: []byte("{}")})
	send(s, "POST", "/hooks/hook", "{}", headers...)
	send(s, "POST", "/hooks/hook", "{}", headers...)
	send(s, "POST", "/hooks/hook", "{}", sign(t, src, webhook.Delivery{Body: []byte("{}")})...)
	recs := log.stored()
	if len(recs) != 3 || recs[0].Dedupe != recs[1].Dedupe || recs[0].Dedupe == recs[2].Dedupe {
		t.Errorf("got %d records, want two of one delivery and one of another", len(recs))
	}
}

// TestHookURL: a URL that is signed is the one that the sender called, wherever proxies of ours say what that was.
func TestHookURL(t *testing.T) {
	t.Parallel()
	const public = "https://hooks.example.com/hooks/hook?a=%20b"
	for _, tt := range []struct {
		name, publicURL, signed string
		front                   Front
		code                    int
		headers                 []string
	}{
		{name: "called directly", signed: "http://example.com/hooks/hook?a=%20b", code: 200},
		{name: "behind a proxy that is not known", signed: public, code: 401, headers: []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "hooks.example.com"}},
		{name: "behind one", signed: public, front: Front{TrustedProxies: 1}, code: 200, headers: []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "hooks.example.com"}},
		{name: "behind one that appends", signed: public, front: Front{TrustedProxies: 1}, code: 200,
			headers: []string{"X-Forwarded-Proto", "http, https", "X-Forwarded-Host", "evil.example.com, hooks.example.com"}},
		{name: "behind two, of which the second says nothing", signed: public, front: Front{TrustedProxies: 2}, code: 200,
			headers: []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "hooks.example.com"}},
		{name: "no such scheme", signed: public, front: Front{TrustedProxies: 1}, code: 401, headers: []string{"X-Forwarded-Proto", "ftp", "X-Forwarded-Host", "hooks.example.com"}},
		{name: "below the listener's public URL", signed: public, front: Front{PublicURL: "https://hooks.example.com/"}, code: 200},
		{name: "with a public URL", signed: public, publicURL: "https://hooks.example.com/hooks/hook", code: 200},
		{name: "at another public URL", signed: public, publicURL: "https://hooks.example.com/other", code: 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := ingest.Source{Scheme: "twilio", Secrets: []ingest.Secret{"12345"}}
			headers := sign(t, src, webhook.Delivery{Method: "POST", Body: []byte("To=%2B1"), URL: tt.signed})
			src.PublicURL = tt.publicURL
			w := send(hookServer(t, &fakeLog{}, src, Options{Front: tt.front}), "POST", "/hooks/hook?a=%20b", "To=%2B1", append(headers, tt.headers...)...)
			if w.Code != tt.code {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, tt.code)
			}
		})
	}
}

func TestHookPathToken(t *testing.T) {
	t.Parallel()
	log := &fakeLog{}
	s := hookServer(t, log, ingest.Source{Scheme: "token", Secrets: []ingest.Secret{"old", "s3cret"}}, Options{})
	for path, want := range map[string]int{"/hooks/hook/s3cret": 200, "/hooks/hook/old": 200, "/hooks/hook/other": 401, "/hooks/hook": 401} {
		if w := send(s, "POST", path, "{}"); w.Code != want {
			t.Errorf("%s: got %d %s, want %d", path, w.Code, w.Body, want)
		}
	}
	for _, rec := range log.stored() {
		if !strings.Contains(string(rec.Payload), `"path":"/hooks/hook",`) || strings.Contains(string(rec.Payload), "s3cret") {
			t.Errorf("got %s, want no token in it", rec.Payload)
		}
	}
}
