package app

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler/expr"
	"millrace/trigger"
	"millrace/trigger/rules"
)

// TestBatchVariables: trigger/rules, which judges batches, and scheduler/expr, which checks DAG files and evaluates tasks, declare the same
// variables of a batch. Neither may import the other.
func TestBatchVariables(t *testing.T) {
	t.Parallel()
	judged, checked := fields(t, "../../../trigger/rules/expr.go", "batch"), fields(t, "../../../scheduler/expr/vars.go", "Batch")
	if diff := cmp.Diff(judged, checked); diff != "" {
		t.Errorf("variables of a batch (-trigger/rules +scheduler/expr):\n%s", diff)
	}
	if len(judged) < 20 || !strings.Contains(strings.Join(judged, " "), "json:\"lane_keys\"") {
		t.Errorf("got the fields %v, want some twenty with lane_keys", judged)
	}
}

// fields returns name, type and tag of each field of a struct in a file.
func fields(t *testing.T, path, name string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != name {
			return true
		}
		for _, f := range spec.Type.(*ast.StructType).Fields.List {
			out = append(out, fmt.Sprint(f.Names[0], " ", typeText(f.Type), " ", f.Tag.Value))
		}
		return false
	})
	return out
}

func typeText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.MapType:
		return "map[" + typeText(e.Key) + "]" + typeText(e.Value)
	case *ast.SelectorExpr:
		return typeText(e.X) + "." + e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return fmt.Sprintf("%T", e)
}

// TestRulesAgree: what the two make of an expression is the same, so that a filter that dispatch could not compile is a fault of its file, with
// the line, when it is loaded or validated.
func TestRulesAgree(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		expr   string
		filter bool // as a filter it is right
		key    bool // as a key it is right
	}{
		{`batch.events > 10`, true, true},
		{`batch.lane_keys["country"] == "de"`, true, true},
		{`batch.lane_keys.country`, false, true},
		{`batch.types["track"] > 1.5`, true, true},
		{`batch.watermark > timestamp("2026-01-01T00:00:00Z")`, true, true},
		{`batch.received_max - batch.received_min`, false, true},
		{`batch.received_min.getFullYear()`, false, true},
		{`batch.source.lowerAscii().startsWith("web")`, true, true},
		{`sets.contains(["a", "b"], [batch.source])`, true, true},
		{`batch.source in ["a", "b"]`, true, true},
		{`batch.evnts > 10`, false, false},
		{`batch`, false, false},
		{`[batch.source]`, false, false},
		{`params.x == 1`, false, false},
		{`tasks.a.state == "success"`, false, false},
		{`event.type == "track"`, false, false},
		{`batch.events +`, false, false},
		{`batch.events > "x"`, false, false},
		{`nope(batch)`, false, false},
		{`dyn(batch.events)`, true, true}, // only its value can tell
		{strings.Repeat("[", 70) + strings.Repeat("]", 70) + " == []", false, false},
		{`"` + strings.Repeat("x", expr.MaxLength) + `" == batch.id`, false, false},
	} {
		t.Run(tt.expr[:min(len(tt.expr), 40)], func(t *testing.T) {
			t.Parallel()
			agree(t, "if", tt.filter, rules.Check(trigger.Rule{Kind: trigger.KindBatch, If: tt.expr}), second(expr.CompileBool(expr.ScopeRule, tt.expr)))
			agree(t, "key", tt.key, rules.Check(trigger.Rule{Kind: trigger.KindBatch, Key: tt.expr}), second(expr.CompileKey(expr.ScopeRule, tt.expr)))
		})
	}
}

func second(_ *expr.Program, err error) error { return err }

func agree(t *testing.T, field string, want bool, judged, checked error) {
	t.Helper()
	if (judged == nil) != want || (checked == nil) != want {
		t.Errorf("%s: trigger/rules says %v, scheduler/expr %v, want both to take it: %v", field, judged, checked, want)
	}
}

// TestWrongRuleHasItsLine: a rule that could not be judged is shown where it stands when the file is checked.
func TestWrongRuleHasItsLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ rule, want string }{
		{`{id: a, batch: {source: web}, if: "batch.evnts > 1"}`, `d\.yaml:3:\d+: if: undefined field 'evnts'`},
		{`{id: a, batch: {source: web}, if: "batch.events"}`, `d\.yaml:3:\d+: if: expression yields int, want a bool`},
		{`{id: a, batch: {source: web}, key: "[1]"}`, `d\.yaml:3:\d+: key: expression yields list\(int\)`},
		{`{id: a, batch: {source: web}, coalesce: {max_batches: -1}}`, `d\.yaml:3:\d+: max_batches must be from 0`},
		{`{id: a, cron: "61 * * * *"}`, `d\.yaml:3:\d+: cron "61 \* \* \* \*" is not valid`},
		{`{id: a, cron: "0 0 30 2 *"}`, `d\.yaml:3:\d+: cron .* never fires`},
		{`{id: a, cron: "0 0 * * *", timezone: Mars/Base}`, `d\.yaml:3:\d+: timezone "Mars/Base" is not known`},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			_, err := CompileDAGs("d.yaml", []byte("dag: d\non:\n  - "+tt.rule+"\ntasks:\n  t: {run: [\"true\"]}\n"))
			if err == nil || !regexp.MustCompile(tt.want).MatchString(err.Error()) {
				t.Errorf("got %v, want a match of %q", err, tt.want)
			}
		})
	}
}
