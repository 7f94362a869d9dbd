package webhook

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest"
)

func vectorOf(t testing.TB, name string) *vector {
	t.Helper()
	all := vectors(t)
	i := slices.IndexFunc(all, func(c vector) bool { return c.name == name })
	if i < 0 {
		t.Fatalf("no vector %q", name)
	}
	return &all[i]
}

// TestHeaders: what may stand in a signature's header, with the makers' vectors.
func TestHeaders(t *testing.T) {
	t.Parallel()
	const wrong = "0000000000000000000000000000000000000000000000000000000000000000"
	const v1 = "v1=f0bdba6d4eacbd8ad8a3bbadd7248e633ec1477f7899c124c51b39405fa36613"
	const h1 = "h1=a300428748dce5c70e4da19bffd60769591ea969c99dea3105d0ec9612cf43f9"
	const sha = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	for _, tt := range []struct {
		name, vector, value string
		want                error
	}{
		{"second of several", "stripe", "t=1533204620,v1=" + wrong + "," + v1, nil},
		{"first of several", "stripe", "t=1533204620," + v1 + ",v1=" + wrong, nil},
		{"one that is no hex beside a good one", "stripe", "t=1533204620,v1=zz," + v1, nil},
		{"space after the comma", "stripe", "t=1533204620, " + v1, nil},
		{"upper-case hex", "stripe", "t=1533204620,v1=" + strings.ToUpper(v1[3:]), nil},
		{"other time", "stripe", "t=1533204621," + v1, ErrMismatch},
		{"shortened", "stripe", "t=1533204620," + v1[:65], ErrMismatch},
		{"empty value", "stripe", "t=1533204620,v1=", ErrUnsigned},
		{"only another version", "stripe", "t=1533204620,v0" + v1[2:], ErrUnsigned},
		{"no time", "stripe", v1, ErrUnsigned},
		{"no number for a time", "stripe", "t=now," + v1, ErrUnsigned},
		{"time beyond int64", "stripe", "t=99999999999999999999," + v1, ErrUnsigned},
		{"no header", "stripe", "", ErrUnsigned},
		{"beyond the number of signatures", "stripe", "t=1533204620" + strings.Repeat(",v1="+wrong, maxSignatures) + "," + v1, ErrMismatch},
		{"within the number of signatures", "stripe", "t=1533204620" + strings.Repeat(",v1="+wrong, maxSignatures-1) + "," + v1, nil},
		{"semicolons", "paddle", "ts=1698796800;h1=" + wrong + ";" + h1, nil},
		{"commas where semicolons belong", "paddle", "ts=1698796800," + h1, ErrUnsigned},
		{"no prefix", "github", sha, ErrUnsigned},
		{"prefix of another hash", "github", "sha1=" + sha, ErrUnsigned},
		{"prefix in upper case", "github", "SHA256=" + sha, nil},
		{"spaces around", "github", " sha256=" + sha + " ", nil},
		{"half a byte", "github", "sha256=" + sha[:63], ErrUnsigned},
		{"base64 without padding", "standard", strings.TrimRight(standardSig, "="), nil},
		{"base64 for URLs", "standard", strings.NewReplacer("+", "-", "/", "_").Replace(standardSig), nil},
		{"another version beside", "standard", "v2,AAAA v1a,AAAA " + standardSig, nil},
		{"only the asymmetric version", "standard", "v1a" + standardSig[2:], ErrUnsigned},
	} {
		t.Run(tt.vector+", "+tt.name, func(t *testing.T) {
			t.Parallel()
			c := vectorOf(t, tt.vector)
			v, d := verifier(t, c.source("b3RoZXI=", c.secret)), c.delivery()
			d.Header.Set(v.signature[0].name, tt.value)
			if err := v.Verify(d); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// TestDetails: a refusal says to the person at the other end what is wrong, and never what would have been right.
func TestDetails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, vector string
		change       func(src *ingest.Source, d *Delivery)
		want         []string
	}{
		{"missing header", "github", func(_ *ingest.Source, d *Delivery) { d.Header = http.Header{} }, []string{"has no header X-Hub-Signature-256", "scheme github"}},
		{"missing headers", "box, primary", func(_ *ingest.Source, d *Delivery) { d.Header = http.Header{} },
			[]string{"has no header Box-Signature-Primary or header Box-Signature-Secondary"}},
		{"unreadable", "github", func(_ *ingest.Source, d *Delivery) { d.Header.Set("X-Hub-Signature-256", "x") }, []string{`can not be read`, `"sha256=" and then hex`}},
		{"missing time", "slack", func(_ *ingest.Source, d *Delivery) { d.Header.Del("X-Slack-Request-Timestamp") }, []string{"header X-Slack-Request-Timestamp"}},
		{"time in words", "slack", func(_ *ingest.Source, d *Delivery) { d.Header.Set("X-Slack-Request-Timestamp", "now") }, []string{"is no time in seconds since 1970"}},
		{"other secret", "github", func(src *ingest.Source, _ *Delivery) { src.Secrets[0] = "other" }, []string{"secret is another one", "proxy", "13 bytes"}},
		{"other URL", "twilio", func(_ *ingest.Source, d *Delivery) { d.URL = "http://10.0.0.7/myapp.php" }, []string{`"http://10.0.0.7/myapp.php"`, "public_url"}},
		{"other body behind a hash", "twilio, JSON", func(_ *ingest.Source, d *Delivery) { d.Body = []byte("{}") }, []string{"SHA-256", "query parameter bodySHA256"}},
		{"body that nothing signs", "twilio", func(_ *ingest.Source, d *Delivery) { d.Header.Set("Content-Type", "text/plain") }, []string{"nothing signs the body"}},
		{"form with what is no parameter", "twilio", func(_ *ingest.Source, d *Delivery) { d.Body = append(d.Body, "&evil;x=1"...) }, []string{"can not be read as one"}},
		{"missing id", "standard", func(_ *ingest.Source, d *Delivery) { d.Header.Del("webhook-id") }, []string{"no header Webhook-Id, which scheme standard signs"}},
		{"missing id of a template", "gitlab, signing token", func(_ *ingest.Source, d *Delivery) { d.Header.Del("webhook-id") }, []string{"no header Webhook-Id"}},
		{"stale", "stripe", func(_ *ingest.Source, d *Delivery) { d.Received = d.Received.Add(time.Hour) },
			[]string{"2018-08-02T10:10:20Z", "1h0m0s from this server's clock", "5m0s is tolerated", "clock"}},
		{"wrong token", "token, bearer", func(src *ingest.Source, _ *Delivery) { src.Secrets[0] = "other" }, []string{"none of this source's secrets"}},
		{"no items", "adyen", func(_ *ingest.Source, d *Delivery) { d.Body = []byte("{}") }, []string{"no JSON array at /notificationItems"}},
		{"too many items", "adyen", func(_ *ingest.Source, d *Delivery) {
			d.Body = []byte(`{"notificationItems":[` + adyenItem + strings.Repeat(","+adyenItem, maxItems) + `]}`)
		}, []string{"at most 256 elements"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := vectorOf(t, tt.vector)
			src, d := c.source(c.secret), c.delivery()
			tt.change(src, d)
			err := verifier(t, src).Verify(d)
			var why *Rejection
			if !errors.As(err, &why) {
				t.Fatalf("got %v, want a rejection", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(why.Detail, want) {
					t.Errorf("got %q, want %q in it", why.Detail, want)
				}
			}
			for i := 1; i < len(c.headers); i += 2 {
				if sig := c.headers[i]; len(sig) > 20 && strings.Contains(why.Detail, sig) || strings.Contains(why.Detail, c.secret.Reveal()) {
					t.Errorf("got %q, want neither the secret nor the signature in it", why.Detail)
				}
			}
		})
	}
}

// TestItems: one bad item among good ones makes all of a delivery bad, since it is stored and answered as one.
func TestItems(t *testing.T) {
	t.Parallel()
	c := vectorOf(t, "adyen")
	v := verifier(t, c.source(c.secret))
	bad := strings.Replace(adyenItem, "1000", "1001", 1)
	for body, want := range map[string]error{
		adyenItem + "," + adyenItem: nil, adyenItem + "," + bad: ErrMismatch, bad + "," + adyenItem: ErrMismatch,
		adyenItem + ",{}": ErrUnsigned, adyenItem + ",7": ErrUnsigned,
	} {
		d := c.delivery()
		d.Body = []byte(`{"notificationItems":[` + body + `]}`)
		if err := v.Verify(d); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("got %v for %s, want %v", err, body, want)
		}
	}
}

// TestCannotSign: what can not be signed here says why, and for a body whose hash must be in the URL, which that is.
func TestCannotSign(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"sendgrid": "only the sender has the key", "adyen": "in the JSON member", "twilio": "there is no query parameter bodySHA256; here that would be " + twilioHash,
	} {
		c := vectorOf(t, name)
		d := &Delivery{Method: "POST", URL: "http://h/", Body: []byte(twilioJSON), Received: testTime}
		if _, err := verifier(t, c.source(c.secret)).Sign(d); !errors.Is(err, ErrCannotSign) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}

func TestPublicURL(t *testing.T) {
	t.Parallel()
	c := vectorOf(t, "twilio")
	src, d := c.source(c.secret), c.delivery()
	d.URL = "http://10.0.0.7:8080/hooks/twilio?foo=1&bar=2"
	if err := verifier(t, src).Verify(d); !errors.Is(err, ErrMismatch) {
		t.Errorf("got %v behind a proxy, want %v", err, ErrMismatch)
	}
	src.PublicURL = "https://mycompany.com/myapp.php"
	v := verifier(t, src)
	if err := v.Verify(d); err != nil || v.SignsURL() {
		t.Errorf("got %v, %v with a public URL, want it believed and nothing asked of the request", err, v.SignsURL())
	}
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, scheme, body string
		verify             ingest.Scheme
		headers            []string
		id, typ            string
	}{
		{name: "Stripe", scheme: "stripe", body: `{"id":"evt_1","type":"invoice.paid"}`, id: "evt_1", typ: "invoice.paid"},
		{name: "no JSON", scheme: "stripe", body: "id=1"},
		{name: "GitHub", scheme: "github", headers: []string{"X-GitHub-Delivery", "72d3", "X-GitHub-Event", "push"}, id: "72d3", typ: "push"},
		{name: "Shopify, one event in two topics", scheme: "shopify", id: "e1/orders/paid", typ: "orders/paid",
			headers: []string{"X-Shopify-Event-Id", "e1", "X-Shopify-Topic", "orders/paid", "X-Shopify-Webhook-Id", "w1"}},
		{name: "Shopify, before event ids", scheme: "shopify", headers: []string{"X-Shopify-Webhook-Id", "w1"}, id: "w1"},
		{name: "Slack, event", scheme: "slack", body: `{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}`, id: "Ev1", typ: "app_mention"},
		{name: "Slack, command", scheme: "slack", body: "command=%2Fdeploy&trigger_id=39.8", headers: []string{"Content-Type", formType + "; charset=utf-8"},
			id: "39.8", typ: "/deploy"},
		{name: "GitLab", scheme: "gitlab", headers: []string{"Idempotency-Key", "k1", "X-Gitlab-Event-UUID", "u1", "X-Gitlab-Event", "Push Hook"}, id: "k1", typ: "Push Hook"},
		{name: "GitLab, old", scheme: "gitlab", headers: []string{"X-Gitlab-Event-UUID", "u1"}, id: "u1"},
		{name: "Twilio", scheme: "twilio", headers: []string{"I-Twilio-Idempotency-Token", "t1"}, id: "t1"},
		{name: "Svix", scheme: "svix", headers: []string{"svix-id", "msg_1"}, body: `{"type":"user.created"}`, id: "msg_1", typ: "user.created"},
		{name: "Adyen", scheme: "adyen", body: `{"notificationItems":[` + adyenItem + `]}`, id: "pspReference/EVENT/true", typ: "EVENT"},
		{name: "a source's own", scheme: "hmac", verify: ingest.Scheme{ID: ingest.Places{"json:/a~1b/0"}, Type: ingest.Places{"query:kind"}},
			body: `{"a/b":[7]}`, id: "7", typ: "q"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := vector{scheme: tt.scheme, verify: tt.verify, headers: tt.headers, body: tt.body, url: "http://h/?kind=q"}
			secret := ingest.Secret("00")
			if id, typ := verifier(t, c.source(secret)).Identify(c.delivery()); id != tt.id || typ != tt.typ {
				t.Errorf("got %q, %q, want %q, %q", id, typ, tt.id, tt.typ)
			}
		})
	}
}

