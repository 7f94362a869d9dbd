package plan

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

func TestQueueTimeout(t *testing.T) {
	t.Parallel()
	d := newDriver(t, "dag: d\ntasks: {a: {run: x, retry: 1, timeout: {queue: 10m}}}")
	d.now = d.now.Add(10*time.Minute - time.Nanosecond)
	if delta := d.step(Late{Task: 0}); !delta.Empty() {
		t.Errorf("early: got %+v", delta)
	}
	d.now = d.now.Add(time.Nanosecond)
	if delta := d.step(Late{Task: 0}); !cmp.Equal(delta.Ready, []int{0}) || len(delta.Attempts) != 1 || len(delta.Kill) > 0 {
		t.Errorf("in time: got %+v, want the end of an attempt, and the task ready for the next", delta)
	}
	d.want(map[string]string{"": "queued", "a": "scheduled"})
	if delta := d.step(Late{Task: 0}); !delta.Empty() {
		t.Errorf("the wait of the second try: got %+v", delta)
	}
	d.now = d.now.Add(10 * time.Minute)
	d.step(Late{Task: 0})
	d.want(map[string]string{"": "failed", "a": "failed"})
	want := "ran into its timeout: had no slot for 10m0s (timeout.queue), and all 1 retries are used up"
	if row := d.r.Tasks[0]; row.Reason != want || row.Try != 2 || row.Exit != scheduler.ExitTimeout {
		t.Errorf("got %+v, want two tries, exit %d and %q", row, scheduler.ExitTimeout, want)
	}
	for i, a := range d.all.Attempts {
		if a.Try != i+1 || a.State != scheduler.StateFailed || a.EndedAt.IsZero() || !strings.Contains(a.Reason, "timeout.queue") {
			t.Errorf("attempt %d: got %+v", i+1, a)
		}
	}
}

func TestQueueTimeoutIsExitCode124(t *testing.T) {
	t.Parallel()
	d := newDriver(t, "dag: d\ntasks: {a: {run: x, retry: {limit: 3, never_on: [124]}, timeout: {queue: 1s}}}")
	d.now = d.now.Add(time.Second)
	d.step(Late{Task: 0})
	d.want(map[string]string{"": "failed", "a": "failed"})
}

// A task that has its slot has not waited for too long, however late the timer comes.
func TestLateComesTooLate(t *testing.T) {
	t.Parallel()
	d := newDriver(t, "dag: d\ntasks: {a: {run: x, timeout: {queue: 1s, start: 1h}}, b: {run: x}}")
	d.launch("a")
	d.now = d.now.Add(time.Minute)
	for i := range 2 {
		if delta := d.step(Late{Task: i}); !delta.Empty() {
			t.Errorf("task %d: got %+v", i, delta)
		}
	}
	d.report("a", scheduler.Report{Outcome: scheduler.OutcomeRunning})
	d.now = d.now.Add(2 * time.Hour)
	if delta := d.step(Late{Task: 0}); !delta.Empty() {
		t.Errorf("a task that runs: got %+v", delta)
	}
}

// An attempt that has not started in time is ended, and has failed, whatever it reports; then it is tried again.
func TestStartTimeout(t *testing.T) {
	t.Parallel()
	reports := map[string]scheduler.Report{
		"ended":   {Outcome: scheduler.OutcomeExited, Exit: -1, Signal: "SIGTERM"},
		"success": {Outcome: scheduler.OutcomeExited, Output: []byte("1")},
		"lost":    {Outcome: scheduler.OutcomeLost},
		"skip":    {Outcome: scheduler.OutcomeExited, Exit: scheduler.ExitSkip},
	}
	for name, rep := range reports {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, "dag: d\ntasks: {a: {run: x, retry: 1, infra_retry: 0, timeout: {start: 2m}}}")
			d.launch("a")
			first := d.r.Attempt(0)
			d.now = d.now.Add(2 * time.Minute)
			if delta := d.step(Late{Task: 0}); !cmp.Equal(delta.Kill, []string{first}) {
				t.Fatalf("got %+v, want the attempt asked to end", delta)
			}
			if delta := d.step(Late{Task: 0}); !delta.Empty() {
				t.Errorf("again: got %+v", delta)
			}
			d.want(map[string]string{"": "running", "a": "launching"})
			if delta := d.report("a", scheduler.Report{Outcome: scheduler.OutcomeRunning}); !cmp.Equal(delta.Kill, []string{first}) {
				t.Errorf("it runs after all: got %+v, want it asked to end again", delta)
			}
			d.report("a", rep)
			row := d.r.Tasks[0]
			if row.State != scheduler.StateScheduled || row.Reason != "ran into its timeout: did not start within 2m0s (timeout.start)" || row.Output != nil {
				t.Errorf("got %+v, want it to be tried again", row)
			}
			d.launch("a")
			d.exit("a", 0)
			if row := d.r.Tasks[0]; row.State != scheduler.StateSuccess || row.Kill != "" || row.Lost != 0 {
				t.Errorf("the second try: got %+v", row)
			}
		})
	}
}

// What a cancelled run ends is not tried again, also if it was ended for another reason before.
func TestCancelAfterStartTimeout(t *testing.T) {
	t.Parallel()
	d := newDriver(t, "dag: d\ntasks: {a: {run: x, retry: 5, timeout: {start: 2m}}}")
	d.launch("a")
	d.now = d.now.Add(2 * time.Minute)
	d.step(Late{Task: 0})
	d.step(Cancel{Reason: "cancelled by hand"})
	d.report("a", scheduler.Report{Outcome: scheduler.OutcomeExited, Exit: -1, Signal: "SIGTERM"})
	d.want(map[string]string{"": "cancelled", "a": "cancelled"})
}

// A wait goes on after a restart. Of a row that does not have when it began the timer is believed.
func TestLateAfterARestart(t *testing.T) {
	t.Parallel()
	d := newDriver(t, "dag: d\ntasks: {a: {run: x, timeout: {queue: 10m}}}")
	n := d.r.New()
	again, err := Restore(d.r.DAG, &scheduler.LiveRun{Run: n.Run, Tasks: n.Tasks, Batches: d.r.Batches})
	if err != nil {
		t.Fatal(err)
	}
	d.r = again
	d.now = d.now.Add(9 * time.Minute)
	if delta := d.step(Late{Task: 0}); !delta.Empty() {
		t.Errorf("after 9 minutes: got %+v", delta)
	}
	d.now = d.now.Add(time.Minute)
	d.step(Late{Task: 0})
	d.want(map[string]string{"": "failed", "a": "failed"})

	n.Tasks[0].Since = time.Time{}
	if d.r, err = Restore(d.r.DAG, &scheduler.LiveRun{Run: n.Run, Tasks: n.Tasks, Batches: d.r.Batches}); err != nil {
		t.Fatal(err)
	}
	d.step(Late{Task: 0})
	d.want(map[string]string{"": "failed", "a": "failed"})
}
