package plan

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

// chain is a ─▶ b ─▶ c, and d by itself.
const chain = `
dag: d
defaults: {retry: 1}
tasks:
  a: {run: x}
  b: {run: x, needs: a}
  c: {run: x, needs: b}
  d: {run: x}
`

// clear clears and keeps what the step said.
func (d *driver) clear(c scheduler.Clear) Delta {
	d.t.Helper()
	tasks, err := d.r.Select(c)
	if err != nil {
		d.t.Fatal(err)
	}
	delta := d.r.Clear(tasks, "ann", d.now)
	d.all.Moves = append(d.all.Moves, delta.Moves...)
	return delta
}

// play executes the tasks in turn, each of which exits as it says.
func (d *driver) play(tasks string, code int) {
	for task := range strings.FieldsSeq(tasks) {
		d.launch(task)
		d.exit(task, code)
	}
}

// brief is the state of the run and of each task, in the order of the DAG, by first letters.
func (d *driver) brief() string {
	out := string(d.r.Row.State)
	for _, t := range d.r.Tasks {
		out += " " + string(t.State)
	}
	return out
}

func TestClear(t *testing.T) {
	t.Parallel()
	failedAtB := func(d *driver) {
		d.play("a", 0)
		d.play("b b", 1)
		d.play("d", 0)
	}
	succeeded := func(d *driver) { d.play("a b c d", 0) }
	running := func(d *driver) { d.play("a", 0); d.launch("b") }
	for _, tt := range []struct {
		name   string
		before func(*driver)
		clear  scheduler.Clear
		want   string // right after the clear
		ready  string
		end    string // when everything that is ready has succeeded
	}{
		{"all of a run that succeeded", succeeded, scheduler.Clear{},
			"queued scheduled none none scheduled", "a d", "success success success success success"},
		{"what failed and what comes after", failedAtB, scheduler.Clear{Failed: true, Downstream: true},
			"queued success scheduled none success", "b", "success success success success success"},
		{"one task", succeeded, scheduler.Clear{Tasks: []string{"a"}},
			"queued scheduled success success success", "a", "success success success success success"},
		{"one task and what comes after", succeeded, scheduler.Clear{Tasks: []string{"b"}, Downstream: true},
			"queued success scheduled none success", "b", "success success success success success"},
		{"what failed alone", failedAtB, scheduler.Clear{Failed: true},
			"queued success scheduled none success", "b", "success success success success success"},
		{"nothing failed", succeeded, scheduler.Clear{Failed: true, Downstream: true},
			"success success success success success", "", "success success success success success"},
		{"a parent of what runs", running, scheduler.Clear{Tasks: []string{"a"}},
			"running scheduled launching none scheduled", "a", "success success success success success"},
		{"a run that was cancelled", func(d *driver) { d.play("a", 0); d.step(Cancel{Reason: "cancelled by request"}) }, scheduler.Clear{Failed: true},
			"queued success scheduled none scheduled", "b d", "success success success success success"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, chain)
			tt.before(d)
			delta := d.clear(tt.clear)
			if got := d.brief(); got != tt.want {
				t.Errorf("after the clear: got %s, want %s", got, tt.want)
			}
			var ready []string
			for _, i := range delta.Ready {
				ready = append(ready, d.r.Tasks[i].Task)
			}
			if got := strings.Join(ready, " "); got != tt.ready {
				t.Errorf("ready: got %q, want %q", got, tt.ready)
			}
			for range 4 {
				for _, task := range d.r.Tasks {
					d.launch(task.Task)
					d.exit(task.Task, 0)
				}
			}
			if got := d.brief(); got != tt.end {
				t.Errorf("at the end: got %s, want %s", got, tt.end)
			}
		})
	}
}

// A cleared task counts its tries on, so that no attempt's id comes twice, has all its retries again, and nothing of what it was.
func TestClearGoesOnCounting(t *testing.T) {
	t.Parallel()
	d := newDriver(t, "dag: d\ntasks: {a: {run: x, retry: 1, infra_retry: 1}}")
	lost := scheduler.Report{Outcome: scheduler.OutcomeLost}
	d.launch("a")
	d.report("a", lost)
	d.play("a a", 3)
	d.want(map[string]string{"": "failed", "a": "failed"})
	d.clear(scheduler.Clear{})
	want := scheduler.TaskRun{
		Run: d.r.Row.ID, Task: "a", MapIndex: scheduler.NoMap, State: scheduler.StateScheduled, Try: 3, Cleared: 3, Since: d.now, Executor: "local", Exit: noExit,
	}
	if diff := cmp.Diff(want, d.r.Tasks[0]); diff != "" {
		t.Errorf("task (-want +got):\n%s", diff)
	}
	if row := d.r.Row; row.State != scheduler.StateQueued || row.Reason != "" || !row.EndedAt.IsZero() || !row.StartedAt.IsZero() {
		t.Errorf("run: got %+v", row)
	}
	d.launch("a")
	if got := d.r.Attempt(0); got != d.r.Tasks[0].AttemptID(4) {
		t.Errorf("attempt %s, want the fourth", got)
	}
	d.report("a", lost)
	d.play("a a", 3)
	if k := d.r.Tasks[0]; k.State != scheduler.StateFailed || k.Try != 6 || k.Lost != 1 || !strings.Contains(k.Reason, "all 1 retries are used up") {
		t.Errorf("after as many tries again: got %+v", k)
	}
	seen := map[string]bool{}
	for _, a := range d.all.Attempts {
		if a.State == scheduler.StateLaunching && seen[a.ID] {
			t.Errorf("attempt %s was launched twice", a.ID)
		}
		seen[a.ID] = true
	}
	for _, m := range d.all.Moves {
		if m.To == scheduler.StateNone && m.Reason != "cleared by ann" {
			t.Errorf("the audit trail does not tell who cleared: %+v", m)
		}
	}
}

