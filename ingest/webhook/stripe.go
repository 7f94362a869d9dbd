package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"millrace/ingest"
)

// stripeTolerance is how far the time of a signature may be from ours, either way, as in Stripe's own libraries.
const stripeTolerance = 300 * time.Second

// maxSignatures bounds the work that a header can ask for; Stripe sends one per live secret.
const maxSignatures = 16

// stripe is the scheme of Stripe-Signature: "t=<unix seconds>,v1=<hex>,…", where v1 is HMAC-SHA256 over "<t>.<body>". There are several v1
// while a secret is being rolled; other names (v0) are ignored. Source: docs.stripe.com/webhooks, "Verify webhook signatures manually".
type stripe struct{}

func (stripe) Signed() bool { return true }

// Identify reads an event object: its id is the same in every attempt to deliver it.
func (stripe) Identify(d *Delivery) (id, typ string) {
	got := gjson.GetManyBytes(d.Body, "id", "type")
	return got[0].String(), got[1].String()
}

func (stripe) Verify(d *Delivery, secrets []ingest.Secret) error {
	at, signatures := parseStripe(d.Header.Get("Stripe-Signature"))
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || len(signatures) == 0 {
		return fmt.Errorf("verify stripe: %w", ErrUnsigned)
	}
	found := false
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret.Reveal()))
		mac.Write([]byte(at + "."))
		mac.Write(d.Body)
		want := mac.Sum(nil)
		for _, signature := range signatures {
			found = hmac.Equal(signature, want) || found
		}
	}
	if !found {
		return fmt.Errorf("verify stripe with %d secrets: %w", len(secrets), ErrMismatch)
	}
	if away := d.Received.Sub(time.Unix(seconds, 0)); away > stripeTolerance || away < -stripeTolerance {
		return fmt.Errorf("verify stripe: %w", ErrStale)
	}
	return nil
}

// parseStripe returns the text of t and the decoded v1 of a header; what can not be read is left out.
func parseStripe(header string) (at string, signatures [][]byte) {
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			at = value
		case "v1":
			if sig, err := hex.DecodeString(value); err == nil && len(signatures) < maxSignatures {
				signatures = append(signatures, sig)
			}
		}
	}
	return at, signatures
}
