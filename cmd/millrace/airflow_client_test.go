package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

// airflowDAGs are DAGs whose runs end in every way, one of them with mapped tasks that do, and one that ends when the file @END is there.
var airflowDAGs = map[string]string{
	"etl.yaml": `dag: etl
description: loads what the web sends
owner: data
tags: [nightly, sales]
params: {schema: raw}
on:
  - {id: night, cron: "15 2 29 2 *", timezone: Europe/Berlin}
  - {id: web, batch: {source: web}}
tasks:
  extract: {run: "echo extract é; echo two; printf three"}
  flaky: {needs: [extract], retry: {limit: 2, delay: 1ms}, run: 'echo "try $MILLRACE_TRY"; [ "$MILLRACE_TRY" = 2 ]'}
  optional: {needs: [extract], run: exit 99}
  after: {needs: [optional], run: "true"}
`,
	"bad.yaml": `dag: bad
tasks:
  fails: {run: exit 3}
  load: {needs: [fails], run: "true"}
`,
	"long.yaml": `dag: long
tasks:
  wait: {run: 'echo begun; while [ ! -e "@END" ]; do sleep 0.05; done'}
`,
	"fan.yaml": `dag: fan
on: [{id: hooks, batch: {source: demo}}]
tasks:
  each:
    foreach: {items: '["a", "b", "c", "d"]', key: item, tolerate_failures: 2}
    retry: {limit: 1, delay: 1ms}
    run: 'echo "$ITEM, try $MILLRACE_TRY"; case "$ITEM$MILLRACE_TRY" in b1|c?) exit 1;; d?) exit 99;; esac'
    env: {ITEM: "${{ item }}"}
  none: {foreach: 'lists.range(0)', run: "true"}
  end: {needs: [each], run: "true"}
`,
	"broken.yaml": "dag: broken\ntasks: {a: {rum: x}}\n",
}

// walked is what testdata/airflow/walk.py prints.
type walked struct {
	Version, Health map[string]any
	Pools           []map[string]any
	Pool            map[string]any
	Variables       struct{ Variables []map[string]any }
	Connections     struct{ Connections []map[string]any }
	ImportErrors    struct {
		Errors []struct {
			File string `json:"filename"`
			Text string `json:"stack_trace"`
		} `json:"import_errors"`
	} `json:"import_errors"`
	DAGs    []map[string]any            `json:"dags"`
	Details map[string]map[string]any   `json:"details"`
	Runs    map[string][]map[string]any `json:"runs"`
	Cursor  map[string][]string         `json:"cursor"`
	States  map[string][]string         `json:"states"`
	Tasks   map[string][]struct {
		Task  map[string]any   `json:"task"`
		Tries []map[string]any `json:"tries"`
		Logs  []struct {
			Lines []string `json:"lines"`
			Ended bool     `json:"ended"`
		} `json:"logs"`
		Plain  int `json:"plain"`
		Mapped struct {
			Status  int
			Indices []int
		} `json:"mapped"`
	} `json:"tasks"`
	Backfills map[string][]map[string]any `json:"backfills"`
	Refused   map[string]struct {
		Status int               `json:"status"`
		Kind   string            `json:"kind"`
		Body   map[string]string `json:"body"`
	} `json:"refused"`
}

// TestAirflowClient walks /api/v2 with Airflow's own client, and compares what it understood with what millrace says itself.
func TestAirflowClient(t *testing.T) {
	t.Parallel()
	python := airflowClient(t)
	end := filepath.Join(t.TempDir(), "end")
	files := map[string]string{}
	for name, text := range airflowDAGs {
		files[name] = strings.ReplaceAll(text, "@END", end)
	}
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, files))
	s.start()
	for _, dag := range []string{"etl", "bad", "long", "fan"} {
		s.head(dag, func(h scheduler.DAGHead) bool { return h.Version != "" })
	}
	s.head("broken", func(h scheduler.DAGHead) bool { return h.Error != "" })
	s.airflowRuns()

	script := filepath.Join(repoRoot(t), "cmd", "millrace", "testdata", "airflow", "walk.py")
	token, err := os.ReadFile(filepath.Join(s.dir, "console.token"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, script, "http://"+s.console, strings.TrimSpace(string(token)))
	cmd.Stderr = &lockedBuffer{}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("walk with Airflow's client: %v\n%s\nthe server said:\n%s", err, cmd.Stderr, s.stderr)
	}
	var w walked
	if err := json.Unmarshal(out, &w); err != nil {
		t.Fatalf("decode what the walk printed: %v in %s", err, out)
	}
	w.checkSystem(t)
	w.checkDAGs(t)
	w.checkRefused(t)
	w.checkBackfills(s)
	for dag, runs := range w.Runs {
		w.checkRuns(s, dag, runs)
	}
	write(t, end, "") // ends the run that still waits
	s.waitFor("rid of the last run", func() bool {
		return !slices.ContainsFunc(s.runs("long"), func(r scheduler.Run) bool { return !r.State.Terminal() })
	})
}