// An attempt that runs is killed for a clear, and its task begins again when it has ended, with whatever result; the wish outlives a restart.
func TestClearWhileItRuns(t *testing.T) {
	t.Parallel()
	d := newDriver(t, chain)
	d.launch("a")
	d.report("a", scheduler.Report{Outcome: scheduler.OutcomeRunning})
	first := d.r.Attempt(0)
	delta := d.clear(scheduler.Clear{Tasks: []string{"a"}})
	if diff := cmp.Diff([]string{first}, delta.Kill); diff != "" {
		t.Errorf("to be killed (-want +got):\n%s", diff)
	}
	if got := d.brief(); got != "running running none none scheduled" {
		t.Errorf("got %s", got)
	}
	n := d.r.New()
	again, err := Restore(d.r.DAG, &scheduler.LiveRun{Run: n.Run, Tasks: n.Tasks, Batches: d.r.Batches})
	if err != nil {
		t.Fatal(err)
	}
	d.r = again
	if delta := d.report("a", scheduler.Report{Outcome: scheduler.OutcomeRunning}); len(delta.Kill) != 1 {
		t.Errorf("after a restart: got %+v, want another kill", delta)
	}
	delta = d.report("a", scheduler.Report{Outcome: scheduler.OutcomeExited, Output: []byte(`{"rows": 1}`)})
	if got := d.brief(); got != "running scheduled none none scheduled" || d.r.Tasks[0].Output != nil {
		t.Errorf("got %s with output %s", got, d.r.Tasks[0].Output)
	}
	if a := delta.Attempts[0]; a.ID != first || a.State != scheduler.StateCancelled || !strings.HasPrefix(a.Reason, "cleared by ann") {
		t.Errorf("the attempt: got %+v", a)
	}
	d.launch("a")
	d.clear(scheduler.Clear{Tasks: []string{"a"}})
	d.step(Cancel{Reason: "cancelled by request"}) // which is the last word
	d.exit("a", 0)
	if got := d.brief(); got != "cancelled cancelled cancelled cancelled cancelled" {
		t.Errorf("cleared, then cancelled: got %s", got)
	}
}

// What runs while its parent is cleared goes on; if it has to be tried again, it waits for the parent.
func TestRetryWaitsForClearedParent(t *testing.T) {
	t.Parallel()
	d := newDriver(t, chain)
	d.play("a", 0)
	d.launch("b")
	d.clear(scheduler.Clear{Tasks: []string{"a"}})
	d.exit("b", 1)
	if got := d.brief(); got != "running scheduled none none scheduled" {
		t.Errorf("got %s, want b to wait for a", got)
	}
	d.play("a b c d", 0)
	if got := d.brief(); got != "success success success success success" {
		t.Errorf("got %s", got)
	}
}

