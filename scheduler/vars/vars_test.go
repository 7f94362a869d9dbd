package vars

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
)

// installation is a registry with what it is made of.
type installation struct {
	*Registry
	t     *testing.T
	store *schedulertest.Values
	file  string
	conf  Config
	env   []string
}

func install(t *testing.T) *installation {
	t.Helper()
	in := &installation{t: t, store: &schedulertest.Values{}, file: filepath.Join(t.TempDir(), KeyFile), env: []string{"PATH=/bin"}}
	in.restart()
	return in
}

func (in *installation) restart() {
	in.t.Helper()
	keys, err := OpenKeys(in.file)
	if err != nil {
		in.t.Fatal(err)
	}
	if in.Registry, err = Open(in.t.Context(), in.store, keys, in.conf, Options{Environ: in.env}); err != nil {
		in.t.Fatal(err)
	}
}

func (in *installation) set(kind, name, text string) {
	in.t.Helper()
	if err := in.Set(in.t.Context(), "ann", Set{Kind: kind, Name: name, Text: text}); err != nil {
		in.t.Fatalf("set %s: %v", name, err)
	}
}

func (in *installation) secret(name, want string) {
	in.t.Helper()
	if got, err := in.Secret(in.t.Context(), name); err != nil || got != want {
		in.t.Errorf("secret %s: got %q, %v, want %q", name, got, err, want)
	}
}

func (in *installation) variable(name, want string) {
	in.t.Helper()
	if got, ok := in.Variable(name); string(got) != want || ok != (want != "") {
		in.t.Errorf("variable %s: got %s, want %s", name, got, want)
	}
}

// stored returns all that the store has, as one text.
func (in *installation) stored() string {
	in.t.Helper()
	rows, err := in.store.Values(in.t.Context())
	if err != nil {
		in.t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(r.Kind + " " + r.Name + " " + r.Text + "\n")
	}
	return b.String()
}

// The environment comes before the configuration, and that before the store; people see which it was, and what it hides.
func TestSources(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.set(scheduler.ValueVariable, "region", "store")
	in.variable("region", `"store"`)
	in.conf.Variables = map[string]string{"region": "file", "other": "x"}
	in.Configure(in.conf)
	in.variable("region", `"file"`)
	in.env = append(in.env, "MILLRACE_VAR_REGION=env", "MILLRACE_VAR_MY_NAME=1")
	in.restart()
	in.variable("region", `"env"`)
	in.variable("my.name", "1")
	var got []string
	for _, v := range in.Variables() {
		got = append(got, v.Name+"="+v.Value+" "+v.Origin+" hides "+strings.Join(v.Hides, ","))
	}
	want := []string{"my_name=1 environment hides ", "other=x configuration hides ", "region=env environment hides configuration,store"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("variables (-want +got):\n%s", d)
	}
	if err := in.Remove(t.Context(), "ann", "other", scheduler.ValueVariable); !errors.Is(err, scheduler.ErrInvalid) {
		t.Errorf("remove what is configured: got %v, want invalid", err)
	}
	if err := in.Remove(t.Context(), "ann", "region", scheduler.ValueVariable); err != nil {
		t.Errorf("remove: %v", err)
	}
	if err := in.Remove(t.Context(), "ann", "none", scheduler.ValueVariable); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("remove nothing: got %v, want not found", err)
	}
	trail, err := in.Audits(t.Context(), 10)
	if err != nil || len(trail) != 2 || trail[0].Action != "remove" || trail[1].Action != "set" || trail[1].By != "ann" {
		t.Errorf("audit: got %+v, %v", trail, err)
	}
}

