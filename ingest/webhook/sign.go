package webhook

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// ErrCannotSign is returned by [Verifier.Sign] for schemes that only their provider can sign.
var ErrCannotSign = errors.New("scheme can not be signed here")

// Sign returns the headers that make d a delivery that its sender signed with the first secret of the source at d.Received; d itself is left
// as it is. Where the scheme has the id of a delivery in a header and d has none, a new one is among them. Errors wrap [ErrCannotSign]:
// a signature that stands in the body or the URL, or one made with a private key, of which the source has only the public one.
func (v *Verifier) Sign(d *Delivery) (http.Header, error) {
	out := http.Header{}
	if !v.Signed() {
		return out, nil
	}
	signed := *d
	signed.Header = d.Header.Clone()
	if signed.Header == nil {
		signed.Header = http.Header{}
	}
	set := func(name, value string) {
		out.Set(name, value)
		signed.Header.Set(name, value)
	}
	if name := v.idHeader(); name != "" && signed.Header.Get(name) == "" {
		set(name, newID())
	}
	at := formatTime(v.scheme.TimestampUnit, d.Received)
	start := ""
	if len(v.timestamp) > 0 {
		switch p := v.timestamp[0]; p.kind {
		case "header":
			set(p.name, at)
		case "part":
			start = p.name + at + v.scheme.Split
		}
	}
	p := v.signature[0]
	if v.items != "" || p.kind != "header" && p.kind != "bearer" {
		return nil, fmt.Errorf("%w: scheme %q has its signature in the %s", ErrCannotSign, v.name, p)
	}
	if p.kind == "bearer" {
		out.Set("Authorization", "Bearer "+string(v.keys[0].raw))
		return out, nil
	}
	// A time that is a part of the signature's header must be found there while the signature is made.
	signed.Header.Set(p.name, start)
	r := &request{Delivery: &signed, v: v}
	if err := r.checkBody(); err != nil {
		sum := sha256.Sum256(signed.Body)
		return nil, fmt.Errorf("%w: scheme %q: %w; here that would be %x", ErrCannotSign, v.name, err, sum)
	}
	url := ""
	if v.payload.uses("url", "url_decoded") {
		url = v.url(&signed)
	}
	sig, err := v.keys[0].sign(r, url)
	if err != nil {
		return nil, fmt.Errorf("%w: scheme %q: %w", ErrCannotSign, v.name, err)
	}
	out.Set(strings.Replace(p.name, "*", "1", 1), start+v.scheme.Prefix+encodeText(v.scheme.Encoding, sig))
	return out, nil
}

// idHeader returns the header in which a new delivery must have an id.
func (v *Verifier) idHeader() string {
	for _, joined := range v.ids {
		if joined[0].kind == "header" {
			return joined[0].name
		}
	}
	return ""
}
