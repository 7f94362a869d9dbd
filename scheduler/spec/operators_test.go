package spec

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

func TestOperators(t *testing.T) {
	t.Parallel()
	const src = `
dag: d
params: {id: {type: string, default: x}}
defaults: {timeout: 5m}
tasks:
  get: {http: {url: "https://api.example/items/${{ params.id }}?full=1"}}
  post:
    needs: get
    retry: 3
    http:
      method: PUT
      url: https://api.example
      headers: {X-Count: "${{ totals.events }}", X-Num: 5}
      body: {id: "${{ tasks.get.output.id }}", list: [1, 2.5, true, ~, &t text], again: *t}
      expect: [201, 204-206]
      timeout: 5s
  text: {http: {url: "https://api.example", body: "n=1"}}
  conn: {http: {connection: "conn:crm", url: "/v1/${{ params.id }}"}}
  wait: {wait: {object: "x/${{ params.id }}", poll: 1m}}
  sql: {sql: {connection: env:W, statement: [DELETE FROM t, "INSERT INTO t VALUES (@a)"], params: {a: "${{ params.id }}"}, max_rows: 0}}
  file: {sql: {connection: file:/run/w, file: /q.sql, params: {b: 7}}}
`
	ok := []scheduler.StatusRange{{From: 200, To: 299}}
	want := []scheduler.Task{
		{ID: "get", Kind: "http", HTTP: &scheduler.HTTP{Method: "GET", URL: "https://api.example/items/${{ params.id }}?full=1", Expect: ok, Timeout: 30 * time.Second}},
		{ID: "post", Kind: "http", Needs: []string{"get"}, Retry: scheduler.Retry{Limit: 3}, HTTP: &scheduler.HTTP{
			Method: "PUT", URL: "https://api.example", Headers: map[string]string{"X-Count": "${{ totals.events }}", "X-Num": "5"},
			Body:   []byte(`{"again":"text","id":"${{ tasks.get.output.id }}","list":[1,2.5,true,null,"text"]}`),
			Expect: []scheduler.StatusRange{{From: 201, To: 201}, {From: 204, To: 206}}, Timeout: 5 * time.Second,
		}},
		{ID: "text", Kind: "http", HTTP: &scheduler.HTTP{Method: "POST", URL: "https://api.example", Body: []byte(`"n=1"`), Expect: ok, Timeout: 30 * time.Second}},
		{ID: "conn", Kind: "http", HTTP: &scheduler.HTTP{Method: "GET", Connection: "conn:crm", URL: "/v1/${{ params.id }}", Expect: ok, Timeout: 30 * time.Second}},
		{ID: "wait", Kind: "wait", Wait: &scheduler.Wait{Object: "x/${{ params.id }}", Poll: time.Minute}},
		{ID: "sql", Kind: "sql", SQL: &scheduler.SQL{Connection: "env:W", Statements: []string{"DELETE FROM t", "INSERT INTO t VALUES (@a)"},
			Params: map[string]json.RawMessage{"a": json.RawMessage(`"${{ params.id }}"`)}}},
		{ID: "file", Kind: "sql", SQL: &scheduler.SQL{Connection: "file:/run/w", File: "/q.sql", Params: map[string]json.RawMessage{"b": json.RawMessage(`7`)}, MaxRows: 100}},
	}
	for i := range want {
		want[i].Timeout.Run, want[i].InfraRetry = 5*time.Minute, defaultInfraRetry
	}
	if diff := cmp.Diff(want, mustCompile(t, src)[0].Tasks); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
}
