package webhook

import (
	"errors"
	"net/http"
	"time"

	"millrace/ingest"
)

// Sentinel errors of [Scheme.Verify], wrapped. The sender gets the same answer to each; they differ for whoever looks at the metrics.
var (
	// ErrUnsigned: the request has no signature, or one that can not be read.
	ErrUnsigned = errors.New("no signature")
	// ErrMismatch: no live secret makes this signature.
	ErrMismatch = errors.New("signature does not match")
	// ErrStale: it was signed too long ago, or in the future: someone may be replaying it.
	ErrStale = errors.New("signature too old")
)

// Delivery is one request to a webhook, its body read.
type Delivery struct {
	Method, Path, RawQuery string
	Header                 http.Header
	Body                   []byte
	// Received is when the request came: UTC, microseconds.
	Received time.Time
}

// Scheme is how one provider signs. Implementations are pure and safe for concurrent use.
type Scheme interface {
	// Verify returns nil if d was signed with one of secrets, at a time not far from d.Received. It reads nothing of the body but its bytes.
	// Errors: ErrUnsigned, ErrMismatch, ErrStale.
	Verify(d *Delivery, secrets []ingest.Secret) error
	// Identify returns the sender's id of the delivery, the same for each repeat of it, and its type; "" says that there is none.
	Identify(d *Delivery) (id, typ string)
	// Signed says whether Verify proves anything.
	Signed() bool
}

var schemes = map[string]Scheme{"none": unsigned{}, "stripe": stripe{}}

// Lookup returns the scheme of a name, as sources give it.
func Lookup(name string) (Scheme, bool) {
	s, ok := schemes[name]
	return s, ok
}

// unsigned believes everyone.
type unsigned struct{}

func (unsigned) Verify(*Delivery, []ingest.Secret) error { return nil }
func (unsigned) Identify(*Delivery) (id, typ string)     { return "", "" }
func (unsigned) Signed() bool                            { return false }
