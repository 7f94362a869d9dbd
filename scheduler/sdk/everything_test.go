package sdk_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/sdk"
	"millrace/scheduler/spec"
)

// without names the keys of DAG files that programs do not write, each with the reason. A key that can be written in several ways, such as a
// command as text for sh -c, counts as written if one of them is.
var without = func() map[string]string {
	out := map[string]string{}
	for _, at := range []string{"", "tasks.*.approval.", "setup.*.approval.", "teardown.*.approval."} {
		for _, word := range []string{"title", "enum", "minimum", "maximum", "pattern", "format", "items", "properties"} {
			out[at+"params.*."+word] = "parameters are the fields of a struct, which say their types, defaults and texts"
		}
	}
	return out
}()

type cluster struct {
	Address string `json:"address"`
}

type table struct {
	Name   string   `json:"name" doc:"which"`
	Days   []string `json:"days"`
	Sample float64  `json:"sample"`
}

type row struct {
	N int `json:"n"`
}

// everything is the DAG of testdata/everything.yaml: with each key that there is.
func everything() []*sdk.DAG {
	other := sdk.New("other").Deadline(sdk.Deadline{From: sdk.AverageOf(10), Within: time.Minute, MinRuns: 5, Notify: []string{"ops"}})
	sdk.Params(other, struct {
		Table string `json:"table" millrace:"required"`
		N     int    `json:"n"`
	}{N: 1})
	sdk.Command[sdk.Nothing](other, "last", []string{"true"})

	d := sdk.New("everything").Description("all of it").Owner("data").Tags("a", "b").Env("REGION", sdk.Var("region")).Priority(-1)
	d.Concurrency(sdk.Concurrency{Group: sdk.Text("trigger.lane_key"), MaxRuns: 2, WhenFull: sdk.WhenFullCancelRunning})
	d.OnEvent(sdk.RunEvents{Success: []string{"log"}, Failure: []string{"ops", "log"}, Cancelled: []string{"ops"}, Retry: []string{"log"}, Deadline: []string{"ops"}})
	d.Deadline(sdk.Deadline{From: sdk.FromRunCreated, Within: time.Hour, Notify: []string{"ops"}})
	d.Deadline(sdk.Deadline{From: sdk.AverageOf(20), Within: time.Minute, MinRuns: 10})
	d.Defaults(sdk.Env("A", "b"), sdk.Executor("cluster"), sdk.Pool("db", 3), sdk.Priority(5), sdk.InfraRetry(7),
		sdk.Retry{Limit: 5, Delay: time.Second, Backoff: 2, MaxDelay: time.Minute, Jitter: true, OnExit: []int{1}, NeverOn: []int{2}},
		sdk.Timeouts{Queue: time.Hour, Start: time.Minute, Run: 2 * time.Hour, Heartbeat: 10 * time.Second, Grace: 5 * time.Second},
		sdk.Resources{CPU: 0.5, CPULimit: 2, Mem: 1 << 30, MemLimit: 2 << 30, Disk: 10 << 30, GPU: 1}, sdk.User("loader"), sdk.Constraints(sdk.Constraint{Attribute: "rack", Op: sdk.OpUnlike, Value: "rack-9"}), sdk.AtLeastOnceFast(true))
	rules(d)
	tables := sdk.Params(d, table{Name: "raw", Sample: 0.5})
	tasks(d, other, tables)
	kinds(d, "", other)
	kinds(d.Setup(), "s_", other)
	kinds(d.Teardown(), "s_", other)
	return []*sdk.DAG{d, other}
}

func rules(d *sdk.DAG) {
	d.OnBatch(sdk.BatchRule{ID: "new", Source: "web", Tenant: "acme", Types: []string{"track"}, Quarantine: true, If: "batch.events > 1", Key: "batch.source",
		Coalesce: sdk.Coalesce{MaxBatches: 5, MaxEvents: 1000, MaxBytes: 1 << 20, Quiet: time.Second, MaxWait: time.Minute, Mode: sdk.LatestBatch},
		Order:    sdk.FIFO, WhenPaused: sdk.PausedDrop})
	d.OnBatch(sdk.BatchRule{ID: "left", Source: "a", Key: "batch.source", OnlyJoined: true}).OnBatch(sdk.BatchRule{ID: "right", Source: "b", Key: "batch.source"})
	d.OnAllOf(sdk.JoinRule{ID: "both", AllOf: []string{"left", "right"}, Expire: time.Hour, WhenPaused: sdk.PausedLatest})
	d.OnCron(sdk.CronRule{ID: "nightly", Cron: "0 2 * * *", Timezone: "Europe/Berlin", Jitter: time.Minute,
		Catchup: sdk.Catchup{Policy: sdk.CatchupLatest, Window: 24 * time.Hour}})
	d.OnManual()
}

