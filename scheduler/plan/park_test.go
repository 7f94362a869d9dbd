package plan

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
)

// parkedDriver steps a run of a → ask → load, and ask → b, where ask waits for a person, and sub, which waits for another run.
func parkedDriver(t *testing.T, ask scheduler.Approval, sub scheduler.Task) *driver {
	t.Helper()
	sub.ID, sub.Kind, sub.SubDAG = "sub", scheduler.KindDAG, &scheduler.SubDAG{ID: "other"}
	dag := scheduler.DAG{V: 1, ID: "d", Tasks: []scheduler.Task{
		{ID: "a", Kind: scheduler.KindCommand, Shell: "x"},
		{ID: "ask", Kind: scheduler.KindApproval, Approval: &ask, Needs: []string{"a"}},
		{ID: "load", Kind: scheduler.KindCommand, Shell: "x", Needs: []string{"ask"}},
		sub,
	}}
	d, _, err := Of(&dag)
	if err != nil {
		t.Fatal(err)
	}
	r, delta := NewRun(d, firing(), json.RawMessage(`{}`), t0)
	out := &driver{t: t, r: r, now: t0, rng: rand.New(rand.NewPCG(1, 2)), all: delta}
	out.launch("a")
	out.exit("a", 0)
	out.step(Park{Task: out.index("ask"), Reason: "Load it?"})
	out.step(Park{Task: out.index("sub"), On: "r1"})
	out.want(map[string]string{"": "running", "a": "success", "ask": "awaiting_input", "load": "none", "sub": "deferred"})
	return out
}

func (d *driver) decide(word string) {
	i := d.index("ask")
	d.step(Decide{Task: i, Attempt: d.r.Attempt(i), Decision: scheduler.Decision{Decision: word, By: "ann", Comment: "fine"}})
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		ask    scheduler.Approval
		word   string // "": the time passes
		ask2   string
		load   string
		reason string
	}{
		{"yes", scheduler.Approval{}, scheduler.DecisionApprove, "success", "scheduled", "approved by ann: fine"},
		{"no", scheduler.Approval{}, scheduler.DecisionReject, "skipped", "skipped", "rejected by ann: fine"},
		{"no is a failure", scheduler.Approval{OnReject: scheduler.RejectFail}, scheduler.DecisionReject, "failed", "upstream_failed", "rejected by ann: fine"},
		{"nobody", scheduler.Approval{Expires: time.Hour}, "", "skipped", "skipped", "rejected, since nobody decided within 1h0m0s"},
		{"nobody fails", scheduler.Approval{Expires: time.Hour, OnReject: scheduler.RejectFail}, "", "failed", "upstream_failed", "rejected, since"},
		{"nobody approves", scheduler.Approval{Expires: time.Hour, OnExpire: scheduler.DecisionApprove}, "", "success", "scheduled", "approved, since"},
		{"nobody skips", scheduler.Approval{Expires: time.Hour, OnExpire: scheduler.DecisionSkip, OnReject: scheduler.RejectFail}, "", "skipped", "skipped", "skipped, since"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := parkedDriver(t, tt.ask, scheduler.Task{})
			i := d.index("ask")
			if tt.word != "" {
				d.decide(tt.word)
			} else {
				if got, want := d.r.ParkedUntil(i), t0.Add(time.Hour); !got.Equal(want) {
					t.Errorf("it waits until %v, want %v", got, want)
				}
				d.now = t0.Add(time.Hour - 1)
				d.step(Late{Task: i})
				if got := d.states()["ask"]; got != "awaiting_input" {
					t.Errorf("it is %s before its time is over", got)
				}
				d.now = t0.Add(time.Hour)
				d.step(Late{Task: i})
			}
			row := d.r.Tasks[i]
			if got := d.states(); got["ask"] != tt.ask2 || got["load"] != tt.load || !strings.HasPrefix(row.Reason, tt.reason) {
				t.Errorf("got %v, %q", got, row.Reason)
			}
			var out scheduler.Decision
			if err := json.Unmarshal(row.Output, &out); err != nil || out.Decision == "" || out.Expired == (tt.word != "") || !out.At.Equal(d.now) {
				t.Errorf("output is %s, %v", row.Output, err)
			}
			before := d.states()
			if delta := d.step(Decide{Task: i, Attempt: d.r.Attempt(i), Decision: scheduler.Decision{Decision: scheduler.DecisionApprove}}); !delta.Empty() {
				t.Errorf("a second decision changed %v to %v", before, d.states())
			}
			last := d.all.Attempts[len(d.all.Attempts)-1]
			if last.Task != "ask" || !last.State.Terminal() || last.CreatedAt.IsZero() || !last.EndedAt.Equal(d.now) {
				t.Errorf("the attempt ends as %+v", last)
			}
		})
	}
}

