package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"millrace/ingest"
)

// Sentinel errors of [Verifier.Verify], wrapped by a [*Rejection].
var (
	// ErrUnsigned: the request has no signature, or one that can not be read.
	ErrUnsigned = errors.New("no signature")
	// ErrMismatch: no live secret makes this signature.
	ErrMismatch = errors.New("signature does not match")
	// ErrStale: it was signed too long ago, or in the future: someone may be replaying it.
	ErrStale = errors.New("signature too old")
)

// Rejection says why a delivery was not believed. Unwrap returns the sentinel error.
type Rejection struct {
	Reason error
	// Detail is for the person at the other end: what is missing or wrong, and what to look at. It has no secret and no expected signature.
	Detail string
}

// Error implements error.
func (r *Rejection) Error() string { return r.Reason.Error() + ": " + r.Detail }

// Unwrap returns the sentinel error.
func (r *Rejection) Unwrap() error { return r.Reason }

const (
	// defaultTolerance is how far the time of a signature may be from ours, either way.
	defaultTolerance = 5 * time.Minute
	// maxSignatures and maxItems bound the work that one request can ask for.
	maxSignatures = 16
	maxItems      = 256
)

// Verifier checks and answers the deliveries of one source. It never changes and is safe for concurrent use.
type Verifier struct {
	scheme      ingest.Scheme
	name        string // of the scheme
	source      string
	publicURL   string
	verifyToken string
	keys        []key

	signature, timestamp, typ []place
	ids                       [][]place // alternatives of places that are joined
	payload                   template
	bodyHash                  place
	items                     string // as gjson has it
	handshakes                []handshake
	reply                     reply
}

// New returns the verifier of a source. It reports all that is wrong with it; errors wrap [ErrScheme].
func New(src *ingest.Source) (*Verifier, error) {
	v, faults := compile(src)
	if len(faults) > 0 {
		errs := make([]error, len(faults))
		for i, f := range faults {
			errs[i] = f
		}
		return nil, errors.Join(errs...)
	}
	if v.Signed() && len(src.Secrets) == 0 {
		return nil, fmt.Errorf("%w: scheme %q needs secrets", ErrScheme, src.Scheme)
	}
	var errs []error
	for i, secret := range src.Secrets {
		k, err := newKey(&v.scheme, secret)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: secret %d of %d: %w", ErrScheme, i+1, len(src.Secrets), err))
		}
		v.keys = append(v.keys, k)
	}
	return v, errors.Join(errs...)
}

// String names the scheme, so that nobody prints the keys by accident.
func (v *Verifier) String() string { return "webhook scheme " + v.name }

// Signed says whether Verify proves anything.
func (v *Verifier) Signed() bool { return v.scheme.Algorithm != "none" }

// SignsURL says whether Verify looks at [Delivery].URL.
func (v *Verifier) SignsURL() bool { return v.publicURL == "" && v.payload.uses("url", "url_decoded") }

// Challenge is what a 401 of this source must have as its WWW-Authenticate (RFC 9110, section 11.6.1), "" if that is of no use: some
// senders show a password only when they are asked for it.
func (v *Verifier) Challenge() string {
	if v.scheme.Algorithm != "token" {
		return ""
	}
	for _, p := range v.signature {
		switch {
		case p.kind == "bearer":
			return `Bearer realm="` + v.source + `"`
		case p.name == "Authorization" && strings.EqualFold(v.scheme.Prefix, "Basic "):
			return `Basic realm="` + v.source + `", charset="UTF-8"`
		}
	}
	return ""
}

// Verify returns nil if d was signed with one of the source's secrets, at a time not far from d.Received, and else a [*Rejection]. Of the
// body it reads nothing but its bytes, unless the scheme's signature is inside.
func (v *Verifier) Verify(d *Delivery) error {
	if !v.Signed() {
		return nil
	}
	r := &request{Delivery: d, v: v}
	if v.items == "" {
		return r.verify()
	}
	items := gjson.GetBytes(d.Body, v.items).Array()
	if len(items) == 0 || len(items) > maxItems {
		return &Rejection{ErrUnsigned, fmt.Sprintf("the body has no JSON array at %s of at most %d elements", v.scheme.Items, maxItems)}
	}
	for _, item := range items {
		r.item = item.Raw
		if err := r.verify(); err != nil {
			return err
		}
	}
	return nil
}

func (r *request) verify() error {
	signatures, err := r.signatures()
	if err != nil {
		return err
	}
	var at time.Time
	if len(r.v.timestamp) > 0 {
		if at, err = r.time(); err != nil {
			return err
		}
	}
	if err := errors.Join(r.checkPayload(), r.checkBody()); err != nil {
		return err
	}
	if !r.match(signatures) {
		return &Rejection{ErrMismatch, r.v.mismatch(r.Delivery)}
	}
	tolerance := r.v.scheme.Tolerance
	if away := r.Received.Sub(at).Abs(); !at.IsZero() && tolerance > 0 && away > tolerance {
		return &Rejection{ErrStale, fmt.Sprintf("it was signed at %s, %v from this server's clock, and %v is tolerated: "+
			"one of the clocks is off, or it is an old request that is sent again", at.UTC().Format(time.RFC3339), away.Round(time.Second), tolerance)}
	}
	return nil
}

