package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"millrace/scheduler"
	"millrace/scheduler/operator"
)

// fixed is an installation whose values do not change.
type fixed struct {
	vars, secrets map[string]string
	conns         map[string]map[string]string
}

func (f fixed) Variable(name string) (json.RawMessage, bool) {
	val, ok := f.vars[name]
	return json.RawMessage(val), ok
}

func (f fixed) Secret(_ context.Context, name string) (string, error) {
	if val, ok := f.secrets[name]; ok {
		return val, nil
	}
	return "", fmt.Errorf("secret %q: %w", name, scheduler.ErrNoValue)
}

func (f fixed) Connection(_ context.Context, name string) (map[string]string, error) {
	if val, ok := f.conns[name]; ok {
		return val, nil
	}
	return nil, fmt.Errorf("connection %q: %w", name, scheduler.ErrNoValue)
}

// launched returns the launch of a DAG's only task, with its secrets read.
func launched(t *testing.T, dag scheduler.DAG, values scheduler.Values) (scheduler.Launch, error) {
	t.Helper()
	dag.V, dag.ID = 1, "d"
	compiled, v, err := Of(&dag)
	if err != nil {
		t.Fatal(err)
	}
	compiled.Values = values
	row := scheduler.Run{ID: "r", DAG: "d", Version: v.Version, State: scheduler.StateQueued}
	r, err := Restore(compiled, &scheduler.LiveRun{Run: row, Tasks: []scheduler.TaskRun{
		{Run: "r", Task: dag.Tasks[0].ID, MapIndex: scheduler.NoMap, State: scheduler.StateScheduled},
	}})
	if err != nil {
		t.Fatal(err)
	}
	op := operator.All(operator.Options{})[dag.Tasks[0].Kind]
	p, err := r.Pend(0, 1, op, nil)
	if err != nil || p == nil {
		if err != nil {
			return scheduler.Launch{}, err
		}
		return r.Launch(0, 1, op, nil)
	}
	r.Tasks[0].Task = "changed meanwhile"
	return p.Launch(t.Context())
}

func TestLaunchWithValues(t *testing.T) {
	t.Parallel()
	values := fixed{
		vars:    map[string]string{"region": `"eu"`, "api_token": `"tk_12345"`, "db": `{"host":"h"}`},
		secrets: map[string]string{"stripe": `sk_"1`},
		conns:   map[string]map[string]string{"pg": {"host": "h", "password": "pw1234", "uri": "postgres://u:pw1234@h/d"}},
	}
	l, err := launched(t, scheduler.DAG{Env: map[string]string{"R": "${{ vars.region }}"}, Tasks: []scheduler.Task{{
		ID: "x", Kind: "command", Run: []string{"a", "${{ vars.db.host }}"},
		Env: map[string]string{"T": "Bearer ${{ secrets.stripe }}", "P": "${{ conns.pg.password }}", "A": "${{ vars.api_token }}"},
	}}}, values)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"R=eu", `T=Bearer sk_"1`, "P=pw1234", "A=tk_12345", "MILLRACE_TASK_ID=x"} {
		if !slices.Contains(l.Env, want) {
			t.Errorf("env %q lacks %s", l.Env, want)
		}
	}
	for _, want := range []string{`sk_"1`, "pw1234", "tk_12345", "postgres://u:pw1234@h/d"} {
		if !slices.Contains(l.Secrets, want) {
			t.Errorf("secrets %q lack %s", l.Secrets, want)
		}
	}
	if l.Argv[1] != "h" || slices.Contains(l.Secrets, "eu") {
		t.Errorf("got argv %q, secrets %q", l.Argv, l.Secrets)
	}
	q := &scheduler.SQL{Connection: "conn:pg", Statements: []string{"SELECT 1"}, MaxRows: 1}
	l, err = launched(t, scheduler.DAG{Tasks: []scheduler.Task{{ID: "x", Kind: "sql", SQL: q}}}, values)
	if err != nil || !slices.Contains(l.Env, "MILLRACE_CONNECTION=postgres://u:pw1234@h/d") ||
		!slices.ContainsFunc(l.Env, func(kv string) bool { return strings.Contains(kv, `"connection":"env:MILLRACE_CONNECTION"`) }) {
		t.Errorf("sql: got %v, env %q", err, l.Env)
	}
}

func TestLaunchWithoutValues(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"${{ vars.none }}":                           `variable "none" is not set; set it with: millrace vars set none VALUE`,
		"${{ secrets.none }}":                        `secret "none": is not set`,
		"${{ conns.none.host }}":                     `connection "none": is not set`,
		"${{ has(vars.none) ? vars.none : 'other'}}": "",
	} {
		l, err := launched(t, scheduler.DAG{Tasks: []scheduler.Task{{
			ID: "x", Kind: "command", Run: []string{"a"}, Env: map[string]string{"A": text},
		}}}, fixed{})
		switch {
		case want == "" && (err != nil || !slices.Contains(l.Env, "A=other")):
			t.Errorf("%s: got %v, env %q", text, err, l.Env)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	// What is wrong with a secret is said without it.
	_, err := launched(t, scheduler.DAG{Tasks: []scheduler.Task{{
		ID: "x", Kind: "command", Run: []string{"a"}, Env: map[string]string{"A": "${{ secrets.a }}"},
	}}}, fixed{secrets: map[string]string{"a": "hunter\x00two"}})
	if err == nil || strings.Contains(err.Error(), "hunter") || errors.Is(err, scheduler.ErrValueBusy) {
		t.Errorf("got %v, want a final error without the secret", err)
	}
}
