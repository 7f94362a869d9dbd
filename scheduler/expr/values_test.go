package expr

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

func TestValues(t *testing.T) {
	t.Parallel()
	run := &scheduler.Run{ID: "r", Params: json.RawMessage(`{"x":"region"}`)}
	vars, err := NewVars(run, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string]string{"region": `"eu"`, "limit": "7", "db": `{"host":"h","ports":[1,2]}`, "a.b": "true"} {
		if err := vars.AddVariable(name, json.RawMessage(raw)); err != nil {
			t.Fatal(err)
		}
	}
	with := vars.WithSecrets(map[string]string{"stripe": "sk_1"},
		map[string]map[string]string{"pg": {"host": "h", "password": "pw", "uri": "postgres://h", "extra.sslmode": "require"}})
	for src, want := range map[string]string{
		"${{ vars.region }}-${{ vars.limit + 1 }}":       "eu-8",
		`${{ vars["a.b"] }}`:                             "true",
		"${{ vars.db.host }}:${{ vars.db.ports[1] }}":    "h:2",
		`${{ has(vars.none) ? vars.none : "default" }}`:  "default",
		"Bearer ${{ secrets.stripe }}":                   "Bearer sk_1",
		"${{ conns.pg.host }} ${{ conns.pg.password }}":  "h pw",
		`${{ conns["pg"]["uri"] }}`:                      "postgres://h",
		"${{ conns.pg.extra.sslmode }}":                  "require",
		`${{ conns.pg.host == "h" ? "this" : "other" }}`: "this",
	} {
		text, err := CompileText(src)
		if err != nil {
			t.Errorf("compile %s: %v", src, err)
			continue
		}
		if got, err := text.Eval(with); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", src, got, err, want)
		}
	}
	text, err := CompileText("${{ secrets.stripe }}")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := text.Eval(vars); err == nil {
		t.Errorf("the variables without secrets have one: %q", got)
	}
}

func TestValueRefs(t *testing.T) {
	t.Parallel()
	text, err := CompileText(`${{ has(vars.a) ? vars.a : vars.b }} ${{ conns.pg.host + conns.pg.port }} ${{ conns.pg.uri }} ${{ secrets["x-y"] }}`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range text.Refs() {
		s := strings.TrimRight(r.Root+" "+r.Name+" "+r.Field, " ")
		if r.Secret {
			s += " secret"
		}
		if r.Optional {
			s += " optional"
		}
		got = append(got, s)
	}
	want := []string{"vars a optional", "vars a", "vars b", "conns pg host", "conns pg port", "conns pg uri secret", "secrets x-y secret"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("refs (-want +got):\n%s", d)
	}
}

func TestValueFaults(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"${{ vars[params.x] }}":                    "write the name",
		"${{ size(vars) }}":                        "write the name",
		`${{ "x" + secrets.a }}`:                   "whole expression",
		"${{ size(secrets.a) }}":                   "whole expression",
		"${{ secrets.a.substring(0, 2) }}":         "whole expression",
		`${{ params.x == "y" ? secrets.a : "" }}`:  "whole expression",
		"${{ conns.pg.password + conns.pg.host }}": "whole expression",
		"${{ has(secrets.a) }}":                    "whole expression",
		"${{ conns.pg.passwd }}":                   "no field 'passwd'",
		"${{ size(conns.pg) }}":                    "which field",
	} {
		_, err := CompileText(src)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to say %q", src, err, want)
		}
	}
}