// airflowClient installs the client at the version of testdata/airflow, once for all tests on this machine, and returns its python.
func airflowClient(t *testing.T) string {
	t.Helper()
	pins := filepath.Join(repoRoot(t), "cmd", "millrace", "testdata", "airflow", "requirements.txt")
	python := findTool(t, "python3-venv", "python3")
	venv := installed(t, "airflow", []string{pins}, func(dir string) [][]string {
		return [][]string{
			{python, "-m", "venv", dir},
			{dir + "/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", pins},
		}
	}, func(dir string) []string { return []string{dir + "/bin/python", "-c", "import airflow_client.client"} })
	return venv + "/bin/python"
}

// airflowRuns makes runs by hand and by a batch: ended well, failed, cancelled, and one that goes on.
func (s *server) airflowRuns() {
	s.t.Helper()
	for i := range 3 {
		s.cliJSON(&scheduler.Run{}, "dags", "trigger", "etl", "--param", fmt.Sprintf("schema=s%d", i))
	}
	s.cliJSON(&scheduler.Run{}, "dags", "trigger", "bad")
	s.cliJSON(&scheduler.Run{}, "dags", "trigger", "fan")
	if status, _, err := s.track("airflow-1"); err != nil || status != 200 {
		s.t.Fatalf("track: %d, %v", status, err)
	}
	s.waitFor("through the batch", func() bool { return len(s.succeeded("etl")) == 4 })
	s.cli("backfill", "etl", "--rule", "web", "--received", "24h..now", "--reprocess", "all", "--max-active-runs", "3", "--id", "again", "--wait")
	var long [2]scheduler.Run
	s.cli("vars", "set", "region", "eu")
	s.cli("vars", "set", "--secret", "stripe", "sk_live_1")
	s.cli("conns", "set", "db", "postgres://u:hunter2@h/d")
	for i := range long {
		s.cliJSON(&long[i], "dags", "trigger", "long")
	}
	s.waitFor("running both", func() bool {
		return !slices.ContainsFunc(long[:], func(r scheduler.Run) bool {
			out, _ := s.cli("runs", "logs", r.ID)
			return !strings.Contains(out, "begun")
		})
	})
	s.cliJSON(&scheduler.Run{}, "runs", "cancel", long[0].ID)
	s.waitFor("all but one ended", func() bool {
		runs := s.runs("")
		live := slices.DeleteFunc(slices.Clone(runs), func(r scheduler.Run) bool { return r.State.Terminal() })
		return len(s.runs("etl")) == 5 && len(live) == 1
	})
	s.waitFor("in one slot, and told so", func() bool { // what a task prints may be there before the news that it runs
		var pools []scheduler.Slots
		s.cliJSON(&pools, "pools", "ls")
		return len(pools) == 1 && pools[0].Used == 1 && len(pools[0].Holders) == 1 && !pools[0].Holders[0].Since.IsZero()
	})
}

func (w *walked) checkSystem(t *testing.T) {
	if w.Version["version"] != "3.3.2" || w.Version["git_version"] != "millrace" {
		t.Errorf("version: got %v, want that of the client, and millrace's", w.Version)
	}
	store, scheduler := w.Health["metadatabase"].(map[string]any), w.Health["scheduler"].(map[string]any)
	if store["status"] != "healthy" || scheduler["status"] != "healthy" || scheduler["latest_scheduler_heartbeat"] == nil {
		t.Errorf("health: got %v", w.Health)
	}
	if e := w.ImportErrors.Errors; len(e) != 1 || e[0].File != "broken.yaml" || !strings.Contains(e[0].Text, `"rum"`) {
		t.Errorf("import errors: got %+v, want that of broken.yaml", e)
	}
	if len(w.Pools) != 1 || w.Pools[0]["name"] != "default_pool" || w.Pool["running_slots"] != 1.0 || w.Pool["occupied_slots"] != 1.0 {
		t.Errorf("pools: got %v and %v, want the default one with one slot taken", w.Pools, w.Pool)
	}
	if v := w.Variables.Variables; len(v) != 1 || v[0]["key"] != "region" || v[0]["value"] != "eu" {
		t.Errorf("variables: got %v, want region alone", v)
	}
	if c := w.Connections.Connections; len(c) != 1 || c[0]["connection_id"] != "db" || c[0]["host"] != "h" || c[0]["password"] != "***" {
		t.Errorf("connections: got %v, want db without its password", c)
	}
}

