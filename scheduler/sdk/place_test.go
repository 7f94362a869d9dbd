package sdk

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
)

func stop(context.Context, *Attempt, counts) (Nothing, error) { return Nothing{}, nil }

func TestPlaceFaults(t *testing.T) {
	t.Parallel()
	other := New("other")
	there := Task(other.Setup(), "there", None, extract)
	for name, tt := range map[string]struct {
		build func(d *DAG)
		want  string
	}{
		"setup twice":          {func(d *DAG) { Task(d.Setup(), "a", None, extract); Task(d, "a_setup", None, extract) }, `task "a_setup" is defined twice`},
		"covers as a task":     {func(d *DAG) { a := Task(d, "a", None, extract); d.Cover(a, a) }, `"a" covers nothing`},
		"covers elsewhere":     {func(d *DAG) { d.Cover(there, Task(d, "a", None, extract)) }, `"there_setup" covers nothing`},
		"covers another's":     {func(d *DAG) { d.Cover(Task(d.Setup(), "a", None, extract), there) }, `setup "a" covers "there_setup", which is of dag "other"`},
		"group needs another":  {func(d *DAG) { d.Group("g").Needs(there) }, `group "g" needs "there_setup"`},
		"output of a task":     {func(d *DAG) { Task(d.Teardown(), "a", Task(d, "b", None, extract), stop) }, `teardown "a" takes the output of "b": a teardown is given that of its setup alone`},
		"output of another":    {func(d *DAG) { Task(d.Teardown(), "a", Task(d.Setup(), "b", None, extract), stop) }, `teardown "a" takes the output of "b_setup"`},
		"teardown needs":       {func(d *DAG) { Command[Nothing](d.Teardown(), "a", []string{"x"}, Needs(Task(d, "b", None, extract))) }, `teardown "a" needs "b"`},
		"form is no struct":    {func(d *DAG) { Ask(d, "a", Approval[int]{Message: "Sure?"}) }, `the form of task "a": parameters must be a struct, got int`},
		"form with a mapping":  {func(d *DAG) { Ask(d, "a", Approval[struct{ M map[string]int }]{}) }, `parameter "M" is a map[string]int`},
		"parameter with bytes": {func(d *DAG) { Params(d, struct{ B []byte }{}) }, `parameter "B" is a []uint8`},
	} {
		d := New("d")
		tt.build(d)
		for range 2 { // a fault is told each time, and once
			if text, err := d.Describe("x"); err == nil || strings.Count(err.Error(), tt.want) != 1 {
				t.Errorf("%s: got %s, %v, want %q", name, text, err, tt.want)
			}
		}
	}
}

// TestCover: what takes the output of a setup is covered by it, whatever else it covers; and describing a DAG changes nothing about it.
func TestCover(t *testing.T) {
	t.Parallel()
	d := New("d")
	net := Task(d.Setup(), "net", None, extract)
	db := Task(d.Setup(), "db", net, func(context.Context, *Attempt, counts) (counts, error) { return counts{}, nil })
	Task(d.Teardown(), "db", db, stop)
	load := d.Group("load")
	if load != d.Group("load") {
		t.Error("a group of the same name is another one")
	}
	Task(load, "a", db, stop)
	b := Task(d, "b", db, stop, Needs(load))
	c := Task(d, "c", None, extract, Needs(b, b))
	d.Cover(db, load, c, c)
	var texts [2]string
	for i := range texts {
		text, err := d.Describe("/x")
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = oneLine(t, text)
	}
	want := `{"dag":"d","groups":{"load":{}},"setup":{"net":{"run":["/x","run-task","net_setup"]},"db":{"needs":["net"],"for":["load","c","b"],"run":["/x","run-task","db_setup"]}},` +
		`"tasks":{"a":{"group":"load","run":["/x","run-task","a"]},"b":{"needs":["load"],"run":["/x","run-task","b"]},"c":{"needs":["b"],"run":["/x","run-task","c"]}},` +
		`"teardown":{"db":{"run":["/x","run-task","db_teardown"]}}}`
	for _, got := range texts {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	got, err := db.Of(&Attempt{Upstream: map[string]json.RawMessage{"db_setup": json.RawMessage(`{"rows":4}`)}})
	if err != nil || got.Rows != 4 {
		t.Errorf("the output of the setup: got %+v, %v", got, err)
	}
}

func TestExpressions(t *testing.T) {
	t.Parallel()
	d := New("d")
	s := Command[counts](d, "in", nil)
	for got, want := range map[string]string{
		Command[counts](d, "count", nil).Output("rows"):        `tasks.count.output.rows`,
		Command[counts](d, "count-it", nil).Output("a b", "c"): `tasks["count-it"].output["a b"].c`,
		s.Output():           `tasks["in"].output`, // a word of CEL
		Text("params.day"):   `${{ params.day }}`,
		Secret("db-main"):    `${{ secrets["db-main"] }}`,
		Var("region"):        `${{ vars.region }}`,
		string(AverageOf(3)): `average(3)`,
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestDecision: what the server puts out for an approval is what the next task takes.
func TestDecision(t *testing.T) {
	t.Parallel()
	d := New("d")
	ask := Ask(d, "ask", Approval[settings]{Message: "Load?", Form: settings{Limit: 10}})
	got, err := ask.Of(&Attempt{Upstream: map[string]json.RawMessage{
		"ask": json.RawMessage(`{"decision":"approve","by":"ann","at":"2026-11-23T19:21:40Z","comment":"fine","option":"append","input":{"limit":5,"schema":"raw"}}`),
	}})
	if err != nil || got.Decision != Approve || got.By != "ann" || got.Option != "append" || got.Input.Limit != 5 || got.At.Year() != 2026 || got.Expired {
		t.Errorf("got %+v, %v", got, err)
	}
}
