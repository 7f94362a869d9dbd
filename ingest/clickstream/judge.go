package clickstream

import "unicode/utf8"

// Judge reports why text is not one event by itself, as a line of NDJSON is: a JSON object in UTF-8 that nests at most [MaxDepth]; 0 if it is.
func Judge(text []byte) Reason {
	if !utf8.Valid(text) {
		return BadJSON
	}
	s := scanner{buf: text}
	from := s.space(0)
	end := s.value(from, 0)
	switch {
	case end == bad && s.deep:
		return TooDeep
	case end == bad || s.space(end) != len(text):
		return BadJSON
	case text[from] != '{':
		return NotObject
	}
	return 0
}

// Rule returns what an event that was set aside for r should have been, for people.
func (r Reason) Rule() string { return reasons[r].rule }