// meta is Meta's scheme as a user declares it; docs/webhooks.md has the same.
func meta() ingest.Scheme {
	return ingest.Scheme{Signature: ingest.Places{"X-Hub-Signature-256"}, Prefix: "sha256=", Handshakes: []ingest.Handshake{{
		Method: "GET", When: map[string]string{"query:hub.mode": "subscribe", "query:hub.verify_token": "{verify_token}"},
		Reply: ingest.Reply{Body: "{query:hub.challenge}"},
	}}}
}

func TestGreet(t *testing.T) {
	t.Parallel()
	crc := ingest.Scheme{Handshakes: []ingest.Handshake{{Method: "GET", When: map[string]string{"query:crc_token": ""},
		Reply: ingest.Reply{Type: "application/json", Body: `{"response_token":"sha256={hmac_base64:query:crc_token}","said":"{query:crc_token}"}`}}}}
	const text = "text/plain; charset=utf-8"
	for _, tt := range []struct {
		name, scheme, method, query, body string
		verify                            ingest.Scheme
		verified, want                    bool
		reply                             Reply
	}{
		{name: "Slack", scheme: "slack", body: `{"type":"url_verification","challenge":"3eZ<b>"}`, verified: true, want: true, reply: Reply{200, text, "3eZ<b>"}},
		{name: "Slack, before the signature", scheme: "slack", body: `{"type":"url_verification","challenge":"3eZ"}`},
		{name: "Slack, event", scheme: "slack", body: `{"type":"event_callback","challenge":"3eZ"}`, verified: true},
		{name: "Meta", scheme: "hmac", verify: meta(), method: "GET", query: "hub.mode=subscribe&hub.verify_token=v3rify&hub.challenge=115", want: true,
			reply: Reply{200, text, "115"}},
		{name: "Meta, other token", scheme: "hmac", verify: meta(), method: "GET", query: "hub.mode=subscribe&hub.verify_token=other&hub.challenge=115"},
		{name: "Meta, no token", scheme: "hmac", verify: meta(), method: "GET", query: "hub.mode=subscribe&hub.challenge=115"},
		{name: "Meta, event", scheme: "hmac", verify: meta(), query: "hub.mode=subscribe&hub.verify_token=v3rify"},
		// RFC 4231, test case 2, in base64.
		{name: "X", scheme: "hmac", verify: crc, method: "GET", query: "crc_token=what+do+ya+want+for+nothing%3F", want: true,
			reply: Reply{200, "application/json", `{"response_token":"sha256=W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=","said":"what do ya want for nothing?"}`}},
		{name: "X, with what would end a string", scheme: "hmac", verify: ingest.Scheme{Handshakes: []ingest.Handshake{{Method: "GET",
			Reply: ingest.Reply{Type: "application/json", Body: `{"a":"{query:a}"}`}}}}, method: "GET", query: "a=%22%7D", want: true,
			reply: Reply{200, "application/json", `{"a":"\"}"}`}},
		{name: "no handshakes", scheme: "github", method: "GET", query: "challenge=1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := vector{scheme: tt.scheme, verify: tt.verify, method: tt.method, url: "http://h/?" + tt.query, body: tt.body}
			src := c.source("Jefe")
			src.VerifyToken = "v3rify"
			got, ok := verifier(t, src).Greet(c.delivery(), tt.verified)
			if ok != tt.want || got != tt.reply {
				t.Errorf("got %+v, %v, want %+v, %v", got, ok, tt.reply, tt.want)
			}
		})
	}
}

