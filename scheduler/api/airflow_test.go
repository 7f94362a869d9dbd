package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/api/airflow"
	"millrace/scheduler/schedulertest"
	"millrace/trigger"
)

// getV2 decodes the answer to an Airflow client.
func (r *rig) getV2(path string, want int, out any) {
	r.Helper()
	w := r.get(v2 + path)
	if w.Code != want {
		r.Fatalf("GET %s: got %d, want %d: %s", path, w.Code, want, w.Body)
	}
	if kind := w.Header().Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		r.Fatalf("GET %s: got type %s, want JSON", path, kind)
	}
	if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
		r.Fatalf("GET %s: %v", path, err)
	}
}

type anyBody = map[string]any

// addRuns stores runs of a DAG, one for each state, each a second newer than the one before.
func (r *rig) addRuns(dag string, states ...scheduler.State) (ids []string) {
	r.Helper()
	var c scheduler.Change
	for i, state := range states {
		n := schedulertest.ExampleRun(schedulertest.ExampleBatch(1))
		n.Run.ID, n.Run.DAG, n.Run.State = fmt.Sprintf("r-%s-%05d", dag, i), dag, state
		n.Run.CreatedAt = schedulertest.Epoch.Add(time.Duration(i) * time.Second)
		for j := range n.Tasks {
			n.Tasks[j].Run = n.Run.ID
		}
		ids = append(ids, n.Run.ID)
		c.NewRuns = append(c.NewRuns, n)
	}
	c.Heads = []scheduler.DAGHead{{ID: dag, Version: "v1", File: dag + ".yaml", UpdatedAt: schedulertest.Epoch}}
	if err := r.store.Apply(r.Context(), &c); err != nil {
		r.Fatalf("apply: %v", err)
	}
	return ids
}

// listed returns the ids and the total of a list of runs.
func (r *rig) listed(path string) (ids []string, total int) {
	r.Helper()
	var body struct {
		Runs []struct {
			ID string `json:"dag_run_id"`
		} `json:"dag_runs"`
		Total int `json:"total_entries"`
	}
	r.getV2(path, http.StatusOK, &body)
	for _, run := range body.Runs {
		ids = append(ids, run.ID)
	}
	return ids, body.Total
}

func TestAirflowRunPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	states := []scheduler.State{scheduler.StateSuccess, scheduler.StateFailed, scheduler.StateCancelled, scheduler.StateRunning}
	var cycle []scheduler.State
	for i := range 2400 {
		cycle = append(cycle, states[i%len(states)])
	}
	ids := r.addRuns("many", cycle...)
	few := r.addRuns("few", cycle[:8]...)
	slices.Reverse(ids)
	slices.Reverse(few)
	failed := []string{few[1], few[2], few[5], few[6]} // failed and cancelled, newest first
	for _, tt := range []struct {
		name, path string
		want       []string
		total      int
	}{
		{"all of one", "few/dagRuns", few, 8},
		{"a page", "few/dagRuns?limit=3&offset=2", few[2:5], 8},
		{"beyond the end", "few/dagRuns?offset=20", nil, 8},
		{"only the total", "few/dagRuns?limit=0", nil, 8},
		{"cancelled is failed", "few/dagRuns?state=failed", failed, 4},
		{"a page of two states", "few/dagRuns?state=failed&limit=2&offset=1", failed[1:3], 4},
		{"states", "few/dagRuns?state=failed&state=success", append(slices.Clone(failed[:2]), few[3], failed[2], failed[3], few[7]), 6},
		{"newest", "many/dagRuns?order_by=-start_date&limit=1", ids[:1], counted + 1},
		{"across pages of the store", "many/dagRuns?limit=3&offset=1999", ids[1999:2002], 2003},
		{"the end is exact", "many/dagRuns?limit=100&offset=2350", ids[2350:], 2400},
	} {
		got, total := r.listed("/dags/" + tt.path)
		slices.Sort(got)
		want := slices.Sorted(slices.Values(tt.want))
		if !slices.Equal(got, want) || total != tt.total {
			t.Errorf("%s: got %v of %d, want %v of %d", tt.name, got, total, want, tt.total)
		}
	}
	got, _ := r.listed("/dags/few/dagRuns?state=failed&state=success")
	if !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("states are not merged newest first: %v", got)
	}
	if got, total := r.listed("/dags/~/dagRuns?limit=2000"); len(got) != maxWindow || total != 2408 {
		t.Errorf("all DAGs: got %d runs of %d, want %d of 2408", len(got), total, maxWindow)
	}
	if _, total := r.listed("/dags/~/dagRuns?limit=1&state=failed"); total != 1204 {
		t.Errorf("failed of all DAGs: got a total of %d, want 1204", total)
	}
}

