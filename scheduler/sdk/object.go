package sdk

import (
	"bytes"
	"encoding/json"
	"slices"
)

// object is a JSON object whose members keep their order: that of the tasks is the author's.
type object []member

type member struct {
	key   string
	value any
}

// with sets a member; a later value takes the place of an earlier one.
func (o object) with(key string, value any) object {
	if i := slices.IndexFunc(o, func(m member) bool { return m.key == key }); i >= 0 {
		o = slices.Clone(o)
		o[i].value = value
		return o
	}
	return append(o[:len(o):len(o)], member{key, value})
}

func (o object) unless(not bool, key string, value any) object {
	if not {
		return o
	}
	return o.with(key, value)
}

func (o object) has(key string) bool {
	return slices.ContainsFunc(o, func(m member) bool { return m.key == key })
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, part := range []any{m.key, m.value} {
			if j > 0 {
				b.WriteByte(':')
			}
			text, err := compact(part)
			if err != nil {
				return nil, err
			}
			b.Write(text)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// compact encodes without HTML escapes, which only make expressions unreadable.
func compact(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// encode is compact on lines of its own, so that a fault has a line that says something.
func encode(v any) ([]byte, error) {
	text, err := compact(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
