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
