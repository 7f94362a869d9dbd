package ingest

import "time"

// Scheme says, as data, how one sender of webhooks proves who it is, how its deliveries are told apart, and what it wants to be answered.
// Package webhook has a table of them by provider and interprets them; a source may change any field of one ([Source].Verify).
//
// A place names where in a request a value stands: "header:Name" or just "Name", "query:name", "form:name" (of a form in the body),
// "json:/pointer" (RFC 6901, of a JSON body), "bearer" (the token of Authorization), "path" (what follows the source's name in the path), and
// "part:x=" (the part of the signature's header that begins with "x="). In ID, "a+b" joins two places.
//
// A template is text with variables: {body} {ts} {id} {method} {url} {url_decoded} {form} {secret} {verify_token}, {header:Name},
// {query:name}, {json:/pointer}, and in replies {hmac_hex:place} and {hmac_base64:place}. {form} is every parameter of a form, sorted,
// names and values one after the other.
type Scheme struct {
	// Algorithm is one of hmac-sha1, hmac-sha256, hmac-sha512, sha256 (a plain hash over a payload with {secret}), ed25519, ecdsa-p256,
	// token (the secret itself is sent) and none.
	Algorithm string `yaml:"algorithm"`
	// Signature is where signatures stand; all that are there are tried. A header name that ends in "*" stands for all with that beginning.
	Signature Places `yaml:"signature"`
	// Split separates the parts of a signature header, if it has several; Prefix begins those that are signatures and is cut off.
	Split  string `yaml:"split"`
	Prefix string `yaml:"prefix"`
	// Encoding of a signature: hex, base64, or raw.
	Encoding string `yaml:"encoding"`
	// Payload is the template of what is signed.
	Payload string `yaml:"payload"`
	// Key says how a secret is written: raw, hex or base64. KeyPrefix is cut off before, if it is there.
	Key       string `yaml:"key"`
	KeyPrefix string `yaml:"key_prefix"`
	// Timestamp is where the time of signing stands, in TimestampUnit (s, ms or rfc3339). It must be within Tolerance of ours, either way.
	// 0: 5 minutes; negative: it is not checked.
	Timestamp     Places        `yaml:"timestamp"`
	TimestampUnit string        `yaml:"timestamp_unit"`
	Tolerance     time.Duration `yaml:"tolerance"`
	// BodyHash is where the SHA-256 of a body stands that Payload does not contain, in hex. Such a body must be a form or have the hash.
	BodyHash string `yaml:"body_hash"`
	// Items is the JSON pointer of an array whose every element carries a signature of its own; "json:" places are then within an element.
	Items string `yaml:"items"`
	// ID is where the sender's id of a delivery stands, Type its type; the first place that has a value counts.
	ID   Places `yaml:"id"`
	Type Places `yaml:"type"`
	// Handshakes are requests that are answered and not stored.
	Handshakes []Handshake `yaml:"handshakes"`
	// Reply is the answer to what was stored. The zero value is {"success":true}.
	Reply Reply `yaml:"reply"`
}

// Handshake is a request that a sender makes to see who answers.
type Handshake struct {
	// Method of the request; "" is any.
	Method string `yaml:"method"`
	// When has the places that must have a value, and which; "" is any, "{verify_token}" is [Source].VerifyToken.
	When map[string]string `yaml:"when"`
	// Signed says that the signature is checked first.
	Signed bool  `yaml:"signed"`
	Reply  Reply `yaml:"reply"`
}

// Reply is an answer. Body is a template; in a JSON body the values are escaped as in a JSON string. Status 0 is 200, Type "" is text/plain.
type Reply struct {
	Status int    `yaml:"status"`
	Type   string `yaml:"type"`
	Body   string `yaml:"body"`
}

// Places are the places where a value may stand, in order; in YAML one of them or a list.
type Places []string
