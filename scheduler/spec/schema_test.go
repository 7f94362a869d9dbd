package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// noKey is far from any key.
const noKey = "zzzzzzzzzzzz"

// decoderKeys asks the decoder for all keys that it reads: it puts an unknown one into every mapping and reads in the fault which are known.
// Below a key that is found it looks for a mapping, a list of mappings, and mappings with names that people choose.
func decoderKeys(t *testing.T, path string) []string {
	t.Helper()
	src := fmt.Sprintf("{%s: 1}", noKey)
	parts := strings.Split(path, ".")
	for i, part := range slices.Backward(parts) {
		if path == "" {
			break
		}
		if part == "*" {
			part = fmt.Sprintf("x%d", i)
		}
		if name, list := strings.CutSuffix(part, "[]"); list {
			src = fmt.Sprintf("{%s: [%s]}", name, src)
		} else {
			src = fmt.Sprintf("{%s: %s}", part, src)
		}
	}
	_, err := Compile("f.yaml", []byte(src))
	var faults Errors
	if !errors.As(err, &faults) {
		t.Fatalf("%s compiles", src)
	}
	for _, f := range faults {
		if !strings.HasPrefix(f.Msg, `unknown key "`+noKey) {
			continue
		}
		names, ok := strings.CutPrefix(f.Hint, "known keys: ")
		if !ok {
			t.Fatalf("%s: %s (%s)", src, f.Msg, f.Hint)
		}
		var found []string
		for _, name := range strings.Split(names, ", ") {
			key := name
			if path != "" {
				key = path + "." + name
			}
			found = append(found, key)
			for _, below := range []string{key, key + "[]"} {
				found = append(found, decoderKeys(t, below)...)
			}
			if named := decoderKeys(t, key+".*"); len(named) > 0 && !slices.Contains(found, key+"."+noKey) {
				found = append(append(found, key+".*"), named...)
			}
		}
		return found
	}
	return nil
}

// TestKeysAreThoseOfTheDecoder: no key is read that is not described, and none described that is not read.
func TestKeysAreThoseOfTheDecoder(t *testing.T) {
	t.Parallel()
	read := decoderKeys(t, "")
	slices.Sort(read)
	var described []string
	for _, k := range Keys() {
		described = append(described, k.Path)
		if k.Doc == "" || k.Type == "" {
			t.Errorf("key %s has no type or no text", k.Path)
		}
	}
	slices.Sort(described)
	if diff := cmp.Diff(slices.Compact(read), described); diff != "" {
		t.Errorf("keys that the decoder reads, and those of keys.go (-decoder +keys.go):\n%s"+
			"Describe a new key in keys.go, run this package's tests with -update, and name its test in cmd/internal/layout/dagkeys_test.go", diff)
	}
}

// TestSchemaKeys: every key is in the schema, and nothing else.
func TestSchemaKeys(t *testing.T) {
	t.Parallel()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	got := slices.Compact(slices.Sorted(slices.Values(keysOf(root, ""))))
	var want []string
	for _, k := range Keys() {
		want = append(want, k.Path)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys of the schema (-want +got):\n%s", diff)
	}
}

// keysOf returns the keys of a schema below a path.
func keysOf(n map[string]any, path string) []string {
	var out []string
	join := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	properties, _ := n["properties"].(map[string]any)
	for name, sub := range properties {
		out = append(append(out, join(name)), keysOf(sub.(map[string]any), join(name))...)
	}
	if sub, ok := n["additionalProperties"].(map[string]any); ok && sub["description"] != nil {
		out = append(append(out, join("*")), keysOf(sub, join("*"))...)
	}
	if sub, ok := n["items"].(map[string]any); ok {
		out = append(out, keysOf(sub, path+"[]")...)
	}
	anyOf, _ := n["anyOf"].([]any)
	for _, sub := range anyOf {
		out = append(out, keysOf(sub.(map[string]any), path)...)
	}
	return out
}

