package plan

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/scheduler/operator"
	"millrace/scheduler/spec"
	"millrace/trigger"
)

var t0 = time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)

func dagOf(t testing.TB, src string) *DAG {
	t.Helper()
	dags, err := spec.Compile("t.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := Of(&dags[0])
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func testBatches(n int) []batcher.Batch {
	var out []batcher.Batch
	for i := range n {
		at := t0.Add(time.Duration(-n+i) * time.Minute)
		out = append(out, batcher.Batch{
			ID: "01B" + strconv.Itoa(i), Source: "web", Stream: ingest.Stream{Log: "l", Incarnation: "i"}, Events: 10, Bytes: 100,
			EventMin: at, EventMax: at.Add(time.Second), Watermark: at, ReceivedMin: at, URI: "file:///o/" + strconv.Itoa(i),
		})
	}
	return out
}

func firing(batches ...batcher.Batch) *trigger.Firing {
	return &trigger.Firing{Kind: trigger.KindBatch, DAG: "d", Rule: "batch", Key: "k", Batches: batches, At: t0}
}

// driver steps one run and keeps what the steps said.
type driver struct {
	t   testing.TB
	r   *Run
	now time.Time
	rng *rand.Rand
	all Delta
}

func newDriver(t testing.TB, src string) *driver {
	r, d := NewRun(dagOf(t, src), firing(testBatches(2)...), json.RawMessage(`{}`), t0)
	return &driver{t: t, r: r, now: t0, rng: rand.New(rand.NewPCG(1, 2)), all: d}
}

func (d *driver) step(ev Event) Delta {
	delta := d.r.Step(ev, d.now, d.rng)
	d.all.Moves = append(d.all.Moves, delta.Moves...)
	d.all.Attempts = append(d.all.Attempts, delta.Attempts...)
	return delta
}

func (d *driver) index(task string) int {
	d.t.Helper()
	for i := range d.r.Tasks {
		if d.r.Tasks[i].Task == task {
			return i
		}
	}
	d.t.Fatalf("no task %s", task)
	return 0
}

func (d *driver) launch(task string) { d.step(Launch{Task: d.index(task)}) }

func (d *driver) report(task string, rep scheduler.Report) Delta {
	i := d.index(task)
	if rep.Attempt == "" {
		rep.Attempt = d.r.Attempt(i)
	}
	return d.step(Report{Task: i, Report: rep})
}

func (d *driver) exit(task string, code int) Delta {
	return d.report(task, scheduler.Report{Outcome: scheduler.OutcomeExited, Exit: code, StartedAt: d.now, EndedAt: d.now})
}

func (d *driver) states() map[string]string {
	out := map[string]string{"": string(d.r.Row.State)}
	for _, t := range d.r.Tasks {
		out[t.Task] = string(t.State)
	}
	return out
}

func (d *driver) want(want map[string]string) {
	d.t.Helper()
	if diff := cmp.Diff(want, d.states()); diff != "" {
		d.t.Errorf("states (-want +got):\n%s", diff)
	}
}

const diamond = `
dag: d
params: {go: true}
tasks:
  a: {run: x}
  b: {run: x, needs: a}
  c: {run: x, needs: a, when: tasks.a.output.rows > 5}
  d: {run: x, needs: [b, c]}
`

func TestDiamond(t *testing.T) {
	t.Parallel()
	d := newDriver(t, diamond)
	if diff := cmp.Diff([]int{0}, d.all.Ready); diff != "" {
		t.Errorf("ready at first (-want +got):\n%s", diff)
	}
	d.want(map[string]string{"": "queued", "a": "scheduled", "b": "none", "c": "none", "d": "none"})
	d.launch("a")
	d.want(map[string]string{"": "running", "a": "launching", "b": "none", "c": "none", "d": "none"})
	d.report("a", scheduler.Report{Outcome: scheduler.OutcomeRunning, StartedAt: t0, External: "pid 5"})
	delta := d.report("a", scheduler.Report{Outcome: scheduler.OutcomeExited, Output: []byte(`{"rows": 6}`)})
	if diff := cmp.Diff([]int{1, 2}, delta.Ready); diff != "" {
		t.Errorf("ready after a (-want +got):\n%s", diff)
	}
	d.launch("b")
	d.launch("c")
	d.exit("c", 0)
	d.want(map[string]string{"": "running", "a": "success", "b": "launching", "c": "success", "d": "none"})
	d.exit("b", 0)
	d.launch("d")
	d.exit("d", 0)
	d.want(map[string]string{"": "success", "a": "success", "b": "success", "c": "success", "d": "success"})
	if d.r.Row.EndedAt.IsZero() || d.r.Row.StartedAt.IsZero() {
		t.Error("the run has no times")
	}
}

func TestSkipsAndFailuresPassOn(t *testing.T) {
	t.Parallel()
	t.Run("when is false", func(t *testing.T) {
		t.Parallel()
		d := newDriver(t, diamond)
		d.launch("a")
		d.report("a", scheduler.Report{Outcome: scheduler.OutcomeExited, Output: []byte(`{"rows": 5}`)})
		d.want(map[string]string{"": "running", "a": "success", "b": "scheduled", "c": "skipped", "d": "none"})
		d.launch("b")
		d.exit("b", 0)
		d.want(map[string]string{"": "success", "a": "success", "b": "success", "c": "skipped", "d": "skipped"})
	})
	t.Run("when fails", func(t *testing.T) {
		t.Parallel()
		d := newDriver(t, diamond)
		d.launch("a")
		d.exit("a", 0)
		d.launch("b")
		d.exit("b", 0)
		d.want(map[string]string{"": "failed", "a": "success", "b": "success", "c": "failed", "d": "upstream_failed"})
		if !strings.Contains(d.r.Row.Reason, "task c: when: ") {
			t.Errorf("reason is %q", d.r.Row.Reason)
		}
	})
	t.Run("exit 99", func(t *testing.T) {
		t.Parallel()
		d := newDriver(t, diamond)
		d.launch("a")
		d.exit("a", 99)
		d.want(map[string]string{"": "success", "a": "skipped", "b": "skipped", "c": "skipped", "d": "skipped"})
	})
	t.Run("a failed parent wins over a skipped one", func(t *testing.T) {
		t.Parallel()
		d := newDriver(t, diamond)
		d.launch("a")
		d.report("a", scheduler.Report{Outcome: scheduler.OutcomeExited, Output: []byte(`{"rows": 1}`)})
		d.launch("b")
		d.exit("b", 1)
		d.want(map[string]string{"": "failed", "a": "success", "b": "failed", "c": "skipped", "d": "upstream_failed"})
	})
	t.Run("all skipped at once", func(t *testing.T) {
		t.Parallel()
		d := newDriver(t, "dag: d\ntasks: {a: {run: x, when: 'false'}, b: {run: x, needs: a}}")
		d.want(map[string]string{"": "success", "a": "skipped", "b": "skipped"})
	})
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	exited := func(code int) scheduler.Report { return scheduler.Report{Outcome: scheduler.OutcomeExited, Exit: code} }
	signal := scheduler.Report{Outcome: scheduler.OutcomeExited, Exit: -1, Signal: "SIGKILL"}
	timeout := scheduler.Report{Outcome: scheduler.OutcomeTimeout}
	lost := scheduler.Report{Outcome: scheduler.OutcomeLost, Reason: "host died"}
	refused := scheduler.Report{Outcome: scheduler.OutcomeRefused, Reason: "no such program"}
	bad := scheduler.Report{Outcome: scheduler.OutcomeExited, Output: []byte("{")}
	large := scheduler.Report{Outcome: scheduler.OutcomeExited, OutputError: "70000 bytes, the limit is 65536"}
	tests := []struct {
		name, keys string
		reports    []scheduler.Report
		want       scheduler.State
		try, lost  int
		reason     string
	}{
		{"success", "", []scheduler.Report{exited(0)}, "success", 1, 0, ""},
		{"failure", "", []scheduler.Report{exited(3)}, "failed", 1, 0, "exit code 3"},
		{"retries used up", "retry: 2", []scheduler.Report{exited(3), exited(4), exited(5)}, "failed", 3, 0, "exit code 5, and all 2 retries"},
		{"second try", "retry: 2", []scheduler.Report{exited(3), exited(0)}, "success", 2, 0, ""},
		{"skip", "retry: 2", []scheduler.Report{exited(99)}, "skipped", 1, 0, "exit code 99"},
		{"never again", "retry: 2", []scheduler.Report{exited(64)}, "failed", 1, 0, "exit code 64"},
		{"never_on", "retry: {limit: 2, never_on: [3]}", []scheduler.Report{exited(4), exited(3)}, "failed", 2, 0, "not to be tried again"},
		{"on_exit", "retry: {limit: 2, on_exit: [75]}", []scheduler.Report{exited(75), exited(3)}, "failed", 2, 0, "not to be tried again"},
		{"signal", "retry: 1", []scheduler.Report{signal, signal}, "failed", 2, 0, "ended by SIGKILL"},
		{"signal and on_exit", "retry: {limit: 1, on_exit: [1]}", []scheduler.Report{signal}, "failed", 1, 0, "ended by SIGKILL"},
		{"timeout", "retry: 1", []scheduler.Report{timeout, exited(0)}, "success", 2, 0, ""},
		{"timeout is 124", "retry: {limit: 1, never_on: [124]}", []scheduler.Report{timeout}, "failed", 1, 0, "ran into its timeout"},
		{"refused", "retry: 2", []scheduler.Report{refused}, "failed", 1, 0, "could not be started: no such program"},
		{"lost is no try", "{retry: 1, infra_retry: 2}", []scheduler.Report{lost, exited(1), lost, exited(0)}, "success", 4, 2, ""},
		{"lost too often", "infra_retry: 1", []scheduler.Report{lost, lost}, "failed", 2, 2, "host died, and all 1 infra retries"},
		{"lost, none", "infra_retry: 0", []scheduler.Report{lost}, "failed", 1, 1, "lost to infrastructure"},
		{"output is not JSON", "", []scheduler.Report{bad}, "failed", 1, 0, "is not JSON"},
		{"output is large", "retry: 1", []scheduler.Report{large, exited(0)}, "success", 2, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, "dag: d\ntasks:\n  a:\n    <<: {"+strings.Trim(tt.keys, "{}")+closing(tt.keys)+"}\n    run: x\n")
			for _, rep := range tt.reports {
				d.now = d.now.Add(time.Minute)
				d.step(Due{Task: 0})
				d.launch("a")
				d.report("a", rep)
			}
			row := d.r.Tasks[0]
			if row.State != tt.want || row.Try != tt.try || row.Lost != tt.lost || !strings.Contains(row.Reason, tt.reason) {
				t.Errorf("got %s after %d tries, %d lost, %q; want %s, %d, %d, %q", row.State, row.Try, row.Lost, row.Reason, tt.want,
					tt.try, tt.lost, tt.reason)
			}
			if len(d.all.Attempts) != 2*tt.try {
				t.Errorf("got %d rows of attempts, want one at each start and one at each end", len(d.all.Attempts))
			}
		})
	}
}