func TestMark(t *testing.T) {
	t.Parallel()
	failedAtB := func(d *driver) {
		d.play("a", 0)
		d.play("b b", 1)
		d.play("d", 0)
	}
	succeeded := func(d *driver) { d.play("a b c d", 0) }
	waits := func(d *driver) { d.play("a", 0); d.launch("b") }
	for _, tt := range []markCase{
		{"what failed as success: what comes after runs", failedAtB, mark{"b", "success"}, "queued success success scheduled success", "", "", ""},
		{"what failed as skipped", failedAtB, mark{"b", "skipped"}, "success success skipped skipped success", "", "", ""},
		{"what succeeded as failed", succeeded, mark{"c", "failed"}, "failed success success failed success", "", "", "task c: marked failed by ann"},
		{"the last that failed as success", func(d *driver) { d.play("a b d", 0); d.play("c c", 1) }, mark{"c", "success"},
			"success success success success success", "", "", ""},
		{"what has not started as success", waits, mark{"c", "success"}, "running success launching success scheduled", "", "", ""},
		{"what is ready as failed", waits, mark{"d", "failed"}, "running success launching none failed", "", "", ""},
		{"what is so already", succeeded, mark{"c", "success"}, "success success success success success", "", "", ""},
		{"what runs as success", waits, mark{"b", "success"}, "running success launching none scheduled", "b", "running success success scheduled scheduled", ""},
		{"what runs as failed", waits, mark{"b", "failed"}, "running success launching none scheduled", "b", "running success failed upstream_failed scheduled", ""},
		{"what runs as skipped", waits, mark{"b", "skipped"}, "running success launching none scheduled", "b", "running success skipped skipped scheduled", ""},
		{"a failed run as success", failedAtB, mark{"", "success"}, "success success success success success", "", "", ""},
		{"a run that succeeded as failed", succeeded, mark{"", "failed"}, "failed success success success success", "", "", "marked failed by ann"},
		{"a running run as success", waits, mark{"", "success"}, "running success launching success success", "b", "success success success success success", ""},
		{"a running run as failed", waits, mark{"", "failed"}, "running success launching skipped skipped", "b",
			"failed success failed skipped skipped", "marked failed by ann"},
		{"a run that waits as failed", func(*driver) {}, mark{"", "failed"}, "failed skipped skipped skipped skipped", "", "", "marked failed by ann"},
		{"a run that waits as success", func(*driver) {}, mark{"", "success"}, "success success success success success", "", "", ""},
		{"a cancelled run as failed", func(d *driver) { d.play("a", 0); d.step(Cancel{Reason: "r"}) }, mark{"", "failed"},
			"failed success failed failed failed", "", "", "marked failed by ann"},
		{"a task of a cancelled run", func(d *driver) { d.play("a", 0); d.step(Cancel{Reason: "r"}) }, mark{"b", "success"},
			"cancelled success success cancelled cancelled", "", "", "task c: r"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.check(newDriver(t, chain))
		})
	}
}

// mark is the argument of Run.Mark; task is "" for the run.
type mark struct {
	task string
	to   scheduler.State
}

type markCase struct {
	name   string
	before func(*driver)
	mark   mark
	want   string
	killed string
	end    string // after what runs was killed
	reason string
}

func (tt *markCase) check(d *driver) {
	t := d.t
	t.Helper()
	tt.before(d)
	task := NoTask
	if tt.mark.task != "" {
		task = d.index(tt.mark.task)
	}
	var killed string
	for round := range 2 { // the second changes nothing
		before := d.brief()
		delta := d.r.Mark(task, tt.mark.to, "ann", d.now.Add(time.Second))
		if round > 0 && (d.brief() != before || len(delta.Moves)+len(delta.Tasks) > 0) {
			t.Errorf("again: got %+v, from %s to %s", delta, before, d.brief())
		}
		for _, id := range delta.Kill {
			killed = strings.Split(id, ".")[1]
		}
		for _, m := range delta.Moves {
			if m.From.Terminal() && m.Reason != "marked "+string(tt.mark.to)+" by ann" {
				t.Errorf("the audit trail does not tell who marked: %+v", m)
			}
		}
	}
	if got := d.brief(); got != tt.want || killed != tt.killed {
		t.Errorf("got %s, killed %q, want %s and %q", got, killed, tt.want, tt.killed)
	}
	if killed != "" {
		d.report(killed, scheduler.Report{Outcome: scheduler.OutcomeExited, Output: []byte("1")})
		if k := d.r.Tasks[d.index(killed)]; d.brief() != tt.end || k.Output != nil {
			t.Errorf("after it was killed: got %s and output %s, want %s and none", d.brief(), k.Output, tt.end)
		}
	}
	if d.r.Row.State.Terminal() && d.r.Row.Reason != tt.reason {
		t.Errorf("reason: got %q, want %q", d.r.Row.Reason, tt.reason)
	}
}

// A cancel is the last word, also after a mark whose attempt has not ended yet.
func TestCancelAfterMark(t *testing.T) {
	t.Parallel()
	d := newDriver(t, chain)
	d.launch("a")
	d.r.Mark(NoTask, scheduler.StateFailed, "ann", d.now)
	d.step(Cancel{Reason: "cancelled by request"})
	d.exit("a", 0)
	if got := d.brief(); got != "cancelled cancelled skipped skipped skipped" || d.r.Row.Reason != "cancelled by request" {
		t.Errorf("got %s: %s", got, d.r.Row.Reason)
	}
}

func TestSelectUnknownTask(t *testing.T) {
	t.Parallel()
	r, _ := NewRun(dagOf(t, chain), firing(), json.RawMessage("{}"), t0)
	_, err := r.Select(scheduler.Clear{Tasks: []string{"a", "e", "f"}})
	if !errors.Is(err, scheduler.ErrNotFound) || !strings.Contains(err.Error(), `task "e"`) || !strings.Contains(err.Error(), `task "f"`) ||
		!strings.Contains(err.Error(), "it has a, b, c, d") {
		t.Errorf("got %v", err)
	}
}
