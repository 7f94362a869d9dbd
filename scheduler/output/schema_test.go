package output

import (
	"strings"
	"testing"

	"millrace/scheduler"
)

func TestSchema(t *testing.T) {
	t.Parallel()
	const object = `{"type": "object", "required": ["rows"], "properties": {"rows": {"type": "array", "items": {"$ref": "#/$defs/row"}}},
		"$defs": {"row": {"type": "object", "properties": {"id": {"type": "integer"}}}}}`
	for _, tt := range []struct {
		name, schema, out, want string
	}{
		{"fits", object, `{"rows": [{"id": 1}]}`, ""},
		{"place", object, `{"rows": [{"id": 1}, {"id": "x"}]}`, "at /rows/1/id: got string, want integer"},
		{"missing", object, `{}`, "at the top: missing property 'rows'"},
		{"nothing", object, ``, "at the top: got null, want object"},
		{"nothing is permitted", `{"type": ["object", "null"]}`, ``, ""},
		{"many", `{"items": {"type": "string"}}`, `[1, 2, 3, 4, 5]`, "; and 2 more"},
		{"big integers stay integers", `{"type": "integer", "maximum": 9007199254740993}`, `9007199254740993`, ""},
		{"bytes", `true`, `"` + strings.Repeat("x", scheduler.MaxChecked) + `"`, "may have 8388608"},
	} {
		s, err := CompileSchema([]byte(tt.schema))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := s.Check([]byte(tt.out)); tt.want == "" && got != "" || !strings.Contains(got, tt.want) || len(got) > 1000 {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestSchemaFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ schema, want string }{
		{`{`, "it is not JSON"},
		{`{"type": "objekt"}`, "at /type"},
		{`{"$ref": "other.json"}`, "other.json is another document"},
		{`{"$ref": "file:///etc/passwd"}`, "is another document"},
		{`{"$ref": "https://example.com/s.json"}`, "is another document"},
		{`{"pattern": "("}`, "at /pattern"},
		{strings.Repeat(" ", MaxSchema+1), "more than"},
	} {
		if _, err := CompileSchema([]byte(tt.schema)); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), place) {
			t.Errorf("%.40s: got %v, want %q", tt.schema, err, tt.want)
		}
	}
}
