package vars

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// decode returns the text of a variable as JSON: what expressions see. An object, a list, true, false, a text in quotes and a number that would be
// printed just as it stands are what they look like; everything else is text. So 007 and 12345678901234567890 stay as they are.
func decode(text string) json.RawMessage {
	trimmed := strings.TrimSpace(text)
	if trimmed != "" && json.Valid([]byte(trimmed)) {
		switch c := trimmed[0]; {
		case c == '{', c == '[', c == '"', trimmed == "true", trimmed == "false":
			return json.RawMessage(trimmed)
		case c != 'n' && exact(trimmed):
			return json.RawMessage(trimmed)
		}
	}
	return quote(text)
}

// exact reports whether a number is printed as it is written.
func exact(text string) bool {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return strconv.FormatInt(n, 10) == text
	}
	f, err := strconv.ParseFloat(text, 64)
	return err == nil && strconv.FormatFloat(f, 'g', -1, 64) == text
}

func quote(text string) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a string can be encoded
	return bytes.TrimSpace(b.Bytes())
}
