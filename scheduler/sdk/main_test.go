package sdk

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type (
	counts struct {
		Rows int `json:"rows"`
	}
	settings struct {
		Schema string  `json:"schema" doc:"where to"`
		Day    string  `json:"day" millrace:"required"`
		Limit  int     `json:"limit"`
		Share  float64 `json:"share"`
		Dry    bool    `json:"dry"`
		secret string
	}
)

func extract(_ context.Context, a *Attempt, _ Nothing) (counts, error) {
	a.Log().Info("extracting", "try", a.Try)
	return counts{Rows: 3}, nil
}

func load(_ context.Context, _ *Attempt, in Pair[counts, settings]) (string, error) {
	switch in.Second.Day {
	case "skip":
		return "", Skip("nothing on that day")
	case "never":
		return "", fmt.Errorf("load: %w", NoRetry(errors.New("no such table")))
	case "fail":
		return "", errors.New("busy")
	case "large":
		return strings.Repeat("x", MaxOutput), nil
	}
	return fmt.Sprintf("%d<%s", in.First.Rows, in.Second.Day), nil
}

func sample() *DAG {
	d := New("orders").Description("a & b").Owner("data").Tags("x", "y").Env("REGION", "eu").Set("concurrency", map[string]int{"max_runs": 1})
	d.OnBatch(BatchRule{ID: "new", Source: "web", Types: []string{"track"}, If: "batch.events > 1", Key: "batch.source",
		Coalesce: Coalesce{MaxBatches: 5, MaxWait: time.Minute, Mode: "latest"}, Order: "fifo"})
	d.OnBatch(BatchRule{ID: "left", Source: "a", OnlyJoined: true}).OnBatch(BatchRule{ID: "right", Source: "b"})
	d.OnAllOf(JoinRule{AllOf: []string{"left", "right"}, Expire: time.Hour})
	d.OnCron(CronRule{Cron: "0 2 * * *", Timezone: "Europe/Berlin"}).OnManual()
	p := Params(d, settings{Schema: "raw", Limit: 10, Share: 0.5, secret: "x"})
	zip := Task(d, "zip", None, func(context.Context, *Attempt, Nothing) (Nothing, error) { return Nothing{}, nil })
	out := Task(d, "extract", None, extract, Retry{Limit: 3, Delay: time.Second, Backoff: 2, Jitter: true, OnExit: []int{1}}, Env("A", "b"))
	done := Task(d, "load", Both[counts, settings](out, p), load, Needs(zip, out), When("params.limit > 0"), Timeout(time.Hour), Set("pool", "db"))
	Command[Nothing](d, "report", []string{"./report", "${{ run.id }}"}, Needs(done), Rule("all_done"))
	return d
}

var update = flag.Bool("update", false, "write the golden files anew")

func TestDescribe(t *testing.T) {
	t.Parallel()
	got, err := sample().Describe("/bin/orders")
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "describe.json")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("-update writes it anew (-want +got):\n%s", diff)
	}
}

func TestDescribeFaults(t *testing.T) {
	t.Parallel()
	other := Task(New("other"), "there", None, extract)
	for name, tt := range map[string]struct {
		build func(d *DAG)
		want  string
	}{
		"twice":          {func(d *DAG) { Task(d, "a", None, extract); Task(d, "a", None, extract) }, `task "a" is defined twice`},
		"another DAG":    {func(d *DAG) { Command[Nothing](d, "a", []string{"x"}, Needs(other)) }, `needs "there", which is a task of dag "other"`},
		"no struct":      {func(d *DAG) { Params(d, 3) }, "must be a struct, got int"},
		"no scalar":      {func(d *DAG) { Params(d, struct{ L map[string]int }{}) }, `parameter "L" is a map[string]int`},
		"not JSON":       {func(d *DAG) { d.Set("x", func() {}) }, "unsupported type"},
		"of a task, too": {func(d *DAG) { Task(d, "a", None, extract, Set("x", make(chan int))) }, "unsupported type"},
	} {
		d := New("d")
		tt.build(d)
		if text, err := d.Describe("x"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %s, %v, want %q", name, text, err, tt.want)
		}
	}
}

// attempt is the environment of a task, as millrace makes it.
func attempt(t *testing.T, input string) (env map[string]string) {
	t.Helper()
	dir := t.TempDir()
	env = map[string]string{
		"MILLRACE_INPUT": filepath.Join(dir, "input.json"), "MILLRACE_OUTPUT": filepath.Join(dir, "output.json"), "MILLRACE_TRY": "2",
		"MILLRACE_DAG_ID": "orders", "MILLRACE_STATE": filepath.Join(dir, "state"), "MILLRACE_IDEMPOTENCY_KEY": "r1/load",
	}
	if err := os.WriteFile(env["MILLRACE_INPUT"], []byte(input), 0o600); err != nil {
		t.Fatal(err)
	}
	return env
}

