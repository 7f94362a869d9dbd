package engine

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"millrace/scheduler"
)

// TestParamsOfRuns: what JSON Schema says of a parameter decides whether a run is made, by a person, by a task that starts one, and whether an
// approval is taken; without it, the same value is good.
func TestParamsOfRuns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ declared, without, value, msg string }{
		{"{type: string, enum: [raw, clean]}", "{type: string}", `"row"`, "value must be one of 'raw', 'clean'"},
		{"{type: integer, minimum: 3}", "{type: integer}", "2", "minimum: got 2, want 3"},
		{"{type: integer, maximum: 1}", "{type: integer}", "2", "maximum: got 2, want 1"},
		{"{type: string, pattern: '^[a-z]+$'}", "{type: string}", `"row7"`, "does not match pattern"},
		{"{type: string, format: date}", "{type: string}", `"tomorrow"`, "is not valid date"},
		{"{type: array, items: {type: integer}}", "{type: array}", `["x"]`, "at /0: got string, want integer"},
		{"{type: object, properties: {n: {type: integer}}}", "{type: object}", `{"n":"x"}`, "at /n: got string, want integer"},
	} {
		t.Run(tt.declared, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sub := "{dag: {id: down, params: {p: " + tt.value + "}}}"
				f := newFixture(t, map[string]string{
					"down.yaml": "dag: down\nparams: {p: " + tt.declared + "}\ntasks: {one: {run: x}}", "up.yaml": "dag: up\ntasks: {sub: " + sub + "}",
					"ask.yaml":    "dag: ask\ntasks: {ask: {approval: {message: go?, params: {p: " + tt.declared + "}}}}",
					"plain.yaml":  "dag: plain\nparams: {p: " + tt.without + "}\ntasks: {one: {run: x}}",
					"simple.yaml": "dag: simple\ntasks: {ask: {approval: {message: go?, params: {p: " + tt.without + "}}}}",
				})
				given := []byte(`{"p":` + tt.value + `}`)
				if _, err := f.e.Trigger(t.Context(), "down", "", given); !errors.Is(err, scheduler.ErrInvalid) || !strings.Contains(err.Error(), tt.msg) {
					t.Errorf("by hand: got %v, want %q", err, tt.msg)
				}
				if _, err := f.e.Trigger(t.Context(), "plain", "", given); err != nil {
					t.Errorf("by hand, without: %v", err)
				}
				if d := f.wait(f.trigger("up", "", "").ID); !strings.Contains(d.Tasks[0].Reason, tt.msg) {
					t.Errorf("by a task: got %s %q, want %q", d.Tasks[0].State, d.Tasks[0].Reason, tt.msg)
				}
				for dag, msg := range map[string]string{"ask": tt.msg, "simple": ""} {
					id := f.trigger(dag, "", "").ID
					f.until(id, waitsForInput)
					_, err := f.e.Decide(t.Context(), id, "ask", -1, scheduler.Decision{Decision: "approve", Input: given})
					if (err == nil) != (msg == "") || err != nil && !strings.Contains(err.Error(), msg) {
						t.Errorf("approval %s: got %v, want %q", dag, err, msg)
					}
				}
			})
		})
	}
}
