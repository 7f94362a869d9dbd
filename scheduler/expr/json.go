package expr

import (
	"bytes"
	"encoding/json"
	"fmt"

	"cel.dev/cel-go/common/types"
)

// JSON returns the value of a text as JSON. A text that is one expression and nothing else keeps the type of its value: a number stays one,
// and what another task has put out may be a list or an object. Any other text is a string.
func (t *Text) JSON(vars *Vars) (json.RawMessage, error) {
	if len(t.parts) != 1 || t.parts[0].prg == nil {
		s, err := t.Eval(vars)
		if err != nil {
			return nil, err
		}
		return marshal(s)
	}
	prg := t.parts[0].prg
	val, err := prg.eval(vars)
	if err != nil {
		return nil, err
	}
	switch val := val.(type) {
	case types.Int: // as JSON of Protocol Buffers, large ones would become strings
		return marshal(int64(val))
	case types.Uint:
		return marshal(uint64(val))
	case types.String, types.Timestamp, types.Duration:
		s, err := stringify(val)
		if err != nil {
			return nil, err
		}
		return marshal(s)
	}
	native, err := val.ConvertToNative(types.JSONValueType)
	if err != nil {
		return nil, fmt.Errorf("evaluate %q: it yields %s, which JSON does not have", prg.src, val.Type().TypeName())
	}
	raw, err := json.Marshal(native)
	if err != nil {
		return nil, fmt.Errorf("evaluate %q: %w", prg.src, err)
	}
	if len(raw) > MaxValue {
		return nil, fmt.Errorf("evaluate %q: the value has %d bytes, and %d is the most that a task can be given", prg.src, len(raw), MaxValue)
	}
	return raw, nil
}

// marshal writes a scalar without the escapes for HTML.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}