// A variable is what its text looks like, if it is printed again just as it stands.
func TestTypes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"eu": `"eu"`, "": `""`, "7": "7", "007": `"007"`, "1.5": "1.5", "1.50": `"1.50"`, "1e5": `"1e5"`, "12345678901234567890": `"12345678901234567890"`,
		"true": "true", "null": `"null"`, `{"a": 1}`: `{"a": 1}`, `["a"]`: `["a"]`, `"7"`: `"7"`, `{"a"`: `"{\"a\""`, "<b>": `"<b>"`, "-": `"-"`,
	} {
		if got := string(decode(text)); got != want {
			t.Errorf("decode %q: got %s, want %s", text, got, want)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.set(scheduler.ValueSecret, "stripe", "sk_live_1")
	in.set(scheduler.ValueVariable, "api_token", "tk_2")
	in.set(scheduler.ValueConnection, "pg", "postgres://etl:hunter%402@db:5433/prod?sslmode=require&api_key=k3")
	if text := in.stored(); strings.Contains(text, "sk_live") || strings.Contains(text, "tk_2") || strings.Contains(text, "hunter") {
		t.Errorf("the store has a secret as it is:\n%s", text)
	}
	if info, err := os.Stat(in.file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: got %v, %v, want mode 0600", info, err)
	}
	in.restart()
	in.secret("stripe", "sk_live_1")
	in.variable("api_token", `"tk_2"`)
	for _, v := range in.Variables() {
		if v.Value != scheduler.Hidden {
			t.Errorf("%s is shown: %q", v.Name, v.Value)
		}
	}
	fields, err := in.Connection(t.Context(), "pg")
	want := map[string]string{"type": "postgres", "host": "db", "port": "5433", "login": "etl", "password": "hunter@2", "schema": "prod",
		"extra.sslmode": "require", "extra.api_key": "k3", "uri": "postgres://etl:hunter%402@db:5433/prod?sslmode=require&api_key=k3"}
	if d := cmp.Diff(want, fields); d != "" || err != nil {
		t.Errorf("connection: %v (-want +got):\n%s", err, d)
	}
	shown, err := in.LookupConnection(t.Context(), "pg")
	if err != nil || shown.Password != scheduler.Hidden || shown.Extra["api_key"] != scheduler.Hidden || shown.Extra["sslmode"] != "require" {
		t.Errorf("shown: got %+v, %v", shown, err)
	}
	for _, bad := range []Set{
		{Kind: scheduler.ValueVariable, Name: "stripe", Text: "x"},   // is a secret
		{Kind: scheduler.ValueSecret, Name: "api_token", Text: "x"},  // is a variable
		{Kind: scheduler.ValueSecret, Name: "empty"},                 //
		{Kind: scheduler.ValueVariable, Name: "no space", Text: "x"}, //
		{Kind: scheduler.ValueVariable, Name: "long", Text: strings.Repeat("x", scheduler.MaxValueText+1)},
		{Kind: scheduler.ValueConnection, Name: "bad", Text: "nonsense"},
	} {
		if err := in.Set(t.Context(), "", bad); !errors.Is(err, scheduler.ErrInvalid) {
			t.Errorf("set %s %s: got %v, want invalid", bad.Kind, bad.Name, err)
		}
	}
	if _, err := in.Secret(t.Context(), "none"); !errors.Is(err, scheduler.ErrNoValue) || !strings.Contains(err.Error(), "millrace vars set --secret none") {
		t.Errorf("got %v, want a sentence that says what to do", err)
	}
}

// backend is a Vault in memory.
type backend map[string]string

func (b backend) Read(_ context.Context, path, key string) (string, error) {
	if val, ok := b[path+"#"+key]; ok {
		return val, nil
	}
	return "", scheduler.ErrNoValue
}

func TestBackends(t *testing.T) {
	t.Parallel()
	in := install(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		in.set(scheduler.ValueSecret, name, "store-"+name)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "b"), []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in.Configure(Config{
		Secrets: map[string]string{"a": "vault:apps/x#key", "b": "file:b", "e": "file:none"}, Dir: dir,
		Connections: map[string]string{"pg": "vault:apps/pg#uri"},
		Vault:       backend{"apps/x#key": "of vault", "millrace/c#value": "below the path", "apps/pg#uri": "postgres://u:p@h/d"}, Path: "millrace/",
	})
	in.secret("a", "of vault")
	in.secret("b", "from a file")
	in.secret("c", "below the path")
	in.secret("d", "store-d")
	if _, err := in.Secret(t.Context(), "e"); !errors.Is(err, scheduler.ErrNoValue) {
		t.Errorf("got %v, want none", err)
	}
	if got, err := in.Connection(t.Context(), "pg"); err != nil || got["password"] != "p" {
		t.Errorf("connection: got %v, %v", got, err)
	}
}

// A rotation encrypts all values anew, and what happens if it stops half way is what a rotation mends.
func TestRotate(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.set(scheduler.ValueSecret, "one", "first value")
	old := in.stored()
	in.store.Fail(scheduler.ErrUnavailable)
	if _, err := in.Rotate(t.Context(), "ann", true); !errors.Is(err, scheduler.ErrUnavailable) {
		t.Fatalf("got %v, want unavailable", err)
	}
	in.restart()
	in.secret("one", "first value")
	if in.stored() != old {
		t.Error("the store has changed")
	}
	got, err := in.Rotate(t.Context(), "ann", false)
	if err != nil || got.Keys != 3 || got.Resealed != 1 {
		t.Fatalf("got %+v, %v, want 3 keys, one value", got, err)
	}
	in.restart()
	in.secret("one", "first value")
	if got, err = in.Rotate(t.Context(), "ann", true); err != nil || got.Keys != 1 {
		t.Fatalf("got %+v, %v, want 1 key", got, err)
	}
	in.restart()
	in.secret("one", "first value")
	if text := in.stored(); text == old || !strings.Contains(text, got.Key) {
		t.Errorf("got %s, want it under key %s", text, got.Key)
	}
}

// Without its key a value is an error that says so, and no new key is made behind the person's back.
func TestKeyGone(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.set(scheduler.ValueSecret, "one", "first value")
	key, err := os.ReadFile(in.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(in.file); err != nil {
		t.Fatal(err)
	}
	in.restart()
	if _, err := in.Secret(t.Context(), "one"); !errors.Is(err, errKeyGone) {
		t.Errorf("got %v, want that the key is gone", err)
	}
	if err := in.Set(t.Context(), "", Set{Kind: scheduler.ValueSecret, Name: "two", Text: "x"}); !errors.Is(err, scheduler.ErrInvalid) {
		t.Errorf("got %v, want it refused", err)
	}
	if _, err := in.Rotate(t.Context(), "", false); !errors.Is(err, errKeyGone) {
		t.Errorf("got %v, want that the key is gone", err)
	}
	other := makeKey()
	if err := os.WriteFile(in.file, []byte(other.text+"\n"+string(key)), 0o644); err != nil {
		t.Fatal(err)
	}
	in.restart() // several keys: each opens what it has sealed
	in.secret("one", "first value")
	if info, err := os.Stat(in.file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: got %v, %v, want it closed to others", info, err)
	}
	if err := os.WriteFile(in.file, []byte("c2hvcnQ=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeys(in.file); err == nil || strings.Contains(err.Error(), "c2hvcnQ") {
		t.Errorf("got %v, want an error without the key in it", err)
	}
}

// A sealed text belongs to its name: whoever can write the database can not move it to where a task prints it.
func TestSealIsBound(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.set(scheduler.ValueSecret, "one", "first value")
	rows, err := in.store.Values(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows[0].Kind, rows[0].Name = scheduler.ValueVariable, "shown_key"
	if err := in.store.PutValues(t.Context(), rows, nil, nil); err != nil {
		t.Fatal(err)
	}
	in.restart()
	in.variable("shown_key", "")
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, kind, host, schema, says string }{
		{text: "google_cloud_platform://?project=x", kind: "google-cloud-platform"},
		{text: "sqlite:///srv/a.db", kind: "sqlite", schema: "srv/a.db"},
		{text: "HTTP://user@[::1]:8080/", kind: "http", host: "::1"},
		{text: "postgres://u:se%zzcret@h/d", says: "two hex digits"},
		{text: "postgres://u:p@h:port/d", says: "no port"},
		{text: "postgres://u:p@h:0/d", says: `"0"`},
		{text: "postgres://", says: "no host"},
		{text: "just text", says: "is written like"},
	} {
		a, err := parse(c.text)
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "cret") {
				t.Errorf("parse %q: got %v, want it to say %q and no secret", c.text, err, c.says)
			}
			continue
		}
		if err != nil || a.kind != c.kind || a.host != c.host || a.schema != c.schema {
			t.Errorf("parse %q: got %+v, %v", c.text, a, err)
		}
	}
}

// TestSealFor: what an executor keeps of an attempt's secrets is not readable in the store, is of one attempt only, and outlives a restart.
func TestSealFor(t *testing.T) {
	t.Parallel()
	in := install(t)
	sealed, err := in.SealFor("r1.a.-1.1", "secret text")
	if err != nil || strings.Contains(sealed, "secret") {
		t.Fatalf("sealed as %q, %v", sealed, err)
	}
	in.restart()
	if text, err := in.UnsealFor("r1.a.-1.1", sealed); err != nil || text != "secret text" {
		t.Errorf("got %q, %v", text, err)
	}
	if text, err := in.UnsealFor("r1.b.-1.1", sealed); err == nil {
		t.Errorf("another attempt got %q", text)
	}
}
