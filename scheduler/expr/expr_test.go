package expr

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/trigger"
)

func testVars(t *testing.T, batches int) *Vars {
	t.Helper()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	run := &scheduler.Run{
		ID: "r1", DAG: "load", Version: "v1", Events: 30, Bytes: 300, CreatedAt: at, IntervalStart: at,
		Trigger: scheduler.Trigger{Kind: trigger.KindBatch, Rule: "clicks", Key: "b0", LaneKey: "de"},
		Params:  json.RawMessage(`{"schema":"raw","n":3,"ratio":2,"dry":true}`),
	}
	var list []batcher.Batch
	for i := range batches {
		list = append(list, batcher.Batch{
			ID: "b" + string(rune('0'+i)), Source: "web",
			Lane: ingest.EventLane("default", "web", ingest.KeyValue{Key: "country", Value: "de"}), Stream: ingest.Stream{Log: "l", Incarnation: "i"}, Events: int64(10 * (i + 1)),
			Types: map[string]int64{"page": int64(i)}, CreatedAt: at.Add(time.Duration(i) * time.Minute),
		})
	}
	vars, err := NewVars(run, list, map[string]scheduler.Param{"ratio": {Type: "number"}})
	if err != nil {
		t.Fatal(err)
	}
	vars.AddTask(&scheduler.TaskRun{Task: "check", State: scheduler.StateSuccess, Output: json.RawMessage(`{"rows":12,"ok":true,"f":1.5}`)})
	return vars
}

