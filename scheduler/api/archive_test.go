package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/archive"
	"millrace/scheduler/schedulertest"
	"millrace/trigger"
)

// archived is a run that has left the store.
type archived struct{ run, key, log string }

// archive puts a run into the store and moves it to the archive.
func (r *rig) archive() archived {
	r.Helper()
	b := schedulertest.ExampleBatch(7)
	n := schedulertest.ExampleRun(b)
	n.Run.State, n.Run.EndedAt = scheduler.StateSuccess, schedulertest.Epoch
	task := &n.Tasks[0]
	task.State, task.Try = scheduler.StateSuccess, 1
	a := scheduler.Attempt{ID: task.AttemptID(1), Run: n.Run.ID, Task: task.Task, MapIndex: task.MapIndex, Try: 1, Executor: "local", State: scheduler.StateSuccess}
	err := r.store.Apply(r.Context(), &scheduler.Change{
		Arrivals: []trigger.Arrival{{Batch: b}}, NewRuns: []scheduler.NewRun{n}, Attempts: []scheduler.Attempt{a},
	})
	if err != nil {
		r.Fatal(err)
	}
	log := strings.Repeat("x", 100) + "the end of the log"
	r.exec.set(a.ID, log)
	k := archive.NewKeeper(r.store, r.objects, archive.Options{Executors: map[string]scheduler.Executor{"local": r.exec}, LogTail: 40})
	if done, err := k.Round(r.Context(), schedulertest.Epoch.Add(48*time.Hour)); err != nil || done.Runs != 1 {
		r.Fatalf("archive: got %+v, %v", done, err)
	}
	key, err := r.store.Archived(r.Context(), n.Run.ID)
	if err != nil {
		r.Fatal(err)
	}
	return archived{n.Run.ID, key, log}
}

// TestArchivedRun: a run that has left the store is shown all the same, with where it is, and what there is of its logs.
func TestArchivedRun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := r.archive()
	var d struct {
		Run      scheduler.Run    `json:"run"`
		Tasks    []map[string]any `json:"tasks"`
		Archived archivedAt       `json:"archived"`
	}
	if w := r.ask("GET", "/api/v1/runs/"+old.run, ""); w.Code != 200 || json.Unmarshal(w.Body.Bytes(), &d) != nil ||
		d.Run.ID != old.run || len(d.Tasks) == 0 || d.Archived.Object != old.key || d.Archived.URI == "" {
		t.Errorf("got %d, %+v", w.Code, d)
	}
	want := "the run is archived, with the last 40 of 118 bytes: " + old.key
	if w := r.ask("GET", "/api/v1/runs/"+old.run+"/logs?task=check", ""); w.Code != 200 || !strings.Contains(w.Body.String(), want) || !strings.Contains(w.Body.String(), old.log[len(old.log)-40:]) {
		t.Errorf("logs: got %d, %s", w.Code, w.Body)
	}
	if w := r.ask("GET", "/api/v1/runs/"+old.run+"/logs?task=none", ""); w.Code != 404 {
		t.Errorf("logs of no task: got %d, %s", w.Code, w.Body)
	}
	var list struct{ Items []archive.Item }
	if w := r.ask("GET", "/api/v1/archive", ""); w.Code != 200 || json.Unmarshal(w.Body.Bytes(), &list) != nil || len(list.Items) != 1 || list.Items[0].Key != old.key {
		t.Errorf("list: got %d, %s", w.Code, w.Body)
	}
	if w := r.ask("GET", "/api/v1/archive/object?key="+old.key, ""); w.Code != 200 || !strings.Contains(w.Body.String(), old.run) || strings.Count(w.Body.String(), "\n") != 1 {
		t.Errorf("object: got %d, %s", w.Code, w.Body)
	}
	b := schedulertest.ExampleBatch(8)
	n := schedulertest.ExampleRun(b)
	n.Run.State, n.Run.EndedAt = scheduler.StateSuccess, schedulertest.Epoch
	if err := r.store.Apply(r.Context(), &scheduler.Change{Arrivals: []trigger.Arrival{{Batch: b}}, NewRuns: []scheduler.NewRun{n}}); err != nil {
		t.Fatal(err)
	}
	ended, err := r.store.Ended(r.Context(), schedulertest.Epoch.Add(time.Hour), 10)
	if err == nil {
		_, err = r.store.Forget(r.Context(), ended, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	if w := r.ask("GET", "/api/v1/runs/"+n.Run.ID, ""); w.Code != 404 || !strings.Contains(w.Body.String(), "without an archive (store.archive)") {
		t.Errorf("a run that was dropped: got %d, %s", w.Code, w.Body)
	}
}
