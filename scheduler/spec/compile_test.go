package spec

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

var update = flag.Bool("update", false, "write golden files")

func TestFullFile(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dags, err := Compile("full.yaml", src)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(dags, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/full.golden.json", string(got)+"\n")
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// Each testdata/bad/*.yaml has a golden file with all its faults, as a person sees them.
func TestFaults(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Compile(filepath.Base(file), src)
			var faults Errors
			if !errors.As(err, &faults) {
				t.Fatalf("got %v, want faults", err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden.txt", faults.Detail()+"\n")
		})
	}
}

func mustCompile(t *testing.T, src string) []scheduler.DAG {
	t.Helper()
	dags, err := Compile("f.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return dags
}

func version(t *testing.T, src string) string {
	t.Helper()
	dags := mustCompile(t, src)
	raw, err := dags[0].Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return scheduler.VersionOf(raw)
}

func TestVersionFollowsMeaning(t *testing.T) {
	t.Parallel()
	base := version(t, "dag: d\non: [{batch: {source: web}}]\ntasks: {a: {run: x}, b: {run: y, needs: [a], env: {A: '1', B: '2'}}}\n")
	same := version(t, "# comment\ntasks:\n  a: {run: 'x'}\n  b:\n    env: {B: 2, A: 1}\n    needs: a\n    run: y\n    rule: all_success\n"+
		"on: [{id: batch, batch: {source: web}}]\ndag: d\n")
	if base != same {
		t.Error("two spellings of one DAG have different versions")
	}
	for _, other := range []string{
		"dag: d\non: [{batch: {source: web}}]\ntasks: {b: {run: y, needs: [a], env: {A: '1', B: '2'}}, a: {run: x}}\n",
		"dag: d\non: [{batch: {source: web}}]\ntasks: {a: {run: x}, b: {run: y, needs: [a], env: {A: '1', B: '3'}}}\n",
		"dag: d\non: [{batch: {source: all}}]\ntasks: {a: {run: x}, b: {run: y, needs: [a], env: {A: '1', B: '2'}}}\n",
	} {
		if version(t, other) == base {
			t.Errorf("the version does not change with %q", other)
		}
	}
}

func TestSeveralDocuments(t *testing.T) {
	t.Parallel()
	src := "# head\n---\ndag: one\ntasks: {a: {run: x}}\n---\n# nothing\n---\ndag: two\ntasks: {a: {rum: x}}\n---\na: [\n---\n" +
		"dag: three\ntasks: {a: {run: x}}\n"
	dags, err := Compile("f.yaml", []byte(src))
	var ids []string
	for _, d := range dags {
		ids = append(ids, d.ID)
	}
	if diff := cmp.Diff([]string{"one", "three"}, ids); diff != "" {
		t.Errorf("good documents (-want +got):\n%s", diff)
	}
	var faults Errors
	if !errors.As(err, &faults) || len(faults) != 2 {
		t.Fatalf("got %v, want two faults", err)
	}
	if faults[0].DAG != "two" || faults[0].Line != 9 || faults[1].DAG != "" || faults[1].Line != 11 {
		t.Errorf("got %+v and %+v", faults[0], faults[1])
	}
}

func TestAnchorsAndMerge(t *testing.T) {
	t.Parallel()
	dags := mustCompile(t, `
dag: d
x-base: &base {retry: {limit: 2}, env: &env {A: "1"}}
tasks:
  a: {<<: *base, run: x}
  b:
    <<: [{timeout: 5s, run: z}, *base]
    run: y
    env: {<<: *env, B: "2"}
`)
	a, b := dags[0].Tasks[0], dags[0].Tasks[1]
	if a.Retry.Limit != 2 || a.Env["A"] != "1" || b.Shell != "y" || b.Timeout.Run.Seconds() != 5 || b.Retry.Limit != 2 || len(b.Env) != 2 {
		t.Errorf("got %+v and %+v", a, b)
	}
}

// Bounds hold against files that are made to hurt.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	many := func(n int, line string) string { return strings.Repeat(line, n) }
	var bomb strings.Builder
	bomb.WriteString("dag: d\nx-0: &a0 [x, x]\n")
	for i := range 30 {
		bomb.WriteString("x-" + itoa(i+1) + ": &a" + itoa(i+1) + " [*a" + itoa(i) + ", *a" + itoa(i) + "]\n")
	}
	bomb.WriteString("tags: *a30\ntasks: {a: {run: *a30}}\n")
	tests := []struct{ name, src, msg string }{
		{"large", many(MaxBytes/8+1, "# 34567\n"), "the limit is"},
		{"tokens", many(maxTokens/3+1, "a: b\n"), "tokens"},
		{"flow depth", "a: " + many(5000, "["), "nested more than"},
		{"map depth", "a: " + many(5000, "{a: "), "nested more than"},
		{"dash depth", many(5000, "- ") + "a", "nested more than"},
		{"question depth", many(5000, "? ") + "a", "nested more than"},
		{"indent depth", indented(100), "nested more than"},
		{"not UTF-8", "dag: \xff\xfe", "not UTF-8"},
		{"alias bomb", bomb.String(), "must be a string, got a list"},
		{"merge cycle", "dag: d\nx-a: &a {<<: *a}\ntasks: {a: *a}\n", "merge keys are nested"},
		{"alias cycle", "dag: d\ntags: &a [*a]\ntasks: {a: {run: x}}\n", "must be a string"},
		{"scalar", "5", "must be a mapping"},
		{"list", "- a\n- b", "must be a mapping"},
		{"empty", "", "there is no DAG"},
		{"comment", "# nothing\n", "there is no DAG"},
		{"null", "~\n", "there is no DAG"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dags, err := Compile("f.yaml", []byte(tt.src))
			if err == nil || !strings.Contains(err.Error(), tt.msg) || len(dags) != 0 {
				text := "nil"
				if err != nil {
					text = err.Error()[:min(300, len(err.Error()))]
				}
				t.Errorf("got %d DAGs and %s, want %q", len(dags), text, tt.msg)
			}
		})
	}
}

