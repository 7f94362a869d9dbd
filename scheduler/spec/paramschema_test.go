package spec

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestParamSchema: values are held against what JSON Schema says of a parameter, and the fault says which value and why.
func TestParamSchema(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ declared, good, bad, msg string }{
		{"{type: string, enum: [raw, clean]}", `"raw"`, `"row"`, `parameter "p": "row" does not fit: value must be one of 'raw', 'clean'`},
		{"{enum: [1, 2]}", `2`, `3`, `3 does not fit: value must be one of 1, 2`},
		{"{type: integer, minimum: 1, maximum: 5}", `5`, `6`, `6 does not fit: maximum: got 6, want 5`},
		{"{type: integer, minimum: 1, maximum: 5}", `1`, `0`, `minimum: got 0, want 1`},
		{"{type: number, minimum: 0.5}", `0.5`, `0.25`, `minimum: got`},
		{"{type: string, pattern: '^v[0-9]+$'}", `"v12"`, `"12"`, `'12' does not match pattern '^v[0-9]+$'`},
		{"{type: string, format: date}", `"2026-02-28"`, `"2026-02-30"`, `is not valid date`},
		{"{type: array, items: {type: integer}}", `[1, 2]`, `[1, "x"]`, `at /1: got string, want integer`},
		{"{items: {type: integer}}", `[]`, `3`, `3 is integer, want array`},
		{"{type: object, properties: {n: {type: integer}}}", `{"n": 1}`, `{"n": "x"}`, `at /n: got string, want integer`},
		{"{properties: {n: {type: object, required: [m]}}}", `{"n": {"m": 1}}`, `{"n": {}}`, `at /n: missing property 'm'`},
		{"{type: object, default: {a: [1, {b: x}]}}", `{}`, `[]`, `[] is array, want object`},
	} {
		dags, err := Compile("f.yaml", []byte("dag: d\nparams: {p: "+tt.declared+"}\ntasks: {a: {run: x}}\n"))
		if err != nil {
			t.Errorf("%s: %v", tt.declared, err)
			continue
		}
		if _, err := Params(dags[0].Params, json.RawMessage(`{"p": `+tt.good+`}`)); err != nil {
			t.Errorf("%s: %s is refused: %v", tt.declared, tt.good, err)
		}
		if _, err := Params(dags[0].Params, json.RawMessage(`{"p": `+tt.bad+`}`)); err == nil || !strings.Contains(err.Error(), tt.msg) {
			t.Errorf("%s: %s: got %v, want %q", tt.declared, tt.bad, err, tt.msg)
		}
	}
}

// TestParamSchemaFaults: what no value could fit, or what would not be looked at, is no declaration.
func TestParamSchemaFaults(t *testing.T) {
	t.Parallel()
	for declared, want := range map[string]string{
		"{type: string, enum: []}":                                  "is empty, so that no value fits",
		"{type: string, enum: raw}":                                 "enum must be a list",
		"{type: string, enum: [raw, 1]}":                            `enum of parameter "p": 1 is integer, want string`,
		"{type: string, enum: [raw], default: row}":                 `default of parameter "p": "row" does not fit: value must be 'raw'`,
		"{type: string, minimum: 1}":                                `minimum of parameter "p" is for the type integer or number, and its type is string`,
		"{type: integer, pattern: x}":                               `pattern of parameter "p" is for the type string`,
		"{type: integer, minimum: 3, maximum: 2}":                   "minimum of parameter \"p\" is 3, more than its maximum, 2",
		"{type: integer, minimum: 3, default: 2}":                   "minimum: got 2, want 3",
		"{type: integer, minimum: low}":                             "minimum must be a number",
		"{type: string, pattern: '('}":                              `pattern of parameter "p": `,
		"{type: string, format: dat}":                               `did you mean "date"?`,
		"{type: array, items: string}":                              `items of parameter "p" must be a mapping, got a string (write it like items: {type: string})`,
		"{type: array, items: {type: strin}}":                       `items of parameter "p": it is not a JSON Schema`,
		"{type: object, properties: {a: {type: strin}}}":            `properties of parameter "p": it is not a JSON Schema`,
		"{type: object, properties: {a: {type: string}}, title: 1}": "title must be a string",
		"{type: string, minLength: 3}":                              `unknown key "minLength"`,
	} {
		for _, src := range []string{"params: {p: " + declared + "}\ntasks: {a: {run: x}}\n", "tasks: {a: {approval: {message: x, params: {p: " + declared + "}}}}\n"} {
			if _, err := Compile("f.yaml", []byte("dag: d\n"+src)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", src, err, want)
			}
		}
	}
}

func BenchmarkParams(b *testing.B) {
	dags, err := Compile("f.yaml", []byte("dag: d\nparams: {p: {type: string, enum: [raw, clean]}, q: {type: integer, minimum: 1}, r: x}\ntasks: {a: {run: x}}\n"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Params(dags[0].Params, json.RawMessage(`{"p": "raw", "q": 2, "r": "y"}`)); err != nil {
			b.Fatal(err)
		}
	}
}