// TestAirflowPaging walks as clients do: from offset to offset while the total says that there is more.
func TestAirflowPaging(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ids := r.addRuns("many", slices.Repeat([]scheduler.State{scheduler.StateSuccess}, 2100)...)
	var got []string
	for {
		page, total := r.listed("/dags/many/dagRuns?limit=100&offset=" + strconv.Itoa(len(got)))
		got = append(got, page...)
		if len(got) >= total || len(page) == 0 {
			break
		}
	}
	slices.Reverse(got)
	if !slices.Equal(got, ids) {
		t.Errorf("got %d runs, want %d, in order", len(got), len(ids))
	}
	got = nil
	for cursor, more := "", true; more; {
		var page struct {
			Runs []struct {
				ID string `json:"dag_run_id"`
			} `json:"dag_runs"`
			Total *int    `json:"total_entries"`
			Next  *string `json:"next_cursor"`
		}
		r.getV2("/dags/many/dagRuns?state=success&limit=1000&offset=7&cursor="+cursor, http.StatusOK, &page)
		for _, run := range page.Runs {
			got = append(got, run.ID)
		}
		if more = page.Next != nil; more {
			cursor = *page.Next
		}
	}
	slices.Reverse(got)
	if !slices.Equal(got, ids) {
		t.Errorf("by cursor: got %d runs, want %d, in order", len(got), len(ids))
	}
}

// TestAirflowRefuses: what is not there is said, in Airflow's shape, and no filter is ignored.
func TestAirflowRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, run := r.fill()
	at := "/dags/load/dagRuns/" + run.ID
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/dags?fields=dag_id":                                   {422, "fields is not supported"},
		"/dags?order_by=next_dagrun":                            {422, "order_by"},
		"/dags?paused=perhaps":                                  {422, "paused"},
		"/dags/none":                                            {404, "none"},
		"/dags/load/dagRuns?order_by=id":                        {422, "newest first"},
		"/dags/load/dagRuns?cursor=&limit=0":                    {422, "at least one"},
		"/dags/load/dagRuns?cursor=&state=failed":               {422, "page by offset"},
		"/dags/load/dagRuns?cursor=x":                           {422, "cursor"},
		"/dags/load/dagRuns?offset=10001":                       {422, "10000"},
		"/dags/load/dagRuns?limit=-1":                           {422, "limit"},
		"/dags/load/dagRuns?state=done":                         {422, "queued, running, success or failed"},
		"/dags/load/dagRuns?start_date_gte=2026-01-01T00:00:00": {422, "start_date_gte is not supported"},
		"/dags/none/dagRuns":                                    {404, "none"},
		"/dags/load/dagRuns/none":                               {404, "none"},
		"/dags/other/dagRuns/" + run.ID:                         {404, "load"},
		"/dags/~/dagRuns/~/taskInstances":                       {422, "one run at a time"},
		at + "/taskInstances/none":                              {404, "none"},
		at + "/taskInstances/check/7":                           {404, "map index 7"},
		at + "/taskInstances/check/listMapped":                  {404, "mapped"},
		at + "/taskInstances?order_by=pid":                      {422, "order_by"},
		at + "/taskInstances/check/tries/2":                     {404, "try 2"},
		at + "/taskInstances/check/tries/x":                     {422, "try"},
		at + "/taskInstances/check/logs/2":                      {404, "try 2"},
		at + "/taskInstances/check/logs/1?token=x":              {422, "token"},
		"/backfills":                         {422, "dag_id is missing"},
		"/backfills?dag_id=load&order_by=id": {422, "newest first"},
		"/backfills?dag_id=load&active=true": {422, "active is not supported"},
		"/backfills/17":                      {404, "17"},
		"/backfills/none":                    {422, "the number"},
		"/assets":                            {404, "docs/airflow.md"},
	} {
		var body anyBody
		r.getV2(path, want.status, &body)
		if text, _ := body["detail"].(string); len(body) != 1 || !strings.Contains(text, want.text) {
			t.Errorf("%s: got %v, want a detail with %q", path, body, want.text)
		}
	}
	if w := r.ask("POST", v2+at+"/clear", "{}"); w.Code != http.StatusNotFound && w.Code != http.StatusMethodNotAllowed || !strings.Contains(w.Body.String(), "docs/airflow.md") {
		t.Errorf("write: got %d %s, want 404 or 405 with a hint", w.Code, w.Body)
	}
	if w := r.get(v2 + "/dags?_=17"); w.Code != http.StatusOK {
		t.Errorf("a parameter against caches: got %d, want 200", w.Code)
	}
}

