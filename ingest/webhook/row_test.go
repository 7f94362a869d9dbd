package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest"
)

var testTime = time.Date(2026, 11, 23, 8, 38, 35, 123456000, time.UTC)

func rowOf(t testing.TB, scheme string, d *Delivery) ingest.Record {
	t.Helper()
	src := &ingest.Source{Tenant: "default", Name: "hook", Scheme: scheme, Secrets: []ingest.Secret{"x"}}
	rec, err := Row(src, verifier(t, src), d, ingest.EventLane("default", "hook"))
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Validate(); err != nil {
		t.Error(err)
	}
	if !json.Valid(rec.Payload) || bytes.ContainsAny(rec.Payload, "\r\n") {
		t.Errorf("payload is not JSON on one line: %q", rec.Payload)
	}
	return rec
}

func TestRow(t *testing.T) {
	t.Parallel()
	rec := rowOf(t, "stripe", &Delivery{
		Method: "POST", Path: "/hooks/hook", RawQuery: "a=1&a=2&b", Received: testTime, Body: []byte("{\n\"id\":\"evt_1\",\"type\":\"invoice.paid\",\"x\":\"<&>\"}"),
		Header: http.Header{"Content-Type": {"application/json"}, "X-Two": {"a", "b"}, "Stripe-Signature": {"t=1,v1=00"}, "Authorization": {"Bearer x"},
			"Cookie": {"a=b"}, "X-Gitlab-Token": {"x"}, "X-Hub-Signature-256": {"x"}, "X-Api-Key": {"x"}, "Proxy-Authorization": {"x"}},
	})
	const want = `{"id":"evt_1","source":"hook","type":"invoice.paid","receivedAt":"2026-11-23T08:38:35.123Z","method":"POST","path":"/hooks/hook",` +
		`"query":{"a":["1","2"],"b":[""]},"headers":{"content-type":"application/json","x-two":"a, b"},"contentType":"application/json",` +
		`"body":"{\n\"id\":\"evt_1\",\"type\":\"invoice.paid\",\"x\":\"<&>\"}","verified":true}`
	if diff := cmp.Diff(want, string(rec.Payload)); diff != "" {
		t.Errorf("row differs (-want +got):\n%s", diff)
	}
	if rec.Dedupe != ingest.DedupeID("hook", "evt_1") || rec.Type != "invoice.paid" || rec.ReceivedAt != testTime || rec.RoutingKey != "default/hook" {
		t.Errorf("got %+v, want the event's id and type, the time and the source's routing key", rec)
	}
}

func TestUnsignedRow(t *testing.T) {
	t.Parallel()
	d := &Delivery{Method: "GET", Path: "/hooks/hook", RawQuery: "%zz", Received: testTime, Header: http.Header{}}
	rec := rowOf(t, "none", d)
	var got map[string]any
	if err := json.Unmarshal(rec.Payload, &got); err != nil {
		t.Fatal(err)
	}
	if got["type"] != "webhook" || got["verified"] != false || got["body"] != "" || len(got["id"].(string)) != 36 || got["query"] == nil {
		t.Errorf("got %s, want a webhook with a random id, an empty body, and not verified", rec.Payload)
	}
	if again := rowOf(t, "none", d); again.Dedupe == rec.Dedupe {
		t.Error("two deliveries without id have the same dedupe id, want others")
	}
}

// TestLongType: a type may be longer than a record's.
func TestLongType(t *testing.T) {
	t.Parallel()
	typ := strings.Repeat("é", 40)
	rec := rowOf(t, "stripe", &Delivery{Received: testTime, Header: http.Header{}, Body: []byte(`{"id":"1","type":"` + typ + `"}`)})
	if rec.Type != typ[:ingest.MaxType] || !strings.Contains(string(rec.Payload), typ) {
		t.Errorf("got type %q, want the first %d bytes, and all of it in the row", rec.Type, ingest.MaxType)
	}
}

// FuzzRow: the body can be had back from the row to the byte, whatever it is.
func FuzzRow(f *testing.F) {
	for _, body := range []string{"", "text", "{\"a\":\"\u2028<>&\"}", "a\x00b", "\xff", "line\r\nbreak\t", "\x7f"} {
		f.Add([]byte(body), "a=b", "X", "y")
	}
	f.Fuzz(func(t *testing.T, body []byte, query, name, value string) {
		d := &Delivery{Method: "POST", Path: "/" + value, RawQuery: query, Header: http.Header{name: {value}}, Body: body, Received: testTime}
		rec := rowOf(t, "none", d)
		var got struct{ Body, BodyBase64 *string }
		if err := json.Unmarshal(rec.Payload, &got); err != nil || (got.Body == nil) == (got.BodyBase64 == nil) {
			t.Fatalf("got body and base64 %v %v, %v, want one of them", got.Body, got.BodyBase64, err)
		}
		back := got.Body
		if back == nil {
			raw, err := base64.StdEncoding.DecodeString(*got.BodyBase64)
			if err != nil {
				t.Fatal(err)
			}
			text := string(raw)
			back = &text
		}
		if *back != string(body) {
			t.Errorf("got %q back, want %q", *back, body)
		}
	})
}
