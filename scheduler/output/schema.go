package output

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"millrace/scheduler"
)

// MaxSchema bounds the text of a schema, in bytes: it is part of every version of its DAG.
const MaxSchema = 64 << 10

// maxFaults is how many faults of an output are named.
const maxFaults = 3

// Schema is what an output is held against. Safe for concurrent use.
type Schema struct{ schema *jsonschema.Schema }

// noOther refuses documents that a schema refers to: what is checked must be what the version of the DAG says.
type noOther struct{}

// Load implements jsonschema.URLLoader.
func (noOther) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is another document; write its definitions into this one, below $defs", strings.TrimPrefix(url, place))
}

// place is the name of the schema itself, which its references are relative to.
const place = "schema:///"

// CompileSchema makes a JSON Schema (2020-12, unless it names another draft) ready for use. The error is a sentence for people.
func CompileSchema(text []byte) (*Schema, error) {
	if len(text) > MaxSchema {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(text), MaxSchema)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("it is not JSON: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noOther{})
	c.AssertFormat()
	if err := c.AddResource(place+"this", doc); err != nil {
		return nil, errors.New(tidy(err))
	}
	schema, err := c.Compile(place + "this")
	if err != nil {
		return nil, errors.New(tidy(err))
	}
	return &Schema{schema}, nil
}

// tidy takes the made-up name out of a message, and puts it on one line.
func tidy(err error) string {
	var fault *jsonschema.SchemaValidationError
	if errors.As(err, &fault) {
		if own, ok := errors.AsType[*jsonschema.ValidationError](fault.Err); ok {
			return "it is not a JSON Schema: " + faults(own, nil)
		}
	}
	text := strings.ReplaceAll(err.Error(), place+"this#", "")
	return strings.Join(strings.Fields(strings.ReplaceAll(text, place, "")), " ")
}

// Check returns what is wrong with an output, with the place of each fault, or "". An absent output is checked as null.
func (s *Schema) Check(text []byte) string { return s.CheckBut(text, nil) }

// CheckBut is Check, which leaves alone the texts for which open is true: what they will be is not known yet. nil: there are none.
func (s *Schema) CheckBut(text []byte, open func(text string) bool) string {
	if len(text) > scheduler.MaxChecked {
		return fmt.Sprintf("it has %d bytes, and outputs that have a schema may have %d", len(text), scheduler.MaxChecked)
	}
	if len(text) == 0 {
		text = []byte("null")
	}
	val, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return "it is not JSON"
	}
	var fault *jsonschema.ValidationError
	switch err := s.schema.Validate(val); {
	case err == nil:
		return ""
	case errors.As(err, &fault):
		return faults(fault, func(at []string) bool {
			text, ok := valueAt(val, at).(string)
			return ok && open != nil && open(text)
		})
	default:
		return err.Error()
	}
}

// faults names the first of the faults that have no others below them, but for those at places that are left alone:
// "at /rows/0/id: got string, want number".
func faults(err *jsonschema.ValidationError, alone func(at []string) bool) string {
	var out []string
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		for _, c := range e.Causes {
			walk(c)
		}
		if len(e.Causes) == 0 && (alone == nil || !alone(e.InstanceLocation)) {
			unit := e.BasicOutput()
			out = append(out, fmt.Sprintf("at %s: %s", cmp.Or(clip(unit.InstanceLocation), "the top"), clip(unit.Error.String())))
		}
	}
	walk(err)
	slices.Sort(out)
	out = slices.Compact(out)
	more := ""
	if n := len(out) - maxFaults; n > 0 {
		out, more = out[:maxFaults], fmt.Sprintf("; and %d more", n)
	}
	return strings.Join(out, "; ") + more
}

// valueAt returns the value at a place, nil if there is none.
func valueAt(val any, place []string) any {
	for _, token := range place {
		switch v := val.(type) {
		case map[string]any:
			val = v[token]
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			val = v[i]
		default:
			return nil
		}
	}
	return val
}

// clip bounds what comes from an output.
func clip(text string) string {
	const most = 200
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