func TestAirflowDAGFilters(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	heads := []scheduler.DAGHead{
		{ID: "alpha_load", Version: "1"}, {ID: "Beta.load", Version: "1", Paused: true}, {ID: "gone", Version: "1", Removed: true},
		{ID: "broken.yaml", File: "broken.yaml", Error: "line 1"},
	}
	if err := r.store.Apply(t.Context(), &scheduler.Change{Heads: heads}); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string][]string{
		"":                             {"Beta.load", "alpha_load"},
		"?exclude_stale=false":         {"Beta.load", "alpha_load", "gone"},
		"?only_active=False":           {"Beta.load", "alpha_load", "gone"},
		"?paused=true":                 {"Beta.load"},
		"?paused=false":                {"alpha_load"},
		"?dag_id_pattern=a.load":       {"Beta.load"}, // a point is a point
		"?dag_id_pattern=A_LOAD":       {"Beta.load", "alpha_load"},
		"?dag_id_pattern=be%25load":    {"Beta.load"},
		"?dag_id_pattern=beta%7Calpha": {"Beta.load", "alpha_load"},
		"?dag_id_pattern=~":            {"Beta.load", "alpha_load"},
		"?dag_id_prefix_pattern=alpha": {"alpha_load"},
		"?dag_id_prefix_pattern=beta":  nil, // of this case only
		"?tags=x":                      nil,
		"?owners=nobody":               nil,
		"?limit=1&offset=1":            {"alpha_load"},
		"?order_by=-dag_id&limit=1":    {"alpha_load"},
		"?dag_id_pattern=&limit=100":   {"Beta.load", "alpha_load"},
	} {
		var body struct {
			DAGs []struct {
				ID string `json:"dag_id"`
			} `json:"dags"`
		}
		r.getV2("/dags"+query, http.StatusOK, &body)
		var got []string
		for _, d := range body.DAGs {
			got = append(got, d.ID)
		}
		if !slices.Equal(slices.Sorted(slices.Values(got)), want) && len(got)+len(want) > 0 {
			t.Errorf("%q: got %v, want %v", query, got, want)
		}
	}
	var broken struct {
		Errors []struct {
			File string `json:"filename"`
			Text string `json:"stack_trace"`
		} `json:"import_errors"`
	}
	r.getV2("/importErrors", http.StatusOK, &broken)
	if len(broken.Errors) != 1 || broken.Errors[0].File != "broken.yaml" || broken.Errors[0].Text != "line 1" {
		t.Errorf("import errors: got %+v, want that of broken.yaml", broken)
	}
}