func (w *walked) checkDAGs(t *testing.T) {
	var ids []string
	for _, d := range w.DAGs {
		ids = append(ids, fmt.Sprint(d["dag_id"]))
		if d["dag_id"] != "etl" {
			continue
		}
		var tags []string
		for _, tag := range d["tags"].([]any) {
			tags = append(tags, fmt.Sprint(tag.(map[string]any)["name"]))
		}
		got := []any{d["description"], fmt.Sprint(d["owners"]), tags, d["fileloc"], d["timetable_summary"], d["is_paused"]}
		want := []any{"loads what the web sends", "[data]", []string{"nightly", "sales"}, "etl.yaml", "15 2 29 2 *, batch", false}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("DAG etl (-want +got):\n%s", diff)
		}
	}
	for _, id := range []string{"bad", "etl", "fan", "long"} {
		if !slices.Contains(ids, id) {
			t.Errorf("DAGs are %v, want %s among them", ids, id)
		}
	}
	if slices.Contains(ids, "broken") || slices.Contains(ids, "broken.yaml") {
		t.Errorf("DAGs are %v, want none of the broken file", ids)
	}
	if d := w.Details["etl"]; fmt.Sprint(d["params"]) != "map[schema:raw]" || d["timezone"] != "Europe/Berlin" {
		t.Errorf("details of etl: got %v %v, want its parameter and its zone", d["params"], d["timezone"])
	}
}

func (w *walked) checkRefused(t *testing.T) {
	for what, want := range map[string][2]string{
		"dag": {"404 NotFoundException", "none"}, "run": {"404 NotFoundException", "none"}, "write": {"404 NotFoundException", "for reading"},
		"backfill": {"404 NotFoundException", "backfill 17"},
		"filter":   {"422 UnprocessableEntityException", "run_id_pattern is not supported"}, "token": {"401 UnauthorizedException", "token"},
	} {
		got := w.Refused[what]
		if fmt.Sprint(got.Status, " ", got.Kind) != want[0] || !strings.Contains(got.Body["detail"], want[1]) {
			t.Errorf("refused %s: got %+v, want %v", what, got, want)
		}
	}
}

// checkRuns compares the runs of a DAG, with all that is in them.
func (w *walked) checkRuns(s *server, dag string, got []map[string]any) {
	t := s.t
	want := s.runs(dag)
	if len(got) != len(want) || len(w.Cursor[dag]) != len(want) {
		t.Errorf("runs of %s: got %d, and %d by cursor, want %d", dag, len(got), len(w.Cursor[dag]), len(want))
		return
	}
	for i, r := range want {
		a := got[i]
		state := map[scheduler.State]string{scheduler.StateCancelled: "failed"}[r.State]
		if state == "" {
			state = string(r.State)
		}
		kind := map[string]string{"manual": "manual", "batch": "asset_triggered"}[string(r.Trigger.Kind)]
		if r.ReplayOf != "" || r.Backfill != "" {
			kind = "backfill"
		}
		var conf any
		_ = json.Unmarshal(r.Params, &conf)
		if diff := cmp.Diff([]any{r.ID, dag, state, kind, conf}, []any{a["dag_run_id"], a["dag_id"], a["state"], a["run_type"], a["conf"]}); diff != "" {
			t.Errorf("run %s of %s (-want +got):\n%s", r.ID, dag, diff)
		}
		if w.Cursor[dag][i] != r.ID || !slices.Contains(w.States[state], r.ID) {
			t.Errorf("run %s of %s: by cursor %s, listed as %s: %v", r.ID, dag, w.Cursor[dag][i], state, w.States[state])
		}
		sameTime(t, r.ID+" run_after", a["run_after"], r.CreatedAt)
		sameTime(t, r.ID+" start", a["start_date"], r.StartedAt)
		sameTime(t, r.ID+" end", a["end_date"], r.EndedAt)
		w.checkTasks(s, r.ID)
	}
}