// tasks are those with what a setup and a teardown can not have, and those by which the parts of the DAG are joined.
func tasks(d, other *sdk.DAG, tables sdk.Input[table]) {
	first := sdk.Task(d, "first", tables, func(context.Context, *sdk.Attempt, table) ([]row, error) { return nil, nil }, sdk.Cache{Key: "inputs.digest", TTL: time.Hour})
	inner := d.Setup()
	up := sdk.Task(inner, "cluster", sdk.None, func(context.Context, *sdk.Attempt, sdk.Nothing) (cluster, error) { return cluster{}, nil }, sdk.Needs(first))
	sdk.Task(d.Teardown(), "cluster", up, func(context.Context, *sdk.Attempt, cluster) (sdk.Nothing, error) { return sdk.Nothing{}, nil }, sdk.FailRun())
	load := d.Group("load").Description("loads").Needs(first)
	copied := sdk.Task(load, "copy", sdk.Both[cluster, row](up, sdk.Item[row]()),
		func(context.Context, *sdk.Attempt, sdk.Pair[cluster, row]) (row, error) { return row{}, nil }, sdk.Needs(first),
		sdk.ForEach{Items: first.Output(), As: "day", Key: "string(day.n)", MaxConcurrent: 4, TolerateFailures: "5%"})
	check := sdk.Command[row](d, "check-it", []string{"./check", sdk.Text("params.name")}, sdk.Needs(load), sdk.Rule(sdk.AllDone), sdk.When("params.sample > 0.1"),
		sdk.Retry{Limit: 1}, sdk.Timeouts{Run: time.Minute}, sdk.Pool("db", 1), sdk.Env("PASSWORD", sdk.Secret("check")),
		sdk.Resources{CPU: 1}, sdk.Constraints(), sdk.AtLeastOnceFast(false))
	sdk.Task(d, "report", sdk.Both(sdk.List(copied), check), func(context.Context, *sdk.Attempt, sdk.Pair[[]row, row]) (sdk.Nothing, error) {
		return sdk.Nothing{}, nil
	},
		sdk.When(check.Output("n")+" > 0"))
	d.Cover(up, load)
	note := sdk.Command[sdk.Nothing](d.Teardown(), "note", []string{"./note"})
	d.Cover(note, first, check)
}

