package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const usesCopy = `dag: load
tasks:
  move: {use: copy, with: {table: "${{ run.id }}", rows: 5}}
`

// operatorScript is an operator that describes itself so.
func (p *programs) operatorScript(name, settings string) {
	p.t.Helper()
	p.script(name, "cat <<'END'\n{\"description\": \"Copies.\", \"settings\": "+settings+"}\nEND\n")
}

const copySchema = `{"type": "object", "required": ["table"], "additionalProperties": false,
	"properties": {"table": {"type": "string", "pattern": "^[a-z]+$"}, "rows": {"type": "integer"}}}`

func TestOperator(t *testing.T) {
	t.Parallel()
	p := newPrograms(t, DirOptions{})
	p.operatorScript("copy.op", copySchema)
	p.plain("load.yaml", usesCopy, 0o644)
	set, _ := p.scan()
	if got := describe(set); got != "load.yaml[load]" {
		t.Fatalf("got %s, faults %v: an operator has no DAGs", got, set.Files[0].Faults)
	}
	first := set.Files[0].DAGs[0].Tasks[0].Use
	if filepath.Base(first.Program) != "copy.op" || !strings.HasPrefix(first.Program, p.d.opts.Programs) || string(first.With) != `{"rows":5,"table":"${{ run.id }}"}` {
		t.Errorf("got %+v, want the copy of the operator, and the settings", first)
	}
	if _, changed := p.scan(); changed || p.asked() != 1 {
		t.Errorf("a second look: changed %v, asked %d times", changed, p.asked())
	}
	// Another build of the operator is another version of the DAGs that use it, which keep the first until then.
	p.operatorScript("copy.op", "{}")
	set, changed := p.scan()
	if second := set.Files[0].DAGs[0].Tasks[0].Use; !changed || second.Program == first.Program {
		t.Errorf("after a new build: changed %v, the program is %s, and was %s", changed, second.Program, first.Program)
	}
	if err := os.Remove(filepath.Join(p.dir, "copy.op")); err != nil {
		t.Fatal(err)
	}
	set, changed = p.scan()
	if !changed || len(set.Files[0].DAGs) != 0 || !strings.Contains(set.Files[0].Faults.Error(), `operator "copy" is not known`) {
		t.Errorf("without its file: changed %v, %+v", changed, set.Files[0])
	}
}

// TestOperatorFaults: what is wrong with an operator, or with what it is given, is said where it is used.
func TestOperatorFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, settings, with string
		want                 []string // none: there is no fault
	}{
		{"an expression may be anything", copySchema, `{table: "${{ params.x }}", rows: "${{ totals.events }}"}`, nil},
		{"without a schema", "null", "{a: [1, {b: c}]}", nil},
		{"no with", "{}", "", nil},
		{"a wrong type", copySchema, "{table: a, rows: many}", []string{"load.yaml:3:", "at /rows: got string, want integer"}},
		{"a wrong value", copySchema, "{table: A1}", []string{"at /table", "^[a-z]+$"}},
		{"what is missing", copySchema, "{rows: 1}", []string{"missing property", "table"}},
		{"what is too much", copySchema, "{table: a, row: 1}", []string{"additional properties", "row"}},
		{"a schema that is none", `{"type": 7}`, "{}", []string{`operator "copy" can not be used`, "JSON Schema"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPrograms(t, DirOptions{})
			p.operatorScript("copy.op", tt.settings)
			with := ""
			if tt.with != "" {
				with = ", with: " + tt.with
			}
			p.plain("load.yaml", "dag: load\nparams: {x: {type: string, default: y}}\ntasks: {move: {use: copy"+with+"}}\n", 0o644)
			set, _ := p.scan()
			f := set.Files[len(set.Files)-1]
			text := f.Faults.Error()
			if len(tt.want) == 0 && (text != "" || len(f.DAGs) != 1) {
				t.Fatalf("got %s", text)
			}
			for _, want := range tt.want {
				if !strings.Contains(text, want) || len(f.DAGs) != 0 {
					t.Errorf("got %s, want %q in it", text, want)
				}
			}
		})
	}
}

// TestOperatorThatFails: people are shown the operator's own file, too.
func TestOperatorThatFails(t *testing.T) {
	t.Parallel()
	p := newPrograms(t, DirOptions{})
	p.script("copy.op", "echo no license >&2; exit 3")
	p.script("Bad name.op", "echo '{}'")
	p.plain("load.yaml", usesCopy, 0o644)
	set, _ := p.scan()
	var all []string
	for _, f := range set.Files {
		all = append(all, f.Faults.Error())
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{"copy.op: describe failed: exit code 3; it says:\nno license", `load.yaml:3:15: operator "copy" can not be used`, "Bad name.op: the name of an operator"} {
		if !strings.Contains(text, want) {
			t.Errorf("got %s, want %q in it", text, want)
		}
	}
}

// TestUseFaults: what is wrong with a file by itself.
func TestUseFaults(t *testing.T) {
	t.Parallel()
	for task, want := range map[string]string{
		"{with: {a: 1}, run: x}":               "has with, and no use",
		"{use: copy, with: [1]}":               "with must be a mapping",
		"{use: copy, run: x}":                  "has run and use",
		"{use: copy, http: {url: http://a}}":   "has",
		"{use: \"a b\"}":                       "use: id",
		"{use: copy, with: {a: \"${{ x }}\"}}": "x",
	} {
		_, err := Compile("f.yaml", []byte("dag: d\ntasks: {a: "+task+"}\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", task, err, want)
		}
	}
}
