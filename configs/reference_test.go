package configs

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/goccy/go-yaml"
)

// TestSchema: the schema in this folder is fresh, takes the shipped file, and refuses what is refused when a file is read.
func TestSchema(t *testing.T) {
	t.Parallel()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "millrace.schema.json", string(text))
	var schema openapi3.Schema // OpenAPI's dialect has all words that are used here
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	if err := schema.VisitJSON(asJSON(t, "millrace.yaml")); err != nil {
		t.Errorf("the shipped file: %v", err)
	}
	for _, name := range []string{
		"unknown-key", "misplaced-key", "size-without-unit", "duration-without-unit", "number-as-text", "list-expected", "mapping-expected",
		"unknown-value", "several-at-once", "text-as-number",
	} {
		if schema.VisitJSON(asJSON(t, filepath.Join("testdata/bad", name+".yaml"))) == nil {
			t.Errorf("the schema takes %s.yaml", name)
		}
	}
}

func asJSON(t *testing.T, file string) any {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
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

const referenceHead = `# Configuration

One YAML file, the environment and flags make the configuration. ` + "`millrace config init`" + ` writes a file with every key and its comment,
` + "`config check`" + ` reports all that is wrong with it, ` + "`config show --origin`" + ` says what is in force and which of them it came from, and
` + "`config schema`" + ` prints a JSON Schema: put ` + "`# yaml-language-server: $schema=millrace.schema.json`" + ` at the top of the file, and editors
complete and check it.

**What wins:** flags, then environment variables, then the file, then defaults. The file is that of ` + "`--config`" + `, else of
` + "`$MILLRACE_CONFIG`" + `, else ` + "`./millrace.yaml`" + `, else ` + "`/etc/millrace/millrace.yaml`" + `; exactly one is read, and it is named at the start.

**Environment:** the variable of a key is ` + "`MILLRACE_`" + ` and its path in capitals, with ` + "`__`" + ` between levels:
` + "`objects.s3.bucket`" + ` is ` + "`MILLRACE_OBJECTS__S3__BUCKET`" + `. A list is written with commas. The names of sources stand as they are:
` + "`MILLRACE_SOURCES__WEB__WRITE_KEYS`" + `. Names without ` + "`__`" + ` are configuration only for the keys at the top (` + "`MILLRACE_DATA_DIR`" + `,
` + "`MILLRACE_ROLES`" + `, ` + "`MILLRACE_DAGS`" + `).

**Values:** a size is a number of bytes, or one with KiB, MiB, GiB or TiB. A duration is like ` + "`500ms`, `10s`, `5m`, `1h30m` or `7d`" + `. A secret is a
literal, ` + "`env:NAME` or `file:PATH`" + ` (its line end is cut off); it is never printed, neither by commands nor in logs, messages or the API. Paths are
relative to the file, or to the working directory if there is none; log, objects of kind dir and state are below ` + "`data_dir`" + `.

**Reload:** ` + "`SIGHUP`" + ` makes a server read file, secrets, certificates and DAG files again. A file with any fault changes nothing: the log says what is
wrong, ` + "`millrace_config_last_reload_successful`" + ` becomes 0, and ` + "`millrace_config_last_reload_success_timestamp_seconds`" + ` stays. Keys that
are marked with ↻ take effect at once; a change of others is named in the log, and takes a restart. A changed batch policy holds for
batches that begin later.

An unknown key, a value of the wrong type, and what can not work together are errors, with file, line and column:

` + "```" + `
millrace.yaml:2:3: objects.kidn: there is no such key
    2 |   kidn: s3
      |   ^
did you mean "kind"?
` + "```" + `

| key | type | default | |
|---|---|---|---|
`

// TestReference: docs/configuration.md is made of the keys and their comments, and is fresh.
func TestReference(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, k := range Keys() {
		if k.Path == "sources" || k.Path == "notify" {
			b.WriteString("| **`" + k.Path + "`** | | | " + k.Doc + " ↻ |\n")
			continue
		}
		if k.Type == "mapping" && !slices.Contains([]string{"sources.*.lanes", "pools", "notify.*.headers", "variables", "secrets", "connections"}, k.Path) {
			fmt.Fprintf(&b, "| **`%s`** | | | %s |\n", k.Path, k.Doc)
			continue
		}
		doc := k.Doc
		if bounds := k.bounds(); bounds != "" {
			doc += " " + bounds + "."
		}
		if k.Reload {
			doc += " ↻"
		}
		value := "`" + k.Default + "`"
		if named(k.Path) || k.Default == `""` || k.Default == "" {
			value = ""
		}
		of := "mapping of text"
		if k.Path == "notify.*.headers" {
			of = "mapping of secrets"
		}
		if k.Path == "pools" {
			of = "mapping of whole numbers"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Path, strings.ReplaceAll(k.Type, "mapping", of), value, strings.ReplaceAll(doc, "|", "\\|"))
	}
	golden(t, "../docs/configuration.md", b.String())
}

// bounds says in words what a value may be.
func (k *Key) bounds() string {
	switch {
	case len(k.Enum) > 0 && !strings.Contains(k.Doc, k.Enum[len(k.Enum)-1]):
		return "One of " + strings.Join(k.Enum, ", ")
	case k.Min != "" && k.Max != "":
		return k.Min + " to " + k.Max
	case k.Min != "":
		return "At least " + k.Min
	case k.Max != "":
		return "At most " + k.Max
	}
	return ""
}

// TestEnvironment: every key with a value can be set by the variable that is said to set it.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	n := 0
	for _, k := range Keys() {
		name := k.Env()
		if name == "" {
			continue
		}
		n++
		name = strings.ReplaceAll(name, "__NAME__", "__WEB__")
		value := map[string]string{"size": "7MiB", "duration": "7m", "whole number": "7", "true or false": strconv.FormatBool(k.Default != "true")}[k.Type]
		if value == "" {
			value = "seven"
		}
		l, err := Load(Default(), "", []string{name + "=" + value})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if l.Origin[strings.Replace(k.Path, "*", "web", 1)] != "env "+name {
			t.Errorf("%s: origins are %v", name, l.Origin)
		}
		set := 0
		for _, v := range l.Values() {
			if v.Origin == "env "+name && fmt.Sprint(v.Value) != k.Default {
				set++
			}
		}
		if set != 1 {
			t.Errorf("%s=%s: %d values come from it, want 1", name, value, set)
		}
	}
	if n < 50 {
		t.Errorf("got %d variables, want all keys' own", n)
	}
}
