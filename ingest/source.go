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
	// Tokens are the bearers of an events source.
	Tokens []Secret
	// Origins are the permitted browser origins; "*" permits all. Empty: all.
	Origins []string
	// LaneKeys are fields of the event, as dotted paths, whose values split the source into directories.
	LaneKeys []LaneKey
	// MaxLanes bounds live lanes; 0 means [DefaultMaxLanes].
	MaxLanes int
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
