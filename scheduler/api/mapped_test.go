package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

// A run shows its mapped tasks as counts; who wants them asks for pages of one task.
func TestMappedTasks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n := schedulertest.ExampleRun(schedulertest.ExampleBatch(1))
	n.Tasks[1].Map = &scheduler.Mapping{Count: 5, Made: 5}
	for i := range 5 {
		k := n.Tasks[1]
		k.MapIndex, k.Map, k.State = i, nil, scheduler.StateSuccess
		if i == 3 {
			k.State, k.Reason = scheduler.StateFailed, "exit code 1"
		}
		k.Item = &scheduler.Item{Value: json.RawMessage(fmt.Sprint(i)), Key: fmt.Sprint("k", i)}
		n.Tasks = append(n.Tasks, k)
	}
	if err := r.store.Apply(t.Context(), &scheduler.Change{NewRuns: []scheduler.NewRun{n}}); err != nil {
		t.Fatal(err)
	}
	at := "/api/v1/runs/" + n.Run.ID
	get := func(path string, status int, into any) {
		t.Helper()
		res := r.get(path)
		if res.Code != status {
			t.Fatalf("%s: got %d %s, want %d", path, res.Code, res.Body, status)
		}
		if into != nil {
			if err := json.Unmarshal(res.Body.Bytes(), into); err != nil {
				t.Fatal(err)
			}
		}
	}
	var d runDetail
	get(at, http.StatusOK, &d)
	if len(d.Tasks) != 2 || d.Mapped["load"][scheduler.StateSuccess] != 4 || d.Mapped["load"][scheduler.StateFailed] != 1 || d.Tasks[1].Map.Count != 5 {
		t.Errorf("got %d tasks, mapped %v", len(d.Tasks), d.Mapped)
	}
	if res := r.get("/runs/" + n.Run.ID); !strings.Contains(res.Body.String(), "5 items, 1 failed, 4 success") {
		t.Errorf("the page does not say how the items are:\n%s", res.Body)
	}
	var p page[task]
	get(at+"/tasks?task=load&limit=3", http.StatusOK, &p)
	if len(p.Items) != 3 || p.Next == "" || p.Items[2].ID != n.Run.ID+"/load/2" || p.Items[2].Item.Key != "k2" {
		t.Errorf("the first page is %+v", p)
	}
	get(at+"/tasks?task=load&limit=3&before="+p.Next, http.StatusOK, &p)
	if len(p.Items) != 2 || p.Next != "" {
		t.Errorf("the last page is %+v", p)
	}
	get(at+"/tasks?task=load&state=failed", http.StatusOK, &p)
	if len(p.Items) != 1 || !strings.Contains(p.Items[0].Reason, "exit code 1") {
		t.Errorf("those that failed are %+v", p)
	}
	get(at+"/tasks?task=nope", http.StatusNotFound, nil)
	get(at+"/tasks?task=load&before=x", http.StatusUnprocessableEntity, nil)
}