// kinds adds a task of each kind that is no function, with all that any task can have, whether it is one, a setup or a teardown.
func kinds(p sdk.Place, prefix string, other *sdk.DAG) {
	sdk.Command[row](p, prefix+"run", []string{"./load", "--all"}, sdk.When("true"), sdk.OutputSchema(json.RawMessage(`{"type":"object"}`)), sdk.Env("C", "d"), sdk.AtOnce(2),
		sdk.Executor("local"), sdk.Pool("disk", 2), sdk.Priority(9), sdk.InfraRetry(1),
		sdk.Retry{Limit: 3, Delay: 2 * time.Second, Backoff: 3, MaxDelay: time.Hour, Jitter: true, OnExit: []int{3}, NeverOn: []int{4}},
		sdk.Timeouts{Queue: time.Minute, Start: time.Second, Run: time.Hour, Heartbeat: 20 * time.Second, Grace: time.Second},
		sdk.Resources{CPU: 2, CPULimit: 4, Mem: 1 << 20, MemLimit: 2 << 20, Disk: 1 << 20, GPU: 2}, sdk.User("copier"),
		sdk.Ports(sdk.Port{}, sdk.Port{Host: 31005}),
		sdk.Fetch(sdk.URI{Value: "https://files.example/load.tar.gz", Cache: true}, sdk.URI{Value: "https://files.example/load", Executable: true, OutputFile: "bin/load"},
			sdk.URI{Value: "https://files.example/data.zip", Plain: true}),
		sdk.HealthCheck{HTTP: &sdk.HTTPCheck{Port: sdk.CheckedPort{Index: 1}, Path: "/healthz", TLS: true}, Delay: sdk.Immediately, Interval: time.Second, Timeout: time.Minute,
			Grace: time.Hour, Failures: 5},
		sdk.Constraints(sdk.Constraint{Attribute: "zone", Op: sdk.OpGroupBy, Value: "3"}, sdk.Constraint{Attribute: "ssd", Op: sdk.OpExists}), sdk.AtLeastOnceFast(true),
		sdk.TaskEvents{Success: []string{"log"}, Failure: []string{"ops"}, Cancelled: []string{"ops"}, Retry: []string{"log"}, Skipped: []string{"log"}})
	sdk.Container[row](p, prefix+"boxed", sdk.Image{Ref: "registry.example/load:1.4", Args: []string{"--day", sdk.Text("params.name")}, Pull: sdk.PullAlways,
		Box: &sdk.Box{Containerizer: sdk.ContainerizerDocker, Network: sdk.NetworkBridge, Privileged: true, Parameters: map[string][]string{"shm-size": {"1g"}},
			Volumes: []sdk.Volume{{Path: "/data", HostPath: "/srv/data", ReadOnly: true}, {Path: "/scratch", Name: "scratch", Driver: "rexray"}}}},
		sdk.Ports(sdk.Port{Container: 53, UDP: true}, sdk.Port{Container: 8080}), sdk.HealthCheck{TCP: &sdk.CheckedPort{Number: 8080}})
	sdk.Container[row](p, prefix+"checked", sdk.Image{Ref: "registry.example/load:1.4"}, sdk.Ports(sdk.Port{}), sdk.HealthCheck{TCP: &sdk.CheckedPort{}})
	sdk.Container[row](p, prefix+"asked", sdk.Image{Ref: "registry.example/load:1.4"}, sdk.HealthCheck{Command: []string{"true"}})
	sdk.Container[row](p, prefix+"called", sdk.Image{Ref: "registry.example/load:1.4"}, sdk.HealthCheck{HTTP: &sdk.HTTPCheck{Port: sdk.CheckedPort{Number: 80}}})
	sdk.HTTP[row](p, prefix+"http", sdk.Request{Method: "PUT", URL: "https://api.example/v1/jobs", Headers: map[string]string{"Authorization": "env:AUTH"},
		Body: map[string]any{"run": sdk.Text("run.id"), "n": 3}, Expect: []string{"200-299", "409"}, Timeout: time.Minute})
	sdk.HTTP[row](p, prefix+"job", sdk.Request{Connection: "conn:partner", URL: "/jobs/" + sdk.Text("run.id")})
	sdk.WaitFor(p, prefix+"wait", sdk.Wait{Object: "exports/_SUCCESS", Poll: time.Minute}, sdk.Timeout(time.Hour))
	sdk.SQL[row](p, prefix+"sql", sdk.Query{Connection: "conn:warehouse", Statements: []string{"SELECT @n AS n"}, Params: map[string]any{"n": sdk.Text("params.sample")}, MaxRows: 10})
	sdk.SQL[row](p, prefix+"file", sdk.Query{Connection: "conn:warehouse", File: "/srv/sql/load.sql", MaxRows: sdk.NoRows})
	sdk.Ask(p, prefix+"ask", sdk.Approval[table]{Message: "Load " + sdk.Text("params.name") + "?", By: []string{"ops", "ann"}, Expires: 24 * time.Hour,
		OnExpire: sdk.SkipQuestion, OnReject: sdk.RejectFails, Options: []string{"append", "replace"}, Form: table{Name: "raw", Days: []string{"mon"}}})
	sdk.Ask(p, prefix+"sign", sdk.Approval[struct {
		Reason string `json:"reason" millrace:"required"`
	}]{Message: "Sure?"})
	sdk.RunDAG(p, prefix+"sub", sdk.SubDAG{ID: other.ID(), Params: map[string]any{"table": sdk.Text("params.name"), "n": 3}, NoWait: true, NoInputs: true})
	sdk.Use[row](p, prefix+"use", "copy", map[string]any{"table": "orders", "rows": 3})
}

