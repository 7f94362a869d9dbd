package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"millrace/cmd/internal/app"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

// partner is a server that tasks talk to: it answers a path with the statuses that are listed for it, one after the other, the last one for
// ever, and remembers every request.
type partner struct {
	url string

	mu    sync.Mutex // guards the two
	plan  map[string][]int
	calls []call
}

type call struct {
	line, body string
	header     http.Header
}

func newPartner(t *testing.T, plan map[string][]int) *partner {
	t.Helper()
	p := &partner{plan: plan}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	p.url = s.URL
	return p
}

func (p *partner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, call{r.Method + " " + r.RequestURI, string(body), r.Header})
	status := http.StatusOK
	if list := p.plan[r.URL.Path]; len(list) > 0 {
		status = list[0]
		p.plan[r.URL.Path] = list[min(1, len(list)-1):]
	}
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"call": %d, "path": %q}`, len(p.calls), r.URL.Path)
}

// to returns the requests whose line begins with prefix.
func (p *partner) to(prefix string) []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.calls), func(c call) bool { return !strings.HasPrefix(c.line, prefix) })
}

// finish triggers a DAG and returns its run when that has ended, its tasks by id, and what they have printed.
func (s *server) finish(dag string, args ...string) (d scheduler.RunDetail, tasks map[string]scheduler.TaskRun, logs string) {
	s.t.Helper()
	s.head(dag, func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	var r scheduler.Run
	s.cliJSON(&r, append([]string{"dags", "trigger", dag}, args...)...)
	s.waitFor("at the end of "+dag, func() bool {
		s.cliJSON(&d, "runs", "show", r.ID)
		return d.Run.State.Terminal()
	})
	tasks = map[string]scheduler.TaskRun{}
	for _, t := range d.Tasks {
		tasks[t.Task] = t
	}
	logs, _ = s.cli("runs", "logs", r.ID)
	return d, tasks, logs
}

const httpDAG = `dag: calls
on: [{id: by_hand, manual: true}]
params: {name: {type: string, default: x}}
defaults: {retry: {limit: 3}}
tasks:
  create:
    http:
      url: "@URL/v1/items/${{ params.name }}?by=${{ params.name }}"
      method: PUT
      headers: {Authorization: "env:PARTNER_AUTH", X-Run: "${{ run.id }}"}
      body: {name: "${{ params.name }}", events: "${{ totals.events }}"}
  next: {needs: create, http: {url: "@URL/next/${{ tasks.create.output.call }}"}}
  busy: {http: {url: "@URL/busy"}}
  gone: {http: {url: "@URL/gone"}}
`

// TestHTTPTasks: a request with hostile values arrives as it was meant; its answer is what the next task is given; 503 and 429 are tried again, 404
// is not; secrets are neither in the log nor in argv.
func TestHTTPTasks(t *testing.T) {
	t.Parallel()
	p := newPartner(t, map[string][]int{"/busy": {503, 429, 200}, "/gone": {404}})
	s := newServer(t, "dev", "--log-level", "error", "--dags",
		dagDir(t, map[string]string{"calls.yaml": strings.ReplaceAll(httpDAG, "@URL", p.url)}))
	s.env = append(s.env, "MILLRACE_EXECUTORS__LOCAL__ALLOW_PRIVATE=true", "MILLRACE_EXECUTORS__LOCAL__ENV=PARTNER_AUTH", "PARTNER_AUTH=Bearer s3cret")
	s.start()
	const evil = `a/../b?x=1&y="},{#`
	name, _ := json.Marshal(evil)
	d, tasks, logs := s.finish("calls", "--param", "name="+string(name))
	created := p.to("PUT /v1/items/a%2F..%2Fb%3Fx=1&y=%22%7D%2C%7B%23?by=a%2F..%2Fb%3Fx%3D1%26y%3D%22%7D%2C%7B%23")
	if len(created) != 1 {
		t.Fatalf("create: %s; requests: %+v\n%s", tasks["create"].Reason, p.to(""), logs)
	}
	var body struct {
		Name   string `json:"name"`
		Events int    `json:"events"`
	}
	c := created[0]
	if err := json.Unmarshal([]byte(c.body), &body); err != nil || body.Name != evil {
		t.Errorf("body %s, %v", c.body, err)
	}
	if c.header.Get("Authorization") != "Bearer s3cret" || c.header.Get("X-Run") != d.Run.ID || c.header.Get("Idempotency-Key") != d.Run.ID+"/create" {
		t.Errorf("headers %v", c.header)
	}
	var out struct{ Call int }
	if err := json.Unmarshal(tasks["create"].Output, &out); err != nil || len(p.to(fmt.Sprintf("GET /next/%d", out.Call))) != 1 {
		t.Errorf("the answer %s is not what the next task was given: %+v", tasks["create"].Output, p.to("GET /next"))
	}
	for task, want := range map[string]scheduler.TaskRun{
		"create": {State: "success", Try: 1, Exit: 0}, "next": {State: "success", Try: 1, Exit: 0},
		"busy": {State: "success", Try: 3, Exit: 0}, "gone": {State: "failed", Try: 1, Exit: 64},
	} {
		if got := tasks[task]; got.State != want.State || got.Try != want.Try || got.Exit != want.Exit {
			t.Errorf("%s: %s after %d tries, exit %d; want %s after %d, exit %d", task, got.State, got.Try, got.Exit, want.State, want.Try, want.Exit)
		}
	}
	if len(p.to("GET /busy")) != 3 || len(p.to("GET /gone")) != 1 {
		t.Errorf("requests: %+v", p.to(""))
	}
	for _, want := range []string{"PUT " + p.url, "200 OK in ", "404 Not Found", "the task's output"} {
		if !strings.Contains(logs, want) {
			t.Errorf("the logs do not have %q:\n%s", want, logs)
		}
	}
	if strings.Contains(logs, "s3cret") {
		t.Errorf("the logs have a secret:\n%s", logs)
	}
}