// TestNoVerifyToken: a handshake that asks for a token which the source does not have is never one, whatever it shows.
func TestNoVerifyToken(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"hub.mode=subscribe&hub.verify_token=&hub.challenge=1", "hub.mode=subscribe&hub.verify_token=%7Bverify_token%7D&hub.challenge=1"} {
		c := vector{scheme: "hmac", verify: meta(), method: "GET", url: "http://h/?" + query}
		if got, ok := verifier(t, c.source("Jefe")).Greet(c.delivery(), false); ok {
			t.Errorf("got %+v for %s, want no handshake", got, query)
		}
	}
}

func TestReply(t *testing.T) {
	t.Parallel()
	for scheme, want := range map[string]Reply{
		"github": {200, "application/json", `{"success":true}`}, "slack": {200, "text/plain; charset=utf-8", ""},
		"twilio": {200, "text/xml; charset=utf-8", "<Response/>"}, "adyen": {200, "text/plain; charset=utf-8", "[accepted]"},
	} {
		c := vector{scheme: scheme}
		if got := verifier(t, c.source("00")).Reply(c.delivery()); got != want {
			t.Errorf("%s: got %+v, want %+v", scheme, got, want)
		}
	}
}

// TestBadSchemes: what can not work is refused when it is configured, all of it at once, field by field.
func TestBadSchemes(t *testing.T) {
	t.Parallel()
	all := ingest.Scheme{
		Algorithm: "md5", Encoding: "base32", Key: "pem", TimestampUnit: "h", Signature: ingest.Places{"cookie:a"}, Timestamp: ingest.Places{"json:id"},
		Type: ingest.Places{"header:"}, ID: ingest.Places{"X-A+json:/a//b"}, Payload: "{bdy}", BodyHash: "path:x", Items: "a",
		Handshakes: []ingest.Handshake{{}, {Method: "GET", Reply: ingest.Reply{Status: 302}}}, Reply: ingest.Reply{Body: "{hmac_hex:nowhere:x}"},
	}
	for _, tt := range []struct {
		name string
		src  ingest.Source
		want []string
	}{
		{"unknown", ingest.Source{Scheme: "strype"}, []string{`scheme: is "strype", want one of adyen, basic, bitbucket, box`, "custom is declared by verify"}},
		{"nothing declared", ingest.Source{Scheme: Custom}, []string{`algorithm: is "", want one of hmac-sha1`, "signature: is missing"}},
		{"everything wrong", ingest.Source{Scheme: Custom, Verify: all, PublicURL: "hooks.example.com"}, []string{`algorithm: is "md5"`, `encoding: is "base32"`,
			`key: is "pem"`, `timestamp_unit: is "h"`, `signature: place "cookie:a" begins with none of`, `timestamp: JSON pointer "id"`, `type: place "header:"`,
			`id: JSON pointer "/a//b"`, `payload: template "{bdy}": variable {bdy} is none of`, `body_hash: place "path:x"`, `items: JSON pointer "a"`,
			"handshakes: has neither method nor when", "status is 302", `reply: template`, `public_url: is "hooks.example.com"`}},
		{"URL with a query", ingest.Source{Scheme: "twilio", PublicURL: "https://h/?a=b"}, []string{"public_url"}},
		{"no secrets", ingest.Source{Scheme: "github"}, []string{"needs secrets"}},
		{"empty secret", ingest.Source{Scheme: "github", Secrets: []ingest.Secret{"a", ""}}, []string{"secret 2 of 2: secret is empty"}},
		{"secret in another form", ingest.Source{Scheme: "adyen", Secrets: []ingest.Secret{"c4nary"}}, []string{"secret 1 of 1: secret is empty or not hex"}},
		{"secret that is no key", ingest.Source{Scheme: "sendgrid", Secrets: []ingest.Secret{"YzRuYXJ5"}}, []string{"no public key of the curve P-256"}},
		{"secret that is too short", ingest.Source{Scheme: "standard-ed25519", Secrets: []ingest.Secret{"whpk_YzRuYXJ5"}}, []string{"6 bytes, an Ed25519 key has 32"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := New(&tt.src)
			if !errors.Is(err, ErrScheme) {
				t.Fatalf("got %v, want %v", err, ErrScheme)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), "c4nary") || strings.Contains(err.Error(), "YzRuYXJ5") {
				t.Errorf("got %v, want no secret in it", err)
			}
		})
	}
}

