package engine

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/spec"
)

// askDAG is a DAG whose second task asks a person; the spec of files can not say so yet in this test's form.
func askDAG(ask scheduler.Approval, con *scheduler.Concurrency) spec.Set {
	dag := scheduler.DAG{V: 1, ID: "a", Concurrency: con, Params: map[string]scheduler.Param{"rows": {Type: "integer", Default: []byte("7")}}}
	dag.Tasks = []scheduler.Task{
		{ID: "read", Kind: scheduler.KindCommand, Shell: "x"},
		{ID: "ask", Kind: scheduler.KindApproval, Approval: &ask, Needs: []string{"read"}},
		{ID: "load", Kind: scheduler.KindCommand, Shell: "x", Needs: []string{"ask"}},
	}
	return spec.Set{Files: []spec.File{{Name: "a.yaml", DAGs: []scheduler.DAG{dag}}}}
}

func (f *fixture) set(s spec.Set) {
	f.t.Helper()
	if err := f.e.SetDAGs(context.Background(), s); err != nil {
		f.t.Fatal(err)
	}
}

// A task that waits for a person holds no slot, and what it waits for, and until when, outlives the process; so does the end of the wait.
func TestParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		set := askDAG(scheduler.Approval{Message: "Load ${{ params.rows }} rows?", Expires: 24 * time.Hour, OnExpire: scheduler.DecisionApprove}, nil)
		f.set(set)
		id := f.trigger("a", "x", "").ID
		waits := func(d *scheduler.RunDetail) bool { return d.Tasks[1].State == scheduler.StateAwaitingInput }
		d := f.until(id, waits)
		if got := d.Tasks[1]; got.Reason != "Load 7 rows?" || got.Try != 1 || got.Executor != "" || got.StartedAt.IsZero() {
			t.Errorf("got %+v", got)
		}
		asked := d.Tasks[1].StartedAt
		why, err := f.e.Explain(t.Context(), id)
		if err != nil || why.Why.Code != scheduler.CodeInput || !strings.Contains(why.Tasks[1].Why.Text, "Load 7 rows?") ||
			!why.Tasks[1].Why.Until.Equal(asked.Add(24*time.Hour)) {
			t.Errorf("got %+v, %v", why, err)
		}
		slots, err := f.e.Slots(t.Context())
		if err != nil || slots[0].Used != 0 || slots[0].Waiting != 0 {
			t.Errorf("slots are %+v, %v", slots, err)
		}
		f.stop()
		time.Sleep(time.Hour)
		f.start()
		f.set(set)
		if d := f.until(id, waits); !d.Tasks[1].StartedAt.Equal(asked) {
			t.Errorf("a restart has asked again at %v", d.Tasks[1].StartedAt)
		}
		f.stop()
		time.Sleep(48 * time.Hour)
		f.start() // the time was over meanwhile
		d = f.wait(id)
		if got := states(d); got != "success read=success ask=success load=success" {
			t.Errorf("got %s", got)
		}
	})
}

// A run without a place in its group asks nobody before it has one.
func TestParkedWithinGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.set(askDAG(scheduler.Approval{Message: "Go on?"}, &scheduler.Concurrency{MaxRuns: 1}))
		first := f.trigger("a", "1", "").ID
		second := f.trigger("a", "2", "").ID
		f.until(first, func(d *scheduler.RunDetail) bool { return d.Tasks[1].State == scheduler.StateAwaitingInput })
		synctest.Wait()
		d := f.until(second, func(*scheduler.RunDetail) bool { return true })
		if got := states(d); got != "queued read=scheduled ask=none load=none" {
			t.Errorf("got %s", got)
		}
		if _, err := f.e.Cancel(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if got := states(f.wait(first)); got != "cancelled read=success ask=cancelled load=cancelled" {
			t.Errorf("got %s", got)
		}
		f.until(second, func(d *scheduler.RunDetail) bool { return d.Tasks[1].State == scheduler.StateAwaitingInput })
	})
}

// What has no value for the question fails, as for any other task.
func TestQuestionWithoutValue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.set(askDAG(scheduler.Approval{Message: "Load ${{ batch.source }}?"}, nil))
		d := f.wait(f.trigger("a", "x", "").ID)
		if got := d.Tasks[1]; got.State != scheduler.StateFailed || !strings.Contains(got.Reason, "has no batch") {
			t.Errorf("got %+v", got)
		}
	})
}
