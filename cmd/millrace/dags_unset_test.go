package main

import (
	"slices"
	"strings"
	"testing"
)

// TestLintOfUnsetValues: 'dags lint' asks a server that is named which values there are; one that is away is no error, and with none nothing is said.
func TestLintOfUnsetValues(t *testing.T) {
	t.Parallel()
	dir := dagDir(t, map[string]string{"send.yaml": `dag: send
on: [{id: by_hand, manual: true}]
tasks:
  a:
    run: [x, "${{ vars.region }}", "${{ vars.regoin }}", "${{ has(vars.maybe) ? vars.maybe : 'no' }}"]
    env: {T: "${{ secrets.stripe }}", S: "${{ secrets.absent }}"}
  b: {http: {connection: conn:crm, url: /}}
  c: {http: {connection: conn:partner, url: /}}
`})
	s := newServer(t, "dev", "--log-level", "error")
	s.start()
	s.says("eu-west-1", "vars", "set", "region", "-")
	s.says("sk_live_51H8", "vars", "set", "--secret", "stripe", "-")
	s.says("https://u:p4ssword@h", "conns", "set", "crm", "-")
	var found []finding
	s.cliJSON(&found, "dags", "lint", dir)
	var got []string
	for _, f := range found {
		if f.Code == warnNotSet {
			got = append(got, strings.Fields(f.Msg)[0]+": "+f.Hint)
		}
	}
	want := []string{`vars.regoin: did you mean "region"?`, "secrets.absent: millrace vars set --secret absent -", "conns.partner: millrace conns set partner -"}
	if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, env := range [][]string{nil, {"MILLRACE_SERVER=http://127.0.0.1:1"}} {
		out, errs, code := millrace(t, dir, env, "dags", "lint", dir)
		if code != exitOK || strings.Contains(out, warnNotSet) || strings.Contains(errs, "was not checked") != (env != nil) {
			t.Errorf("with %v: exit %d, got %s, %q", env, code, out, errs)
		}
	}
}