func TestBool(t *testing.T) {
	t.Parallel()
	tests := []struct {
		src  string
		want bool
	}{
		{`batch.events >= 1 && batch.source.startsWith("web")`, true},
		{`batch.events > 9.5`, true},
		{`batches.all(b, b.types["page"] > 0)`, false},
		{`size(batches) == totals.batches`, true},
		{`tasks.check.output.rows + 1 == 13`, true},
		{`tasks["check"].state == "success" && tasks.check.output.f < 2`, true},
		{`params.n * 2 == 6 && params.ratio / 2.0 == 1.0 && params.dry`, true},
		{`trigger.kind == "batch" && trigger.lane_key == "de"`, true},
		{`run.created_at < timestamp("2026-03-02T00:00:00Z")`, true},
		{`batch.created_at.getHours() == 12`, true},
		{`has(batch.types.track)`, false},
		{`batch.stream == "l/i/0"`, true},
		{`batch.lane_keys["country"] == "de" && !("reason" in batch.lane_keys)`, true},
	}
	for _, tt := range tests {
		t.Run(tt.src, func(t *testing.T) {
			t.Parallel()
			p, err := CompileBool(ScopeTask, tt.src)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Bool(testVars(t, 2))
			if err != nil || got != tt.want {
				t.Errorf("got %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, src string
		scope     Scope
		line, col int
		msg       string
	}{
		{"unknown field", "batch.evnts > 1", ScopeRule, 1, 6, "undefined field 'evnts'"},
		{"not a bool", "batch.events", ScopeRule, 1, 1, "expression yields int, want a bool"},
		{"other scope", "params.x == 1", ScopeRule, 1, 1, "undeclared reference to 'params'"},
		{"end", "batch.events >", ScopeRule, 1, 15, "unexpected end"},
		{"second line", "batch.events > 1 &&\n  batch.source > 2", ScopeRule, 2, 16, "no matching overload"},
		{"too long", strings.Repeat("true||", 1000) + "true", ScopeRule, 1, 1, "longer than"},
		{"too deep", strings.Repeat("(", 500) + "1" + strings.Repeat(")", 500), ScopeRule, 1, 1, ""},
		{"task field", "tasks.a.outputs.x == 1", ScopeTask, 1, 9, "a task has no field 'outputs'"},
		{"several", "batch.a || batch.b", ScopeRule, 1, 6, "undefined field 'a'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := CompileBool(tt.scope, tt.src)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an Error", err)
			}
			if tt.name != "too deep" && (e.Line != tt.line || e.Col != tt.col) || !strings.Contains(e.Msg, tt.msg) {
				t.Errorf("got %d:%d %q, want %d:%d %q", e.Line, e.Col, e.Msg, tt.line, tt.col, tt.msg)
			}
		})
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	tests := []struct{ src, want string }{
		{"plain", "plain"},
		{"", ""},
		{"${{ params.schema }}", "raw"},
		{"a-${{ batch.events }}-${{ params.dry }}z", "a-10-truez"},
		{"${{ run.interval_start }}", "2026-03-01T12:00:00Z"},
		{"${{ params.ratio }}", "2"},
		{`${{ "}}" + '\'' }}`, "}}'"},
		{`${{ {"a": {"b": 1}}["a"]["b"] }}`, "1"},
		{"${{ tasks.check.output.rows }}", "12"},
		{"${{ duration('90s') }}", "1m30s"},
		{"} {{ }} $", "} {{ }} $"},
	}
	for _, tt := range tests {
		t.Run(tt.src, func(t *testing.T) {
			t.Parallel()
			text, err := CompileText(tt.src)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := text.Eval(testVars(t, 1)); err != nil || got != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestTextCompileErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		src       string
		line, col int
		msg       string
	}{
		{"ab ${{ params.x", 1, 4, `without "}}"`},
		{"ab ${{ batch.evnts }}", 1, 13, "undefined field"},
		{"x\ny${{ batch.evnts }}", 2, 11, "undefined field"},
		{"${{ batches }}", 1, 4, "expression yields list(Batch)"},
	}
	for _, tt := range tests {
		t.Run(tt.src, func(t *testing.T) {
			t.Parallel()
			_, err := CompileText(tt.src)
			var e *Error
			if !errors.As(err, &e) || e.Line != tt.line || e.Col != tt.col || !strings.Contains(e.Msg, tt.msg) {
				t.Errorf("got %+v (%v), want %d:%d %q", e, err, tt.line, tt.col, tt.msg)
			}
		})
	}
}

func TestEvalErrors(t *testing.T) {
	t.Parallel()
	tests := []struct{ src, msg string }{
		{"${{ batch.events }}", "this run has no batch"},
		{"${{ batches[0].events }}", "index out of bounds"},
		{"${{ params.missing }}", "no such key"},
		{"${{ tasks.check.output }}", "only a string"},
		{"${{ 1 / (totals.batches - 0) }}", "division by zero"},
		{`${{ "\u0000" }}`, "NUL"},
	}
	for _, tt := range tests {
		t.Run(tt.src, func(t *testing.T) {
			t.Parallel()
			text, err := CompileText(tt.src)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := text.Eval(testVars(t, 0)); err == nil || !strings.Contains(err.Error(), tt.msg) {
				t.Errorf("got %q, %v, want an error with %q", got, err, tt.msg)
			}
		})
	}
}

// An expression can not take the scheduler's time: a product over all batches with itself passes the cost limit.
func TestCostLimit(t *testing.T) {
	t.Parallel()
	p, err := CompileBool(ScopeTask, `batches.all(a, batches.all(b, a.id.contains(b.id) || true))`)
	if err != nil {
		t.Fatal(err)
	}
	vars := testVars(t, 3)
	vars.batches = make([]batcher.Batch, 10_000)
	if _, err := p.Bool(vars); err == nil || !strings.Contains(err.Error(), "cost limit") {
		t.Errorf("got %v, want the cost limit", err)
	}
}

func TestOnePassOverAllBatchesIsWithinTheCostLimit(t *testing.T) {
	t.Parallel()
	p, err := CompileBool(ScopeTask, `batches.all(b, b.events >= 0 && !b.source.startsWith("x"))`)
	if err != nil {
		t.Fatal(err)
	}
	vars := testVars(t, 1)
	vars.batches = make([]batcher.Batch, trigger.MaxGroup)
	if ok, err := p.Bool(vars); !ok || err != nil {
		t.Errorf("got %v, %v, want true", ok, err)
	}
}

func TestRefs(t *testing.T) {
	t.Parallel()
	text, err := CompileText("a${{ params.one }}\n${{ tasks['two'].exit + params[\"three\"] }}")
	if err != nil {
		t.Fatal(err)
	}
	want := []Ref{
		{Root: "params", Name: "one", Line: 1, Col: 6},
		{Root: "tasks", Name: "two", Line: 2, Col: 5},
		{Root: "params", Name: "three", Line: 2, Col: 25},
	}
	if diff := cmp.Diff(want, text.Refs()); diff != "" {
		t.Errorf("refs (-want +got):\n%s", diff)
	}
}

// The names that an expression sees are those of the JSON documents.
func TestNamesAreThoseOfJSON(t *testing.T) {
	t.Parallel()
	keys := func(v any) map[string]bool {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var obj map[string]any
		if err := json.Unmarshal(raw, &obj); err != nil {
			t.Fatal(err)
		}
		set := map[string]bool{}
		for k := range obj {
			set[k] = true
		}
		return set
	}
	all := keys(batcher.Batch{Types: map[string]int64{"a": 1}, Stream: ingest.Stream{Log: "l", Incarnation: "i"}})
	for name := range keys(Batch{}) {
		if !all[name] && name != "lane_keys" {
			t.Errorf("expressions have batch.%s, the document has not", name)
		}
	}
	for _, pair := range [][2]any{
		{Totals{}, scheduler.InputTotals{}},
		{Run{}, scheduler.InputRun{ReplayOf: "x", IntervalStart: time.Now(), IntervalEnd: time.Now(), Watermark: time.Now()}},
		{Trigger{}, scheduler.Trigger{LaneKey: "x", Closed: "x"}},
	} {
		if diff := cmp.Diff(keys(pair[1]), keys(pair[0])); diff != "" {
			t.Errorf("%T (-document +expressions):\n%s", pair[0], diff)
		}
	}
}

func BenchmarkBool(b *testing.B) {
	p, err := CompileBool(ScopeTask, `batch.events >= 1 && batch.source.startsWith("web")`)
	if err != nil {
		b.Fatal(err)
	}
	vars := &Vars{run: &scheduler.Run{}, batches: []batcher.Batch{{Events: 2, Source: "web"}}}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := p.Bool(vars); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