func itoa(n int) string {
	raw, _ := json.Marshal(n)
	return string(raw)
}

func indented(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestParams(t *testing.T) {
	t.Parallel()
	declared := map[string]scheduler.Param{
		"schema": {Type: "string", Default: json.RawMessage(`"raw"`)},
		"n":      {Type: "integer", Required: true},
		"ratio":  {Type: "number"},
		"dry":    {Type: "boolean", Default: json.RawMessage(`false`)},
	}
	tests := []struct{ name, given, want, msg string }{
		{"defaults", `{"n": 3}`, `{"dry":false,"n":3,"schema":"raw"}`, ""},
		{"all", `{"n":3,"schema":"x","ratio":1.5,"dry":true}`, `{"dry":true,"n":3,"ratio":1.5,"schema":"x"}`, ""},
		{"integer is a number", `{"n":3,"ratio":1}`, `{"dry":false,"n":3,"ratio":1,"schema":"raw"}`, ""},
		{"missing", `{}`, "", `parameter "n" is required`},
		{"nil", ``, "", `parameter "n" is required`},
		{"type", `{"n":"3"}`, "", `"3" is string, want integer`},
		{"fraction", `{"n":3.5}`, "", `3.5 is number, want integer`},
		{"unknown", `{"n":3,"shema":"x"}`, "", `did you mean "schema"?`},
		{"null", `{"n":null}`, "", `null is null, want integer`},
		{"list", `[1]`, "", "must be a JSON object"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Params(declared, json.RawMessage(tt.given))
			if tt.msg != "" {
				if err == nil || !strings.Contains(err.Error(), tt.msg) {
					t.Errorf("got %s, %v, want %q", got, err, tt.msg)
				}
				return
			}
			if err != nil || string(got) != tt.want {
				t.Errorf("got %s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestDurationsAndSizes(t *testing.T) {
	t.Parallel()
	src := "dag: d\non: [{batch: {}, coalesce: {max_bytes: %s, quiet: %s}}]\ntasks: {a: {run: x}}\n"
	for text, want := range map[string]int64{
		"4096": 4096, "1KiB": 1 << 10, "1.5 MiB": 3 << 19, "2GB": 2e9, "1GiB": 1 << 30, "10B": 10, `"7"`: 7,
	} {
		if got := mustCompile(t, fmt.Sprintf(src, text, "1s"))[0].On[0].Coalesce.MaxBytes; got != want {
			t.Errorf("size %s: got %d, want %d", text, got, want)
		}
	}
	for text, want := range map[string]time.Duration{
		"0": 0, "500ms": 500 * time.Millisecond, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "1d12h": 36 * time.Hour,
	} {
		if got := mustCompile(t, fmt.Sprintf(src, "1KiB", text))[0].On[0].Coalesce.Quiet; got != want {
			t.Errorf("duration %s: got %v, want %v", text, got, want)
		}
	}
	for _, bad := range [][2]string{{"1Gb", "1s"}, {"GiB", "1s"}, {"-1", "1s"}, {"9999999TiB", "1s"}, {"1", "5"}, {"1", "1w"}, {"1", "-1s"}, {"1", "400d"}} {
		if _, err := Compile("f.yaml", fmt.Appendf(nil, src, bad[0], bad[1])); err == nil {
			t.Errorf("size %s with duration %s is taken", bad[0], bad[1])
		}
	}
}

func TestExcerptOfALongLine(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("a", 500) + "\x1b[31mX" + strings.Repeat("b", 500)
	got := excerpt([]string{line}, 1, 506)
	text, caret, _ := strings.Cut(got, "\n")
	if strings.ContainsRune(got, 0x1b) || len(text) > 140 || text[len(caret)-1] != 'X' {
		t.Errorf("got\n%s", got)
	}
}
