package clickstream

// Type is one of Segment's six types of events, or Rudder's seventh. The zero value is none of them.
type Type uint8

// The types of events.
const (
	Identify Type = iota + 1
	Track
	Page
	Screen
	Group
	Alias
	// Merge joins two identities (Rudder's protocol). It names them in mergeProperties, so it needs no userId.
	Merge
	// NumTypes is one more than the last type.
	NumTypes
)

var typeNames = [NumTypes]string{"", "identify", "track", "page", "screen", "group", "alias", "merge"}

// String returns the type as events name it; of the zero value "".
func (t Type) String() string { return typeNames[t] }

func typeOf(name []byte) Type {
	for t := Identify; t < NumTypes; t++ {
		if string(name) == typeNames[t] {
			return t
		}
	}
	return 0
}

// Reason is why an event was set aside. The zero value: it was not.
type Reason uint8

// The reasons, which are directories of the quarantine and labels of metrics.
const (
	BadJSON    Reason = iota + 1 // an item of a batch that is not JSON, between others that are
	TooDeep                      // nested deeper than MaxDepth
	NotObject                    // JSON, but no object
	TooLarge                     // longer than Limits.MaxEvent
	BadType                      // an item of a batch whose type is none of the seven
	NoIdentity                   // neither userId nor anonymousId
	NoEvent                      // a track that does not say what happened
	UnknownKey                   // a good event with a write key that no source has
	// NumReasons is one more than the last reason.
	NumReasons
)

// reasons has, for each Reason, its code, the rule that was broken and the field that broke it.
var reasons = [NumReasons]struct{ code, rule, field string }{
	BadJSON:    {"bad_json", "an event is JSON", ""},
	TooDeep:    {"too_deep", "an event nests at most 64 deep", ""},
	NotObject:  {"not_object", "an event is a JSON object", ""},
	TooLarge:   {"too_large", "an event has at most ingest.max_event bytes", ""},
	BadType:    {"bad_type", "type is identify, track, page, screen, group, alias or merge", "type"},
	NoIdentity: {"no_identity", "userId or anonymousId is a string or a number, and not blank", "userId"},
	NoEvent:    {"no_event", "a track has an event that is a string", "event"},
	UnknownKey: {"unknown_key", "a source has this write key", "writeKey"},
}

// String returns the reason's code.
func (r Reason) String() string { return reasons[r].code }