// What a person asks of a run holds for tasks that are parked as for those that run: what a task has started ends first.
func TestWordsOnParkedTasks(t *testing.T) {
	t.Parallel()
	end := func(d *driver, state scheduler.State) {
		i := d.index("sub")
		d.step(Unpark{Task: i, Attempt: d.r.Attempt(i), State: state, Reason: "run r1 ended", Output: []byte(`{"run":"r1"}`)})
	}
	t.Run("cancel", func(t *testing.T) {
		t.Parallel()
		d := parkedDriver(t, scheduler.Approval{}, scheduler.Task{Retry: scheduler.Retry{Limit: 3}})
		delta := d.step(Cancel{Reason: "enough"})
		if len(delta.Halt) != 1 || delta.Halt[0] != d.index("sub") {
			t.Errorf("halt is %v", delta.Halt)
		}
		d.want(map[string]string{"": "running", "a": "success", "ask": "cancelled", "load": "cancelled", "sub": "deferred"})
		end(d, scheduler.StateSuccess)
		d.want(map[string]string{"": "cancelled", "a": "success", "ask": "cancelled", "load": "cancelled", "sub": "cancelled"})
	})
	t.Run("clear", func(t *testing.T) {
		t.Parallel()
		d := parkedDriver(t, scheduler.Approval{}, scheduler.Task{})
		delta := d.r.Clear([]int{d.index("ask"), d.index("sub")}, "bob", d.now)
		d.want(map[string]string{"": "running", "a": "success", "ask": "scheduled", "load": "none", "sub": "deferred"})
		if len(delta.Halt) != 1 || len(delta.Attempts) != 1 || delta.Attempts[0].State != scheduler.StateCancelled {
			t.Errorf("halt is %v, attempts %+v", delta.Halt, delta.Attempts)
		}
		end(d, scheduler.StateSuccess)
		d.want(map[string]string{"": "running", "a": "success", "ask": "scheduled", "load": "none", "sub": "scheduled"})
		d.step(Park{Task: d.index("sub"), On: "r2"})
		if row := d.r.Tasks[d.index("sub")]; row.Try != 2 || row.External != "r2" || len(row.Output) > 0 {
			t.Errorf("the next try is %+v", row)
		}
	})
	t.Run("clear of a parent", func(t *testing.T) {
		t.Parallel()
		d := parkedDriver(t, scheduler.Approval{}, scheduler.Task{})
		d.r.Clear([]int{d.index("a")}, "bob", d.now)
		d.want(map[string]string{"": "running", "a": "scheduled", "ask": "none", "load": "none", "sub": "deferred"})
	})
	t.Run("mark", func(t *testing.T) {
		t.Parallel()
		d := parkedDriver(t, scheduler.Approval{}, scheduler.Task{})
		d.r.Mark(d.index("ask"), scheduler.StateSuccess, "bob", d.now)
		d.r.Mark(d.index("sub"), scheduler.StateSuccess, "bob", d.now)
		d.want(map[string]string{"": "running", "a": "success", "ask": "success", "load": "scheduled", "sub": "deferred"})
		end(d, scheduler.StateFailed)
		d.want(map[string]string{"": "running", "a": "success", "ask": "success", "load": "scheduled", "sub": "success"})
	})
	t.Run("timeout", func(t *testing.T) {
		t.Parallel()
		d := parkedDriver(t, scheduler.Approval{}, scheduler.Task{Timeout: scheduler.Timeout{Run: time.Minute}, Retry: scheduler.Retry{Limit: 1}})
		d.now = t0.Add(time.Minute)
		if delta := d.step(Late{Task: d.index("sub")}); len(delta.Halt) != 1 {
			t.Fatalf("got %+v", delta)
		}
		end(d, scheduler.StateCancelled)
		if row := d.r.Tasks[d.index("sub")]; row.State != scheduler.StateScheduled || !strings.Contains(row.Reason, "was not over within 1m0s") {
			t.Errorf("got %+v, want a second try", row)
		}
	})
	t.Run("failed", func(t *testing.T) {
		t.Parallel()
		d := parkedDriver(t, scheduler.Approval{}, scheduler.Task{Retry: scheduler.Retry{Limit: 1}})
		end(d, scheduler.StateFailed)
		if got := d.states()["sub"]; got != "scheduled" {
			t.Errorf("got %s, want a second try", got)
		}
		d.step(Park{Task: d.index("sub"), On: "r2"})
		end(d, scheduler.StateFailed)
		if row := d.r.Tasks[d.index("sub")]; row.State != scheduler.StateFailed || string(row.Output) != `{"run":"r1"}` {
			t.Errorf("got %+v", row)
		}
	})
}