// TestHTTPGuard: without allow_private a task can not reach what only this machine can, however it is written; nothing is sent, and it is not
// tried again.
func TestHTTPGuard(t *testing.T) {
	t.Parallel()
	p := newPartner(t, nil)
	port := p.url[strings.LastIndexByte(p.url, ':')+1:]
	var dag strings.Builder
	dag.WriteString("dag: inside\non: [{id: by_hand, manual: true}]\ndefaults: {retry: 3}\ntasks:\n")
	hosts := []string{"127.0.0.1", "localhost", "0.0.0.0", "127.1.2.3", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"}
	for i, host := range hosts {
		fmt.Fprintf(&dag, "  t%d: {http: {url: \"http://%s:%s/\", timeout: 5s}}\n", i, host, port)
	}
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"inside.yaml": dag.String()}))
	s.start()
	_, tasks, logs := s.finish("inside")
	for i, host := range hosts {
		if got := tasks[fmt.Sprintf("t%d", i)]; got.State != scheduler.StateFailed || got.Exit != 64 || got.Try != 1 {
			t.Errorf("%s: %s after %d tries, exit %d", host, got.State, got.Try, got.Exit)
		}
	}
	if n := strings.Count(logs, "executors.local.allow_private: true"); n != len(hosts) {
		t.Errorf("%d of %d logs say why and what to do:\n%s", n, len(hosts), logs)
	}
	if calls := p.to(""); len(calls) != 0 {
		t.Errorf("the server was reached: %+v", calls)
	}
}

const waitDAG = `dag: waits
on: [{id: by_hand, manual: true}]
params: {key: {type: string, default: x}}
tasks:
  file: {timeout: {run: 1h, heartbeat: 4s}, wait: {object: "@DIR/${{ params.key }}", poll: 100ms}}
  object: {timeout: 1h, wait: {object: "${{ params.key }}/entry", poll: 100ms}}
  never: {timeout: 9s, wait: {object: "${{ params.key }}/never", poll: 100ms}}
`

// TestWaitTasks: tasks wait for a file, and for an object of the installation's store, which is seen beside the process that puts; one whose
// object never comes ends with its timeout. What was found is the output. Operators give signs of life as long as they wait.
func TestWaitTasks(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	s := newServer(t, "dev", "--log-level", "error", "--dags",
		dagDir(t, map[string]string{"waits.yaml": strings.ReplaceAll(waitDAG, "@DIR", files)}))
	s.start()
	s.head("waits", func(h scheduler.DAGHead) bool { return h.Version != "" && h.Error == "" })
	var r scheduler.Run
	s.cliJSON(&r, "dags", "trigger", "waits", "--param", "key=later")
	var d scheduler.RunDetail
	task := func(id string) scheduler.TaskRun {
		s.cliJSON(&d, "runs", "show", r.ID)
		return d.Tasks[slices.IndexFunc(d.Tasks, func(t scheduler.TaskRun) bool { return t.Task == id })]
	}
	s.waitFor("tired of the object that never comes", func() bool { return task("never").State == scheduler.StateFailed })
	for _, id := range []string{"file", "object"} {
		if got := task(id); got.State.Terminal() {
			t.Errorf("%s has ended as %s without its object: %s", id, got.State, got.Reason)
		}
	}
	write(t, filepath.Join(files, "later"), "12345")
	write(t, filepath.Join(s.dir, "objects", "later", "entry"), "1234567")
	s.waitFor("at the end of the run", func() bool { return task("file").State.Terminal() && task("object").State.Terminal() })
	for id, want := range map[string]string{"file": "/later", "object": "/objects/later/entry"} {
		got := task(id)
		var found struct {
			URI   string `json:"uri"`
			Bytes int    `json:"bytes"`
		}
		if err := json.Unmarshal(got.Output, &found); err != nil || got.State != scheduler.StateSuccess || !strings.HasSuffix(found.URI, want) ||
			found.Bytes != map[string]int{"file": 5, "object": 7}[id] {
			t.Errorf("%s: %s, output %s, %v", id, got.State, got.Output, err)
		}
	}
	logs, _ := s.cli("runs", "logs", r.ID)
	for _, want := range []string{"looking every 100ms", "it is there after"} {
		if !strings.Contains(logs, want) {
			t.Errorf("the logs do not have %q:\n%s", want, logs)
		}
	}
}

