package ingest

import (
	"errors"
	"fmt"
	"strings"
)

// Lane is the directory in the object store in which a record ends up, without date and hour: tenant, source and the values of the source's
// lane keys, percent-encoded. The gateway computes it once and stores it in the record; nobody computes it again, so the configuration can
// change at any time.
//
//	events/tenant=default/source=web/country=de
//	quarantine/tenant=default/source=web/reason=bad_json
type Lane string

// Roots of lanes.
const (
	RootEvents     = "events"
	RootQuarantine = "quarantine"
)

// Values of lane keys that are not the sender's.
const (
	// LaneNull stands for an empty or missing value.
	LaneNull = "__null__"
	// LaneOther is shared by all values beyond a source's MaxLanes.
	LaneOther = "__other__"
)

// MaxLaneValue is the longest encoded value of a lane key, in bytes; longer ones are cut.
const MaxLaneValue = 64

// ErrBadLane is returned by [ParseLane].
var ErrBadLane = errors.New("not a lane")

// KeyValue is one lane key with its value as the sender wrote it, not encoded.
type KeyValue struct{ Key, Value string }

// EventLane returns the lane of accepted events. Keys keep their order.
func EventLane(tenant, source string, keys ...KeyValue) Lane {
	var b strings.Builder
	b.WriteString(RootEvents + "/tenant=" + tenant + "/source=" + source)
	for _, kv := range keys {
		b.WriteString("/" + EncodeLaneValue(kv.Key) + "=" + EncodeLaneValue(kv.Value))
	}
	return Lane(b.String())
}

// QuarantineLane returns the lane of what was accepted but could not be used; reason is a code such as "bad_json".
func QuarantineLane(tenant, source, reason string) Lane {
	return Lane(RootQuarantine + "/tenant=" + tenant + "/source=" + source + "/reason=" + EncodeLaneValue(reason))
}

// ParseLane checks that text is a lane: a known root, a tenant, a source, then key=value parts of permitted characters.
func ParseLane(text string) (Lane, error) {
	root, rest, _ := strings.Cut(text, "/")
	ok := root == RootEvents || root == RootQuarantine
	parts := 0
	for more := true; ok && more; parts++ { // without strings.Split: the log asks this of every record
		var part string
		part, rest, more = strings.Cut(rest, "/")
		key, value, _ := strings.Cut(part, "=")
		ok = key != "" && value != "" && laneSafe(key) && laneSafe(value) &&
			(parts != 0 || key == "tenant") && (parts != 1 || key == "source")
	}
	if !ok || parts < 2 {
		return "", fmt.Errorf("%w: %q", ErrBadLane, text)
	}
	return Lane(text), nil
}

// Tenant returns the tenant's name.
func (l Lane) Tenant() string { return l.Value("tenant") }

// Source returns the source's name.
func (l Lane) Source() string { return l.Value("source") }

// Quarantine reports whether the lane holds rejected records.
func (l Lane) Quarantine() bool { return strings.HasPrefix(string(l), RootQuarantine+"/") }

// Value returns the encoded value of one key of the lane, or "".
func (l Lane) Value(key string) string {
	rest := string(l)
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		if k, v, ok := strings.Cut(part, "="); ok && k == key {
			return v
		}
	}
	return ""
}

// EncodeLaneValue percent-encodes value to [A-Za-z0-9._-] plus '%', at most [MaxLaneValue] bytes (never within an escape); "" becomes
// [LaneNull]. A leading '_' of a sender's value is escaped, so that no value can claim to be LaneNull or LaneOther; so is the first '.' of "."
// and "..", which mean something else in paths.
func EncodeLaneValue(value string) string {
	if value == "" {
		return LaneNull
	}
	if len(value) <= MaxLaneValue && value[0] != '_' && laneSafe(value) && !strings.Contains(value, "%") {
		return value
	}
	const hex = "0123456789ABCDEF"
	out := make([]byte, 0, MaxLaneValue)
	for i := 0; i < len(value); i++ {
		c := value[i]
		if laneChar(c) && !(i == 0 && (c == '_' || value == "." || value == "..")) {
			out = append(out, c)
		} else {
			out = append(out, '%', hex[c>>4], hex[c&15])
		}
		if len(out) > MaxLaneValue {
			cut := len(out) - 1
			if out[len(out)-1] != c || !laneChar(c) {
				cut = len(out) - 3
			}
			return string(out[:cut])
		}
	}
	return string(out)
}

// laneChars are the characters that a lane value keeps as they are. A table, since every record's lane is checked.
var laneChars = func() (t [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") {
		t[c] = true
	}
	return t
}()

func laneChar(c byte) bool { return laneChars[c] }

func laneSafe(s string) bool {
	if s == "" || s == "." || s == ".." {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !laneChar(s[i]) && s[i] != '%' {
			return false
		}
	}
	return true
}