// TestAirflowStates: each state has a word that Airflow has, too.
func TestAirflowStates(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	words := map[scheduler.State]any{
		scheduler.StateNone: nil, scheduler.StateScheduled: "scheduled", scheduler.StateLaunching: "queued", scheduler.StateRunning: "running",
		scheduler.StateSuccess: "success", scheduler.StateFailed: "failed", scheduler.StateSkipped: "skipped", scheduler.StateUpstreamFailed: "upstream_failed",
		scheduler.StateUpForRetry: "up_for_retry", scheduler.StateUnreachable: "running", scheduler.StateCancelled: "failed", scheduler.StateRemoved: "removed",
	}
	n := schedulertest.ExampleRun(schedulertest.ExampleBatch(1))
	n.Run.State, n.Run.Trigger = scheduler.StateCancelled, scheduler.Trigger{Kind: trigger.KindCron, Rule: "nightly", Key: "2026-11-23T02:15:00Z"}
	n.Tasks = nil
	for state := range words {
		n.Tasks = append(n.Tasks, scheduler.TaskRun{Run: n.Run.ID, Task: string(state), MapIndex: scheduler.NoMap, State: state})
	}
	if err := r.store.Apply(t.Context(), &scheduler.Change{NewRuns: []scheduler.NewRun{n}}); err != nil {
		t.Fatal(err)
	}
	var run anyBody
	r.getV2("/dags/~/dagRuns/"+n.Run.ID, http.StatusOK, &run)
	if run["state"] != "failed" || run["run_type"] != "scheduled" || run["logical_date"] != "2026-11-23T02:15:00Z" {
		t.Errorf("got %v, want a failed run of a schedule with its date", run)
	}
	var tasks struct {
		Tasks []anyBody `json:"task_instances"`
		Total int       `json:"total_entries"`
	}
	at := "/dags/~/dagRuns/" + n.Run.ID + "/taskInstances"
	r.getV2(at, http.StatusOK, &tasks)
	for _, task := range tasks.Tasks {
		if want := words[scheduler.State(task["task_id"].(string))]; task["state"] != want {
			t.Errorf("%v: got %v, want %v", task["task_id"], task["state"], want)
		}
	}
	for query, want := range map[string]int{"?state=failed": 2, "?state=none": 1, "?state=no_status&state=queued": 2, "?limit=3": len(words), "?task_id=none": 1} {
		if r.getV2(at+query, http.StatusOK, &tasks); tasks.Total != want {
			t.Errorf("%s: got a total of %d, want %d", query, tasks.Total, want)
		}
	}
}

// TestAirflowMapped: a mapped task is found by its index only.
func TestAirflowMapped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n := schedulertest.ExampleRun(schedulertest.ExampleBatch(1))
	n.Tasks = nil
	for i := range 3 {
		n.Tasks = append(n.Tasks, scheduler.TaskRun{Run: n.Run.ID, Task: "each", MapIndex: i, State: scheduler.StateSuccess, Try: 1, Executor: "local"})
	}
	a := scheduler.Attempt{ID: n.Tasks[1].AttemptID(1), Run: n.Run.ID, Task: "each", MapIndex: 1, Try: 1, Executor: "local", State: scheduler.StateSuccess, CreatedAt: schedulertest.Epoch}
	if err := r.store.Apply(t.Context(), &scheduler.Change{NewRuns: []scheduler.NewRun{n}, Attempts: []scheduler.Attempt{a}}); err != nil {
		t.Fatal(err)
	}
	r.exec.set(a.ID, "one\ntwo")
	at := "/dags/~/dagRuns/" + n.Run.ID + "/taskInstances/each"
	var list struct {
		Tasks []anyBody `json:"task_instances"`
	}
	if r.getV2(at+"/listMapped?order_by=-map_index&limit=2", http.StatusOK, &list); len(list.Tasks) != 2 || list.Tasks[0]["map_index"] != 2.0 {
		t.Errorf("got %v, want the indices 2 and 1", list)
	}
	var body anyBody
	if r.getV2(at+"/1", http.StatusOK, &body); body["map_index"] != 1.0 || len(body["id"].(string)) != 36 {
		t.Errorf("got %v, want index 1", body)
	}
	if r.getV2(at+"/1/tries/1", http.StatusOK, &body); body["try_number"] != 1.0 || body["state"] != "success" {
		t.Errorf("got %v, want try 1", body)
	}
	body = nil
	if r.getV2(at+"/logs/1?map_index=1&full_content=true", http.StatusOK, &body); fmt.Sprint(body["content"]) != "[map[event:one timestamp:<nil>] map[event:two timestamp:<nil>]]" {
		t.Errorf("got %v, want two lines", body["content"])
	}
	other := "/dags/other/dagRuns/" + n.Run.ID + "/taskInstances/each/1"
	for path, want := range map[string]string{at + "/3": "map index 3", other: "it is one of", other + "/tries": "it is one of"} {
		if r.getV2(path, http.StatusNotFound, &body); !strings.Contains(fmt.Sprint(body["detail"]), want) {
			t.Errorf("%s: got %v, want %q", path, body["detail"], want)
		}
	}
	if r.getV2(at, http.StatusNotFound, &body); !strings.Contains(fmt.Sprint(body["detail"]), "add the map index") {
		t.Errorf("got %v, want a hint at the index", body["detail"])
	}
}

