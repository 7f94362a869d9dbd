package ingest

import (
	"fmt"
	"log/slog"
	"regexp"
)

// Kind says which routes a source answers.
type Kind string

// The kinds of sources.
const (
	KindClickstream Kind = "clickstream" // Segment's wire protocol, authenticated by a write key
	KindWebhook     Kind = "webhook"     // a third party's posts to /hooks/{source}
	KindEvents      Kind = "events"      // CloudEvents and bulk, authenticated by a bearer token
)

// DefaultTenant exists in every installation.
const DefaultTenant = "default"

// DefaultMaxLanes bounds the live lanes of a source; values beyond it share [LaneOther].
const DefaultMaxLanes = 200

// Source is one webhook endpoint or one SDK app of a tenant.
type Source struct {
	Tenant string
	// Name is unique in the installation.
	Name string
	Kind Kind
	// WriteKeys open a clickstream source; public by nature.
	WriteKeys []string
	// Scheme names a webhook verification ("stripe", "none"); Secrets are its live secrets, any of which may match.
	Scheme  string
	Secrets []Secret
	// Verify has the fields in which the verification differs from Scheme; see [Scheme].
	Verify Scheme
	// VerifyToken is what a sender must show in a handshake that asks for one.
	VerifyToken Secret
	// PublicURL is the URL that the sender was given, without query, for schemes that sign it; "" takes it from the request.
	PublicURL string
	// Tokens are the bearers of an events source.
	Tokens []Secret
	// Origins are the permitted browser origins; "*" permits all. Empty: all.
	Origins []string
	// LaneKeys are fields of the event, as dotted paths, whose values split the source into directories.
	LaneKeys []LaneKey
	// MaxLanes bounds live lanes; 0 means [DefaultMaxLanes].
	MaxLanes int
	// IP says what of the senders' addresses is kept; "" means [IPKeep].
	IP IPPolicy
}

// IPPolicy says what becomes of senders' IP addresses.
type IPPolicy string

// The policies, each keeping less than the one before it.
const (
	IPKeep      IPPolicy = "keep"      // as they are
	IPAnonymize IPPolicy = "anonymize" // the last 8 bits of IPv4, the last 80 of IPv6 are zero
	IPDrop      IPPolicy = "drop"      // not at all
)

// Check reports whether p is a policy; "" is.
func (p IPPolicy) Check() error {
	switch p {
	case "", IPKeep, IPAnonymize, IPDrop:
		return nil
	}
	return fmt.Errorf("ip %q is not one of keep, anonymize, drop", string(p))
}

// Stricter returns the one of p and q that keeps less.
func (p IPPolicy) Stricter(q IPPolicy) IPPolicy {
	for _, s := range [...]IPPolicy{IPDrop, IPAnonymize} {
		if p == s || q == s {
			return s
		}
	}
	return IPKeep
}

// LaneKey is one field that splits a source: Name is the directory's key, Path the dotted path in the event.
type LaneKey struct{ Name, Path string }

var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// CheckName reports whether name may name a tenant or a source.
func CheckName(name string) error {
	if !nameRule.MatchString(name) {
		return fmt.Errorf("name %q must match %s", name, nameRule)
	}
	return nil
}

// Secret is text that prints as "***" wherever it is printed, logged or marshalled. Reveal returns it.
type Secret string

// Reveal returns the secret itself, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText hides the secret from JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the secret from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
