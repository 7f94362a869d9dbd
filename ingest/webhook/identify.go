package webhook

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Identify returns the sender's id of the delivery, the same for each repeat of it, and its type; "" says that there is none. They are as
// true as the part of the request that they stand in: of a header that is not signed, nothing is proven.
func (v *Verifier) Identify(d *Delivery) (id, typ string) {
	r := &request{Delivery: d, v: v}
	return r.id(), r.first(v.typ)
}

// id returns the first id that is there; of joined places those that have a value are joined with "/".
func (r *request) id() string {
	for _, joined := range r.v.ids {
		var parts []string
		for _, p := range joined {
			if text := r.value(p); text != "" {
				parts = append(parts, text)
			}
		}
		if len(parts) > 0 {
			return strings.Join(parts, "/")
		}
	}
	return ""
}

// time returns when the delivery was signed.
func (r *request) time() (time.Time, error) {
	text := r.first(r.v.timestamp)
	if text == "" {
		return time.Time{}, &Rejection{ErrUnsigned, fmt.Sprintf("the request has no %s, the time of signing, which scheme %s needs",
			r.v.timestamp[0], r.v.name)}
	}
	at, err := parseTime(r.v.scheme.TimestampUnit, text)
	if err != nil {
		return time.Time{}, &Rejection{ErrUnsigned, fmt.Sprintf("the %s is no time in %s", r.v.timestamp[0], timeUnits[r.v.scheme.TimestampUnit])}
	}
	return at, nil
}

var timeUnits = map[string]string{"s": "seconds since 1970", "ms": "milliseconds since 1970", "rfc3339": "RFC 3339"}

func parseTime(unit, text string) (time.Time, error) {
	if unit == "rfc3339" {
		return time.Parse(time.RFC3339, text)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if unit == "ms" {
		return time.UnixMilli(n), err
	}
	return time.Unix(n, 0), err
}

func formatTime(unit string, at time.Time) string {
	switch unit {
	case "rfc3339":
		return at.UTC().Format(time.RFC3339)
	case "ms":
		return strconv.FormatInt(at.UnixMilli(), 10)
	}
	return strconv.FormatInt(at.Unix(), 10)
}

func equalHash(body, want []byte) bool {
	sum := sha256.Sum256(body)
	return subtle.ConstantTimeCompare(sum[:], want) == 1
}