// TestAirflowBackfills: backfills are listed newest first, and each is found by the number that the list has.
func TestAirflowBackfills(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	at := schedulertest.Epoch
	span := scheduler.Span{From: at.Add(-48 * time.Hour), To: at.Add(-24 * time.Hour)}
	var change scheduler.Change
	for i, b := range []scheduler.Backfill{
		{BackfillSpec: scheduler.BackfillSpec{ID: "old", DAG: "load", Reprocess: scheduler.ReprocessAll, Selection: scheduler.Selection{Events: span}}, State: scheduler.BackfillDone, EndedAt: at.Add(time.Hour)},
		{BackfillSpec: scheduler.BackfillSpec{ID: "other", DAG: "other", Reprocess: scheduler.ReprocessNone, Selection: scheduler.Selection{Batches: []string{"b"}}}, State: scheduler.BackfillRunning},
		{BackfillSpec: scheduler.BackfillSpec{
			ID: "new", DAG: "load", Reprocess: scheduler.ReprocessFailed, MaxActive: 3, Params: json.RawMessage(`{"a":1}`), Selection: scheduler.Selection{Received: span},
		}, State: scheduler.BackfillPaused},
	} {
		b.CreatedAt = at.Add(time.Duration(i) * time.Minute)
		change.Backfills = append(change.Backfills, b)
	}
	if err := r.store.Apply(t.Context(), &change); err != nil {
		t.Fatal(err)
	}
	var list struct {
		Backfills []anyBody `json:"backfills"`
		Total     int       `json:"total_entries"`
	}
	r.getV2("/backfills?dag_id=load&order_by=-id", http.StatusOK, &list)
	if list.Total != 2 || len(list.Backfills) != 2 {
		t.Fatalf("got %v, want two of load", list)
	}
	fields := []string{"from_date", "to_date", "reprocess_behavior", "is_paused", "max_active_runs", "dag_run_conf", "completed_at", "updated_at"}
	for i, want := range []string{
		"[2026-10-30T12:00:00Z 2026-10-31T12:00:00Z failed true 3 map[a:1] <nil> 2026-11-01T12:02:00Z]",
		"[2026-10-30T12:00:00Z 2026-10-31T12:00:00Z completed false 0 map[] 2026-11-01T13:00:00Z 2026-11-01T13:00:00Z]",
	} {
		var got []any
		for _, f := range fields {
			got = append(got, list.Backfills[i][f])
		}
		if fmt.Sprint(got) != want {
			t.Errorf("backfill %d: got %v, want %s", i, got, want)
		}
		var one anyBody
		r.getV2(fmt.Sprintf("/backfills/%.0f", list.Backfills[i]["id"]), http.StatusOK, &one)
		if diff := cmp.Diff(list.Backfills[i], one); diff != "" {
			t.Errorf("backfill %d by its number (-list +one):\n%s", i, diff)
		}
	}
	if r.getV2("/backfills?dag_id=~&limit=1&offset=1", http.StatusOK, &list); list.Total != 3 || len(list.Backfills) != 1 || list.Backfills[0]["dag_id"] != "other" ||
		list.Backfills[0]["from_date"] != list.Backfills[0]["created_at"] {
		t.Errorf("got %v, want the second of three, with no span of time", list)
	}
}

