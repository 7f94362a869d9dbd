package webhook

import (
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest"
)

// vector is a signed delivery that the scheme's maker published: in its documentation, or in the tests of its library. from says where.
type vector struct {
	name, scheme, from string
	verify             ingest.Scheme
	secret             ingest.Secret
	method, url        string
	headers            []string // names and values
	body               string
	at                 time.Time // when it was signed; zero if the scheme has no time
	// unsignable says that Sign can not make these headers: it has no private key, signs with one key, or in another place.
	unsignable bool
}

const (
	githubSecret = "It's a Secret to Everybody"
	hubspotKey   = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
	twilioURL    = "https://mycompany.com/myapp.php?foo=1&bar=2"
	twilioForm   = "Digits=1234&CallSid=CA1234567890ABCDE&To=%2B18005551212&Caller=%2B14158675309&From=%2B14158675309"
	twilioHash   = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
	twilioJSON   = `{"property": "value", "boolean": true}`
	formType     = "application/x-www-form-urlencoded"
	boxBody      = `{"type":"webhook_event","webhook":{"id":"1234567890"},"trigger":"FILE.UPLOADED",` +
		`"source":{"id":"1234567890","type":"file","name":"Test.txt"}}`
	adyenItem = `{"NotificationRequestItem":{"additionalData":{"hmacSignature":"ipnxGCaUZ4l8TUW75a71/ghd2Fe5ffvX0pV4TLTntIc="},` +
		`"amount":{"currency":"EUR","value":1000},"eventCode":"EVENT","merchantAccountCode":"merchantAccount","merchantReference":"reference",` +
		`"originalReference":"originalReference","paymentMethod":"VISA","pspReference":"pspReference","reason":"reason","success":"true"}}`
	adyenKey     = "DFB1EB5485895CFA84146406857104ABB4CBCABDC8AAF103A624C8F6A3EAAB00"
	standardID   = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	standardBody = `{"test": 2432232314}`
	standardSig  = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	standardKey  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

func file(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func vectors(t testing.TB) []vector {
	return slices.Concat(sevenVectors(t), otherVectors(t), genericVectors())
}

// sevenVectors are those of the providers that have a page in docs/providers.
func sevenVectors(t testing.TB) []vector {
	standardAt := time.Unix(1614265330, 0)
	standardHeaders := []string{"webhook-id", standardID, "webhook-timestamp", "1614265330", "webhook-signature", standardSig}
	return []vector{
		{name: "stripe", scheme: "stripe", from: "stripe/stripe-dotnet: EventUtilityTest.cs, event_test_signature.json",
			secret: "webhook_secret", at: time.Unix(1533204620, 0), body: file(t, "stripe_event.json"), headers: []string{"Stripe-Signature",
				"t=1533204620,v1=f0bdba6d4eacbd8ad8a3bbadd7248e633ec1477f7899c124c51b39405fa36613,v0=63f3a72374a733066c4be69ed7f8e5ac85c22c9f0a6a612ab9a025a9e4ee7eef"}},
		{name: "github", scheme: "github", from: "docs.github.com: Validating webhook deliveries, Testing the webhook payload validation",
			secret: githubSecret, body: "Hello, World!",
			headers: []string{"X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}},
		{name: "shopify", scheme: "shopify", from: "Shopify/shopify-api-php: tests/Webhooks/RegistryTest.php, BaseTestCase.php",
			secret: "steffi", body: `{"foo":"bar"}`, headers: []string{"X-Shopify-Hmac-Sha256", "/Redz4YXHLnSmmSN8grr5/Jl/Ua3d7yX3iWbjb8R8wo="}},
		{name: "slack", scheme: "slack", from: "docs.slack.dev: Verifying requests from Slack", secret: "8f742231b10e8888abcd99yyyzzz85a5",
			at: time.Unix(1531420618, 0), body: "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar" +
				"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J" +
				"%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
			headers: []string{"Content-Type", formType, "X-Slack-Request-Timestamp", "1531420618",
				"X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"}},
		{name: "standard", scheme: "standard", from: "standard-webhooks/standard-webhooks: libraries/go/webhook_test.go", secret: standardKey,
			at: standardAt, body: standardBody, headers: standardHeaders},
		{name: "svix", scheme: "svix", from: "svix/svix-webhooks: go/webhook_test.go", secret: standardKey, at: standardAt, body: standardBody,
			headers: []string{"svix-id", standardID, "svix-timestamp", "1614265330", "svix-signature", standardSig}, unsignable: true},
		{name: "standard-ed25519", scheme: "standard-ed25519", from: "standard-webhooks/standard-webhooks: libraries/go/webhook_asymmetric_test.go",
			secret: "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=", at: standardAt, body: standardBody,
			headers: []string{"webhook-id", standardID, "webhook-timestamp", "1614265330", "webhook-signature",
				"v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="}},
		{name: "gitlab, signing token", scheme: "gitlab-signed", from: "docs.gitlab.com says Standard Webhooks; the vector is that of its library",
			secret: standardKey, at: standardAt, body: standardBody, headers: standardHeaders},
		{name: "twilio", scheme: "twilio", from: "twilio/twilio-go: client/request_validator_test.go", secret: "12345", url: twilioURL, body: twilioForm,
			headers: []string{"Content-Type", formType, "X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8="}},
		{name: "twilio, documentation", scheme: "twilio", from: "twilio.com/docs/usage/security", secret: "12345", url: twilioURL,
			body:    "CallSid=CA1234567890ABCDE&Caller=%2B12349013030&Digits=1234&From=%2B12349013030&To=%2B18005551212",
			headers: []string{"Content-Type", formType, "X-Twilio-Signature", "0/KCTR6DLpKmkAf8muzZqo1nDgQ="}},
		{name: "twilio, called with a port, signed without", scheme: "twilio", from: "twilio/twilio-go", secret: "12345",
			url: "https://mycompany.com:1234/myapp.php?foo=1&bar=2", body: twilioForm, unsignable: true,
			headers: []string{"Content-Type", formType, "X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8="}},
		{name: "twilio, called without a port, signed with", scheme: "twilio", from: "twilio/twilio-go", secret: "12345",
			url: twilioURL, body: twilioForm, headers: []string{"Content-Type", formType, "X-Twilio-Signature", "kvajT1Ptam85bY51eRf/AJRuM3w="}, unsignable: true},
		{name: "twilio, http with its port", scheme: "twilio", from: "twilio/twilio-python: tests/unit/test_request_validator.py", secret: "12345",
			url: "http://mycompany.com:1234/myapp.php?foo=1&bar=2", body: twilioForm,
			headers: []string{"Content-Type", formType, "X-Twilio-Signature", "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="}},
		{name: "twilio, http, signed with a port", scheme: "twilio", from: "twilio/twilio-python", secret: "12345", unsignable: true,
			url: "http://mycompany.com/myapp.php?foo=1&bar=2", body: twilioForm,
			headers: []string{"Content-Type", formType, "X-Twilio-Signature", "0ZXoZLH/DfblKGATFgpif+LLRf4="}},
		{name: "twilio, a name with two values", scheme: "twilio", from: "twilio/twilio-python", secret: "12345", url: twilioURL,
			body:    "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234",
			headers: []string{"Content-Type", formType, "X-Twilio-Signature", "IK+Dwps556ElfBT0I3Rgjkr1wJU="}},
		{name: "twilio, JSON", scheme: "twilio", from: "twilio/twilio-go", secret: "12345", url: twilioURL + "&bodySHA256=" + twilioHash,
			body: twilioJSON, headers: []string{"Content-Type", "application/json", "X-Twilio-Signature", "a9nBmqA0ju/hNViExpshrM61xv4="}},
		{name: "twilio, JSON and no other parameter", scheme: "twilio", from: "twilio/twilio-go", secret: "12345",
			url: "https://mycompany.com/myapp.php?bodySHA256=" + twilioHash, body: twilioJSON,
			headers: []string{"Content-Type", "application/json", "X-Twilio-Signature", "y77kIzt2vzLz71DgmJGsen2scGs="}},
	}
}

func otherVectors(t testing.TB) []vector {
	return []vector{
		{name: "sendgrid", scheme: "sendgrid", from: "sendgrid/sendgrid-go: helpers/eventwebhook/eventwebhook_test.go", at: time.Unix(1588788367, 0),
			secret: "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEDr2LjtURuePQzplybdC+u4CwrqDqBaWjcMMsTbhdbcwHBcepxo7yAQGhHPTnlvFYPAZFceEu/1FwCM/QmGUhA==",
			body:   `{"category":"example_payload","event":"test_event","message_id":"message_id"}`, unsignable: true,
			headers: []string{"X-Twilio-Email-Event-Webhook-Timestamp", "1588788367", "X-Twilio-Email-Event-Webhook-Signature",
				"MEUCIQCtIHJeH93Y+qpYeWrySphQgpNGNr/U+UyUlBkU6n7RAwIgJTz2C+8a8xonZGi6BpSzoQsbVRamr2nlxFDWYNH2j/0="}},
		{name: "paddle", scheme: "paddle", from: "PaddleHQ/paddle-node-sdk: webhooks-validator.node.test.ts", secret: "VALID_SECRET",
			at: time.Unix(1698796800, 0), body: `{"data": ["1", "2"]}`,
			headers: []string{"Paddle-Signature", "ts=1698796800;h1=a300428748dce5c70e4da19bffd60769591ea969c99dea3105d0ec9612cf43f9"}},
		{name: "paddle, several", scheme: "paddle", from: "PaddleHQ/paddle-node-sdk", secret: "VALID_SECRET", at: time.Unix(1698796800, 0),
			body: `{"data": "value"}`, unsignable: true, headers: []string{"Paddle-Signature",
				"ts=1698796800;h1=28981e941fae76e53db32f3d2a83cb69db41476595e84e1970a1b5d98f62b261;" +
					"h1=28981e941fae76e53db32f3d2a83cb69db41476595e84e1970a1b5d98f62b261;h2=RANDOM_HASH"}},
		{name: "square", scheme: "square", from: "developer.squareup.com: Verify and Validate an Event Notification", secret: "asdf1234",
			url: "https://example.com/webhook", body: `{"hello":"world"}`,
			headers: []string{"X-Square-HmacSha256-Signature", "2kRE5qRU2tR+tBGlDwMEw2avJ7QM4ikPYD/PJ3bd9Og="}},
		{name: "hubspot v1", scheme: "hubspot-v1", from: "HubSpot/hubspot-api-nodejs: test/unit/signature.spec.ts", secret: hubspotKey,
			body: `[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,"subscriptionType":"contact.creation",` +
				`"attemptNumber":0,"objectId":123,"changeSource":"CRM","changeFlag":"NEW","appId":54321}]`,
			headers: []string{"X-HubSpot-Signature", "232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de"}},
		{name: "hubspot v2, GET", scheme: "hubspot-v2", from: "HubSpot/hubspot-api-nodejs", secret: hubspotKey, method: "GET",
			url: "https://www.example.com/webhook_uri", headers: []string{"X-HubSpot-Signature", "eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e"}},
		{name: "hubspot v2", scheme: "hubspot-v2", from: "HubSpot/hubspot-api-nodejs", secret: hubspotKey, url: "https://www.example.com/webhook_uri",
			body:    `{"example_field":"example_value"}`,
			headers: []string{"X-HubSpot-Signature", "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900"}},
		{name: "bitbucket", scheme: "bitbucket", from: "support.atlassian.com/bitbucket-cloud: Manage webhooks, Examples", secret: githubSecret,
			body: "Hello World!", headers: []string{"X-Hub-Signature", "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"}},
		{name: "jira", scheme: "jira", from: "developer.atlassian.com/cloud/jira: Webhooks, Examples", secret: githubSecret,
			body: "Hello World!", headers: []string{"X-Hub-Signature", "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"}},
		{name: "pagerduty", scheme: "pagerduty", from: "PagerDuty/go-pagerduty: webhookv3/webhookv3_test.go",
			secret: "lDQHScfUeXUKaQRNF+8XIiDKZ7XX3itBAYzwU0TARw8lJqRnkKl2iB1anSb0Z+IK", body: file(t, "pagerduty_event.json"),
			headers: []string{"X-PagerDuty-Signature", "v1=0c0b9495b893a39e70d1fea2fe11fbe0a825f88b9f67846f6cc07dd2bc5476cd"}},
		{name: "box, primary", scheme: "box", from: "box/box-node-sdk: tests/lib/managers/webhooks-test.js", secret: "SamplePrimaryKey",
			at: time.Date(2020, 1, 1, 7, 0, 0, 0, time.UTC), body: boxBody, unsignable: true, headers: []string{"BOX-DELIVERY-TIMESTAMP", "2020-01-01T00:00:00-07:00",
				"BOX-SIGNATURE-PRIMARY", "6TfeAW3A1PASkgboxxA5yqHNKOwFyMWuEXny/FPD5hI=", "BOX-SIGNATURE-SECONDARY", "v+1CD1Jdo3muIcbpv5lxxgPglOqMfsNHPV899xWYydo="}},
		{name: "box, secondary", scheme: "box", from: "box/box-node-sdk", secret: "SampleSecondaryKey", unsignable: true,
			at: time.Date(2020, 1, 1, 7, 0, 0, 0, time.UTC), body: boxBody, headers: []string{"BOX-DELIVERY-TIMESTAMP", "2020-01-01T00:00:00-07:00",
				"BOX-SIGNATURE-PRIMARY", "6TfeAW3A1PASkgboxxA5yqHNKOwFyMWuEXny/FPD5hI=", "BOX-SIGNATURE-SECONDARY", "v+1CD1Jdo3muIcbpv5lxxgPglOqMfsNHPV899xWYydo="}},
		{name: "adyen", scheme: "adyen", from: "Adyen/adyen-go-api-library: src/hmacvalidator/hmacvalidator_test.go", secret: adyenKey,
			body: `{"live":"false","notificationItems":[` + adyenItem + `]}`, unsignable: true},
	}
}

func genericVectors() []vector {
	return []vector{
		{name: "hmac-sha256, RFC 4231 test case 2", scheme: "hmac", from: "RFC 4231, section 4.3", secret: "Jefe", body: "what do ya want for nothing?",
			headers: []string{"X-Signature", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"}},
		{name: "hmac-sha512, RFC 4231 test case 2", scheme: "hmac", from: "RFC 4231, section 4.3", secret: "Jefe", body: "what do ya want for nothing?",
			verify: ingest.Scheme{Algorithm: "hmac-sha512", Signature: ingest.Places{"X-Acme"}, Prefix: "sha512="},
			headers: []string{"X-Acme", "sha512=164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fd" +
				"caeab1a34d4a6b4b636e070a38bce737"}},
		{name: "hmac-sha1, RFC 2202 test case 2", scheme: "hmac", from: "RFC 2202, section 3", secret: "Jefe", body: "what do ya want for nothing?",
			verify: ingest.Scheme{Algorithm: "hmac-sha1"}, headers: []string{"X-Signature", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"}},
		{name: "hmac with a key in hex, RFC 4231 test case 4", scheme: "hmac", from: "RFC 4231, section 4.5",
			secret: "0102030405060708090a0b0c0d0e0f10111213141516171819", body: strings.Repeat("\xcd", 50), verify: ingest.Scheme{Key: "hex"},
			headers: []string{"X-Signature", "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"}},
		{name: "ed25519, RFC 8032 test 3", scheme: Custom, from: "RFC 8032, section 7.1",
			secret: "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", body: "\xaf\x82", unsignable: true,
			verify: ingest.Scheme{Algorithm: "ed25519", Signature: ingest.Places{"X-Signature-Ed25519"}, Key: "hex"},
			headers: []string{"X-Signature-Ed25519", "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac" +
				"18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"}},
		{name: "basic", scheme: "basic", from: "RFC 7617, section 2", secret: "Aladdin:open sesame", headers: []string{"Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}},
		{name: "basic, UTF-8", scheme: "basic", from: "RFC 7617, section 2.1", secret: "test:123£", headers: []string{"Authorization", "Basic dGVzdDoxMjPCow=="}},
		// What is sent as it is needs no vector.
		{name: "token, bearer", scheme: "token", secret: "s3cret", headers: []string{"Authorization", "Bearer s3cret"}},
		{name: "token that looks like a private key", scheme: "token", secret: "whsk_s3cret", headers: []string{"Authorization", "Bearer whsk_s3cret"}},
		{name: "token, header", scheme: "token", secret: "s3cret", verify: ingest.Scheme{Signature: ingest.Places{"X-Token"}}, headers: []string{"X-Token", "s3cret"}},
		{name: "gitlab, secret token", scheme: "gitlab", secret: "s3cret", headers: []string{"X-Gitlab-Token", "s3cret"}},
	}
}

func (c *vector) source(secrets ...ingest.Secret) *ingest.Source {
	return &ingest.Source{Tenant: "default", Name: "hook", Kind: ingest.KindWebhook, Scheme: c.scheme, Verify: c.verify, Secrets: secrets}
}

func (c *vector) delivery() *Delivery {
	d := &Delivery{Method: "POST", Path: "/hooks/hook", URL: c.url, Header: http.Header{}, Body: []byte(c.body), Received: c.at}
	if c.method != "" {
		d.Method = c.method
	}
	if c.at.IsZero() {
		d.Received = testTime
	}
	_, d.RawQuery, _ = strings.Cut(c.url, "?")
	for i := 0; i < len(c.headers); i += 2 {
		d.Header.Set(c.headers[i], c.headers[i+1])
	}
	return d
}

func verifier(t testing.TB, src *ingest.Source) *Verifier {
	t.Helper()
	v, err := New(src)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestVectors: what the makers signed is taken, also beside other secrets, and not with another secret or another byte anywhere that is signed.
func TestVectors(t *testing.T) {
	t.Parallel()
	covered := map[string]bool{"none": true}
	for _, c := range vectors(t) {
		covered[c.scheme] = true
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := verifier(t, c.source(c.secret))
			if err := v.Verify(c.delivery()); err != nil {
				t.Fatalf("got %v for the vector of %s", err, c.from)
			}
			other := otherSecret(t, &c)
			if err := verifier(t, c.source(other, c.secret)).Verify(c.delivery()); err != nil {
				t.Errorf("got %v with the right secret as the second", err)
			}
			if err := verifier(t, c.source(other)).Verify(c.delivery()); !errors.Is(err, ErrMismatch) {
				t.Errorf("got %v with another secret, want %v", err, ErrMismatch)
			}
			if d := c.delivery(); !strings.HasPrefix(c.name, "token") && !strings.HasPrefix(c.name, "basic") && c.scheme != "gitlab" && len(d.Body) > 0 {
				d.Body[len(d.Body)/2] ^= 1
				if err := v.Verify(d); !errors.Is(err, ErrMismatch) && c.scheme != "adyen" {
					t.Errorf("got %v with another body, want %v", err, ErrMismatch)
				}
			}
			if d := c.delivery(); !c.at.IsZero() && v.scheme.Tolerance > 0 {
				for _, away := range []time.Duration{v.scheme.Tolerance, -v.scheme.Tolerance} {
					d.Received = c.at.Add(away)
					if err := v.Verify(d); err != nil {
						t.Errorf("got %v at the tolerance", err)
					}
					d.Received = c.at.Add(away + away/1000)
					if err := v.Verify(d); !errors.Is(err, ErrStale) {
						t.Errorf("got %v beyond the tolerance, want %v", err, ErrStale)
					}
				}
			}
		})
	}
	for _, name := range Names() {
		if !covered[name] {
			t.Errorf("scheme %s has no vector", name)
		}
	}
}

// otherSecret returns a secret of the kind that the scheme takes.
func otherSecret(t testing.TB, c *vector) ingest.Secret {
	t.Helper()
	switch c.scheme {
	case "sendgrid": // a public key of P-256 from RFC 6979, appendix A.2.5
		point, err := hex.DecodeString("3059301306072a8648ce3d020106082a8648ce3d03010703420004" +
			"60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299")
		if err != nil {
			t.Fatal(err)
		}
		return ingest.Secret(encodeText("base64", point))
	case "standard-ed25519", Custom:
		return ingest.Secret("whsk_" + encodeText(map[bool]string{true: "hex", false: "base64"}[c.scheme == Custom], make([]byte, 32)))
	}
	return ingest.Secret(encodeText("hex", make([]byte, 32)))
}

// TestSign: what the makers signed is what Sign makes, header for header.
func TestSign(t *testing.T) {
	t.Parallel()
	for _, c := range vectors(t) {
		if c.unsignable {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := verifier(t, c.source(c.secret))
			d := c.delivery()
			want := http.Header{}
			for _, p := range append(v.signature[:1:1], v.timestamp...) {
				name := p.name
				if p.kind == "bearer" {
					name = "Authorization"
				}
				if value := d.Header.Get(name); value != "" {
					want.Set(name, strings.Split(value, ",v0=")[0]) // Stripe's v0 is its own
					d.Header.Del(name)
				}
			}
			if name := v.idHeader(); name != "" && d.Header.Get(name) == "" {
				d.Header.Set(name, "1")
			}
			got, err := v.Sign(d)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("headers differ from those of %s (-want +got):\n%s", c.from, diff)
			}
		})
	}
}

// TestSigned: what Sign signs is taken by Verify, with an id of its own each time.
func TestSigned(t *testing.T) {
	t.Parallel()
	for _, c := range vectors(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := verifier(t, c.source(c.secret))
			ids := map[string]bool{}
			for range 2 {
				d := &Delivery{Method: "POST", URL: "http://127.0.0.1:8080/hooks/hook", Header: http.Header{}, Body: []byte("a=b"), Received: testTime}
				d.Header.Set("Content-Type", formType)
				headers, err := v.Sign(d)
				if errors.Is(err, ErrCannotSign) && (c.scheme == "sendgrid" || c.scheme == "adyen" || c.scheme == Custom) {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if len(d.Header) != 1 {
					t.Errorf("got headers %v added to the delivery, want it as it was", d.Header)
				}
				for name := range headers {
					d.Header[name] = headers[name]
				}
				if err := v.Verify(d); err != nil {
					t.Errorf("got %v for our own signature %v", err, headers)
				}
				id, _ := v.Identify(d)
				if ids[id] && id != "" {
					t.Errorf("got id %q twice", id)
				}
				ids[id] = true
			}
		})
	}
}