// TestOverlay: what a source says takes the place of the table's, and the table stays as it is.
func TestOverlay(t *testing.T) {
	t.Parallel()
	before, _ := Lookup("stripe")
	got, err := Resolve(&ingest.Source{Scheme: "stripe", Verify: ingest.Scheme{Tolerance: time.Minute, ID: ingest.Places{"X-Id"}}})
	want := before
	want.Tolerance, want.ID, want.Encoding, want.Key, want.TimestampUnit = time.Minute, ingest.Places{"X-Id"}, "hex", "raw", "s"
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("got %v, (-want +got):\n%s", err, diff)
	}
	after, _ := Lookup("stripe")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the table changed:\n%s", diff)
	}
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	for scheme, want := range map[string]string{"basic": `Basic realm="hook", charset="UTF-8"`, "token": `Bearer realm="hook"`, "gitlab": "", "stripe": ""} {
		c := vector{scheme: scheme}
		if got := verifier(t, c.source("x")).Challenge(); got != want {
			t.Errorf("%s: got %q, want %q", scheme, got, want)
		}
	}
}

// TestPathToken: a token at the end of the path opens the source and is not kept.
func TestPathToken(t *testing.T) {
	t.Parallel()
	c := vector{scheme: "token", verify: ingest.Scheme{Signature: ingest.Places{"path", "query:key", "X-Acme-Auth"}}}
	v := verifier(t, c.source("s3cret"))
	for name, d := range map[string]*Delivery{
		"path":   {Path: "/hooks/hook/s3cret", Rest: "s3cret", Header: http.Header{}},
		"query":  {Path: "/hooks/hook", RawQuery: "a=b&key=s3cret", Header: http.Header{}},
		"header": {Path: "/hooks/hook", Header: http.Header{"X-Acme-Auth": {"s3cret"}}},
	} {
		d.Received = testTime
		if err := v.Verify(d); err != nil {
			t.Errorf("%s: got %v", name, err)
		}
		rec, err := Row(c.source(), v, d, ingest.EventLane("default", "hook"))
		if err != nil || strings.Contains(string(rec.Payload), "s3cret") || !strings.Contains(string(rec.Payload), `"path":"/hooks/hook"`) {
			t.Errorf("%s: got %s, %v, want no token in it", name, rec.Payload, err)
		}
	}
}