// TestSchema: the schema in this folder is fresh, takes every good file there is, and refuses what the decoder refuses for its keys and types.
func TestSchema(t *testing.T) {
	t.Parallel()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "schema.json", string(text))
	var schema openapi3.Schema // OpenAPI's dialect has all words that matter here
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	good, _ := filepath.Glob("../../configs/dags/*.yaml")
	for _, name := range append(good, "testdata/full.yaml") {
		if err := schema.VisitJSON(asJSON(t, name)); err != nil {
			t.Errorf("%s compiles, and the schema says: %v", name, err)
		}
	}
	for _, doc := range []string{
		"{dag: d, tasks: {a: {run: x}}}",
		"{dag: d, on: manual, tasks: {b: {run: x}, a: {run: [x, 1], needs: b, retry: 3, timeout: 0}}}",
		"{dag: d, on: [batch, {cron: '@daily'}], tasks: {a: {run: x, timeout: 1d12h}}}",
		"{dag: d, on: [{batch: true, coalesce: {max_bytes: 4096, quiet: 500ms}}], tasks: {a: {run: x, when: true}}}",
		"{dag: d, params: {n: 1.5, s: x, b: {type: boolean, required: false}}, tasks: {a: {run: x, env: {A: 1, B: true}}}}",
	} {
		mustCompile(t, doc)
		if err := schema.VisitJSON(fromYAML(t, []byte(doc))); err != nil {
			t.Errorf("%s compiles, and the schema says: %v", doc, err)
		}
	}
	for _, doc := range []string{
		"{tasks: {a: {run: x}}}", "{dag: d}", "{dag: d, tasks: {a: {rum: x}}}", "{dag: d, task: {a: {run: x}}}", "{dag: d, tasks: {a: {run: 1}}}",
		"{dag: d, tasks: {a: {run: x, timeout: 10}}}", "{dag: d, tasks: {a: {run: x, retry: many}}}", "{dag: d, on: [cron], tasks: {a: {run: x}}}",
		"{dag: d, on: [{batch: {sorce: web}}], tasks: {a: {run: x}}}", "{dag: d, tasks: {a: {run: x, retry: {limit: -1}}}}",
		"{dag: d, tasks: {a: {run: x, rule: most_success}}}", "{dag: d, tasks: {a: {run: []}}}", "{dag: d, tasks: {a: {run: x, env: {A: [1]}}}}",
	} {
		if _, err := Compile("f.yaml", []byte(doc)); err == nil {
			t.Errorf("%s compiles: the test must try what does not", doc)
		}
		if schema.VisitJSON(fromYAML(t, []byte(doc))) == nil {
			t.Errorf("the schema takes %s", doc)
		}
	}
}

func asJSON(t *testing.T, file string) any {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return fromYAML(t, src)
}

func fromYAML(t *testing.T, src []byte) any {
	t.Helper()
	text, err := yaml.YAMLToJSON(src)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

const referenceHead = `# DAG files

<!-- Written by ` + "`go test ./scheduler/spec -update`" + ` from the keys of scheduler/spec/keys.go; change those, not this page. -->

A DAG file is YAML: one DAG, or several with ` + "`---`" + ` between them. [tasks.md](tasks.md) says what a task is given and how it answers.
` + "`millrace dags validate`" + ` reports all that is wrong with a file, ` + "`dags lint`" + ` also what is probably not meant, ` + "`dags graph`" + ` draws it,
` + "`dags diff`" + ` says what it would change on a server (with ` + "`--simulate`" + `, [which runs it would have started](whatif.md)), and ` + "`dags test`" + ` runs it on this machine, without one.

` + "```yaml" + `
# yaml-language-server: $schema=dag.schema.json
dag: load
on:
  - batch: {source: web}
    if: batch.events > 0
tasks:
  load: {run: ["./load", "--all"], retry: {limit: 3, delay: 10s}, timeout: 30m}
  report: {needs: [load], run: ./report.sh}
` + "```" + `

**In an editor:** ` + "`millrace dags schema > dag.schema.json`" + ` writes a JSON Schema, and the first line above tells editors that know the YAML language
server (VS Code, Neovim, Emacs, Helix, …) to complete and check the file by it. A running server has the schema of its own version at
` + "`/api/v1/dags/schema`" + `, for those with its token.

**Values:** an id has letters, digits, ` + "`_` and `-`" + `, at most 63. A duration is like ` + "`500ms`, `10s`, `5m`, `1h30m` or `7d`" + `. A size is a number of bytes, or
one with kB, MB, GB, TB, KiB, MiB, GiB or TiB. Expressions are CEL. Unknown keys are errors; keys that begin with ` + "`x-`" + ` are yours.

| key | value | |
|---|---|---|
`

// TestReference: docs/dags.md is made of the keys, and is fresh.
func TestReference(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, k := range Keys() {
		if k.again {
			continue // and so say setup.* and teardown.*
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.Path, k.Type, strings.ReplaceAll(k.Doc, "|", "\\|"))
	}
	golden(t, "../../docs/dags.md", b.String())
}

// TestMisplacedKey: a key that stands in the wrong mapping is told where it belongs.
func TestMisplacedKey(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"dag: d\nretry: 3\ntasks: {a: {run: x}}\n":            "retry is a key of defaults and of a task",
		"dag: d\ntasks: {a: {run: x, cron: '@daily'}}\n":      "cron is a key of a rule of on",
		"dag: d\ntasks: {a: {run: x, retry: {grace: 10s}}}\n": "grace is a key of defaults.timeout and of a task's health_check and of a task's timeout",
	} {
		_, err := Compile("f.yaml", []byte(src))
		var faults Errors
		if !errors.As(err, &faults) || faults[0].Hint != want {
			t.Errorf("%q: got %v, want the hint %q", src, err, want)
		}
	}
}

// TestTakenID: no DAG can stand where the API has the schema.
func TestTakenID(t *testing.T) {
	t.Parallel()
	if _, err := Compile("f.yaml", []byte("dag: schema\ntasks: {a: {run: x}}\n")); err == nil || !strings.Contains(err.Error(), "f.yaml:1:6: dag: the id schema is taken") {
		t.Errorf("got %v", err)
	}
}
