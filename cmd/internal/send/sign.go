package send

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"millrace/ingest"
)

// ErrScheme is returned for a scheme whose signatures can not be made here.
var ErrScheme = errors.New("signatures of this scheme can not be made")

// signer adds to r what proves that it comes from who holds secret.
type signer func(r *http.Request, body []byte, secret string, now time.Time)

var signers = map[string]signer{
	"none": func(*http.Request, []byte, string, time.Time) {},
	// docs.stripe.com/webhooks: "t=<unix>,v1=<hex HMAC-SHA256 of t.body>".
	"stripe": func(r *http.Request, body []byte, secret string, now time.Time) {
		t := strconv.FormatInt(now.Unix(), 10)
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(t + "."))
		mac.Write(body)
		r.Header.Set("Stripe-Signature", "t="+t+",v1="+hex.EncodeToString(mac.Sum(nil)))
	},
}

// authorize adds what the source asks of its senders.
func authorize(r *http.Request, body []byte, src *ingest.Source, now time.Time) error {
	switch src.Kind {
	case ingest.KindClickstream:
		if len(src.WriteKeys) == 0 {
			return fmt.Errorf("source %s has no write key", src.Name)
		}
		r.SetBasicAuth(src.WriteKeys[0], "")
		return nil
	case ingest.KindEvents:
		if len(src.Tokens) == 0 {
			return fmt.Errorf("source %s has no token", src.Name)
		}
		r.Header.Set("Authorization", "Bearer "+src.Tokens[0].Reveal())
		return nil
	}
	sign, ok := signers[src.Scheme]
	if !ok {
		return fmt.Errorf("source %s has scheme %s: %w; those that can: %s", src.Name, src.Scheme, ErrScheme,
			strings.Join(slices.Sorted(maps.Keys(signers)), ", "))
	}
	secret := ""
	if len(src.Secrets) > 0 {
		secret = src.Secrets[0].Reveal()
	}
	sign(r, body, secret, now)
	return nil
}