func TestServe(t *testing.T) {
	t.Parallel()
	const doc = `{"v":1,"run":{"id":"r1","dag":"orders"},"task":"load","params":{"day":%q},"upstream":{"extract":%s,"zip":null}}`
	day := func(d string) string { return fmt.Sprintf(doc, d, `{"rows":3}`) }
	for _, tt := range []struct {
		name, args, input string
		code              int
		output, says      string
	}{
		{name: "output", args: "run-task load", input: day("mon"), output: `"3<mon"`},
		{name: "none", args: "run-task zip", input: day("mon")},
		{name: "log", args: "run-task extract", input: day("mon"), output: `{"rows":3}`, says: "level=INFO msg=extracting try=2"},
		{name: "parent without output", args: "run-task load", input: fmt.Sprintf(doc, "mon", "null"), output: `"0<mon"`},
		{name: "skip", args: "run-task load", input: day("skip"), code: 99, says: "skipped: nothing on that day"},
		{name: "no retry", args: "run-task load", input: day("never"), code: 64, says: "load: no such table"},
		{name: "error", args: "run-task load", input: day("fail"), code: 1, says: "error: busy"},
		{name: "large output", args: "run-task load", input: day("large"), code: 64, says: "write it to an object"},
		{name: "other output", args: "run-task load", input: fmt.Sprintf(doc, "mon", "[]"), code: 64, says: `take output of task "extract"`},
		{name: "not a parent", args: "run-task load", input: `{"v":1}`, code: 64, says: "add sdk.Needs"},
		{name: "version", args: "run-task load", input: `{"v":2}`, code: 64, says: "build it anew"},
		{name: "unknown task", args: "run-task x", input: day("mon"), code: 64, says: "it has zip, extract, load"},
		{name: "command", args: "run-task report", input: day("mon"), code: 64, says: `no task "report" to run`},
		{name: "no verb", input: day("mon"), code: 64, says: "put it into the DAG directory"},
		{name: "other verb", args: "run load", input: day("mon"), code: 64, says: "usage: describe | run-task TASK"},
		{name: "by hand", args: "run-task load", code: 64, says: "MILLRACE_INPUT is not set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{}
			if tt.input != "" {
				env = attempt(t, tt.input)
			}
			var said bytes.Buffer
			p := process{args: strings.Fields(tt.args), env: func(n string) string { return env[n] }, out: &said, err: &said}
			if code := serve(t.Context(), []*DAG{sample()}, p); code != tt.code {
				t.Errorf("got exit code %d, want %d: %s", code, tt.code, said.String())
			}
			if !strings.Contains(said.String(), tt.says) {
				t.Errorf("got %q, want %q in it", said.String(), tt.says)
			}
			if got, _ := os.ReadFile(env["MILLRACE_OUTPUT"]); string(got) != tt.output {
				t.Errorf("got output %s, want %s", got, tt.output)
			}
		})
	}
}

// TestSeveralDAGs: one program has two, which share the id of a task.
func TestSeveralDAGs(t *testing.T) {
	t.Parallel()
	var dags []*DAG
	for _, id := range []string{"one", "two"} {
		d := New(id)
		Task(d, "say", None, func(context.Context, *Attempt, Nothing) (string, error) { return id, nil })
		dags = append(dags, d)
	}
	var out bytes.Buffer
	if code := serve(t.Context(), dags, process{args: []string{"describe"}, out: &out, err: &out}); code != 0 || strings.Count(out.String(), "---\n") != 1 {
		t.Errorf("describe: exit code %d, %s", code, out.String())
	}
	for dag, want := range map[string]string{"one": `"one"`, "two": `"two"`, "three": "", "": ""} {
		env := attempt(t, `{"v":1}`)
		env["MILLRACE_DAG_ID"] = dag
		code := serve(t.Context(), dags, process{args: []string{"run-task", "say"}, env: func(n string) string { return env[n] }, out: &out, err: &out})
		if got, _ := os.ReadFile(env["MILLRACE_OUTPUT"]); string(got) != want || (code == 0) != (want != "") {
			t.Errorf("dag %q: exit code %d, output %s, want %s", dag, code, got, want)
		}
	}
}

// TestFunctionsAreTestable is what the package promises: a task is called like any function.
func TestFunctionsAreTestable(t *testing.T) {
	t.Parallel()
	a := &Attempt{}
	got, err := extract(t.Context(), a, Nothing{})
	if want := (counts{Rows: 3}); got != want || err != nil {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}
