package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOutputKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"good.json": `{ "type": "object" }`, "bad.json": `{"type": 1}`, "text.json": "no"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ task, want string }{
		{`output: {schema: good.json}`, ``},
		{`output: {schema: {type: array, items: {type: string}}}`, ``},
		{`output: {schema: bad.json}`, `schema: it is not a JSON Schema: at /type`},
		{`output: {schema: text.json}`, `schema: it is not JSON`},
		{`output: {schema: none.json}`, `schema none.json can not be read: no such file`},
		{`output: {schema: {type: objekt}}`, `at /type`},
		{`output: {schema: {$ref: other.json}}`, `other.json is another document`},
		{`output: {shema: good.json}`, `unknown key "shema"`},
		{`cache: {key: inputs.digest}`, ``},
		{`cache: {key: 'params.x + run.id', ttl: 1h}`, `parameter "x" is not declared`},
		{`cache: {ttl: 1h}`, `cache has no key`},
		{`cache: {key: batches}`, `want a string`},
		{`cache: {key: inputs.digest, ttl: 400d}`, `ttl is`},
		{`cache: {key: inputs.digets}`, `undefined field`},
	} {
		f := ReadLocal(filepath.Join(dir, "d.yaml"), []byte("dag: d\ntasks:\n  a: {run: x, "+tt.task+"}\n"))
		got := ""
		if len(f.Faults) > 0 {
			got = f.Faults.Detail()
		}
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.task, got, tt.want)
		}
	}
	f := ReadLocal(filepath.Join(dir, "d.yaml"), []byte("dag: d\ntasks:\n  a: {run: x, cache: {key: inputs.digest}, output: {schema: good.json}}\n"))
	if a := f.DAGs[0].Tasks[0]; string(a.Output.Schema) != `{"type":"object"}` || a.Cache.TTL != 7*24*time.Hour || a.Cache.Key != "inputs.digest" {
		t.Errorf("got %s, %+v", a.Output.Schema, a.Cache)
	}
}

// TestSchemaFileIsWatched: a schema is part of the version of the DAG, so a change of its file is one of the DAG's.
func TestSchemaFileIsWatched(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir := filepath.Join(root, "dags")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("load/d.yaml", "dag: d\ntasks: {a: {run: x, output: {schema: ../schemas/a.json}}}\n")
	write("bad.yaml", "dag: bad\ntasks: {a: {run: x, output: {schema: ../outside.json}}}\n")
	if err := os.WriteFile(filepath.Join(root, "outside.json"), []byte("true"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := watch(t, dir, DirOptions{Poll: 20 * time.Millisecond})
	schema := func(want string) {
		t.Helper()
		limit := time.After(30 * time.Second)
		for got := ""; !strings.Contains(got, want); {
			select {
			case set := <-w.sets:
				got = schemaOf(t, set)
			case <-limit:
				t.Fatalf("the schema is %s, want %s", got, want)
			}
		}
	}
	schema("can not be read: no such file")
	write("schemas/a.json", `{"type": "object"}`)
	schema(`{"type":"object"}`)
	write("schemas/a.json", `{"type": "string"}`)
	schema(`{"type":"string"}`)
}

// schemaOf returns the schema of the good file, or why it is not in force.
func schemaOf(t *testing.T, set Set) (schema string) {
	t.Helper()
	for _, f := range set.Files {
		switch {
		case f.Name == "bad.yaml":
			if !strings.Contains(f.Faults.Detail(), "outside the directory of DAG files") {
				t.Fatalf("got %v of a schema outside", f.Faults)
			}
		case len(f.Faults) > 0:
			schema = f.Faults[0].Msg
		default:
			schema = string(f.DAGs[0].Tasks[0].Output.Schema)
		}
	}
	return schema
}