// TestEverything: all that a DAG file can say, a program can. The two compile to the same, and what the program describes has each key of the format.
func TestEverything(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var described [][]byte
	for _, d := range everything() {
		text, err := d.Describe("/bin/everything")
		if err != nil {
			t.Fatal(err)
		}
		described = append(described, text)
	}
	want, got := compiled(t, "everything.yaml", file), compiled(t, "everything.dag", slices.Concat(described[0], []byte("---\n"), described[1]))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the program is another DAG than the file (-file +program):\n%s", diff)
	}
	w := walker{known: map[string]bool{}, seen: map[string]bool{}}
	for _, k := range spec.Keys() {
		w.known[k.Path] = true
	}
	for _, text := range described {
		var doc any
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		w.walk(doc, "")
	}
	for key := range w.known {
		switch {
		case !w.seen[key] && without[key] == "":
			t.Errorf("no program writes key %s: add it to package sdk, to everything() and to testdata/everything.yaml, or to `without` with the reason", key)
		case w.seen[key] && without[key] != "":
			t.Errorf("programs do write key %s: remove it from `without`", key)
		}
	}
	for key := range without {
		if !w.known[key] {
			t.Errorf("%s is no key of a DAG file", key)
		}
	}
}

func compiled(t *testing.T, name string, src []byte) string {
	t.Helper()
	f := spec.ReadFile(name, src)
	if len(f.Faults) > 0 {
		t.Fatalf("%v\n%s", f.Faults, src)
	}
	text, err := json.MarshalIndent(f.DAGs, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// walker notes which keys of DAG files a document has.
type walker struct{ known, seen map[string]bool }

func (w *walker) walk(v any, path string) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			w.walk(e, path+"[]")
		}
	case map[string]any:
		for name, e := range v {
			at := strings.TrimPrefix(path+"."+name, ".")
			if !w.known[at] {
				at = strings.TrimPrefix(path+".*", ".")
			}
			if w.known[at] {
				w.seen[at] = true
				w.walk(e, at)
			}
		}
	}
}

// TestWords: what the format has a list of words for, this package has constants for, each the same.
func TestWords(t *testing.T) {
	t.Parallel()
	words := func(of ...any) (out []string) {
		for _, w := range of {
			text, err := json.Marshal(w)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, strings.Trim(string(text), `"`))
		}
		return out
	}
	ops := words(sdk.OpExists, sdk.OpNotExists, sdk.OpIs, sdk.OpLike, sdk.OpUnlike, sdk.OpUnique, sdk.OpCluster, sdk.OpGroupBy, sdk.OpMaxPer)
	if diff := cmp.Diff(scheduler.Ops, ops); diff != "" {
		t.Errorf("operators of constraints (-want +got):\n%s", diff)
	}
	for key, have := range map[string][]string{
		"tasks.*.rule": words(sdk.AllSuccess, sdk.AllFailed, sdk.AllDone, sdk.AllDoneMinOneSuccess, sdk.AllSkipped, sdk.OneFailed, sdk.OneSuccess, sdk.OneDone,
			sdk.NoneFailed, sdk.NoneFailedMinOneSuccess, sdk.NoneSkipped, sdk.Always),
		"on[].order":                      words(sdk.FIFO, sdk.LIFO, sdk.LatestOnly),
		"on[].coalesce.mode":              words(sdk.AllBatches, sdk.LatestBatch),
		"on[].when_paused":                words(sdk.PausedHold, sdk.PausedDrop, sdk.PausedLatest),
		"on[].catchup.policy":             words(sdk.CatchupAll, sdk.CatchupLatest, sdk.CatchupSkip),
		"concurrency.when_full":           words(sdk.WhenFullQueue, sdk.WhenFullSkip, sdk.WhenFullCancelRunning, sdk.WhenFullFail, sdk.WhenFullCoalesce),
		"tasks.*.approval.on_expire":      words(sdk.Reject, sdk.Approve, sdk.SkipQuestion),
		"tasks.*.approval.on_reject":      words(sdk.RejectSkips, sdk.RejectFails),
		"tasks.*.pull":                    words(sdk.PullMissing, sdk.PullAlways),
		"tasks.*.container.containerizer": words(sdk.ContainerizerMesos, sdk.ContainerizerDocker),
		"tasks.*.retry.jitter":            {"full", "none"}, // a bool here
		"defaults.retry.jitter":           {"full", "none"},
		"tasks.*.dag.inputs":              {"all", "none"},
		"params.*.type":                   {"string", "integer", "number", "boolean", "array", "object"}, // types of Go; an object is for DAG files
		"tasks.*.approval.params.*.type":  {"string", "integer", "number", "boolean", "array", "object"},
	} {
		i := slices.IndexFunc(spec.Keys(), func(k spec.Key) bool { return k.Path == key })
		if i < 0 {
			t.Errorf("%s is no key", key)
			continue
		}
		if got := spec.Keys()[i].Type; got != strings.Join(have, " or ") {
			t.Errorf("%s is %s, and the package has %v", key, got, have)
		}
	}
}
