package engine

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler"
)

// asks is a DAG whose second task asks a person.
func asks(approval, more string) map[string]string {
	return map[string]string{"a.yaml": "dag: a\nparams: {rows: 7}\n" + more +
		"\ntasks: {read: {run: x}, ask: {needs: read, approval: " + approval + "}, load: {run: x, needs: ask}}"}
}

// A task that waits for a person holds no slot, and what it waits for, and until when, outlives the process; so does the end of the wait.
func TestParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := asks("{message: 'Load ${{ params.rows }} rows?', expires: 24h, on_expire: approve}", "")
		f := newFixture(t, files)
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
		f.setDAGs(files)
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
		f := newFixture(t, asks("Go on?", "concurrency: 1"))
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
		f := newFixture(t, asks("'Load ${{ batch.source }}?'", ""))
		d := f.wait(f.trigger("a", "x", "").ID)
		if got := d.Tasks[1]; got.State != scheduler.StateFailed || !strings.Contains(got.Reason, "has no batch") {
			t.Errorf("got %+v", got)
		}
	})
}

// What the environment of the DAG lacks is nothing to a task that no executor runs.
func TestQuestionWithoutEnv(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, map[string]string{"a.yaml": "dag: a\nenv: {A: '${{ vars.nowhere }}'}\ntasks: {ask: {approval: Go on?}, load: {run: x}}"})
		id := f.trigger("a", "x", "").ID
		d := f.until(id, waitsForInput)
		if got := states(d); got != "running ask=awaiting_input load=failed" {
			t.Errorf("got %s", got)
		}
	})
}