func (w *walked) checkTasks(s *server, run string) {
	t := s.t
	tasks, attempts := s.instances(run)
	if len(w.Tasks[run]) != len(tasks) {
		t.Errorf("run %s: got %d tasks, want %d", run, len(w.Tasks[run]), len(tasks))
		return
	}
	tries := 0
	for i, task := range tasks {
		got := w.Tasks[run][i]
		state := map[scheduler.State]string{scheduler.StateCancelled: "failed", scheduler.StateLaunching: "queued"}[task.State]
		if state == "" {
			state = string(task.State)
		}
		most := map[string]float64{"flaky": 2, "each": 1}[task.Task]
		var key any
		if task.Item != nil {
			key = task.Item.Key
		}
		a := got.Task
		if diff := cmp.Diff([]any{task.Task, state, float64(task.Try), most, float64(task.MapIndex), key},
			[]any{a["task_id"], a["state"], a["try_number"], a["max_tries"], a["map_index"], a["rendered_map_index"]}); diff != "" {
			t.Errorf("task %s (-want +got):\n%s", task.ID(), diff)
		}
		sameTime(t, task.ID()+" start", a["start_date"], task.StartedAt)
		sameTime(t, task.ID()+" end", a["end_date"], task.EndedAt)
		wantList, wantPlain := []int(nil), 200
		if task.MapIndex != scheduler.NoMap {
			wantList, wantPlain = []int{0, 1, 2, 3}, 404
		}
		if diff := cmp.Diff(wantList, got.Mapped.Indices); diff != "" || (got.Mapped.Status == 404) != (wantList == nil) || got.Plain != wantPlain {
			t.Errorf("task %s: listed as mapped with status %d, without its index %d, indices (-want +got):\n%s", task.ID(), got.Mapped.Status, got.Plain, diff)
		}
		tries += len(got.Tries)
		for n, try := range got.Tries {
			if try["try_number"] != float64(n+1) || try["map_index"] != float64(task.MapIndex) {
				t.Errorf("task %s: try %d is %v", task.ID(), n+1, try)
			}
			text, code := s.cli("runs", "logs", run, "--task", task.Task, "--map-index", strconv.Itoa(task.MapIndex), "--try", strconv.Itoa(n+1))
			log := got.Logs[n]
			if want := strings.TrimSuffix(text, "\n"); code != exitOK || strings.Join(log.Lines, "\n") != want || log.Ended != task.State.Terminal() {
				t.Errorf("log of %s, try %d: got %q, ended %v, want %q (exit %d)", task.ID(), n+1, log.Lines, log.Ended, want, code)
			}
		}
	}
	if tries != attempts {
		t.Errorf("run %s: got %d tries, want %d", run, tries, attempts)
	}
}

// instances returns the tasks of a run as Airflow counts them, mapped ones in the place of the task that they are of, and how many attempts these have.
func (s *server) instances(run string) (tasks []scheduler.TaskRun, attempts int) {
	s.t.Helper()
	var d scheduler.RunDetail
	s.cliJSON(&d, "runs", "show", run)
	attempts = len(d.Attempts)
	for _, task := range d.Tasks {
		if task.Map == nil || task.Map.Made == 0 {
			tasks = append(tasks, task)
			continue
		}
		var rows []scheduler.TaskRun
		s.cliJSON(&rows, "tasks", "ls", run, "--task", task.Task)
		tasks = append(tasks, rows...)
		for _, row := range rows {
			attempts += row.Try
		}
	}
	return tasks, attempts
}

// checkBackfills compares the one backfill that there is with what millrace says of it.
func (w *walked) checkBackfills(s *server) {
	t := s.t
	var shown struct{ Backfill scheduler.Backfill }
	s.cliJSON(&shown, "backfill", "show", "again")
	b := shown.Backfill
	got := w.Backfills["etl"]
	if len(got) != 1 || len(w.Backfills["fan"]) != 0 {
		t.Errorf("backfills: got %v, want one, of etl", w.Backfills)
		return
	}
	one := got[0]
	if diff := cmp.Diff([]any{"etl", "completed", 3.0, false}, []any{one["dag_id"], one["reprocess_behavior"], one["max_active_runs"], one["is_paused"]}); diff != "" {
		t.Errorf("backfill (-want +got):\n%s", diff)
	}
	sameTime(t, "backfill from", one["from_date"], b.Selection.Received.From)
	sameTime(t, "backfill to", one["to_date"], b.Selection.Received.To)
	sameTime(t, "backfill made", one["created_at"], b.CreatedAt)
	sameTime(t, "backfill ended", one["completed_at"], b.EndedAt)
}

// sameTime compares a date of the client's, which may be missing, with a time, which may be zero.
func sameTime(t *testing.T, what string, got any, want time.Time) {
	t.Helper()
	if got == nil && want.IsZero() {
		return
	}
	at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(got))
	if err != nil || !at.Equal(want.Truncate(time.Microsecond)) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
