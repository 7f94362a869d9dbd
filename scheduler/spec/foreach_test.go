package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

func TestForeach(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, task string
		want       *scheduler.Foreach
		fault      string
	}{
		{"short", "{run: x, foreach: inputs.objects}", &scheduler.Foreach{Items: "inputs.objects"}, ""},
		{"all", "{foreach: {items: inputs.objects, as: obj, key: obj.uri, max_concurrent: 20, tolerate_failures: 5%}, run: [x, '${{ obj.uri }}']}",
			&scheduler.Foreach{Items: "inputs.objects", As: "obj", Key: "obj.uri", MaxConcurrent: 20, TolerancePercent: 5}, ""},
		{"name below its use", "{env: {A: '${{ obj.uri }} ${{ map.index }}'}, when: obj.events > 1, run: x, foreach: {items: inputs.objects, as: obj}}",
			&scheduler.Foreach{Items: "inputs.objects", As: "obj"}, ""},
		{"default name", "{run: [x, '${{ item }}'], foreach: {items: params.list, as: item, tolerate_failures: 3}}",
			&scheduler.Foreach{Items: "params.list", Tolerate: 3}, ""},
		{"output of a parent", "{run: x, needs: list, foreach: tasks.list.output}", &scheduler.Foreach{Items: "tasks.list.output"}, ""},
		{"settings", "{http: {url: 'http://h/${{ item.id }}', body: {id: '${{ item.id }}'}}, foreach: params.list}", &scheduler.Foreach{Items: "params.list"}, ""},
		{"not a parent", "{run: x, foreach: tasks.list.output}", nil, `task "list" does not come before task "load"`},
		{"unknown parameter", "{run: x, foreach: params.lst}", nil, `did you mean "list"?`},
		{"no items", "{run: x, foreach: {as: obj}}", nil, "has no items"},
		{"no list", "{run: x, foreach: batch.events}", nil, "yields int, want a list or a map"},
		{"other name", "{run: [x, '${{ item }}'], foreach: {items: params.list, as: obj}}", nil, "undeclared reference to 'item'"},
		{"not mapped", "{run: [x, '${{ item }}']}", nil, "undeclared reference to 'item'"},
		{"item in its own list", "{run: x, foreach: {items: 'item.list'}}", nil, "undeclared reference to 'item'"},
		{"taken name", "{run: x, foreach: {items: params.list, as: batch}}", nil, `"batch" is taken`},
		{"bad name", "{run: x, foreach: {items: params.list, as: a-b}}", nil, "must be a letter or _"},
		{"constant key", "{run: x, foreach: {items: params.list, key: run.id}}", nil, "key is the same for every item"},
		{"no tasks at once", "{run: x, foreach: {items: params.list, max_concurrent: 0}}", nil, "max_concurrent must be at least 1"},
		{"no percentage", "{run: x, foreach: {items: params.list, tolerate_failures: many}}", nil, "write 3, or 5%"},
		{"too large", "{run: x, foreach: {items: params.list, tolerate_failures: 101%}}", nil, "from 0% to 100%"},
		{"misspelt", "{run: x, foreach: {items: params.list, max_concurrency: 1}}", nil, `did you mean "max_concurrent"?`},
		{"shell", "{run: 'x ${{ item }}', foreach: params.list}", nil, "can not stand in a shell command"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dags, err := Compile("a.yaml", []byte("dag: a\nparams: {list: [1, {b: [x]}]}\ntasks: {list: {run: x}, load: "+tt.task+"}\n"))
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("got %v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, dags[0].Tasks[1].Foreach); diff != "" {
				t.Error(diff)
			}
			if got := string(dags[0].Params["list"].Default); got != `[1,{"b":["x"]}]` {
				t.Errorf("the default is %s", got)
			}
		})
	}
}
