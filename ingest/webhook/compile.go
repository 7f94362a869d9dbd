package webhook

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"millrace/ingest"
)

// ErrScheme is wrapped by errors about a scheme that can not work.
var ErrScheme = errors.New("webhook scheme invalid")

// Lookup returns the scheme of a name that has one in the table.
func Lookup(name string) (ingest.Scheme, bool) {
	s, ok := schemes[name]
	return s, ok
}

// Names lists the schemes of the table, and "custom".
func Names() []string { return append(slices.Sorted(maps.Keys(schemes)), Custom) }

// Custom is the scheme that has nothing but what its source's Verify says.
const Custom = "custom"

// Resolve returns the scheme of a source: that of the table with the fields of src.Verify in place of its own, and
// with what neither says at its default.
func Resolve(src *ingest.Source) (ingest.Scheme, error) {
	s, ok := schemes[src.Scheme]
	if !ok && src.Scheme != Custom {
		return ingest.Scheme{}, fmt.Errorf("is %q, want one of %s; custom is declared by verify", src.Scheme, strings.Join(Names(), ", "))
	}
	from, to := reflect.ValueOf(src.Verify), reflect.ValueOf(&s).Elem()
	for i := range from.NumField() {
		if !from.Field(i).IsZero() {
			to.Field(i).Set(from.Field(i))
		}
	}
	for _, f := range []struct {
		v   *string
		def string
	}{{&s.Encoding, "hex"}, {&s.Payload, "{body}"}, {&s.Key, "raw"}, {&s.TimestampUnit, "s"}} {
		if *f.v == "" {
			*f.v = f.def
		}
	}
	if s.Tolerance == 0 {
		s.Tolerance = defaultTolerance
	}
	return s, nil
}

// FieldError is what is wrong with one field of a scheme.
type FieldError struct {
	// Field is the field's name in the configuration, "scheme" and "public_url" among them.
	Field string
	Err   error
}

// Error implements error.
func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns the cause and [ErrScheme].
func (e *FieldError) Unwrap() []error { return []error{ErrScheme, e.Err} }

// Check returns all that is wrong with the scheme of a source, its secrets aside.
func Check(src *ingest.Source) []*FieldError {
	_, faults := compile(src)
	return faults
}

func compile(src *ingest.Source) (*Verifier, []*FieldError) {
	s, err := Resolve(src)
	if err != nil {
		return nil, []*FieldError{{"scheme", err}}
	}
	v := &Verifier{scheme: s, name: src.Scheme, source: src.Name, publicURL: src.PublicURL, verifyToken: src.VerifyToken.Reveal()}
	var faults []*FieldError
	note := func(field string, err error) {
		if err != nil {
			faults = append(faults, &FieldError{field, err})
		}
	}
	note("algorithm", oneOf(s.Algorithm, algorithms))
	note("encoding", oneOf(s.Encoding, []string{"hex", "base64", "raw"}))
	note("key", oneOf(s.Key, []string{"raw", "hex", "base64"}))
	note("timestamp_unit", oneOf(s.TimestampUnit, []string{"s", "ms", "rfc3339"}))
	note("public_url", v.checkURL())
	v.compilePlaces(note)
	v.payload, err = parseTemplate(s.Payload)
	note("payload", err)
	note("handshakes", v.compileHandshakes())
	v.reply, err = compileReply(&s.Reply)
	note("reply", err)
	return v, faults
}

func (v *Verifier) compilePlaces(note func(string, error)) {
	s := &v.scheme
	var err error
	if v.signature, err = parsePlaces(s.Signature); err == nil && v.Signed() && len(v.signature) == 0 {
		err = errors.New("is missing: where does the signature stand? For example signature: X-Signature")
	}
	note("signature", err)
	v.timestamp, err = parsePlaces(s.Timestamp)
	note("timestamp", err)
	v.typ, err = parsePlaces(s.Type)
	note("type", err)
	for _, text := range s.ID {
		joined, err := parsePlaces(strings.Split(text, "+"))
		note("id", err)
		v.ids = append(v.ids, joined)
	}
	if s.BodyHash != "" {
		v.bodyHash, err = parsePlace(s.BodyHash)
		note("body_hash", err)
	}
	if s.Items != "" {
		v.items, err = parsePointer(s.Items)
		note("items", err)
	}
}

func oneOf(got string, known []string) error {
	if slices.Contains(known, got) {
		return nil
	}
	return fmt.Errorf("is %q, want one of %s", got, strings.Join(known, ", "))
}

func (v *Verifier) checkURL() error {
	if v.publicURL == "" {
		return nil
	}
	u, err := url.Parse(v.publicURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" {
		return fmt.Errorf("is %q, want the URL that the sender was given, like https://hooks.example.com/hooks/%s, without ?", v.publicURL, v.source)
	}
	return nil
}