// TestAirflowLogParts reads a log as it grows, and one that is longer than an answer.
func TestAirflowLogParts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n := schedulertest.ExampleRun(schedulertest.ExampleBatch(1))
	n.Tasks = n.Tasks[:1]
	task := &n.Tasks[0]
	task.State, task.Try, task.Executor = scheduler.StateRunning, 1, "local"
	n.Run.State = scheduler.StateRunning
	a := scheduler.Attempt{ID: task.AttemptID(1), Run: n.Run.ID, Task: task.Task, MapIndex: scheduler.NoMap, Try: 1, Executor: "local", State: scheduler.StateLaunching}
	if err := r.store.Apply(t.Context(), &scheduler.Change{NewRuns: []scheduler.NewRun{n}, Attempts: []scheduler.Attempt{a}}); err != nil {
		t.Fatal(err)
	}
	at := v2 + "/dags/~/dagRuns/" + n.Run.ID + "/taskInstances/" + task.Task + "/logs/1"
	type part struct {
		Lines []struct{ Event string } `json:"content"`
		Next  *string                  `json:"continuation_token"`
	}
	read := func(token string) (p part) {
		t.Helper()
		w := r.get(at + "?token=" + token)
		if w.Code != http.StatusOK {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := read(""); len(p.Lines) != 0 || p.Next == nil || *p.Next != "0" {
		t.Errorf("before the first output: got %+v, want no line and a token", p)
	}
	long := strings.Repeat("x", 100)
	text := "begin\n" + strings.Repeat(long+"\n", 2*logPart/len(long)) + evil + "\nhalf a li"
	r.exec.set(a.ID, text)
	var lines []string
	var token string
	for range 4 {
		p := read(token)
		for _, l := range p.Lines {
			lines = append(lines, l.Event)
		}
		token = *p.Next
	}
	if got := strings.Join(lines, "\n") + "\nhalf a li"; got != text {
		t.Errorf("got %d bytes in %d lines, want %d", len(got), len(lines), len(text))
	}
	r.exec.set(a.ID, text+"ne")
	end := *task
	end.State, end.Rev = scheduler.StateSuccess, 1
	a.State = scheduler.StateSuccess
	if err := r.store.Apply(t.Context(), &scheduler.Change{Tasks: []scheduler.TaskRun{end}, Attempts: []scheduler.Attempt{a}}); err != nil {
		t.Fatal(err)
	}
	if p := read(token); len(p.Lines) != 1 || p.Lines[0].Event != "half a line" || p.Next != nil {
		t.Errorf("at the end: got %+v, want the last line and no token", p)
	}
	req := request("GET", at, "")
	req.Header.Set("Authorization", "Bearer "+testToken)
	req.Header.Set("Accept", ndjson)
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	if n := strings.Count(w.Body.String(), "\n"); n != len(lines)+1 || w.Header().Get("Content-Type") != ndjson {
		t.Errorf("as a stream: got %d lines of %s, want %d", n, w.Header().Get("Content-Type"), len(lines)+1)
	}
}

// TestAirflowToken: the password opens, nothing else does, and the guard of the console is before everything.
func TestAirflowToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, tt := range []struct {
		name, kind, body, host, site string
		want                         int
	}{
		{"json", "application/json", `{"username":"admin","password":"` + testToken + `"}`, "", "", 201},
		{"form", "application/x-www-form-urlencoded", "username=admin&password=" + testToken, "", "", 201},
		{"wrong", "application/json", `{"username":"admin","password":"` + testToken + `x"}`, "", "", 401},
		{"none", "application/json", `{}`, "", "", 401},
		{"no JSON", "application/json", `password`, "", "", 422},
		{"host", "application/json", `{"password":"` + testToken + `"}`, "evil.example", "", 421},
		{"site", "application/json", `{"password":"` + testToken + `"}`, "", "cross-site", 403},
	} {
		req := request("POST", "/auth/token", tt.body)
		req.Header.Set("Content-Type", tt.kind)
		if tt.host != "" {
			req.Host = tt.host
		}
		if tt.site != "" {
			req.Header.Set("Sec-Fetch-Site", tt.site)
		}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		var body anyBody
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatalf("%s: %v in %s", tt.name, err, w.Body)
		}
		key := map[bool]string{true: "access_token", false: "detail"}[tt.want == 201]
		if text, _ := body[key].(string); w.Code != tt.want || text == "" || tt.want == 201 && text != testToken {
			t.Errorf("%s: got %d %v, want %d and %s", tt.name, w.Code, body, tt.want, key)
		}
	}
	for _, route := range r.airflow() {
		if route.access == tokenless {
			continue
		}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, request(route.method, route.path, ""))
		if w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), `"detail"`) {
			t.Errorf("%s without a token: got %d %s, want 401", route.path, w.Code, w.Body)
		}
	}
}