// match tries every key on every form of the URL. That it ends with the first that matches tells only which one that was.
func (r *request) match(signatures [][]byte) bool {
	url := ""
	signsURL := r.v.payload.uses("url", "url_decoded")
	if signsURL {
		url = r.v.url(r.Delivery)
	}
	tried := func(url string) bool {
		for i := range r.v.keys {
			if r.v.keys[i].matches(r, signatures, url) {
				return true
			}
		}
		return false
	}
	return tried(url) || signsURL && slices.ContainsFunc(otherPorts(url), tried)
}

// signatures returns what can be decoded of the signatures in the request.
func (r *request) signatures() ([][]byte, error) {
	s := &r.v.scheme
	var out [][]byte
	var seen string
	for _, p := range r.v.signature {
		for _, text := range r.all(p) {
			if text != "" && seen == "" {
				seen = p.String()
			}
			out = decodeParts(out, s, p, text)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	if seen == "" {
		names := make([]string, len(r.v.signature))
		for i, p := range r.v.signature {
			names[i] = p.String()
		}
		return nil, &Rejection{ErrUnsigned, fmt.Sprintf("the request has no %s, which scheme %s needs: does the sender sign with it, "+
			"and does a proxy in between keep it?", strings.Join(names, " or "), r.v.name)}
	}
	want := s.Encoding
	if s.Prefix != "" {
		want = fmt.Sprintf("%q and then %s", s.Prefix, s.Encoding)
	}
	return nil, &Rejection{ErrUnsigned, fmt.Sprintf("the %s can not be read: scheme %s wants %s in it", seen, r.v.name, want)}
}

// all returns the values at p; a header name that ends in "*" stands for all that begin with it.
func (r *request) all(p place) []string {
	start, many := strings.CutSuffix(p.name, "*")
	if p.kind != "header" || !many {
		return []string{r.value(p)}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if strings.HasPrefix(name, start) {
			out = append(out, r.Header[name]...)
		}
	}
	return out
}

// decodeParts appends the signatures in text to out, at most maxSignatures; what is none is left out.
func decodeParts(out [][]byte, s *ingest.Scheme, p place, text string) [][]byte {
	parts := []string{text}
	if s.Split != "" {
		parts = strings.SplitN(text, s.Split, 4*maxSignatures)
	}
	for _, part := range parts {
		part = strings.TrimSpace(part)
		if p.kind == "header" && s.Prefix != "" {
			if len(part) < len(s.Prefix) || !strings.EqualFold(part[:len(s.Prefix)], s.Prefix) {
				continue
			}
			part = part[len(s.Prefix):]
		}
		if sig, err := decodeText(s.Encoding, part); err == nil && len(sig) > 0 && len(out) < maxSignatures {
			out = append(out, sig)
		}
	}
	return out
}

// checkPayload names what is signed and not there, rather than let it be a signature that does not match.
func (r *request) checkPayload() error {
	for i := range r.v.payload {
		s := &r.v.payload[i]
		missing := ""
		switch {
		case s.variable == "id" && len(r.v.ids) > 0 && r.id() == "":
			missing = r.v.ids[0][0].String()
		case s.variable == "place" && s.place.kind != "json" && r.value(s.place) == "":
			missing = s.place.String()
		}
		if missing != "" {
			return &Rejection{ErrUnsigned, fmt.Sprintf("the request has no %s, which scheme %s signs", missing, r.v.name)}
		}
	}
	return nil
}

// checkBody sees to it that the signature covers all of the body: of a form every byte must have been read as a parameter, and of a body that
// is not itself signed the hash must be.
func (r *request) checkBody() error {
	if r.v.payload.uses("form") {
		if r.params(); r.formErr != nil {
			return &Rejection{ErrUnsigned, "the body says that it is a form, and can not be read as one, so its signature can not be checked"}
		}
	}
	if r.v.scheme.BodyHash == "" {
		return nil
	}
	want, err := decodeText("hex", r.value(r.v.bodyHash))
	switch {
	case err == nil && len(want) > 0:
		if !equalHash(r.Body, want) {
			return &Rejection{ErrMismatch, fmt.Sprintf("the body is not the one whose SHA-256 is in %s: something in between changed it", r.v.bodyHash)}
		}
	case len(bytes.TrimSpace(r.Body)) > 0 && !r.isForm():
		return &Rejection{ErrUnsigned, fmt.Sprintf("nothing signs the body: it is no form, and there is no %s", r.v.bodyHash)}
	}
	return nil
}

// signed returns what is signed.
func (r *request) signed(k *key, url string) []byte {
	var b bytes.Buffer
	b.Grow(len(r.Body) + 128)
	r.v.payload.writeTo(&b, r, k, url)
	return b.Bytes()
}

// mismatch says what to look at when no secret makes the signature.
func (v *Verifier) mismatch(d *Delivery) string {
	if v.scheme.Algorithm == "token" {
		return "what was sent is none of this source's secrets: one side has an old one, or that of another endpoint"
	}
	text := "no secret of this source makes this signature. Either the secret is another one than the sender's, or something in between, " +
		"like a proxy that formats JSON, changed what is signed"
	if v.payload.uses("body") {
		text += fmt.Sprintf("; the body that came has %d bytes", len(d.Body))
	}
	if v.payload.uses("url", "url_decoded") {
		text += fmt.Sprintf("; the sender must have called %q, else set public_url of the source to what it calls", v.url(d))
	}
	return text
}
