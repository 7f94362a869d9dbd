package spec

import (
	"strings"
	"testing"
)

// Where values of the installation may stand, and what is said where they may not.
func TestValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, says string }{
		{"variable in env", "env: {A: '${{ vars.a }}'}\ntasks: {x: {run: [a]}}", ""},
		{"variable in an argument", "tasks: {x: {run: [a, '${{ vars.a }}']}}", ""},
		{"variable in when", `tasks: {x: {run: [a], when: 'vars.on == true'}}`, ""},
		{"secret in env", "tasks: {x: {run: 'echo', env: {T: 'Bearer ${{ secrets.t }}'}}}", ""},
		{"secret in a header", `tasks: {x: {http: {url: "https://h/", headers: {Authorization: 'Bearer ${{ secrets.t }}'}}}}`, ""},
		{"secret in a parameter", `tasks: {x: {sql: {connection: conn:pg, statement: 'SELECT @a', params: {a: '${{ secrets.t }}'}}}}`, ""},
		{"host in an argument", "tasks: {x: {run: [a, '${{ conns.pg.host }}']}}", ""},
		{"secret in an argument", "tasks: {x: {run: [a, '${{ secrets.t }}']}}", "everybody on the machine can read it"},
		{"password in an argument", "tasks: {x: {run: [a, '${{ conns.pg.password }}']}}", "everybody on the machine can read it"},
		{"secret in a shell", "tasks: {x: {run: 'echo ${{ secrets.t }}'}}", "can not stand in a shell command"},
		{"secret in when", `tasks: {x: {run: [a], when: 'secrets.t == "a"'}}`, "must be a whole expression"},
		{"connection in when", `tasks: {x: {run: [a], when: 'conns.pg.host == "a"'}}`, "connections can only stand in"},
		{"variable in a group", "concurrency: {group: '${{ vars.a }}'}\ntasks: {x: {run: [a]}}", "can change from one run to the next"},
		{"no name", "tasks: {x: {run: [a], env: {A: '${{ vars[\"a b\"] }}'}}}", `the name "a b"`},
		{"connection without a name", `tasks: {x: {sql: {connection: 'conn:', statement: 'SELECT 1'}}}`, "names nothing"},
		{"variables as a key", "variables: {a: b}\ntasks: {x: {run: [a]}}", "millrace vars set NAME VALUE"},
		{"secrets as a key", "tasks: {x: {run: [a], secrets: [a]}}", "millrace vars set --secret NAME"},
		{"connections as a key", "connections: {a: b}\ntasks: {x: {run: [a]}}", "millrace conns set NAME URI"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Compile("a.yaml", []byte("dag: d\n"+c.text+"\n"))
			switch {
			case c.says == "" && err != nil:
				t.Errorf("got %v, want no fault", err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("got %v, want it to say %q", err, c.says)
			}
		})
	}
}
