package webhook

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"millrace/ingest"
)

// FuzzVerify: whoever does not have the secret is not believed, whatever the request looks like, by any scheme; and none makes us panic. A
// request that was refused for its looks says so, and what it says has no secret in it.
func FuzzVerify(f *testing.F) {
	const secret = "c4narysecret"
	verifiers := map[string]*Verifier{}
	for _, c := range vectors(f) {
		d := c.delivery()
		var head strings.Builder
		if err := d.Header.Write(&head); err != nil {
			f.Fatal(err)
		}
		f.Add(c.scheme, head.String(), d.RawQuery, d.Body)
		src := c.source(ingest.Secret(secret))
		if _, err := New(src); err != nil {
			src.Secrets[0] = otherSecret(f, &c)
		}
		if verifiers[c.scheme] == nil {
			verifiers[c.scheme] = verifier(f, src)
		}
	}
	f.Fuzz(func(t *testing.T, scheme, head, query string, body []byte) {
		v := verifiers[scheme]
		if v == nil {
			return
		}
		d := &Delivery{Method: "POST", Path: "/hooks/hook", RawQuery: query, URL: "http://h/hooks/hook?" + query, Header: http.Header{}, Body: body, Received: testTime}
		for line := range strings.Lines(head) {
			name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
			d.Header.Add(name, strings.TrimSpace(value))
		}
		v.Identify(d)
		v.Greet(d, true)
		err := v.Verify(d)
		var why *Rejection
		if !errors.As(err, &why) {
			t.Fatalf("%s took %q %q %q: %v", scheme, head, query, body, err)
		}
		if !errors.Is(err, ErrUnsigned) && !errors.Is(err, ErrMismatch) && !errors.Is(err, ErrStale) || why.Detail == "" || strings.Contains(why.Detail, secret) {
			t.Errorf("got %v, want a reason, and no secret in it", err)
		}
	})
}

// FuzzParts: however a signature's header is cut up, what comes out was in it, decodes, and is not too much.
func FuzzParts(f *testing.F) {
	for _, c := range vectors(f) {
		if s, err := Resolve(c.source()); err == nil && len(c.headers) > 0 {
			f.Add(s.Split, s.Prefix, s.Encoding, c.headers[len(c.headers)-1])
		}
	}
	f.Add(",", "v1=", "hex", "t=,v1=")
	f.Add(",", "v1=", "hex", ",,=,t")
	f.Add(" ", "v1,", "base64", "v1, v1,=== v1,AA==AA")
	f.Fuzz(func(t *testing.T, split, prefix, encoding, text string) {
		s := &ingest.Scheme{Split: split, Prefix: prefix, Encoding: encoding}
		out := decodeParts(nil, s, place{kind: "header"}, text)
		if len(out) > maxSignatures {
			t.Fatalf("got %d signatures, want at most %d", len(out), maxSignatures)
		}
		for _, sig := range out {
			if len(sig) == 0 || len(sig) > len(text) {
				t.Errorf("got %q of %q", sig, text)
			}
			if again, err := decodeText(encoding, encodeText(encoding, sig)); err != nil || !bytes.Equal(again, sig) {
				t.Errorf("got %q, %v back from %q", again, err, sig)
			}
		}
	})
}

// FuzzTime: no time makes us panic, and one that is read reads the same again.
func FuzzTime(f *testing.F) {
	for _, text := range []string{"1533204620", "1533204620123", "2020-01-01T00:00:00-07:00", "-1", "9223372036854775807", "", "1e9", "+7", " 7"} {
		for unit := range timeUnits {
			f.Add(unit, text)
		}
	}
	f.Fuzz(func(t *testing.T, unit, text string) {
		at, err := parseTime(unit, text)
		if err != nil {
			return
		}
		again, err := parseTime(unit, formatTime(unit, at))
		if unit == "rfc3339" && (at.UTC().Year() < 0 || at.UTC().Year() > 9999) {
			return // an offset has moved it out of the years that RFC 3339 has
		}
		if err != nil || again.Unix() != at.Unix() {
			t.Errorf("got %v, %v back from %q as %q", again, err, text, unit)
		}
	})
}

// FuzzScheme: a scheme that is declared anyhow is refused or works; it never makes us panic.
func FuzzScheme(f *testing.F) {
	f.Add("hmac-sha256", "header:X-Signature", "part:t=", "{ts}.{body}", "json:/a/0", "{json:/a}")
	f.Add("sha256", "json:/sig", "query:t", "{secret}{method}{url_decoded}{form}", "X-A+path", "{hmac_hex:query:a}{verify_token}")
	f.Add("token", "bearer", "", "{body", "form:x", "{}{{body}}")
	f.Add("none", "X-*", "X-*", "{header:X-A*}", "path", `{"a":"{id}"}`)
	f.Fuzz(func(t *testing.T, algorithm, signature, timestamp, payload, id, reply string) {
		src := &ingest.Source{Name: "hook", Scheme: Custom, Secrets: []ingest.Secret{"x"}, Verify: ingest.Scheme{
			Algorithm: algorithm, Signature: ingest.Places{signature}, Timestamp: ingest.Places{timestamp}, Payload: payload, ID: ingest.Places{id},
			Reply: ingest.Reply{Body: reply},
		}}
		if timestamp == "" {
			src.Verify.Timestamp = nil
		}
		v, err := New(src)
		if err != nil {
			if !errors.Is(err, ErrScheme) {
				t.Errorf("got %v, want %v", err, ErrScheme)
			}
			return
		}
		d := &Delivery{Method: "POST", URL: "http://h/?a=b", RawQuery: "a=b&t=1", Rest: "x", Received: testTime, Body: []byte(`{"a":["b"],"sig":"00"}`),
			Header: http.Header{"X-Signature": {"00"}, "X-A": {"b"}, "Authorization": {"Bearer x"}}}
		// What it answers to a made-up request says nothing; that it answers is the test.
		_ = v.Verify(d)
		v.Identify(d)
		v.Greet(d, true)
		v.Reply(d)
		_, _ = v.Sign(d)
	})
}
