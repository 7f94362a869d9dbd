package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type copySettings struct {
	Table   string            `json:"table" millrace:"required" doc:"where to"`
	Rows    int               `json:"rows"`
	Ratio   float64           `json:"ratio,omitempty"`
	Dry     bool              `json:"dry"`
	Columns []string          `json:"columns"`
	Labels  map[string]string `json:"labels"`
	Hidden  string            `json:"-"`
	Extra   any               `json:"extra"`
}

func copier(run func(context.Context, *Attempt, copySettings) (any, error)) *operator[copySettings] {
	return &operator[copySettings]{"Copies rows.", copySettings{Rows: 100}, run}
}

func TestOperatorDescribe(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if code := copier(nil).serve(t.Context(), process{args: []string{"describe"}, out: &out, err: &out}); code != exitOK {
		t.Fatalf("exit %d: %s", code, &out)
	}
	var got, want any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{"description": "Copies rows.", "settings": {"type": "object", "additionalProperties": false, "required": ["table"], "properties": {
		"table": {"type": "string", "description": "where to"}, "rows": {"type": "integer", "default": 100}, "ratio": {"type": "number"}, "dry": {"type": "boolean"},
		"columns": {"type": "array", "items": {"type": "string"}}, "labels": {"type": "object", "additionalProperties": {"type": "string"}}, "extra": {}}}}`), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("description (-want +got):\n%s", diff)
	}
}

func TestOperatorRun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, settings string
		err            error
		code           int
		output, says   string
	}{
		{"settings and defaults", `{"v":1,"use":"copy","with":{"table":"t","labels":{"a":"b"}}}`, nil, exitOK, `{"into":"t","rows":100}`, "copying"},
		{"what fails", `{"v":1,"with":{"table":"t"}}`, errors.New("away"), exitFailed, "", "error: away"},
		{"what is final", `{"v":1,"with":{"table":"t"}}`, NoRetry(errors.New("no such table")), exitNoRetry, "", "no such table"},
		{"an unknown setting", `{"v":1,"with":{"tabel":"t"}}`, nil, exitNoRetry, "", `unknown field "tabel"`},
		{"a later version", `{"v":2,"with":{}}`, nil, exitNoRetry, "", "version 2"},
		{"no settings", ``, nil, exitNoRetry, "", "MILLRACE_OPERATOR is not set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			env := map[string]string{
				"MILLRACE_OPERATOR": tt.settings, "MILLRACE_OUTPUT": filepath.Join(dir, "output"), "MILLRACE_INPUT": filepath.Join(dir, "input"), "MILLRACE_TRY": "1",
				"MILLRACE_MAP_INDEX": "-1",
			}
			if err := os.WriteFile(env["MILLRACE_INPUT"], []byte(`{"v":1,"run":{"id":"r"},"task":"load","batches":[],"params":{},"upstream":{}}`), 0o644); err != nil {
				t.Fatal(err)
			}
			op := copier(func(_ context.Context, a *Attempt, with copySettings) (any, error) {
				a.Log().Info("copying", "run", a.Run.ID)
				if tt.err != nil {
					return nil, tt.err
				}
				return map[string]any{"into": with.Table, "rows": with.Rows}, nil
			})
			var said bytes.Buffer
			code := op.serve(t.Context(), process{args: []string{"run-task", "load"}, env: func(name string) string { return env[name] }, out: &said, err: &said})
			output, _ := os.ReadFile(env["MILLRACE_OUTPUT"])
			if code != tt.code || string(output) != tt.output || !strings.Contains(said.String(), tt.says) {
				t.Errorf("exit %d, output %s, said %s; want %d, %s, %q", code, output, &said, tt.code, tt.output, tt.says)
			}
		})
	}
}

// TestOperatorSettingsThatCannotBe: a field that no JSON can be is said when the operator is asked, not when a task runs.
func TestOperatorSettingsThatCannotBe(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	op := &operator[struct{ C chan int }]{}
	if code := op.serve(t.Context(), process{args: []string{"describe"}, out: &said, err: &said}); code != exitFailed || !strings.Contains(said.String(), "C: a chan int") {
		t.Errorf("exit %d, said %s", code, &said)
	}
	if code := op.serve(t.Context(), process{out: &said, err: &said}); code != exitNoRetry || !strings.Contains(said.String(), "ends in .op") {
		t.Errorf("exit %d, said %s", code, &said)
	}
}
