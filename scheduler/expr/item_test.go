package expr

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

func TestItems(t *testing.T) {
	t.Parallel()
	tests := []struct {
		src  string
		want []string
	}{
		{`["a", 2, 1.5, true, null]`, []string{`"a"`, `2`, `1.5`, `true`, `null`}},
		{`lists.range(3)`, []string{`0`, `1`, `2`}},
		{`[]`, nil},
		{`{"b": 1, "a": [2]}`, []string{`{"key":"a","value":[2]}`, `{"key":"b","value":1}`}},
		{`batches.map(b, b.id)`, []string{`"b0"`, `"b1"`}},
		{`inputs.objects.map(o, {"at": o.batch, "n": o.events})`, []string{`{"at":"b0","n":10}`, `{"at":"b1","n":20}`}},
		{`params.schema.split("a")`, []string{`"r"`, `"w"`}},
		{`[9007199254740993]`, []string{`9007199254740993`}},
		{`[timestamp("2026-03-01T00:00:00Z")]`, []string{`"2026-03-01T00:00:00Z"`}},
	}
	for _, tt := range tests {
		t.Run(tt.src, func(t *testing.T) {
			t.Parallel()
			p, err := CompileItems(tt.src)
			if err != nil {
				t.Fatal(err)
			}
			list, err := p.Items(testVars(t, 2), scheduler.MaxItems)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, raw := range list {
				got = append(got, string(raw))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A whole object, or batch, is an item with the names that expressions see, and an expression over the item finds them again.
func TestItemsOfObjects(t *testing.T) {
	t.Parallel()
	for _, src := range []string{"inputs.objects", "batches"} {
		p, err := CompileItems(src)
		if err != nil {
			t.Fatal(err)
		}
		vars := testVars(t, 2)
		list, err := p.Items(vars, 10)
		if err != nil {
			t.Fatal(err)
		}
		text, err := CompileTextIn(ScopeItem("obj"), "${{ obj.source }} ${{ obj.events + 1 }} ${{ map.index }}/${{ map.count }} ${{ map.key }}")
		if err != nil {
			t.Fatal(err)
		}
		if err := vars.SetItem("obj", list[1], 1, 2, "k"); err != nil {
			t.Fatal(err)
		}
		if got, err := text.Eval(vars); err != nil || got != "web 21 1/2 k" {
			t.Errorf("%s: got %q, %v", src, got, err)
		}
	}
}

func TestItemsErrors(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		`params.schema`:         "want a list or a map",
		`tasks.check.output`:    "and 2 is the limit",
		`[1, 2, 3]`:             "yields 3 items, and 2 is the limit",
		`lists.range(1000000)`:  "want 0 to 100000",
		`lists.range(-1)`:       "want 0 to 100000",
		`params.missing`:        "no such key",
		`[b"x"]`:                "which JSON does not have",
		`[batch.uri, run.nope]`: "undefined field",
		`batch.events`:          "yields int, want a list or a map",
	} {
		p, err := CompileItems(src)
		if err == nil {
			_, err = p.Items(testVars(t, 1), 2)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", src, err, want)
		}
	}
	long, err := CompileItems("[params.schema]")
	if err != nil {
		t.Fatal(err)
	}
	vars := testVars(t, 0)
	vars.params["schema"] = strings.Repeat("x", MaxValue)
	if _, err := long.Items(vars, 2); err == nil || !strings.Contains(err.Error(), "item 0 has") {
		t.Errorf("got %v, want the size of the item", err)
	}
}

func TestUsesItem(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]bool{
		"obj.n > 1": true, "map.index == 0": true, "params.n > 1": false, "batches.map(b, b.events).size() > 0": false,
	} {
		p, err := CompileBool(ScopeItem("obj"), src)
		if err != nil || p.UsesItem() != want {
			t.Errorf("%s: got %v, %v, want %v", src, p != nil && p.UsesItem(), err, want)
		}
	}
	if _, err := CompileText("${{ item.n }}"); err == nil {
		t.Error("a task that is not mapped has an item")
	}
}

func TestCheckItemName(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{"obj": true, "_o2": true, "": false, "2o": false, "a-b": false, "batch": false, "map": false, "in": false} {
		if err := CheckItemName(name); (err == nil) != ok {
			t.Errorf("%q: got %v, want ok %v", name, err, ok)
		}
	}
	for _, name := range []string{"obj", "o", "x1"} {
		if _, err := CompileBool(ScopeItem(name), name+" == 1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCountsOfMappedTasks(t *testing.T) {
	t.Parallel()
	vars := testVars(t, 0)
	vars.AddTask(&scheduler.TaskRun{Task: "load", State: scheduler.StateSuccess, Output: json.RawMessage(`[1,null]`),
		Map: &scheduler.Mapping{Count: 3, Succeeded: 1, Failed: 2}})
	p, err := CompileBool(ScopeTask, `tasks.load.count == 3 && tasks.load.failed == 2 && tasks.load.skipped == 0 && tasks.load.output[1] == null`)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := p.Bool(vars); !ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
}
