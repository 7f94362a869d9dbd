package gateway

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image/gif"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest"
)

// fullFor returns an Append hook that refuses events with this text.
func fullFor(text string) func(context.Context, []ingest.Record) error {
	return func(_ context.Context, recs []ingest.Record) error {
		if strings.Contains(string(recs[0].Payload), text) {
			return ingest.ErrFull
		}
		return nil
	}
}

// TestPixel: whatever happens, the answer is the image; with a receipt the event was stored.
func TestPixel(t *testing.T) {
	t.Parallel()
	// The example of Segment's "Tracking Pixel API", with the key of a source here.
	documented := `{"writeKey": "dev", "userId": "025pikachu025", "event": "Email Opened", "properties": {    "subject": "The Electric Daily",    "email": "peek@example.com" }}`
	const opened = `{"event":"Email Opened","userId":"u/>?","writeKey":"dev","properties":{"a":"~~~"}}` // in base64: / and +
	std, urlsafe := base64.StdEncoding.EncodeToString([]byte(opened)), base64.RawURLEncoding.EncodeToString([]byte(opened))
	if !strings.ContainsAny(std, "+/") {
		t.Fatal("the example does not need the characters that are at stake")
	}
	params := "writeKey=dev&userId=user_123&event=Email%20Opened&properties.subject=The+Electric+Daily&properties.page.no=7&context.direct=x"
	for _, tt := range []struct {
		name, path string
		want       string // the event's fields beyond the head, "": nothing is stored, "!": quarantine
		headers    []string
	}{
		{"documented", "/v1/pixel/track?data=" + base64.RawStdEncoding.EncodeToString([]byte(documented)), `{"userId":"025pikachu025","event":"Email Opened",` +
			`"properties":{"subject":"The Electric Daily","email":"peek@example.com"},"context":{"ip":"192.0.2.1"}}`, nil},
		{"base64, escaped", "/v1/pixel/track?data=" + url.QueryEscape(std), `{"event":"Email Opened","userId":"u/>?","properties":{"a":"~~~"},"context":{"ip":"192.0.2.1"}}`, nil},
		{"base64, not escaped", "/v1/pixel/track?data=" + std, `{"event":"Email Opened","userId":"u/>?","properties":{"a":"~~~"},"context":{"ip":"192.0.2.1"}}`, nil},
		{"base64url", "/v1/pixel/track?data=" + urlsafe, `{"event":"Email Opened","userId":"u/>?","properties":{"a":"~~~"},"context":{"ip":"192.0.2.1"}}`, nil},
		{"JSON", "/v1/pixel/track?data=" + url.QueryEscape(opened), `{"event":"Email Opened","userId":"u/>?","properties":{"a":"~~~"},"context":{"ip":"192.0.2.1"}}`, nil},
		{"parameters", "/v1/pixel/track?" + params, `{"event":"Email Opened","userId":"user_123",` +
			`"properties":{"subject":"The Electric Daily","page":{"no":"7"}},"context":{"direct":"x","ip":"192.0.2.1"}}`, nil},
		{"user agent", "/v1/pixel/page?writeKey=dev&anonymousId=a", `{"anonymousId":"a","context":{"ip":"192.0.2.1","userAgent":"Thunderbird/140.0"}}`,
			[]string{"User-Agent", "Thunderbird/140.0"}},
		{"Rudder", "/pixel/v1/track?writeKey=dev&anonymousId=a&event=e", `{"anonymousId":"a","event":"e","context":{"ip":"192.0.2.1"}}`, nil},
		{"path in front", "/x/v1/pixel/page/?writeKey=dev&userId=a", `{"userId":"a","context":{"ip":"192.0.2.1"}}`, nil},
		{"parameter and one below it", "/v1/pixel/page?writeKey=dev&userId=a&p=1&p.q=2", `{"userId":"a","p":{"q":"2"},"context":{"ip":"192.0.2.1"}}`, nil},
		{"parameter twice", "/v1/pixel/page?writeKey=dev&userId=a&userId=b", `{"userId":"b","context":{"ip":"192.0.2.1"}}`, nil},
		{"key beside data", "/v1/pixel/page?writeKey=dev&data=" + url.QueryEscape(`{"userId":"a"}`), `{"userId":"a","context":{"ip":"192.0.2.1"}}`, nil},
		{"nobody did it", "/v1/pixel/page?writeKey=dev", "!", nil},
		{"not JSON", "/v1/pixel/track?data=aGVsbG8", "", nil},
		{"not base64", "/v1/pixel/track?data=%00%00", "", nil},
		{"half of it", "/v1/pixel/track?data=" + std[:len(std)/2], "", nil},
		{"too deep", "/v1/pixel/track?writeKey=dev&" + strings.Repeat("a.", 100) + "a=1", "", nil},
		{"too many", "/v1/pixel/page?writeKey=dev&userId=a" + manyParams(), "", nil},
		{"log is full", "/v1/pixel/page?writeKey=dev&userId=full", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := &fakeLog{before: fullFor(`"full"`)}
			w := send(newServer(t, log, Options{}), http.MethodGet, tt.path, "", append(tt.headers, "Origin", "https://a.example")...)
			if _, err := gif.Decode(w.Body); err != nil || w.Code != http.StatusOK {
				t.Errorf("got %d, %v, want 200 and an image", w.Code, err)
			}
			h, stored := w.Header(), log.stored()
			if h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "image/gif" {
				t.Errorf("got headers %v, want an image that is asked for each time", h)
			}
			if (len(stored) == 1) != (tt.want != "") || (h.Get("X-Millrace-Receipt") != "") != (tt.want != "") {
				t.Fatalf("got %d records and receipt %q, want stored %v", len(stored), h.Get("X-Millrace-Receipt"), tt.want != "")
			}
			if tt.want == "" || tt.want == "!" {
				return
			}
			got, want := fieldsOf(t, string(stored[0].Payload)), fieldsOf(t, tt.want)
			for _, head := range []string{"messageId", "type", "timestamp", "receivedAt"} {
				delete(got, head)
			}
			if diff := cmp.Diff(want, got); diff != "" || stored[0].Lane.Quarantine() {
				t.Errorf("row of %s differs (-want +got):\n%s", stored[0].Lane, diff)
			}
		})
	}
}

// manyParams returns more parameters than a pixel may have.
func manyParams() string {
	var b strings.Builder
	for i := range maxParams + 1 {
		fmt.Fprintf(&b, "&p%d=1", i)
	}
	return b.String()
}

func fieldsOf(t *testing.T, text string) (fields map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return fields
}

// TestPixelIsNotHead: who only asks what would be there brings no event.
func TestPixelIsNotHead(t *testing.T) {
	t.Parallel()
	log := &fakeLog{}
	send(newServer(t, log, Options{}), http.MethodHead, "/v1/pixel/page?writeKey=dev&userId=a", "")
	if n := len(log.stored()); n != 0 {
		t.Errorf("got %d records of a HEAD, want none", n)
	}
}