func TestAirflowSystem(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var body anyBody
	r.getV2("/monitor/health", http.StatusOK, &body)
	if body["metadatabase"].(anyBody)["status"] != "healthy" || body["scheduler"].(anyBody)["latest_scheduler_heartbeat"] == nil {
		t.Errorf("got %v, want all healthy", body)
	}
	sick := newRig(t, func(d *Deps, _ *Options) { d.Ready = func() error { return errBusy } })
	sick.getV2("/monitor/health", http.StatusOK, &body)
	if s := body["scheduler"].(anyBody); s["status"] != "unhealthy" || s["latest_scheduler_heartbeat"] != nil {
		t.Errorf("not ready: got %v, want unhealthy without a beat", s)
	}
	clear(body)
	if r.getV2("/variables", http.StatusOK, &body); fmt.Sprint(body["variables"]) != "[]" || body["total_entries"] != 0.0 {
		t.Errorf("variables: got %v, want none", body)
	}
	away := newRig(t, func(d *Deps, _ *Options) { d.Store, d.Control, d.Explain, d.Values = nil, nil, nil, nil })
	for _, path := range []string{"/pools", "/variables", "/connections/pg", "/dags", "/dags/x", "/dags/~/dagRuns", "/importErrors", "/monitor/health"} {
		away.getV2(path, http.StatusNotImplemented, &body)
	}
}

// TestAirflowPools: the executors together are the default pool.
func TestAirflowPools(t *testing.T) {
	t.Parallel()
	got := airflow.NewPools([]scheduler.Slots{
		{Kind: "executor", Name: "local", Slots: 8, Used: 3, Waiting: 5, Holders: []scheduler.Holder{{Slots: 1}, {Slots: 2, Since: schedulertest.Epoch}}},
		{Kind: "executor", Name: "mesos", Slots: 2, Used: 2, Holders: []scheduler.Holder{{Slots: 2, Since: schedulertest.Epoch}}},
		{Kind: "pool", Name: "redshift", Slots: 1, Used: 2}, // it was made smaller
	})
	want := [][]any{{"default_pool", 10, 5, 4, 1, 5, 5}, {"redshift", 1, 2, 2, 0, 0, 0}}
	for i, p := range got {
		if is := []any{p.Name, p.Slots, p.Occupied, p.Running, p.Queued, p.Scheduled, p.Open}; !slices.Equal(is, want[i]) {
			t.Errorf("got %v, want %v", is, want[i])
		}
	}
	r := newRig(t)
	var body anyBody
	if r.getV2("/pools/default_pool", http.StatusOK, &body); body["name"] != "default_pool" || len(got) != len(want) {
		t.Errorf("got %v, want the default pool", body)
	}
	r.getV2("/pools/none", http.StatusNotFound, &body)
}
