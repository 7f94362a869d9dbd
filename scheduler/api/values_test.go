package api

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler/schedulertest"
	"millrace/scheduler/vars"
)

// newValues returns a registry that has nothing yet.
func newValues(t *testing.T) *vars.Registry {
	t.Helper()
	keys, err := vars.OpenKeys(filepath.Join(t.TempDir(), vars.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	r, err := vars.Open(t.Context(), &schedulertest.Values{}, keys, vars.Config{}, vars.Options{Environ: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// valueQuestions are for TestAnswersFitDocument.
var valueQuestions = []question{
	{"PUT", "/variables/region", `{"value":"eu","description":"where","by":"ann"}`, 200}, {"PUT", "/variables/stripe", `{"value":"sk_live_1","secret":true}`, 200},
	{"PUT", "/variables/a%20b", `{"value":"x"}`, 422}, {"PUT", "/variables/region", `{"valu":"eu"}`, 422}, {"PUT", "/variables/region", `{}`, 422},
	{"POST", "/variables", `{"variables":[{"name":"api_token","value":"tk"},{"name":"n","value":"7"}]}`, 200}, {"POST", "/variables", `{"variables":[{"name":"x"}]}`, 422}, {"GET", "/variables", "", 200}, {"GET", "/variables/stripe", "", 200}, {"GET", "/variables/none", "", 404},
	{"DELETE", "/variables/n?by=ann", "", 200}, {"DELETE", "/variables/n", "", 404},
	{"PUT", "/connections/pg", `{"uri":"postgres://etl:hunter2@db:5433/prod?sslmode=require&api_key=kk77"}`, 200}, {"PUT", "/connections/pg", `{"uri":"db"}`, 422},
	{"GET", "/connections", "", 200}, {"GET", "/connections/pg", "", 200}, {"GET", "/connections/none", "", 404},
	{"POST", "/connections/pg/test", "", 200}, {"POST", "/connections/none/test", "", 404}, {"POST", "/admin/rotate-key", `{"by":"ann","drop":true}`, 200}, {"POST", "/admin/rotate-key", `{"dropp":true}`, 422},
	{"DELETE", "/connections/pg", "", 200}, {"DELETE", "/connections/pg", "", 404}, {"GET", "/audit?limit=3", "", 200}, {"GET", "/audit?limit=0", "", 422},
}

// No answer of any route has a secret, whatever is asked.
func TestSecretsAreNotAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for path, body := range map[string]string{
		"/api/v1/variables/stripe":    `{"value":"hush-secret","secret":true}`,
		"/api/v1/variables/api_token": `{"value":"hush-token"}`,
		"/api/v1/variables/region":    `{"value":"eu"}`,
		"/api/v1/connections/pg":      `{"uri":"postgres://etl:hush-pw@db:5433/prod?api_key=hush-extra&sslmode=require"}`,
	} {
		if w := r.ask("PUT", path, body); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "hush") {
			t.Errorf("set %s: got %d: %s", path, w.Code, w.Body)
		}
	}
	for _, bad := range []struct{ method, path, body string }{
		{"PUT", "/api/v1/variables/stripe", `{"value":"hush","secrt":true}`}, {"PUT", "/api/v1/variables/region", `{"value":"hush","secret":true}`},
		{"PUT", "/api/v1/connections/pg", `{"uri":"postgres://u:hush%zz@h/d"}`}, {"PUT", "/api/v1/connections/pg", `{"uri":"hush"`},
		{"POST", "/api/v1/variables", `{"variables":[{"name":"a b","value":"hush"}]}`},
	} {
		if w := r.ask(bad.method, bad.path, bad.body); w.Code != http.StatusUnprocessableEntity || strings.Contains(w.Body.String(), "hush") {
			t.Errorf("%s %s: got %d: %s", bad.method, bad.path, w.Code, w.Body)
		}
	}
	for _, path := range []string{
		"/api/v1/variables", "/api/v1/variables/stripe", "/api/v1/variables/api_token", "/api/v1/connections", "/api/v1/connections/pg", "/api/v1/audit",
		"/api/v2/variables", "/api/v2/variables/api_token", "/api/v2/connections", "/api/v2/connections/pg",
	} {
		if w := r.ask("GET", path, ""); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "hush") {
			t.Errorf("%s: got %d: %s", path, w.Code, w.Body)
		}
	}
	if w := r.ask("POST", "/api/v1/connections/pg/test", ""); w.Body.String() != `{"ok":false,"text":"no route to ***"}`+"\n" {
		t.Errorf("test: got %s", w.Body)
	}
}

// Airflow's shapes: no secret among the variables, and connections with *** for what they have.
func TestAirflowValues(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.ask("PUT", "/api/v1/variables/region", `{"value":"eu","description":"where"}`)
	r.ask("PUT", "/api/v1/variables/api_token", `{"value":"tk"}`)
	r.ask("PUT", "/api/v1/variables/stripe", `{"value":"sk","secret":true}`)
	r.ask("PUT", "/api/v1/connections/pg", `{"uri":"postgres://etl:pw@db:5433/prod?sslmode=require"}`)
	var body anyBody
	r.getV2("/variables?variable_key_pattern=%25reg%25", http.StatusOK, &body)
	want := anyBody{"variables": []any{anyBody{"key": "region", "value": "eu", "description": "where", "is_encrypted": false, "team_name": nil}}, "total_entries": 1.0}
	if d := cmp.Diff(want, body); d != "" {
		t.Errorf("variables (-want +got):\n%s", d)
	}
	clear(body)
	r.getV2("/variables/api_token", http.StatusOK, &body)
	if body["value"] != "***" || body["is_encrypted"] != true {
		t.Errorf("got %v, want it masked", body)
	}
	r.getV2("/variables/stripe", http.StatusNotFound, &body)
	clear(body)
	r.getV2("/connections/pg", http.StatusOK, &body)
	want = anyBody{"connection_id": "pg", "conn_type": "postgres", "description": nil, "host": "db", "login": "etl", "schema": "prod", "port": 5433.0,
		"password": "***", "extra": `{"sslmode":"require"}`, "team_name": nil}
	if d := cmp.Diff(want, body); d != "" {
		t.Errorf("connection (-want +got):\n%s", d)
	}
	clear(body)
	if r.getV2("/connections?limit=0", http.StatusOK, &body); body["total_entries"] != 1.0 {
		t.Errorf("connections: got %v", body)
	}
}
