package main

import (
	"encoding/base64"
	"strings"
	"testing"

	"millrace/scheduler"
)

// TestHTTPConnection: a request goes where its connection says, with the login and the headers of that, read when the attempt starts; the guard holds for
// its address; what is secret of it is not in the log, even if the other side repeats it.
func TestHTTPConnection(t *testing.T) {
	t.Parallel()
	p := newPartner(t, map[string][]int{"/v1/gone": {404}})
	const dag = `dag: conn
on: [{id: by_hand, manual: true}]
params: {id: {type: string, default: a/b}}
tasks:
  get: {http: {connection: conn:crm, url: "/items/${{ params.id }}", headers: {X-Run: "${{ run.id }}"}}}
  gone: {http: {connection: conn:crm, url: /gone}}
  base: {http: {connection: conn:crm, headers: {Authorization: mine}}}
  unset: {http: {connection: conn:nobody, url: /}}
`
	s := newServer(t, "dev", "--log-level", "error", "--dags", dagDir(t, map[string]string{"conn.yaml": dag}))
	s.start()
	uri := strings.Replace(p.url, "http://", "http://etl:correct-horse@", 1) + "/v1?X-Api-Key=k3y-of-many"
	if out, code := s.says(uri, "conns", "set", "crm", "-"); code != exitOK {
		t.Fatalf("conns set: %s", out)
	}
	_, tasks, logs := s.finish("conn")
	if got := tasks["get"]; got.State != scheduler.StateFailed || got.Exit != 64 || len(p.to("")) != 0 || !strings.Contains(logs, "allow_private") {
		t.Errorf("without allow_private: %s, exit %d, requests %v\n%s", got.State, got.Exit, p.to(""), logs)
	}
	s.kill()
	s.env = append(s.env, "MILLRACE_EXECUTORS__LOCAL__ALLOW_PRIVATE=true")
	s.start()
	d, tasks, logs := s.finish("conn")
	basic := base64.StdEncoding.EncodeToString([]byte("etl:correct-horse"))
	got := p.to("GET /v1/items/a%2Fb")
	if len(got) != 1 || got[0].header.Get("Authorization") != "Basic "+basic || got[0].header.Get("X-Api-Key") != "k3y-of-many" || got[0].header.Get("X-Run") != d.Run.ID {
		t.Errorf("get: %s, requests %+v", tasks["get"].Reason, p.to(""))
	}
	for _, c := range p.to("") {
		if c.line == "GET /v1" && c.header.Get("Authorization") != "mine" {
			t.Errorf("base: headers %v, want those of the task to win", c.header)
		}
	}
	for id, want := range map[string]scheduler.State{"get": "success", "base": "success", "gone": "failed", "unset": "failed"} {
		if tasks[id].State != want {
			t.Errorf("%s: got %s (%s), want %s", id, tasks[id].State, tasks[id].Reason, want)
		}
	}
	if !strings.Contains(tasks["unset"].Reason, "millrace conns set nobody") {
		t.Errorf("unset: got %q, want what to do", tasks["unset"].Reason)
	}
	for _, secret := range []string{"correct-horse", "k3y-of-many", basic} {
		if strings.Contains(logs, secret) {
			t.Errorf("the logs have %q:\n%s", secret, logs)
		}
	}
}