// closing gives back the brace that Trim took too much.
func closing(keys string) string {
	return strings.Repeat("}", max(0, strings.Count(strings.Trim(keys, "{}"), "{")-strings.Count(strings.Trim(keys, "{}"), "}")))
}

func TestRetryWaits(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	tests := []struct {
		name  string
		retry scheduler.Retry
		tries int
		want  time.Duration
	}{
		{"none", scheduler.Retry{}, 1, 0},
		{"flat", scheduler.Retry{Delay: time.Second}, 5, time.Second},
		{"first", scheduler.Retry{Delay: time.Second, Backoff: 2}, 1, time.Second},
		{"fourth", scheduler.Retry{Delay: time.Second, Backoff: 2}, 4, 8 * time.Second},
		{"bounded", scheduler.Retry{Delay: time.Second, Backoff: 2, MaxDelay: 5 * time.Second}, 4, 5 * time.Second},
		{"huge", scheduler.Retry{Delay: time.Hour, Backoff: 100}, 1000, maxWait},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := retryWait(&tt.retry, tt.tries, nil); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	jitter := scheduler.Retry{Delay: time.Second, Jitter: "full"}
	var low, high bool
	for range 100 {
		w := retryWait(&jitter, 1, rng)
		low, high = low || w < time.Second/2, high || w > time.Second/2
		if w < 0 || w > time.Second {
			t.Errorf("jitter gives %v, want at most the delay", w)
		}
	}
	if !low || !high {
		t.Error("jitter gives one half of the range only")
	}
	for i, want := range []time.Duration{0, 1, 2, 4, 8, 16, 32, 60, 60} {
		if got := lostWait(i); got != want*time.Second {
			t.Errorf("after loss %d got %v, want %v s", i, got, want)
		}
	}
}

func TestRetryComesWhenItIsDue(t *testing.T) {
	t.Parallel()
	d := newDriver(t, "dag: d\ntasks: {a: {run: x, retry: {limit: 1, delay: 10s}}}")
	d.launch("a")
	d.exit("a", 1)
	d.want(map[string]string{"": "running", "a": "up_for_retry"})
	d.now = d.now.Add(9 * time.Second)
	if delta := d.step(Due{Task: 0}); !delta.Empty() {
		t.Errorf("early: got %+v", delta)
	}
	d.now = d.now.Add(time.Second)
	if delta := d.step(Due{Task: 0}); len(delta.Ready) != 1 {
		t.Errorf("in time: got %+v", delta)
	}
	if delta := d.step(Due{Task: 0}); !delta.Empty() {
		t.Errorf("twice: got %+v", delta)
	}
}

func TestOldAttemptsAreIgnored(t *testing.T) {
	t.Parallel()
	d := newDriver(t, "dag: d\ntasks: {a: {run: x, retry: 1}}")
	d.launch("a")
	old := d.r.Attempt(0)
	d.exit("a", 1)
	d.launch("a")
	for _, outcome := range []scheduler.Outcome{
		scheduler.OutcomeExited, scheduler.OutcomeLost, scheduler.OutcomeRunning, scheduler.OutcomeUnreachable, scheduler.OutcomeRefused,
	} {
		if delta := d.report("a", scheduler.Report{Attempt: old, Outcome: outcome}); !delta.Empty() {
			t.Errorf("%s of an old attempt: got %+v", outcome, delta)
		}
	}
	d.exit("a", 0)
	if delta := d.exit("a", 5); !delta.Empty() {
		t.Errorf("a doubled end: got %+v", delta)
	}
	d.want(map[string]string{"": "success", "a": "success"})
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	d := newDriver(t, "dag: d\ntasks: {a: {run: x, infra_retry: 1}}")
	d.launch("a")
	first := d.r.Attempt(0)
	d.report("a", scheduler.Report{Outcome: scheduler.OutcomeRunning})
	d.report("a", scheduler.Report{Outcome: scheduler.OutcomeUnreachable, Reason: "agent is away"})
	d.want(map[string]string{"": "running", "a": "unreachable"})
	d.report("a", scheduler.Report{Outcome: scheduler.OutcomeRunning})
	d.want(map[string]string{"": "running", "a": "running"})
	if delta := d.step(Fence{Task: 0, Attempt: first}); !delta.Empty() {
		t.Errorf("fence of a task that came back: got %+v", delta)
	}
	d.report("a", scheduler.Report{Outcome: scheduler.OutcomeUnreachable})
	delta := d.step(Fence{Task: 0, Attempt: first})
	if diff := cmp.Diff([]string{first}, delta.Kill); diff != "" || len(delta.Ready) != 1 {
		t.Errorf("fence: got %+v", delta)
	}
	if delta := d.report("a", scheduler.Report{Attempt: first, Outcome: scheduler.OutcomeExited}); !delta.Empty() {
		t.Errorf("the fenced attempt's end: got %+v", delta)
	}
	d.launch("a")
	d.exit("a", 0)
	if row := d.r.Tasks[0]; row.State != scheduler.StateSuccess || row.Lost != 1 || row.Try != 2 {
		t.Errorf("got %+v", row)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	d := newDriver(t, `
dag: d
tasks:
  z: {run: x, needs: [y]}
  y: {run: x, needs: [a]}
  a: {run: x}
  b: {run: x, retry: {limit: 1, delay: 1h}}
  c: {run: x}
  done: {run: x}
`)
	for _, id := range []string{"a", "b", "done"} {
		d.launch(id)
	}
	d.exit("done", 0)
	d.exit("b", 1)
	delta := d.step(Cancel{Reason: "cancelled by hand"})
	if diff := cmp.Diff([]string{d.r.Attempt(d.index("a"))}, delta.Kill); diff != "" {
		t.Errorf("kill (-want +got):\n%s", diff)
	}
	d.want(map[string]string{"": "running", "a": "launching", "b": "cancelled", "c": "cancelled", "done": "success", "y": "cancelled", "z": "cancelled"})
	if delta := d.report("a", scheduler.Report{Outcome: scheduler.OutcomeRunning}); len(delta.Kill) != 1 {
		t.Errorf("running after the cancel: got %+v, want another kill", delta)
	}
	d.report("a", scheduler.Report{Outcome: scheduler.OutcomeExited, Exit: -1, Signal: "SIGTERM"})
	if d.r.Row.State != scheduler.StateCancelled || d.r.Row.Reason != "cancelled by hand" || d.r.Tasks[d.index("a")].State != scheduler.StateCancelled {
		t.Errorf("got %+v", d.r.Row)
	}
	if delta := d.step(Cancel{Reason: "again"}); !delta.Empty() {
		t.Errorf("cancel of an ended run: got %+v", delta)
	}
}

func TestCancelOfAQueuedRunEndsItAtOnce(t *testing.T) {
	t.Parallel()
	d := newDriver(t, diamond)
	d.step(Cancel{Reason: "no"})
	d.want(map[string]string{"": "cancelled", "a": "cancelled", "b": "cancelled", "c": "cancelled", "d": "cancelled"})
}

func TestLaunchCarriesTheContract(t *testing.T) {
	t.Parallel()
	d := newDriver(t, `
dag: d
env: {LEVEL: dag, WHERE: "${{ batch.uri }}"}
defaults: {env: {LEVEL: default}}
tasks:
  a: {run: [prog, "--n=${{ totals.events }}", "x"], timeout: {run: 1m, grace: 2s}, env: {LEVEL: "task-${{ batch.source }}"}}
  b: {run: "echo $X", needs: a, env: {X: "${{ tasks.a.output.n }}"}}
`)
	op := operator.All(operator.Options{})["command"]
	d.launch("a")
	l, err := d.r.Launch(0, 1, op, []string{"PATH=/bin", "LEVEL=base"})
	if err != nil {
		t.Fatal(err)
	}
	row := d.r.Row
	want := scheduler.Launch{
		ID: row.ID + ".a.-1.1", Run: row.ID, Task: "a", MapIndex: -1, Try: 1, Argv: []string{"prog", "--n=20", "x"},
		Timeout: time.Minute, Grace: 2 * time.Second,
		Env: []string{
			"LEVEL=task-web", "MILLRACE_BATCH_IDS=01B0,01B1", "MILLRACE_DAG_ID=d", "MILLRACE_DAG_VERSION=" + row.Version,
			"MILLRACE_EVENT_COUNT=20", "MILLRACE_IDEMPOTENCY_KEY=" + row.ID + "/a", "MILLRACE_INTERVAL_END=2026-05-01T09:59:01Z",
			"MILLRACE_INTERVAL_START=2026-05-01T09:58:00Z", "MILLRACE_MAP_INDEX=-1", "MILLRACE_RUN_ID=" + row.ID, "MILLRACE_TASK_ID=a",
			"MILLRACE_TRY=1", "MILLRACE_WATERMARK=2026-05-01T09:58:00Z", "PATH=/bin", "TRACEPARENT=" + row.Trace, "WHERE=file:///o/0",
		},
	}
	if diff := cmp.Diff(want, l); diff != "" {
		t.Errorf("launch (-want +got):\n%s", diff)
	}
	d.report("a", scheduler.Report{Outcome: scheduler.OutcomeExited, Output: []byte(`{"n": 7}`)})
	l, err = d.r.Launch(1, 1, op, nil)
	if err != nil || !cmp.Equal(l.Argv, []string{"sh", "-c", "echo $X"}) || l.Grace != DefaultGrace || l.Env[len(l.Env)-1] != "X=7" {
		t.Errorf("got %+v, %v", l, err)
	}
	raw, err := d.r.Freeze(1).Input()
	if err != nil {
		t.Fatal(err)
	}
	var in scheduler.Input
	if err := json.Unmarshal(raw, &in); err != nil {
		t.Fatal(err)
	}
	if in.V != 1 || in.Task != "b" || len(in.Batches) != 2 || in.Totals.Events != 20 || string(in.Upstream["a"]) != `{"n":7}` || in.Run.ID != row.ID {
		t.Errorf("got %s", raw)
	}
}

func TestLaunchRefusesWhatTurnsOutToBeCode(t *testing.T) {
	t.Parallel()
	dag := dagOf(t, "dag: d\nparams: {flag: {type: string}}\ntasks: {a: {run: [sh, \"${{ params.flag }}\", \"${{ batch.source }}\"]}}")
	for _, flag := range []string{"-c", "-e", "--eval", "--eval=x"} {
		r, _ := NewRun(dag, firing(testBatches(1)...), json.RawMessage(`{"flag":"`+flag+`"}`), t0)
		if _, err := r.Launch(0, 1, operator.Command{}, nil); err == nil || !strings.Contains(err.Error(), "may take code") {
			t.Errorf("%s: got %v", flag, err)
		}
	}
}

func TestCronRunHasTheIntervalSinceTheTickBefore(t *testing.T) {
	t.Parallel()
	dag := dagOf(t, "dag: d\non: [{id: n, cron: '30 2 * * *', timezone: Europe/Berlin}]\ntasks: {a: {run: x}}")
	tests := []struct{ name, due, start string }{
		{"plain", "2026-05-02T00:30:00Z", "2026-05-01T00:30:00Z"},
		{"clocks go forward, 02:30 is skipped", "2026-03-29T01:00:00Z", "2026-03-28T01:30:00Z"},
		{"the day after", "2026-03-30T00:30:00Z", "2026-03-29T01:00:00Z"},
		{"clocks go back", "2026-10-26T01:30:00Z", "2026-10-25T00:30:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			due, err := time.Parse(time.RFC3339, tt.due)
			if err != nil {
				t.Fatal(err)
			}
			r, _ := NewRun(dag, &trigger.Firing{Kind: trigger.KindCron, DAG: "d", Rule: "n", Key: tt.due, Due: due}, nil, t0)
			if got := r.Row.IntervalStart.Format(time.RFC3339); !r.Row.IntervalEnd.Equal(due) || got != tt.start {
				t.Errorf("got %v to %v, want %s to %s", got, r.Row.IntervalEnd, tt.start, tt.due)
			}
		})
	}
}

func TestReplayNamesTheOriginal(t *testing.T) {
	t.Parallel()
	dag := dagOf(t, diamond)
	f := firing(testBatches(1)...)
	original, _ := NewRun(dag, f, nil, t0)
	f.Replay = 1
	again, _ := NewRun(dag, f, nil, t0)
	if again.Row.ReplayOf != original.Row.ID || again.Row.ID == original.Row.ID || original.Row.ReplayOf != "" {
		t.Errorf("got %+v of %+v", again.Row, original.Row)
	}
}

func TestCompileRefusesOtherForms(t *testing.T) {
	t.Parallel()
	if _, err := Compile(scheduler.DAGVersion{Version: "x", DAG: "d", Canonical: []byte(`{"v":2,"id":"d"}`)}); err == nil {
		t.Error("form 2 is taken")
	}
	if _, err := Compile(scheduler.DAGVersion{Version: "x", DAG: "d", Canonical: []byte(`{`)}); err == nil {
		t.Error("half a document is taken")
	}
}