const sqlDAG = `dag: tables
on: [{id: by_hand, manual: true}]
params: {name: {type: string, default: x}}
defaults: {retry: 2}
tasks:
  make: {sql: {connection: env:WAREHOUSE, statement: "CREATE TABLE IF NOT EXISTS names (key text PRIMARY KEY, name text, n bigint)"}}
  load:
    needs: make
    sql:
      connection: env:WAREHOUSE
      statement:
        - DELETE FROM names WHERE key = @idempotency_key
        - INSERT INTO names (key, name, n) VALUES (@idempotency_key, @name, @n)
      params: {name: "${{ params.name }}", n: "${{ totals.events }}"}
  read: {needs: load, sql: {connection: env:WAREHOUSE, statement: "SELECT key, name, n FROM names ORDER BY key"}}
  after: {needs: read, when: "tasks.read.output.rows[0].name == params.name", run: ["true"]}
  wrong: {needs: make, sql: {connection: env:WAREHOUSE, statement: "SELECT nosuch FROM names"}}
`

// TestSQLTasks: a hostile value is stored as it is, in PostgreSQL and in SQLite, under the task's idempotency key; what was read decides what
// runs next; a statement that the database refuses is not tried again; the password is neither in the log nor in argv.
func TestSQLTasks(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "warehouse.db")
	write(t, file, "")
	for name, url := range map[string]func(t *testing.T) string{
		"postgres": func(t *testing.T) string {
			return strings.Replace(schedulertest.Postgres(t), "millrace@", "millrace:s3cret@", 1)
		},
		"sqlite": func(*testing.T) string { return "sqlite:" + file },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"tables.yaml": sqlDAG}))
			s.env = append(s.env, "MILLRACE_EXECUTORS__LOCAL__ENV=WAREHOUSE", "WAREHOUSE="+url(t))
			s.start()
			const evil = `'); DROP TABLE names; -- "`
			param, _ := json.Marshal(evil)
			d, tasks, logs := s.finish("tables", "--param", "name="+string(param))
			want := fmt.Sprintf(`{"rows_affected":0,"rows":[{"key":"%s/load","name":%s,"n":0}]}`, d.Run.ID, param)
			var got bytes.Buffer
			if err := json.Compact(&got, tasks["read"].Output); err != nil || got.String() != want {
				t.Errorf("got  %s, %v\nwant %s\n%s", &got, err, want, logs)
			}
			for id, want := range map[string]scheduler.TaskRun{
				"load": {State: "success", Try: 1}, "after": {State: "success", Try: 1}, "wrong": {State: "failed", Try: 1, Exit: 64},
			} {
				if got := tasks[id]; got.State != want.State || got.Try != want.Try || got.Exit != want.Exit {
					t.Errorf("%s: %s after %d tries, exit %d: %s", id, got.State, got.Try, got.Exit, got.Reason)
				}
			}
			for _, want := range []string{"committed, 1 rows affected", "nosuch"} {
				if !strings.Contains(logs, want) || strings.Contains(logs, "s3cret") || strings.Contains(logs, "DROP") {
					t.Errorf("the logs do not have %q, or have a secret or a value:\n%s", want, logs)
				}
			}
		})
	}
}

// TestOperatorDocs: the DAG files of docs/operators.md have no fault.
func TestOperatorDocs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(repoRoot(t), "docs", "operators.md"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for i, block := range strings.Split(string(text), "```yaml\n") {
		block, _, _ = strings.Cut(block, "```")
		if !strings.HasPrefix(block, "dag: ") {
			continue
		}
		dags, err := app.CompileDAGs(fmt.Sprintf("block %d", i), []byte(block))
		if err != nil {
			t.Errorf("%v\n%s", err, block)
			continue
		}
		for _, task := range dags[0].Tasks {
			kinds[task.Kind]++
		}
	}
	for _, kind := range []string{scheduler.KindHTTP, scheduler.KindWait, scheduler.KindSQL} {
		if kinds[kind] == 0 {
			t.Errorf("there is no DAG file with %s: %v", kind, kinds)
		}
	}
}
